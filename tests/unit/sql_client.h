/*
 * sql_client.h: asking a test's database in one line, from one connection or from several at once.
 *
 * Parameters are texts, ended by the macro; NULL is SQL NULL. A failure that was not expected ends the test.
 */
#ifndef TESTS_UNIT_SQL_CLIENT_H
#define TESTS_UNIT_SQL_CLIENT_H

#include <stddef.h>

#include "common/db.h"

enum { SQL_TEXT_MAX = 4000, SQL_PARAMETERS_MAX = 12 };

/* Connects; the schema is brought up to date by the first caller. */
struct db *sql_open(void);
/* The connection of a whole program: cmocka's setup and teardown of its group. */
extern struct db *db;
int sql_setup(void **state);
int sql_teardown(void **state);

/* The first column of the first row: copied into one of 256 buffers, used in turn; NULL for SQL NULL and for
 * no row. One thread. */
#define sql_ask(connection, sql, ...) \
    sql_ask_parameters(connection, sql, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) sql_end })
/* As sql_ask, as a number; NULL is -1. */
#define sql_number(connection, sql, ...) \
    sql_to_number(sql_ask_parameters(connection, sql, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) sql_end }))
/* The wire code that a function of ours refuses with; "" when it does not refuse. */
#define sql_refusal(connection, sql, ...) \
    sql_refusal_parameters(connection, sql, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) sql_end })

extern const char sql_end[];
const char *sql_ask_parameters(struct db *connection, const char *sql, const char *const *parameters);
const char *sql_refusal_parameters(struct db *connection, const char *sql, const char *const *parameters);
long long sql_to_number(const char *text);
/* Statements without parameters and answers. */
void sql_run(struct db *connection, const char *sql);

/* One call of a race: what to run, and what came of it. */
struct sql_racer {
    const char *sql;
    const char *parameters[SQL_PARAMETERS_MAX]; /* ended by sql_end */
    int error;
    char refusal[80]; /* with -EPERM */
    char answer[200]; /* first column of the first row; "" for NULL or no row */
};
/* Runs all at the same moment, each on a connection of its own. */
void sql_race(struct sql_racer *racers, size_t count);

#endif
