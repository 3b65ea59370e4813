/*
 * test_auth_accounts_sql.c: the throttle, signing up and in, plans: the SQL of auth against a real PostgreSQL.
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

#define SIGNUP_FINISH                                                                                           \
    "SELECT outcome FROM bore.signup_finish($1, $2, 'hash', $3, repeat($4, 64), " DAYS_30 ", " DAYS_7 ", 100, " \
    "'192.0.2.1', NULL)"
#define SIGNUP_BEGIN "SELECT outcome FROM bore.signup_begin($1, $2, $3, '192.0.2.1', 5)"

static void test_address_key(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        { "192.0.2.7", "192.0.2.7" },
        { "::ffff:192.0.2.7", "192.0.2.7" },
        { "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::" },
        { "::1", "::" },
        { "no address", "no address" },
        { "", "" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_string_equal(sql_ask(db, "SELECT bore.address_key($1)", cases[i][0]), cases[i][1]);
}

static void test_throttle_of_account(void **state) {
    (void)state;
    fixture_make_user(db, "a@example.org");
    for (int i = 0; i < 10; i++)
        assert_int_equal(fixture_begin_login(db, "A@example.org", "192.0.2.1"), 0);
    long long wait = fixture_begin_login(db, "a@example.org", "192.0.2.1");
    assert_in_range(wait, 895, 900);
    assert_null(sql_ask(db, "SELECT password_hash FROM bore.login_begin('a@example.org', '192.0.2.1', 10, 50)"));
    /* Its owner elsewhere, and others at that address, are not hurt. */
    assert_int_equal(fixture_begin_login(db, "a@example.org", "192.0.2.2"), 0);
    assert_int_equal(fixture_begin_login(db, "b@example.org", "192.0.2.1"), 0);
    fixture_expire_windows(db);
    assert_int_equal(fixture_begin_login(db, "a@example.org", "192.0.2.1"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.audit WHERE action = 'login.throttled'"), 1);
}

/* Unknown accounts are throttled alike, so that the throttle does not tell who exists. */
static void test_throttle_of_unknown(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(fixture_begin_login(db, "nobody@example.org", "192.0.2.1"), 0);
    assert_true(fixture_begin_login(db, "nobody@example.org", "192.0.2.1") > 0);
}

static void test_throttle_of_address(void **state) {
    (void)state;
    char email[40];
    for (int i = 0; i < 50; i++) {
        snprintf(email, sizeof email, "u%d@example.org", i);
        assert_int_equal(fixture_begin_login(db, email, "2001:db8::1"), 0);
    }
    assert_true(fixture_begin_login(db, "fresh@example.org", "2001:db8::2") > 0);
    assert_int_equal(fixture_begin_login(db, "fresh@example.org", "2001:db8:0:1::2"), 0);
    /* What is refused for the address leaves no row for the account. */
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.login_throttle WHERE key LIKE 'email:%'"), 51);
}

/* Many addresses against one account: its owner still gets in from where the account was used before. */
static void test_throttle_of_account_everywhere(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    fixture_open_session(db, user, "a", "198.51.100.7");
    char address[40];
    for (int i = 0; i < 100; i++) {
        snprintf(address, sizeof address, "203.0.113.%d", i);
        assert_int_equal(fixture_begin_login(db, "a@example.org", address), 0);
    }
    assert_true(fixture_begin_login(db, "a@example.org", "203.0.113.200") > 0);
    assert_int_equal(fixture_begin_login(db, "a@example.org", "198.51.100.7"), 0);
    assert_int_equal(fixture_begin_login(db, "b@example.org", "203.0.113.200"), 0);
}

static void test_success_is_not_counted(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    for (int i = 0; i < 9; i++)
        fixture_begin_login(db, "a@example.org", "192.0.2.1");
    assert_int_equal(fixture_begin_login(db, "a@example.org", "192.0.2.1"), 0);
    assert_non_null(fixture_open_session(db, user, "a", "192.0.2.1"));
    assert_int_equal(sql_number(db, "SELECT failures FROM bore.login_throttle WHERE key LIKE 'pair:%'"), 0);
    /* An own account does not wash an address clean of what was tried against others. */
    assert_int_equal(sql_number(db, "SELECT failures FROM bore.login_throttle WHERE key LIKE 'address:%'"), 9);
}

static void test_disabled_account(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    sql_ask(db, "UPDATE bore.users SET disabled = true WHERE id = $1", user);
    assert_string_equal(
        sql_ask(db, "SELECT password_hash FROM bore.login_begin('a@example.org', '192.0.2.1', 10, 50)"), "hash");
    assert_null(sql_ask(db, "SELECT user_id FROM bore.login_begin('a@example.org', '192.0.2.1', 10, 50)"));
    assert_null(fixture_open_session(db, user, "a", "192.0.2.1"));
}

static void test_signup(void **state) {
    (void)state;
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "Test@bore.com", NULL), "new");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "Test@bore.com", NULL, "a"), "signed_in");
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "test@BORE.com", NULL), "exists");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "test@bore.com", NULL, "b"), "exists");
    assert_string_equal(
        sql_ask(db, "SELECT concat_ws(' ', plan, round(extract(epoch FROM plan_expires - now()) / 3600), "
                    "trial_claimed, is_admin) FROM bore.users"),
        "trial 24 f f");
}

static void test_signup_idempotency(void **state) {
    (void)state;
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "a@example.org", "key", "a"), "signed_in");
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "A@example.org", "key"), "replay");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "a@example.org", "key", "b"), "replay");
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Another", "a@example.org", "key"), "conflict");
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "a@example.org", "other"), "exists");
    assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "b@example.org", "key"), "new");
    sql_run(db, "UPDATE bore.idempotency SET created_at = now() - interval '25 hours'");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "a@example.org", "key", "b"), "exists");
    /* The account is gone: the key means nothing, and can be used again. */
    sql_run(db, "UPDATE bore.idempotency SET created_at = now(); DELETE FROM bore.users");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "a@example.org", "key", "b"), "signed_in");
    assert_string_equal(sql_ask(db, SIGNUP_FINISH, "Test", "a@example.org", "key", "c"), "replay");
}

static void test_signup_throttle(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_string_equal(sql_ask(db, SIGNUP_BEGIN, "Test", "a@example.org", NULL), "new");
    assert_null(sql_ask(db, SIGNUP_BEGIN, "Test", "a@example.org", NULL));
    assert_true(sql_number(db, "SELECT retry_after FROM bore.signup_begin('T', 'b@c.d', NULL, '192.0.2.1', 5)") > 890);
}

static void test_login_of_changed_account(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    assert_non_null(sql_ask(db,
        "SELECT session_id FROM bore.login_finish($1, 'hash', 'renewed', repeat('a', 64), 1000, 1000, 100, '', '')",
        user));
    assert_null(fixture_open_session(db, user, "b", "192.0.2.1"));
    assert_string_equal(sql_ask(db, "SELECT password_hash FROM bore.users"), "renewed");
}

static void test_password_change(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    const char *kept = fixture_open_session(db, user, "a", "x"), *ended = fixture_open_session(db, user, "b", "x");
    static const char change[] = "SELECT success FROM bore.password_change($1, $2, $3, $4, 'x')";
    assert_null(sql_ask(db, change, user, "stale", "new", kept));
    assert_false(fixture_is_revoked(db, ended));
    assert_string_equal(sql_ask(db, change, user, "hash", "new", kept), "t");
    assert_true(fixture_is_revoked(db, ended) && !fixture_is_revoked(db, kept));
    assert_string_equal(sql_ask(db, "SELECT password_hash FROM bore.password_begin($1, 'x', 10, 50)", user), "new");
    assert_null(sql_ask(db, "SELECT retry_after FROM bore.password_begin('user_none', 'x', 10, 50)"));
}

static void test_claim_plan(void **state) {
    (void)state;
    static const struct {
        const char *plan, *days, *trial_claimed, *wanted, *self_service, *refusal, *result;
    } cases[] = {
        { "trial", "0.5", "f", "trial", "t", "", "trial 1" },
        { "trial", "-1", "f", "trial", "t", "", "trial 1" },
        { "trial", "-1", "t", "trial", "t", "trial_used", "" },
        { "trial", "1", "f", "pro", "t", "", "pro 30" },
        { "trial", "1", "t", "pro", "t", "", "pro 30" },
        { "trial", "1", "f", "pro", "f", "forbidden", "" },
        { "pro", "10", "f", "pro", "t", "", "pro 30" },
        { "pro", "300", "f", "pro", "t", "", "pro 300" },
        { "pro", NULL, "f", "pro", "t", "", "pro never" },
        { "pro", "10", "f", "trial", "t", "conflict", "" },
        { "pro", "-1", "f", "trial", "t", "", "trial 1" },
        { "pro", "-1", "f", "pro", "t", "", "pro 30" },
        { "enterprise", NULL, "f", "pro", "t", "conflict", "" },
        { "enterprise", NULL, "f", "trial", "t", "conflict", "" },
        { "enterprise", "-1", "f", "pro", "t", "", "pro 30" },
        { "trial", "1", "f", "enterprise", "t", "invalid_plan", "" },
        { "trial", "1", "f", "", "t", "invalid_plan", "" },
    };
    static const char claim[] = "SELECT plan FROM bore.claim_plan($1, $2, $3, 'x')";
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(NULL);
        const char *user = fixture_make_user(db, "a@example.org");
        sql_ask(db,
            "UPDATE bore.users SET plan = $2, plan_expires = now() + $3::float * interval '1 day', trial_claimed = $4 "
            "WHERE id = $1",
            user, cases[i].plan, cases[i].days, cases[i].trial_claimed);
        const char *refusal = sql_refusal(db, claim, user, cases[i].wanted, cases[i].self_service);
        if (strcmp(refusal, cases[i].refusal) != 0) fail_msg("case %zu: '%s'", i, refusal);
        const char *result =
            sql_ask(db, "SELECT plan || ' ' || coalesce(round(extract(epoch FROM plan_expires - now()) "
                        "/ 86400)::text, 'never') FROM bore.users");
        if (!*cases[i].refusal && strcmp(result, cases[i].result) != 0) fail_msg("case %zu: %s", i, result);
    }
    assert_string_equal(sql_refusal(db, claim, "user_none", "trial", "t"), "unauthorized");
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_address_key),
        TEST(test_throttle_of_account),
        TEST(test_throttle_of_unknown),
        TEST(test_throttle_of_address),
        TEST(test_throttle_of_account_everywhere),
        TEST(test_success_is_not_counted),
        TEST(test_disabled_account),
        TEST(test_signup),
        TEST(test_signup_idempotency),
        TEST(test_signup_throttle),
        TEST(test_login_of_changed_account),
        TEST(test_password_change),
        TEST(test_claim_plan),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
