/*
 * database.h: a real PostgreSQL for unit tests.
 *
 * A test program that needs one calls test_database_require first in main: it starts itself again under
 * tests/unit/postgres.sh, which gives it a private server and removes that afterwards, also when the test crashes.
 * Programs run in the repository's root.
 */
#ifndef TESTS_UNIT_DATABASE_H
#define TESTS_UNIT_DATABASE_H

#include <sys/types.h>

#include "common/db.h"

/* Returns only inside postgres.sh; ends the program when that cannot be started. */
void test_database_require(char **argv);
/* How to connect; statement_timeout_ms 2000. Strings live as long as the program. */
struct db_options test_database_options(void);
/* Process ids of the postmaster, and of the backend that serves a connection. */
pid_t test_database_postmaster(void);
pid_t test_database_backend(struct db *db);

#endif
