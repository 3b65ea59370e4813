/*
 * test_auth_races.c: the SQL of auth under several callers at the same moment, against a real PostgreSQL.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
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

enum { RACERS = 12, ROUNDS = 30 };

static int setup(void **state) {
    (void)state;
    fixture_clear(db);
    return 0;
}

/* How many answered so; every call must have ended well or been refused by a function of ours. */
static int count(const struct sql_racer *racers, size_t size, const char *answer) {
    int found = 0;
    for (size_t i = 0; i < size; i++) {
        if (racers[i].error && racers[i].error != -EPERM)
            fail_msg("racer %zu: %d %s", i, racers[i].error, racers[i].refusal);
        if (strcmp(racers[i].error ? racers[i].refusal : racers[i].answer, answer) == 0) found++;
    }
    return found;
}

#define SIGNUP                                                                                            \
    "SELECT outcome FROM bore.signup_finish('Test', $1, 'hash', $2, repeat($3, 64), " DAYS_30 ", " DAYS_7 \
    ", 100, 'x', NULL)"

static void test_signups_at_once(void **state) {
    (void)state;
    static const char *const emails[] = { "test@bore.com", "Test@bore.com", "TEST@BORE.COM" };
    static const char letters[] = "a\0b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0l\0m\0n\0";
    for (int round = 0; round < ROUNDS; round++) {
        const char *key = round % 2 ? "key" : NULL;
        struct sql_racer racers[RACERS] = { 0 };
        for (size_t i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = SIGNUP,
                .parameters = { emails[i % ARRAY_SIZE(emails)], key, letters + 2 * i, sql_end } };
        sql_race(racers, RACERS);
        assert_int_equal(count(racers, RACERS, "signed_in"), 1);
        assert_int_equal(count(racers, RACERS, key ? "replay" : "exists"), RACERS - 1);
        assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.users"), 1);
        fixture_clear(db);
    }
}

static void test_guesses_at_once(void **state) {
    (void)state;
    fixture_make_user(db, "a@example.org");
    struct sql_racer racers[RACERS * 2];
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
            racers[i] = (struct sql_racer){ .sql = "SELECT retry_after = 0 FROM bore.login_begin($1, $2, 10, 50)",
                .parameters = { i % 2 ? "a@example.org" : "A@EXAMPLE.org", "192.0.2.1", sql_end } };
        sql_race(racers, ARRAY_SIZE(racers));
        assert_int_equal(count(racers, ARRAY_SIZE(racers), "t"), 10);
        assert_int_equal(sql_number(db, "SELECT max(failures) FROM bore.login_throttle"), 10);
        sql_run(db, "TRUNCATE bore.login_throttle");
    }
}

static void test_attempts_and_successes_at_once(void **state) {
    (void)state;
    const char *user = fixture_make_user(db, "a@example.org");
    static const char letters[] = "a\0b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0l\0m\0n\0";
    for (int round = 0; round < ROUNDS; round++) {
        struct sql_racer racers[RACERS];
        for (size_t i = 0; i < RACERS; i++) {
            racers[i] = (struct sql_racer){ .sql = "SELECT retry_after = 0 FROM bore.login_begin($1, $2, 1000, 1000)",
                .parameters = { "a@example.org", "192.0.2.1", sql_end } };
            if (i % 2)
                racers[i] = (struct sql_racer){
                    .sql = "SELECT outcome FROM bore.login_finish($1, 'hash', NULL, repeat($2, 64) , " DAYS_30
                           ", " DAYS_7 ", 3, '192.0.2.1', NULL)",
                    .parameters = { user, letters + 2 * i, sql_end },
                };
        }
        sql_race(racers, RACERS);
        assert_int_equal(count(racers, RACERS, "t"), RACERS / 2);
        assert_int_equal(count(racers, RACERS, "signed_in"), RACERS / 2);
        assert_true(sql_number(db, "SELECT count(*) FROM bore.sessions WHERE revoked_at IS NULL") <= 3);
        sql_run(db, "DELETE FROM bore.refresh_tokens");
    }
}

/* Two admins turn against each other, or against themselves, in all ways: one is left. */
static void test_last_admin(void **state) {
    (void)state;
    static const char *const removals[] = { "remove-admin", "disable", "delete" };
    for (int round = 0; round < ROUNDS * 2; round++) {
        fixture_clear(db);
        const char *first = fixture_make_admin(db, "first@example.org");
        const char *second = fixture_make_admin(db, "second@example.org");
        bool self = round % 2;
        struct sql_racer racers[4];
        for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
            const char *who = i % 2 ? first : second;
            const char *whom = (i % 2 == 0) == self ? second : first;
            racers[i] = (struct sql_racer){ .sql = "SELECT success FROM bore.admin_user_action($1, $2, $3, 'x')",
                .parameters = { who, whom, removals[(size_t)(round / 2) % 3], sql_end } };
        }
        sql_race(racers, ARRAY_SIZE(racers));
        assert_true(count(racers, ARRAY_SIZE(racers), "t") >= 1);
        assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.users WHERE is_admin AND NOT disabled"), 1);
    }
}

static void test_first_admin_by_replicas(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct sql_racer racers[RACERS];
        for (size_t i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = "SELECT bore.ensure_admin($1, 'Admin', 'hash')",
                .parameters = { i % 2 ? "admin@example.org" : "Admin@Example.org", sql_end } };
        sql_race(racers, RACERS);
        assert_int_equal(count(racers, RACERS, "created"), 1);
        assert_int_equal(count(racers, RACERS, "present"), RACERS - 1);
        fixture_clear(db);
    }
}

#define REFRESH \
    "SELECT outcome FROM bore.session_refresh(repeat('a', 64), repeat($1, 64), " DAYS_30 ", " DAYS_7 ", 'x', NULL)"

static void test_refreshes_at_once(void **state) {
    (void)state;
    static const char letters[] = "b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0l\0m\0n\0";
    const char *user = fixture_make_user(db, "a@example.org");
    for (int round = 0; round < ROUNDS; round++) {
        fixture_open_session(db, user, "a", "x");
        struct sql_racer racers[RACERS];
        for (size_t i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = REFRESH, .parameters = { letters + 2 * i, sql_end } };
        sql_race(racers, RACERS);
        assert_int_equal(count(racers, RACERS, "rotated"), RACERS);
        sql_run(db, "UPDATE bore.refresh_tokens SET used_at = used_at - interval '11 seconds';"
                    "DELETE FROM bore.refresh_tokens WHERE used_at IS NULL");
        sql_race(racers, RACERS);
        assert_int_equal(count(racers, RACERS, "reused"), 1);
        assert_int_equal(count(racers, RACERS, ""), RACERS - 1);
        sql_run(db, "DELETE FROM bore.refresh_tokens");
    }
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), ROUNDS);
}

/* Whatever ends sessions, at the same moment as new ones open: what is not revoked is alive, and never the other way.
 */
static void test_ends_and_beginnings_at_once(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org");
    static const char letters[] = "b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0l\0m\0n\0";
    for (int round = 0; round < ROUNDS; round++) {
        const char *user = fixture_make_user(db, "a@example.org");
        const char *session = fixture_open_session(db, user, "a", "x");
        const char *sql[][4] = {
            { "SELECT success FROM bore.admin_user_action($1, $2, 'disable', 'x')", admin, user, sql_end },
            { "SELECT success FROM bore.logout_all($1, 'x')", user, sql_end },
            { "SELECT success FROM bore.logout($1, $2, NULL, 'x')", user, session, sql_end },
            { "SELECT success FROM bore.password_change($1, 'hash', 'hash2', $2, 'x')", user, session, sql_end },
            { REFRESH, letters, sql_end },
            { "SELECT outcome FROM bore.login_finish($1, 'hash', NULL, repeat($2, 64), 1000, 1000, 2, 'x', NULL)", user,
                letters + 2, sql_end },
            { "SELECT outcome FROM bore.login_finish($1, 'hash', NULL, repeat($2, 64), 1000, 1000, 2, 'x', NULL)", user,
                letters + 4, sql_end },
            { "SELECT bore.auth_sweep(10)", sql_end },
        };
        struct sql_racer racers[ARRAY_SIZE(sql)];
        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
            racers[i] = (struct sql_racer){ .sql = sql[i][0] };
            memcpy(racers[i].parameters, &sql[i][1], 3 * sizeof(const char *));
        }
        sql_race(racers, ARRAY_SIZE(racers));
        count(racers, ARRAY_SIZE(racers), "");
        assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.sessions AS s WHERE (revoked_at IS NOT NULL) <> "
                                        "EXISTS (SELECT 1 FROM bore.revoked_sessions WHERE session_id = s.id)"),
            0);
        assert_int_equal(
            sql_number(db, "SELECT count(*) FROM bore.sessions WHERE user_id = $1 AND revoked_at IS NULL", user), 0);
        sql_ask(db, "SELECT success FROM bore.admin_user_action($1, $2, 'delete', 'x')", admin, user);
    }
}

/* --- a reader of revocations while sessions end ------------------------------------------------------------------- */

struct reader {
    atomic_bool stop;
    size_t seen;
    size_t twice;
    char last[64];
};

static void *read_revocations(void *argument) {
    struct reader *reader = argument;
    struct db *own = sql_open();
    static const struct db_statement statement = { "poll",
        "SELECT next, more, cardinality(session_ids), cardinality(session_ids) - (SELECT count(DISTINCT id) FROM "
        "unnest(session_ids) AS id) FROM bore.revocations_since($1, 7)" };
    char cursor[32] = "0";
    bool stopping = false, more = false;
    do {
        stopping = atomic_load(&reader->stop) && !more;
        struct db_params params;
        db_params_init(&params);
        db_params_add_text(&params, cursor);
        _cleanup_db_result_ struct db_result *result = NULL;
        if (db_run(own, &statement, &params, &result) < 0) break;
        snprintf(cursor, sizeof cursor, "%s", db_result_text(result, 0, 0));
        more = db_result_bool(result, 0, 1, false);
        reader->seen += (size_t)db_result_int(result, 0, 2, 0);
        reader->twice += (size_t)db_result_int(result, 0, 3, 0);
    } while (!stopping || more);
    db_free(own);
    return NULL;
}

static void test_revocations_while_sessions_end(void **state) {
    (void)state;
    enum { USERS = 8, SESSIONS = 3, TURNS = 40 };
    const char *users[USERS];
    for (int i = 0; i < USERS; i++) {
        char email[40];
        snprintf(email, sizeof email, "u%d@example.org", i);
        users[i] = fixture_make_user(db, email);
    }
    struct reader reader = { 0 };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_revocations, &reader), 0);
    for (int turn = 0; turn < TURNS; turn++) {
        sql_run(db, "INSERT INTO bore.sessions (id, user_id, expires_at, token_expires_at) SELECT bore.new_id('sess'), "
                    "id, now() + interval '1 day', now() + interval '1 day' FROM bore.users, generate_series(1, 3)");
        struct sql_racer racers[USERS];
        for (size_t i = 0; i < USERS; i++)
            racers[i] = (struct sql_racer){ .sql = "SELECT success FROM bore.logout_all($1, 'x')",
                .parameters = { users[i], sql_end } };
        sql_race(racers, USERS);
        assert_int_equal(count(racers, USERS, "t"), USERS);
    }
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(reader.seen, USERS * SESSIONS * TURNS);
    assert_int_equal(reader.twice, 0);
}

static void test_one_sweeper(void **state) {
    (void)state;
    sql_run(db, "INSERT INTO bore.login_throttle (key, window_start) "
                "SELECT n::text, now() - interval '1 hour' FROM generate_series(1, 1000) n");
    struct sql_racer racers[RACERS];
    long long removed = 0;
    for (size_t i = 0; i < RACERS; i++)
        racers[i] = (struct sql_racer){ .sql = "SELECT bore.auth_sweep(1000)", .parameters = { sql_end } };
    sql_race(racers, RACERS);
    count(racers, RACERS, "");
    for (size_t i = 0; i < RACERS; i++)
        removed += atoll(racers[i].answer);
    assert_int_equal(removed, 1000);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_signups_at_once),
        TEST(test_guesses_at_once),
        TEST(test_attempts_and_successes_at_once),
        TEST(test_last_admin),
        TEST(test_first_admin_by_replicas),
        TEST(test_refreshes_at_once),
        TEST(test_ends_and_beginnings_at_once),
        TEST(test_revocations_while_sessions_end),
        TEST(test_one_sweeper),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
