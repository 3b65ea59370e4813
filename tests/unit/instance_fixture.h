/*
 * instance_fixture.h: instances and their history made in a test's database.
 *
 * Texts are sql_client's: 256 at a time.
 */
#ifndef TESTS_UNIT_INSTANCE_FIXTURE_H
#define TESTS_UNIT_INSTANCE_FIXTURE_H

#include "common/db.h"

/* Empties every table that auth or registry writes. */
void fixture_clear_all(struct db *connection);
/* Registers an instance as its user would; answers the id. */
const char *fixture_make_instance(struct db *connection, const char *user, const char *name);
/* Gives the instance this history instead of its own: "inactive 60, starting 55, online 50": so many minutes ago. */
void fixture_set_history(struct db *connection, const char *instance, const char *history);

#endif
