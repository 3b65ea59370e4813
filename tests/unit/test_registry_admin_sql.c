/*
 * test_registry_admin_sql.c: leases of bore-servers, what admins see of instances, housekeeping, against a real
 * PostgreSQL.
 *
 * Each test begins with an admin, a user and empty tables besides.
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
#include "tests/unit/instance_fixture.h"
#include "tests/unit/sql_client.h"

static const char *admin, *user;

static int setup(void **state) {
    (void)state;
    fixture_clear_all(db);
    admin = fixture_make_admin(db, "admin@example.org");
    user = fixture_make_user(db, "a@example.org");
    return 0;
}

/* --- bore-servers ------------------------------------------------------------------------------------------------- */

static const char renew[] = "SELECT concat_ws(' ', success, lease_seconds, close, warning IS NOT NULL) "
                            "FROM bore.server_renew($1, $2, $3, $4, $5, $6, 30000)";

static void test_server_renew(void **state) {
    (void)state;
    static const char server[] = "SELECT concat_ws(' ', host, port, region, max_tunnels, active, "
                                 "lease_expires_at BETWEEN now() + interval '25 seconds' AND now() + interval '31 "
                                 "seconds') FROM bore.servers WHERE id = $1";
    assert_string_equal(sql_ask(db, renew, "s1", "h.example.org", "7835", NULL, NULL, NULL), "t 30 {} f");
    assert_string_equal(sql_ask(db, server, "s1"), "h.example.org 7835 local 100 t t");
    assert_string_equal(sql_ask(db, renew, "s1", "192.0.2.1", "8000", "eu", "5", "false"), "t 30 {} t");
    assert_string_equal(sql_ask(db, server, "s1"), "192.0.2.1 8000 eu 5 f t");
    /* what is left out is the default again: a server that was drained and restarts takes tunnels */
    assert_string_equal(sql_ask(db, renew, "s1", "192.0.2.1", "7835", NULL, NULL, NULL), "t 30 {} f");
    assert_string_equal(sql_ask(db, server, "s1"), "192.0.2.1 7835 local 100 t t");
    assert_string_equal(sql_refusal(db, renew, "s1", "a b", "7835", NULL, NULL, NULL), "validation_error");
    assert_string_equal(db_refusal_column(db), "host");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.servers"), 1);
}

static void test_server_closes(void **state) {
    (void)state;
    const char *open = fixture_make_instance(db, user, "opened again here");
    const char *elsewhere = fixture_make_instance(db, user, "opened again elsewhere");
    sql_ask(db, renew, "s1", "h", "7835", NULL, NULL, NULL);
    sql_ask(db, renew, "s2", "h2", "7835", NULL, NULL, NULL);
    sql_ask(db, "UPDATE bore.instances SET phase = 'starting', assigned_server = 's1' WHERE id = $1", open);
    sql_ask(db, "UPDATE bore.instances SET phase = 'connected', assigned_server = 's2' WHERE id = $1", elsewhere);
    sql_ask(db,
        "INSERT INTO bore.pending_closes (server_id, instance_id, created_at) VALUES "
        "('s1', $1, now()), ('s1', $2, now() - interval '1 second'), ('s1', 'inst_gone', now() - interval '59 "
        "minutes'), "
        "('s1', 'inst_old', now() - interval '61 minutes'), ('s2', 'inst_s2', now())",
        open, elsewhere);
    char expected[120];
    snprintf(expected, sizeof expected, "t 30 {inst_gone,%s} f", elsewhere);
    for (int i = 0; i < 2; i++) /* until its end is reported */
        assert_string_equal(sql_ask(db, renew, "s1", "h", "7835", NULL, NULL, NULL), expected);
    assert_string_equal(sql_ask(db, renew, "s2", "h2", "7835", NULL, NULL, NULL), "t 30 {inst_s2} f");
}

/* Many renewals of one server at once: one row, no failure. */
static void test_server_race(void **state) {
    (void)state;
    struct sql_racer racers[8];
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        racers[i] = (struct sql_racer){ .sql = renew, .parameters = { "s1", "h", "7835", NULL, NULL, NULL, sql_end } };
    sql_race(racers, ARRAY_SIZE(racers));
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        assert_int_equal(racers[i].error, 0);
}

/* --- admins ------------------------------------------------------------------------------------------------------- */

static const char list[] = "SELECT concat_ws(' ', max(total), string_agg((instance).name, ',' ORDER BY n)) "
                           "FROM bore.admin_instance_list($1, $2, $3, $4, $5) "
                           "WITH ORDINALITY AS told (total, cursor, next_cursor, instance, n)";

static void test_admin_list(void **state) {
    (void)state;
    const char *other = fixture_make_user(db, "Other@example.org");
    fixture_make_instance(db, user, "alpha");
    const char *beta = fixture_make_instance(db, other, "Beta 100%");
    fixture_make_instance(db, user, "gamma_1");
    sql_ask(db,
        "WITH heard AS (INSERT INTO bore.heartbeats SELECT 0, now(), true, false, 1, 7, 3, NULL, $1) "
        "UPDATE bore.instances SET status = 'online', phase = 'connected' WHERE id = $1",
        beta);
    const char *const cases[][3] = {
        { NULL, NULL, "3 gamma_1,Beta 100%,alpha" },
        { NULL, "", "3 gamma_1,Beta 100%,alpha" },
        { "online", NULL, "1 Beta 100%" },
        { "error", NULL, "0" },
        { NULL, "ALPHA", "1 alpha" },
        { NULL, "other@", "1 Beta 100%" },
        { NULL, beta, "1 Beta 100%" },
        { NULL, "inst_", "0" },
        { NULL, "%", "1 Beta 100%" }, /* patterns mean themselves */
        { NULL, "_", "1 gamma_1" },
        { NULL, "\\", "0" },
        { "inactive", "a", "2 gamma_1,alpha" },
        { "online", "alpha", "0" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_string_equal(sql_ask(db, list, admin, cases[i][0], cases[i][1], "100", NULL), cases[i][2]);
    const char *mark =
        sql_ask(db, "SELECT max(next_cursor) FROM bore.admin_instance_list($1, NULL, NULL, 2, NULL)", admin);
    assert_string_equal(sql_ask(db, list, admin, NULL, NULL, "2", mark), "3 alpha");
    assert_string_equal(sql_ask(db,
                            "SELECT concat_ws(' ', (instance).user_email, (instance).user_name, (instance).status, "
                            "(instance).tunnel_connected, (instance).cpu_usage, cursor = bore.event_cursor()) "
                            "FROM bore.admin_instance_list($1, 'online', NULL, 10, NULL)",
                            admin),
        "Other@example.org Test online t 3 t");
    assert_string_equal(sql_refusal(db, list, admin, "broken", NULL, "2", NULL), "validation_error");
    assert_string_equal(db_refusal_column(db), "status");
    assert_string_equal(sql_refusal(db, list, admin, NULL, NULL, "2", "x"), "validation_error");
    assert_string_equal(sql_refusal(db, list, user, NULL, NULL, "2", NULL), "forbidden");
    assert_string_equal(sql_refusal(db, "SELECT * FROM bore.admin_stats($1)", user), "forbidden");
}

static void test_admin_stats(void **state) {
    (void)state;
    static const char stats[] =
        "SELECT concat_ws(' ', total_users, total_instances, active_tunnels, by_status, servers) "
        "FROM bore.admin_stats($1)";
    assert_string_equal(sql_ask(db, stats, admin),
        "2 0 0 {\"inactive\" : 0, \"starting\" : 0, \"active\" : 0, \"online\" : 0, \"degraded\" : 0, \"idle\" : 0, "
        "\"offline\" : 0, \"error\" : 0} []");
    sql_ask(db, renew, "s1", "h", "7835", NULL, "3", NULL);
    sql_ask(db, renew, "s2", "h", "7835", NULL, "0", "false");
    sql_run(db, "UPDATE bore.servers SET lease_covered = 0 WHERE id = 's2'");
    static const char *const kinds[][2] = { { "online", "connected" }, { "idle", "connected" },
        { "offline", "connected" }, { "offline", "disconnected" }, { "error", "failed" } };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const char *id = fixture_make_instance(db, user, "x");
        sql_ask(db, "UPDATE bore.instances SET status = $2, phase = $3 WHERE id = $1", id, kinds[i][0], kinds[i][1]);
        sql_ask(db,
            "INSERT INTO bore.tunnel_sessions (id, instance_id, user_id, state, server_id) "
            "VALUES (bore.new_id('ts'), $1, $2, CASE $3 WHEN 'connected' THEN 'open' ELSE 'closed' END, 's1')",
            id, user, kinds[i][1]);
    }
    assert_string_equal(
        sql_ask(db,
            "SELECT concat_ws(' ', total_instances, active_tunnels, by_status::json ->> 'online', "
            "by_status::json ->> 'offline', by_status::json ->> 'error', by_status::json ->> 'inactive') "
            "FROM bore.admin_stats($1)",
            admin),
        "5 3 1 2 1 0");
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(concat_ws(' ', server ->> 'id', server ->> 'tunnels', server ->> "
                            "'utilization', server ->> 'alive', server ->> 'active'), ', ') "
                            "FROM bore.admin_stats($1), json_array_elements(servers::json) AS server",
                            admin),
        "s1 3 1.0000 true true, s2 0 1 false false");
}

/* --- housekeeping ------------------------------------------------------------------------------------------------- */

static const char sweep[] = "SELECT bore.registry_sweep(3600000, 100)";

static void fill_with_old_rows(void) {
    const char *instance = fixture_make_instance(db, user, "web");
    sql_ask(db, renew, "s1", "h", "7835", NULL, NULL, NULL);
    sql_run(db, "INSERT INTO bore.events (id, at, kind) "
                "SELECT n, now() - interval '61 minutes', 'status' FROM generate_series(2, 5) AS n");
    sql_run(db, "INSERT INTO bore.events (id, at, kind) VALUES (6, now(), 'status')");
    sql_run(db,
        "INSERT INTO bore.pending_closes VALUES ('s1', 'old', now() - interval '61 minutes'), ('s1', 'new', now())");
    sql_ask(db,
        "INSERT INTO bore.tunnel_tokens (token_hash, instance_id, user_id, expires_at) VALUES "
        "(repeat('a', 64), $1, 'u', now() - interval '25 hours'), (repeat('b', 64), $1, 'u', now() - interval '23 "
        "hours')",
        instance);
    sql_run(db, "INSERT INTO bore.idempotency VALUES ('s', 'old', 'h', 'a', now() - interval '25 hours'), "
                "('s', 'new', 'h', 'a', now() - interval '23 hours')");
    sql_ask(db,
        "INSERT INTO bore.usage_sessions (id, user_id, server_id, public_port, local_port, ended_at) VALUES "
        "('old', $1, 's', 1, 1, now() - interval '8 days'), ('new', $1, 's', 1, 1, now()), ('open', $1, 's', 1, 1, "
        "NULL)",
        user);
    sql_run(db, "INSERT INTO bore.servers (id, host, port, lease_expires_at) VALUES "
                "('old', 'h', 1, now() - interval '31 days'), ('dead', 'h', 1, now() - interval '29 days')");
}

static void test_sweep(void **state) {
    (void)state;
    fill_with_old_rows();
    sql_run(db, "UPDATE bore.events SET at = now() - interval '61 minutes' WHERE id = 1");
    assert_int_equal(sql_number(db, sweep), 5 + 1 + 1 + 1 + 1 + 1);
    assert_int_equal(sql_number(db, sweep), 0);
    assert_string_equal(sql_ask(db, "SELECT concat_ws(' ', (SELECT string_agg(id::text, ',') FROM bore.events), "
                                    "(SELECT string_agg(instance_id, ',') FROM bore.pending_closes), "
                                    "(SELECT string_agg(left(token_hash, 1), ',') FROM bore.tunnel_tokens), "
                                    "(SELECT string_agg(key, ',') FROM bore.idempotency), "
                                    "(SELECT string_agg(id, ',' ORDER BY id) FROM bore.usage_sessions), "
                                    "(SELECT string_agg(id, ',' ORDER BY id) FROM bore.servers))"),
        "6 new b new new,open dead,s1");
}

/* Of events as old as all of them the newest stays: the log never forgets how far it has counted. */
static void test_sweep_keeps_the_head(void **state) {
    (void)state;
    sql_run(db, "INSERT INTO bore.events (id, at, kind) "
                "SELECT n, now() - interval '2 hours', 'status' FROM generate_series(11, 260) AS n");
    static const int removed[] = { 100, 100, 49, 0 };
    for (size_t i = 0; i < ARRAY_SIZE(removed); i++)
        assert_int_equal(sql_number(db, sweep), removed[i]);
    assert_string_equal(sql_ask(db, "SELECT string_agg(id::text, ',') FROM bore.events"), "260");
}

/* While one replica sweeps, another one leaves it alone. */
static void test_sweep_once(void **state) {
    (void)state;
    fill_with_old_rows();
    struct db *replica = sql_open();
    sql_run(replica, "BEGIN");
    assert_true(sql_number(replica, sweep) > 0);
    assert_int_equal(sql_number(db, sweep), 0);
    sql_run(replica, "ROLLBACK");
    assert_true(sql_number(db, sweep) > 0);
    db_free(replica);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_server_renew),
        TEST(test_server_closes),
        TEST(test_server_race),
        TEST(test_admin_list),
        TEST(test_admin_stats),
        TEST(test_sweep),
        TEST(test_sweep_keeps_the_head),
        TEST(test_sweep_once),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
