/*
 * db.h: one PostgreSQL connection, by libpq (https://www.postgresql.org/docs/15/libpq.html).
 *
 * A connection connects when it is first used and again after it was lost, with backoff (50 ms doubling to 1 s, and
 * never longer than the caller's deadline); statements are prepared once a connection, by name. Every call is bounded:
 * by the deadline, by statement_timeout (and a second for the answer; 5 s to connect) where there is none, and by tcp
 * keepalives. A statement that failed with serialization_failure or deadlock_detected, or whose connection was lost
 * before it was sent, is run again, up to 3 times; nothing else is ever retried here, and a connection lost while a
 * statement ran is reported (the caller knows whether repeating is safe).
 * Thread rule: one thread at a time per struct db.
 *
 * Errors are negative: -ENOTCONN (no connection in time: nothing was done), -ECONNRESET (lost while a statement ran:
 * outcome unknown), -ETIMEDOUT (statement or lock timeout: nothing was done; or the deadline: outcome unknown, the
 * connection is dropped), -EEXIST (unique violation), -EINVAL (bad input to a type), -ENOSPC (disk full or out of
 * memory there), -EPERM refused by a function of ours (see db_refusal), -EIO anything else.
 */
#ifndef BORE_COMMON_DB_H
#define BORE_COMMON_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct db_result;

struct db_options {
    const char *host; /* a name, an address, or the directory of a unix socket */
    int port;
    const char *name;
    const char *user;
    const char *password;         /* may be NULL */
    const char *application_name; /* shown in pg_stat_activity */
    int statement_timeout_ms;
};

struct db_statement {
    const char *name; /* unique a process, at most 63 bytes; stays the same for the same sql */
    const char *sql;  /* with $1, $2 … */
};

enum { DB_PARAMS_MAX = 40 };

/* Parameters in text form, $1 first. Embedded; db_params_release frees what the adders copied. */
struct db_params {
    int count;
    const char *values[DB_PARAMS_MAX]; /* NULL is SQL NULL */
    char *owned[DB_PARAMS_MAX];
};

void db_params_init(struct db_params *self);
void db_params_release(struct db_params *self);
void db_params_add_text(struct db_params *self, const char *text); /* borrowed; NULL allowed */
void db_params_add_int(struct db_params *self, int64_t value);
void db_params_add_double(struct db_params *self, double value);
void db_params_add_bool(struct db_params *self, bool value);
void db_params_add_null(struct db_params *self);
/* The literal of an array of texts (heap, caller frees); an element may be NULL. */
char *db_array_literal(const char *const *texts, size_t count);
void db_params_add_array(struct db_params *self, const char *const *texts, size_t count);
#define _cleanup_db_params_ __attribute__((cleanup(db_params_release)))

/* Options' strings are copied. Does not connect. */
struct db *db_new(const struct db_options *options);
void db_free(struct db *self);

/* Connects now if need be, by deadline_ms of clock_monotonic_ms. 0 or -ENOTCONN. */
int db_connect(struct db *self, int64_t deadline_ms);
bool db_is_connected(const struct db *self);
/* The deadline of the statements that follow (clock_monotonic_ms); 0 = none but statement_timeout. */
void db_set_deadline(struct db *self, int64_t deadline_ms);

/* Runs one statement as its own transaction. ret_result may be NULL. On 0 the transaction is committed. */
int db_run(struct db *self, const struct db_statement *statement, const struct db_params *params,
    struct db_result **ret_result);

struct db_call {
    const struct db_statement *statement;
    const struct db_params *params; /* may be NULL */
};
/* Runs up to 16 statements in one round trip (pipeline mode, each its own transaction); read-only statements that
 * belong together. 0 with all results, or the first failure's error with none. */
int db_run_many(struct db *self, const struct db_call *calls, size_t count, struct db_result **ret_results);

/* Runs a script of several statements without parameters (migrations), once: one transaction unless it says BEGIN and
 * COMMIT. statement_timeout holds for each statement of it; without a deadline all of it has 10 minutes. */
int db_run_script(struct db *self, const char *sql);

/* Of the last failure: PostgreSQL's sentence (no parameter values), and, for -EPERM, what the function raised with
 * ERRCODE 'BE000': MESSAGE, DETAIL (may be ""), COLUMN (may be ""). Valid until the next call. */
const char *db_error_message(const struct db *self);
const char *db_refusal(const struct db *self);
const char *db_refusal_detail(const struct db *self);
const char *db_refusal_column(const struct db *self);

size_t db_result_rows(const struct db_result *self);
size_t db_result_columns(const struct db_result *self);
const char *db_result_column_name(const struct db_result *self, size_t column);
/* Index of a column, or -1. */
int db_result_column(const struct db_result *self, const char *name);
/* Borrowed until db_result_free; NULL for SQL NULL. */
const char *db_result_text(const struct db_result *self, size_t row, size_t column);
int64_t db_result_int(const struct db_result *self, size_t row, size_t column, int64_t if_null);
bool db_result_bool(const struct db_result *self, size_t row, size_t column, bool if_null);
void db_result_free(struct db_result *self);
void cleanup_db_result(struct db_result **self);
#define _cleanup_db_result_ __attribute__((cleanup(cleanup_db_result)))

/* Counters since start, for metrics: calls, errors (a refusal is none), microseconds spent, connections made. */
struct db_statistics {
    uint64_t calls;
    uint64_t errors;
    uint64_t microseconds;
    uint64_t connects;
};
void db_statistics(const struct db *self, struct db_statistics *ret_statistics);

#endif
