/*
 * auth_fixture.h: users, sessions and sign-ins made by auth's own SQL functions, for tests.
 *
 * Texts are sql_client's: 256 at a time. A refresh token's hash is a letter, 64 times.
 */
#ifndef TESTS_UNIT_AUTH_FIXTURE_H
#define TESTS_UNIT_AUTH_FIXTURE_H

#include <stdbool.h>

#include "common/db.h"

/* Lives of refresh tokens and JWTs in milliseconds, as SQL. */
#define DAYS_30 "2592000000"
#define DAYS_7  "604800000"

/* Empties every table that auth writes. */
void fixture_clear(struct db *connection);
/* A user on trial with the password hash "hash"; answers the id. */
const char *fixture_make_user(struct db *connection, const char *email);
const char *fixture_make_admin(struct db *connection, const char *email);
/* Signs in from an address with this refresh token; answers the session, or NULL. */
const char *fixture_open_session(struct db *connection, const char *user, const char *letter, const char *address);
/* The outcome of bore.session_refresh, or NULL. */
const char *fixture_refresh(struct db *connection, const char *old_letter, const char *new_letter);
/* Begins to sign in, with 10 attempts for an account and 50 for an address; answers retry_after. */
long long fixture_begin_login(struct db *connection, const char *email, const char *address);
/* Lets the throttle's windows end. */
void fixture_expire_windows(struct db *connection);
bool fixture_is_revoked(struct db *connection, const char *session);

#endif
