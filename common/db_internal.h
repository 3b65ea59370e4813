/*
 * db_internal.h: what the files of the database module share; nobody else includes it.
 *
 * db.c runs statements, db_connection.c makes, watches and drops the connection, db_error.c says what a failure means,
 * db_params.c and db_result.c carry values. Thread rule: as db.h.
 */
#ifndef BORE_COMMON_DB_INTERNAL_H
#define BORE_COMMON_DB_INTERNAL_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/db.h"

struct db_failure {
    char sqlstate[6]; /* "" when the failure was not the server's */
    char message[512];
    char refusal[64];
    char refusal_detail[512];
    char refusal_column[64];
};

struct db {
    struct db_options options; /* the strings are ours */
    char *session_options;     /* the startup packet's `options` */
    PGconn *connection;        /* NULL when there is none */
    bool doomed;               /* the server announced this connection's end */
    int64_t deadline_ms;       /* the caller's; 0 = none */
    int64_t next_attempt_ms;   /* not before this time is a new connection tried */
    int backoff_ms;
    char **prepared; /* sorted names of the statements that this connection has */
    size_t prepared_count;
    struct db_failure failure;
    struct db_statistics statistics;
};

/* The caller's deadline, or limit_ms from now when there is none. */
int64_t db_deadline(const struct db *self, int64_t limit_ms);

/* Whether a script said BEGIN and none COMMIT: then nothing is repeated, and no new connection may take the place. */
bool db_in_transaction(const struct db *self);
/* A live connection by deadline_ms: the one that there is, or a new one. 0, -ENOTCONN, or -ECONNRESET when a
 * transaction that a script began was lost. */
int db_connection_ensure(struct db *self, int64_t deadline_ms);
/* Ends the connection without waiting for anybody. */
void db_connection_drop(struct db *self);
/* Drops it and says why; returns code. */
int db_connection_lost(struct db *self, int code);
/* The next result, or NULL at the end of a statement's results. 0, -ETIMEDOUT or -ECONNRESET, the connection dropped
 * then. The result is the caller's. */
int db_connection_next(struct db *self, int64_t deadline_ms, PGresult **ret_result);

bool db_is_prepared(const struct db *self, const char *name);
void db_remember_prepared(struct db *self, const char *name);
void db_forget_prepared(struct db *self);

/* Records a failure that is not the server's; returns code. */
int db_failure_set(struct db *self, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Records what an error result says; returns its negative code. */
int db_failure_from_result(struct db *self, const PGresult *result);
void db_failure_clear(struct db *self);

/* Takes the result over. */
struct db_result *db_result_new(PGresult *result);

#endif
