/*
 * test_auth_sessions_sql.c: sessions, refresh tokens, revocations, housekeeping: the SQL of auth against a real
 * PostgreSQL.
 *
 * Several callers at once: test_auth_races.c. Each test begins with empty tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "tests/unit/auth_fixture.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"

static int setup(void **state) {
    (void)state;
    fixture_clear(db);
    return 0;
}

#define REVOCATIONS "FROM bore.revocations_since($1::bigint, $2::integer)"

static void test_session_cap(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    const char *first = fixture_open_session(db, user, "a", "192.0.2.1");
    const char *second = fixture_open_session(db, user, "b", "192.0.2.1");
    const char *third = fixture_open_session(db, user, "c", "192.0.2.1");
    fixture_refresh(db, "a", "d"); /* used last: not the one that ends */
    sql_ask(
        db, "SELECT session_id FROM bore.login_finish($1, 'hash', NULL, repeat('e', 64), 1000, 1000, 3, '', '')", user);
    assert_true(fixture_is_revoked(db, second));
    assert_false(fixture_is_revoked(db, first));
    assert_false(fixture_is_revoked(db, third));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.sessions WHERE revoked_at IS NULL"), 3);
}

static void test_refresh_rotates(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    const char *session = fixture_open_session(db, user, "a", "192.0.2.1");
    sql_ask(db, "UPDATE bore.users SET is_admin = true, email = 'new@example.org' WHERE id = $1", user);
    assert_string_equal(sql_ask(db,
                            "SELECT concat_ws(' ', outcome, session_id = $1, user_id = $2, email, is_admin, "
                            "refresh_token_expires_at / 1000 - extract(epoch FROM now())::bigint > 2591990) "
                            "FROM bore.session_refresh(repeat('a', 64), repeat('b', 64), " DAYS_30 ", " DAYS_7
                            ", '9.9.9.9', 'new agent')",
                            session, user),
        "rotated t t new@example.org t t");
    assert_string_equal(
        sql_ask(db, "SELECT concat_ws(' ', address, user_agent) FROM bore.sessions"), "9.9.9.9 new agent");
    assert_string_equal(fixture_refresh(db, "b", "c"), "rotated");
}

static void test_refresh_grace_and_reuse(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    const char *session = fixture_open_session(db, user, "a", "192.0.2.1");
    const char *other = fixture_open_session(db, user, "9", "192.0.2.1");
    assert_string_equal(fixture_refresh(db, "a", "b"), "rotated");
    assert_string_equal(fixture_refresh(db, "a", "c"), "rotated"); /* the first answer was lost */
    assert_string_equal(fixture_refresh(db, "b", "d"), "rotated");
    sql_run(db, "UPDATE bore.refresh_tokens SET used_at = used_at - interval '11 seconds'");
    assert_string_equal(fixture_refresh(db, "a", "e"), "reused");
    assert_null(fixture_refresh(db, "a", "e"));
    assert_null(fixture_refresh(db, "c", "e"));
    assert_null(fixture_refresh(db, "d", "e"));
    assert_true(fixture_is_revoked(db, session));
    assert_string_equal(fixture_refresh(db, "9", "8"), "rotated"); /* another family */
    assert_false(fixture_is_revoked(db, other));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events WHERE kind = 'user.revoked'"), 1);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.audit WHERE action = 'token.reused'"), 1);
}

static void test_refresh_refused(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    fixture_open_session(db, user, "a", "192.0.2.1");
    fixture_open_session(db, user, "b", "192.0.2.1");
    assert_null(fixture_refresh(db, "f", "e"));
    sql_run(db, "UPDATE bore.refresh_tokens SET expires_at = now() WHERE token_hash LIKE 'a%'");
    assert_null(fixture_refresh(db, "a", "e"));
    sql_ask(db, "UPDATE bore.users SET disabled = true WHERE id = $1", user);
    assert_null(fixture_refresh(db, "b", "e"));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), 0);
}

static void test_refresh_limit(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    fixture_open_session(db, user, "a", "192.0.2.1");
    sql_run(db,
        "INSERT INTO bore.refresh_tokens (token_hash, session_id, expires_at) "
        "SELECT lpad(n::text, 64, '0'), id, now() + interval '1 day' FROM bore.sessions, generate_series(1, 599) n");
    assert_string_equal(fixture_refresh(db, "a", "b"), "limited");
    sql_run(db, "UPDATE bore.refresh_tokens SET created_at = created_at - interval '16 minutes'");
    assert_string_equal(fixture_refresh(db, "a", "b"), "rotated");
}

static void test_logout(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org"), *stranger = fixture_make_user(db, "b@example.org");
    const char *first = fixture_open_session(db, user, "a", "x"), *second = fixture_open_session(db, user, "b", "x");
    const char *third = fixture_open_session(db, user, "c", "x"),
               *foreign = fixture_open_session(db, stranger, "d", "x");
    static const char logout[] = "SELECT success FROM bore.logout($1, $2, repeat($3, 64), 'x')";
    assert_string_equal(sql_ask(db, logout, user, first, "b"), "t");
    assert_true(fixture_is_revoked(db, first) && fixture_is_revoked(db, second) && !fixture_is_revoked(db, third));
    assert_string_equal(sql_ask(db, logout, user, "", "d"), "t"); /* another's refresh token */
    assert_string_equal(sql_ask(db, logout, user, foreign, NULL), "t");
    assert_false(fixture_is_revoked(db, foreign));
    assert_string_equal(sql_ask(db, logout, user, first, "b"), "t"); /* again */
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), 1);
}

static void test_logout_all(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org"), *stranger = fixture_make_user(db, "b@example.org");
    const char *first = fixture_open_session(db, user, "a", "x"), *second = fixture_open_session(db, user, "b", "x");
    const char *foreign = fixture_open_session(db, stranger, "d", "x");
    const char *events = sql_ask(db, "SELECT events FROM bore.logout_all($1, 'x')", user);
    assert_non_null(strstr(events, "user.revoked"));
    assert_non_null(strstr(events, first));
    assert_non_null(strstr(events, second));
    assert_true(fixture_is_revoked(db, first) && fixture_is_revoked(db, second) && !fixture_is_revoked(db, foreign));
    assert_null(fixture_refresh(db, "a", "e"));
    assert_null(sql_ask(db, "SELECT events FROM bore.logout_all($1, 'x')", user));
}

static void test_session_list_and_delete(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org"), *stranger = fixture_make_user(db, "b@example.org");
    const char *sessions[5];
    for (int i = 0; i < 5; i++) {
        char letter[2] = { (char)('a' + i), 0 };
        sessions[i] = fixture_open_session(db, user, letter, "x");
    }
    const char *foreign = fixture_open_session(db, stranger, "f", "x");
    sql_run(db, "UPDATE bore.sessions SET created_at = '2026-01-01 00:00:00.123457'"); /* order by id alone */
    static const char delete[] = "SELECT success FROM bore.session_delete($1, $2, 'x')";
    assert_string_equal(sql_ask(db, delete, user, sessions[1]), "t");
    assert_string_equal(sql_refusal(db, delete, user, sessions[1]), "not_found");
    assert_string_equal(sql_refusal(db, delete, user, foreign), "not_found");
    static const char list[] = "SELECT string_agg(id, ' '), max(next_cursor), bool_or(current) "
                               "FROM bore.session_list($1, $2, 3, $3)";
    static const char next[] = "SELECT max(next_cursor) FROM bore.session_list($1, $2, 3, $3)";
    const char *page = sql_ask(db, list, user, sessions[0], NULL);
    const char *mark = sql_ask(db, next, user, sessions[0], NULL);
    assert_non_null(mark);
    assert_null(strstr(page, sessions[1]));
    const char *rest = sql_ask(db, list, user, sessions[0], mark);
    assert_null(sql_ask(db, next, user, sessions[0], mark));
    assert_int_equal(strlen(page) + 1 + strlen(rest), 4 * strlen(sessions[0]) + 3);
    for (int i = 0; i < 5; i++)
        if (i != 1) assert_true(!strstr(page, sessions[i]) == !!strstr(rest, sessions[i]));
    static const char *const bad[] = { "x", "12", "12.", ".a", "-1.a", "1.a;b", "123456789012345678.a" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_string_equal(sql_refusal(db, list, user, "", bad[i]), "validation_error");
}

static void test_revocations_in_pages(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org"), *other = fixture_make_user(db, "b@example.org");
    sql_ask(db,
        "INSERT INTO bore.sessions (id, user_id, expires_at, token_expires_at) "
        "SELECT 's' || n, $1, now() + interval '30 days', now() + interval '7 days' FROM generate_series(1, 2500) n",
        user);
    const char *last = fixture_open_session(db, other, "a", "x");
    const char *before = sql_ask(db, "SELECT next " REVOCATIONS, "0", "20000");
    sql_ask(db, "SELECT success FROM bore.logout_all($1, 'x')", user);
    sql_ask(db, "SELECT success FROM bore.logout_all($1, 'x')", other);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), 4);
    assert_int_equal(sql_number(db, "SELECT max(jsonb_array_length(payload->'session_ids')) FROM bore.events"), 1000);

    /* Whole events only, nothing twice, nothing forgotten. */
    const char *cursor = before;
    int pages = 0, ids = 0;
    for (bool more = true; more; pages++) {
        ids += (int)sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, cursor, "1500");
        more = *sql_ask(db, "SELECT more " REVOCATIONS, cursor, "1500") == 't';
        cursor = sql_ask(db, "SELECT next " REVOCATIONS, cursor, "1500");
    }
    assert_int_equal(pages, 3); /* 1000, 1000, 500 + 1 */
    assert_int_equal(ids, 2501);
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, cursor, "1500"), 0);
    assert_string_equal(sql_ask(db, "SELECT next " REVOCATIONS, cursor, "1500"), cursor);
    assert_true(fixture_is_revoked(db, last));

    /* However short the log is kept; and without a cursor, or with a strange one, all that is still relevant. */
    sql_run(db, "DELETE FROM bore.events WHERE id < (SELECT max(id) FROM bore.events)");
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, before, "20000"), 2501);
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, "0", "20000"), 2501);
    assert_int_equal(
        sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, "9223372036854775807", "20000"), 2501);
    char beyond[32];
    snprintf(beyond, sizeof beyond, "%lld", atoll(cursor) + 1);
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, beyond, "20000"), 2501);
    sql_run(db, "UPDATE bore.revoked_sessions SET expires_at = now() WHERE session_id <> 's7'");
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, "0", "20000"), 1);
}

static void test_revocations_of_another_epoch(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    fixture_open_session(db, user, "a", "x");
    sql_ask(db, "SELECT success FROM bore.logout_all($1, 'x')", user);
    const char *cursor = sql_ask(db, "SELECT next " REVOCATIONS, "0", "20000");
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, cursor, "20000"), 0);
    sql_run(db, "UPDATE bore.event_epoch SET epoch = 'restored'");
    assert_int_equal(sql_number(db, "SELECT cardinality(session_ids) " REVOCATIONS, cursor, "20000"), 1);
}

/* A token from before JWT_TTL_SECONDS was lowered stays void as long as it could live. */
static void test_revocation_outlives_tokens(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    fixture_open_session(db, user, "a", "x");
    sql_ask(db, "SELECT outcome FROM bore.session_refresh(repeat('a', 64), repeat('b', 64), 1000, 1000, 'x', NULL)");
    sql_ask(db, "SELECT success FROM bore.logout_all($1, 'x')", user);
    assert_string_equal(
        sql_ask(db, "SELECT expires_at > now() + interval '7 days 4 minutes' FROM bore.revoked_sessions"), "t");
}

static void test_sweep(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    const char *kept = fixture_open_session(db, user, "a", "x"), *old = fixture_open_session(db, user, "b", "x");
    const char *ended = fixture_open_session(db, user, "c", "x"), *fresh = fixture_open_session(db, user, "d", "x");
    fixture_begin_login(db, "a@example.org", "x");
    sql_ask(db,
        "UPDATE bore.sessions SET expires_at = now() - interval '2 days', token_expires_at = expires_at WHERE id = $1",
        old);
    sql_ask(db, "UPDATE bore.sessions SET expires_at = now() - interval '2 days' WHERE id = $1", old);
    sql_ask(db, "UPDATE bore.sessions SET token_expires_at = now() - interval '2 days' WHERE id = $1", old);
    sql_ask(db, "SELECT success FROM bore.session_delete($1, $2, 'x')", user, ended);
    sql_ask(db, "SELECT success FROM bore.session_delete($1, $2, 'x')", user, fresh);
    sql_ask(db, "UPDATE bore.sessions SET revoked_at = now() - interval '2 days' WHERE id = $1", ended);
    sql_ask(
        db, "UPDATE bore.revoked_sessions SET expires_at = now() - interval '1 second' WHERE session_id = $1", ended);
    sql_run(db, "UPDATE bore.refresh_tokens SET expires_at = now() - interval '1 second' WHERE token_hash LIKE 'a%';"
                "INSERT INTO bore.idempotency (scope, key, request_hash, answer_id, created_at) VALUES "
                "('s', 'old', 'h', 'a', now() - interval '25 hours'), ('s', 'new', 'h', 'a', now());");
    assert_int_equal(sql_number(db, "SELECT bore.auth_sweep(100)"), 5); /* token, 2 sessions, revoked, key */
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.sessions WHERE id IN ($1, $2)", kept, fresh), 2);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.sessions"), 2);
    assert_true(fixture_is_revoked(db, fresh) && !fixture_is_revoked(db, ended));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.idempotency"), 1);
    fixture_expire_windows(db);
    assert_int_equal(sql_number(db, "SELECT bore.auth_sweep(2)"), 2);
    assert_int_equal(sql_number(db, "SELECT bore.auth_sweep(2)"), 1);
    assert_int_equal(sql_number(db, "SELECT bore.auth_sweep(2)"), 0);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_session_cap),
        TEST(test_refresh_rotates),
        TEST(test_refresh_grace_and_reuse),
        TEST(test_refresh_refused),
        TEST(test_refresh_limit),
        TEST(test_logout),
        TEST(test_logout_all),
        TEST(test_session_list_and_delete),
        TEST(test_revocations_in_pages),
        TEST(test_revocations_of_another_epoch),
        TEST(test_revocation_outlives_tokens),
        TEST(test_sweep),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
