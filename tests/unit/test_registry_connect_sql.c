/*
 * test_registry_connect_sql.c: tokens and plans, the choice of a bore-server, what ends a tunnel, and races for the
 * last tunnel of a plan: the SQL of registry against a real PostgreSQL. Each test begins with empty tables.
 */
#include <errno.h>
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

static const char *user;

static int setup(void **state) {
    (void)state;
    fixture_clear_all(db);
    sql_run(db, "TRUNCATE bore.usage_sessions, bore.pending_closes CASCADE");
    user = fixture_make_user(db, "a@example.org"); /* on trial: one tunnel */
    return 0;
}

#define CONNECT(users, instances)                                                                             \
    "bore.instances_connect(ARRAY [" users "], ARRAY [" instances "], 3600000, 'default.example.org', 7835, " \
    "interval '1 minute', interval '30 minutes')"

static void set_plan(const char *plan) {
    sql_ask(db, "UPDATE bore.users SET plan = $2 WHERE id = $1", user, plan);
}

/* The token, or why there is none. */
static const char *connect_one(const char *instance) {
    return sql_ask(db, "SELECT coalesce(error, tunnel_token) FROM " CONNECT("$1", "$2"), user, instance);
}

static const char *validate(const char *token) {
    return sql_ask(db,
        "SELECT concat_ws(' ', valid, usage_allowed, plan_type, message) FROM bore.validate_keys(ARRAY [$1], "
        "interval '1 minute')",
        token);
}

static void assert_valid(const char *token) {
    const char *answer = validate(token);
    if (strncmp(answer, "t t ", 4) != 0) fail_msg("%s", answer);
}

static void assert_invalid(const char *token, const char *because) {
    const char *answer = validate(token);
    if (strncmp(answer, "f f ", 4) != 0 || !strstr(answer, because)) fail_msg("%s, not %s", answer, because);
}

static const char *report(const char *kind, const char *instance) {
    return sql_ask(db,
        "SELECT coalesce(error, success::text) FROM bore.tunnel_reports(ARRAY [ROW (1, $1, $2, 5000, NULL, NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::bore.batch_report], 'host', interval '1 minute', "
        "interval '30 minutes')",
        kind, instance);
}

static const char *status(const char *instance) {
    return sql_ask(db, "SELECT status FROM bore.instances WHERE id = $1", instance);
}

/* --- tokens ------------------------------------------------------------------------------------------------------- */

static void test_answer(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    assert_string_equal(
        sql_ask(db,
            "SELECT concat_ws(' ', ord, instance_id = $2, tunnel_token ~ '^tk_[0-9a-f]{64}$', server_host, "
            "server_port, local_port, remote_port, ttl, expires_at - bore.ms(now()) BETWEEN 3590000 AND 3610000, "
            "server_info, error) FROM " CONNECT("$1", "$2"),
            user, id),
        "1 t t default.example.org 7835 3000 0 3600 t {\"server_id\" : \"default\", \"utilization\" : 0.0000}");
    assert_string_equal(status(id), "starting");
    assert_string_equal(connect_one("inst_nothing"), "instance_not_found");
    const char *other = fixture_make_user(db, "b@example.org");
    assert_string_equal(sql_ask(db, "SELECT error FROM " CONNECT("$1", "$2"), other, id), "instance_not_found");
}

static void test_only_hashes_are_kept(void **state) {
    (void)state;
    const char *token = connect_one(fixture_make_instance(db, user, "web"));
    assert_string_equal(sql_ask(db, "SELECT token_hash FROM bore.tunnel_tokens"),
        sql_ask(db, "SELECT encode(sha256($1::text::bytea), 'hex')", token));
}

static void test_a_token_replaces_the_last(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    const char *first = connect_one(id), *second = connect_one(id);
    assert_invalid(first, "no longer valid");
    assert_valid(second);
    /* in one batch, too */
    const char *both =
        sql_ask(db, "SELECT string_agg(tunnel_token, ' ' ORDER BY ord) FROM " CONNECT("$1, $1", "$2, $2"), user, id);
    char early[68], late[68];
    snprintf(early, sizeof early, "%.67s", both);
    snprintf(late, sizeof late, "%.67s", both + 68);
    assert_invalid(early, "no longer valid");
    assert_valid(late);
}

static void test_validation(void **state) {
    (void)state;
    assert_invalid("tk_nothing", "not known");
    assert_invalid("", "not known");
    const char *id = fixture_make_instance(db, user, "web");
    const char *token = connect_one(id);
    assert_string_equal(validate(token), "t t trial The tunnel may open.");
    sql_ask(db, "UPDATE bore.users SET plan_expires = now() - interval '1 second' WHERE id = $1", user);
    assert_invalid(token, "plan of this account has expired");
    assert_string_equal(connect_one(id), "plan_expired");
    sql_ask(db, "UPDATE bore.users SET plan_expires = NULL, disabled = true WHERE id = $1", user);
    assert_invalid(token, "disabled");
    assert_string_equal(connect_one(id), "forbidden");
    sql_ask(db, "UPDATE bore.users SET disabled = false WHERE id = $1", user);
    assert_valid(token);
    sql_run(db, "UPDATE bore.tunnel_tokens SET expires_at = now()");
    assert_invalid(token, "expired");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.waiting WHERE instance_id = $1", id), 1);
    sql_ask(db, "DELETE FROM bore.instances WHERE id = $1", id);
    assert_invalid(token, "not known");
    static const char *const left[] = { "waiting", "tunnel_tokens", "tunnel_sessions", "status_history" };
    for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM bore.%s WHERE instance_id = $1", left[i]);
        assert_int_equal(sql_number(db, sql, id), 0);
    }
}

static void test_bandwidth(void **state) {
    (void)state;
    const char *token = connect_one(fixture_make_instance(db, user, "web"));
    static const char used[] =
        "UPDATE bore.users SET bandwidth_month = date_trunc('month', now() AT TIME ZONE 'UTC')::date + $2::integer, "
        "bandwidth_bytes = $3::bigint WHERE id = $1";
    sql_ask(db, used, user, "0", "10737418239");
    assert_valid(token);
    sql_ask(db, used, user, "0", "10737418240");
    assert_invalid(token, "used up");
    sql_ask(db, used, user, "-1", "99999999999999"); /* of last month */
    assert_valid(token);
}

/* --- limits of plans ---------------------------------------------------------------------------------------------- */

static void test_limit_of_connect(void **state) {
    (void)state;
    const char *first = fixture_make_instance(db, user, "first"), *second = fixture_make_instance(db, user, "second");
    connect_one(first);
    assert_string_equal(connect_one(second), "tunnel_limit_reached");
    assert_memory_equal(connect_one(first), "tk_", 3); /* itself does not count */
    sql_run(db, "UPDATE bore.tunnel_tokens SET expires_at = now()");
    const char *token = connect_one(second); /* a token that has expired holds no tunnel */
    assert_valid(token);
    assert_string_equal(connect_one(first), "tunnel_limit_reached");
    assert_string_equal(report("connected", second), "true");
    assert_string_equal(connect_one(first), "tunnel_limit_reached");
    assert_string_equal(report("disconnected", second), "true");
    assert_memory_equal(connect_one(first), "tk_", 3);
    sql_ask(db, "SELECT bore.instance_disconnect($1, $2, interval '1 hour')", user, first);
    assert_memory_equal(connect_one(second), "tk_", 3);
    set_plan("pro");
    assert_memory_equal(connect_one(first), "tk_", 3);
}

static void test_limit_of_validation(void **state) {
    (void)state;
    set_plan("pro");
    const char *tokens[7], *ids[7];
    for (int i = 0; i < 7; i++)
        ids[i] = fixture_make_instance(db, user, "web");
    for (int i = 0; i < 5; i++)
        tokens[i] = connect_one(ids[i]);
    assert_string_equal(connect_one(ids[5]), "tunnel_limit_reached");
    /* A smaller plan since: whoever comes first. The same token again is no further tunnel. */
    set_plan("trial");
    assert_string_equal(
        sql_ask(db,
            "SELECT string_agg(valid::text, ' ' ORDER BY ord) FROM bore.validate_keys(ARRAY [$2, $1, $2, $3], "
            "interval '1 minute')",
            tokens[0], tokens[1], tokens[2]),
        "true false true false");
    assert_invalid(tokens[0], "in use by other instances");
    assert_valid(tokens[1]);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.tunnel_sessions"), 1);
    /* One that was validated and never connected frees its place. */
    sql_run(db, "UPDATE bore.tunnel_sessions SET created_at = now() - interval '61 seconds'");
    assert_valid(tokens[0]);
}

enum { RACERS = 12 };

static void test_race_for_the_last_tunnel(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        setup(state);
        struct sql_racer racers[RACERS] = { 0 };
        for (int i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = "SELECT coalesce(error, 'token') FROM " CONNECT("$1", "$2"),
                .parameters = { user, fixture_make_instance(db, user, "web"), sql_end } };
        sql_race(racers, RACERS);
        int won = 0;
        for (int i = 0; i < RACERS; i++) {
            if (racers[i].error) fail_msg("racer %d: %d", i, racers[i].error);
            won += strcmp(racers[i].answer, "token") == 0;
        }
        assert_int_equal(won, 1);
    }
}

static void test_race_of_validations(void **state) {
    (void)state;
    for (int round = 0; round < 10; round++) {
        setup(state);
        set_plan("enterprise");
        struct sql_racer racers[RACERS] = { 0 };
        for (int i = 0; i < RACERS; i++)
            racers[i] =
                (struct sql_racer){ .sql =
                                        "SELECT valid::text FROM bore.validate_keys(ARRAY [$1], interval '1 minute')",
                    .parameters = { connect_one(fixture_make_instance(db, user, "web")), sql_end } };
        set_plan("pro");
        sql_race(racers, RACERS);
        int won = 0;
        for (int i = 0; i < RACERS; i++) {
            if (racers[i].error) fail_msg("racer %d: %d %s", i, racers[i].error, racers[i].refusal);
            won += strcmp(racers[i].answer, "true") == 0;
        }
        assert_int_equal(won, 5);
    }
}

/* Everything at once on the same few rows: no deadlock, no gap in the log, a status that follows from the evidence. */
static void test_race_of_everything(void **state) {
    (void)state;
    set_plan("enterprise");
    static const char *const calls[] = {
        "SELECT error FROM " CONNECT("$1, $1, $1", "$2, $3, $4"),
        "SELECT bore.instance_disconnect($1, $3, interval '1 hour') WHERE $2::text || $4::text <> ''",
        "SELECT success FROM bore.tunnel_reports(ARRAY [ROW (1, 'connected', $4, 5000, NULL, NULL, NULL, NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL)::bore.batch_report, ROW (2, 'disconnected', $2, NULL, NULL, NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::bore.batch_report, ROW (3, 'start', NULL, NULL, NULL, NULL, "
        "'s', NULL, NULL, $1, 5000, 80, NULL, NULL, NULL)::bore.batch_report], 'host', interval '1 minute', "
        "interval '1 hour') WHERE $3::text <> ''",
        "SELECT success FROM bore.tunnel_reports((SELECT array_agg(ROW (1, 'end', NULL, NULL, NULL, id, NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL, 7)::bore.batch_report) FROM bore.usage_sessions WHERE user_id = $1 AND "
        "ended_at IS NULL), 'host', interval '1 minute', interval '1 hour') WHERE $2::text || $3::text || $4::text <> "
        "''",
    };
    const char *ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = fixture_make_instance(db, user, "web");
    for (int round = 0; round < 20; round++) {
        struct sql_racer racers[RACERS] = { 0 };
        for (size_t i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = calls[i % ARRAY_SIZE(calls)],
                .parameters = { user, ids[i % 3], ids[(i + 1) % 3], ids[(i + 2) % 3], sql_end } };
        sql_race(racers, RACERS);
        for (size_t i = 0; i < RACERS; i++)
            if (racers[i].error) fail_msg("racer %zu: %d %s", i, racers[i].error, racers[i].refusal);
    }
    assert_int_equal(sql_number(db, "SELECT max(id) - count(*) FROM bore.events"), 0);
    assert_int_equal(
        sql_number(db, "SELECT count(*) FROM bore.instances AS i CROSS JOIN LATERAL bore.instance_status(i.phase, "
                       "i.phase_reason, i.heartbeat_session, i.silent, i.has_code_server, i.vscode_responsive, "
                       "NULL, now(), interval '1 hour') AS v WHERE v.status <> i.status"),
        0);
}

/* --- bore-servers ------------------------------------------------------------------------------------------------- */

static void make_server(const char *id, const char *region, const char *most, const char *lease) {
    sql_ask(db,
        "INSERT INTO bore.servers (id, host, port, region, max_tunnels, active, lease_expires_at, lease_covered) "
        "VALUES ($1, $1 || '.example.org', 7835, $2, $3::integer, $1 <> 'closed', now() + $4::interval, "
        "1000 * extract(epoch FROM $4::interval))",
        id, region, most, lease);
}

static const char *chosen(const char *instance) {
    return sql_ask(db,
        "SELECT coalesce(error, server_host || ' ' || (server_info::json ->> 'server_id') || ' ' || "
        "(server_info::json ->> 'utilization')) FROM " CONNECT("$1", "$2"),
        user, instance);
}

static void test_choice_of_server(void **state) {
    (void)state;
    set_plan("enterprise");
    const char *ids[7];
    for (int i = 0; i < 7; i++)
        ids[i] = fixture_make_instance(db, user, "web");
    make_server("far", "elsewhere", "100", "1 minute");
    assert_string_equal(chosen(ids[0]), "default.example.org default 0.0000");
    make_server("dead", "local", "100", "-1 second");
    make_server("closed", "local", "100", "1 minute");
    assert_string_equal(chosen(ids[0]), "no_servers_available");
    make_server("small", "local", "2", "1 minute");
    make_server("large", "local", "4", "1 minute");
    /* the emptiest, tokens given out counted: large and small by turns of their size */
    assert_string_equal(chosen(ids[0]), "large.example.org large 0.2500");
    assert_string_equal(chosen(ids[1]), "small.example.org small 0.5000");
    assert_string_equal(chosen(ids[2]), "large.example.org large 0.5000");
    /* a batch is spread like single ones */
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(server_info::json ->> 'server_id', ' ' ORDER BY ord) FROM " CONNECT(
                                "$1, $1, $1", "$2, $3, $4"),
                            user, ids[3], ids[4], ids[5]),
        "large small large");
    assert_string_equal(chosen(ids[6]), "no_servers_available");
    assert_string_equal(sql_ask(db, "SELECT assigned_server FROM bore.instances WHERE id = $1", ids[1]), "small");
    /* the end of one makes room */
    sql_ask(db, "SELECT bore.instance_disconnect($1, $2, interval '1 hour')", user, ids[1]);
    assert_string_equal(chosen(ids[6]), "small.example.org small 1.0000");
}

static void test_pinned_server(void **state) {
    (void)state;
    make_server("large", "local", "4", "1 minute");
    const char *id = sql_ask(
        db, "SELECT (instance).id FROM bore.instance_create($1, 'web', 80, NULL, 'mine.example.org', NULL)", user);
    assert_string_equal(chosen(id), "mine.example.org default 0.0000");
    make_server("mine", "elsewhere", "0", "1 minute");
    assert_string_equal(chosen(id), "mine.example.org mine 0.0000");
}

static void test_what_servers_are_told_to_close(void **state) {
    (void)state;
    set_plan("pro");
    make_server("large", "local", "4", "1 minute");
    static const char closes[] = "SELECT string_agg(instance_id, ' ' ORDER BY instance_id) FROM bore.pending_closes";
    const char *gone = fixture_make_instance(db, user, "gone"), *kept = fixture_make_instance(db, user, "kept");
    assert_valid(connect_one(gone));
    assert_valid(connect_one(kept));
    report("connected", gone);
    assert_null(sql_ask(db, closes));
    sql_ask(db, "SELECT bore.instance_delete($1, $2)", user, gone);
    assert_string_equal(sql_ask(db, closes), gone);
    assert_string_equal(report("disconnected", gone), "instance_not_found");
    assert_null(sql_ask(db, closes));
    /* validated only: it may open any moment */
    sql_ask(db, "SELECT bore.instance_disconnect($1, $2, interval '1 hour')", user, kept);
    assert_string_equal(sql_ask(db, closes), kept);
    report("connected", kept);
    assert_string_equal(status(kept), "inactive");
    assert_string_equal(sql_ask(db, closes), kept);
    report("disconnected", kept);
    assert_null(sql_ask(db, closes));
    assert_string_equal(status(kept), "inactive");
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void test_delete(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    assert_valid(connect_one(id));
    report("connected", id);
    const char *other = fixture_make_user(db, "b@example.org");
    assert_string_equal(sql_refusal(db, "SELECT bore.instance_delete($1, $2)", other, id), "instance_not_found");
    assert_string_equal(sql_ask(db, "SELECT success FROM bore.instance_delete($1, $2)", user, id), "t");
    assert_string_equal(sql_refusal(db, "SELECT bore.instance_delete($1, $2)", user, id), "instance_not_found");
    assert_string_equal(
        sql_ask(db,
            "SELECT string_agg(kind, ' ' ORDER BY id) FROM (SELECT * FROM bore.events ORDER BY id DESC LIMIT 2) "
            "AS e WHERE instance_id = $1",
            id),
        "tunnel.disconnected instance.deleted");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.tunnel_tokens"), 0);
}

static void test_disconnect(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    static const char disconnect[] = "SELECT events FROM bore.instance_disconnect($1, $2, interval '1 hour')";
    assert_null(sql_ask(db, disconnect, user, id)); /* nothing to end */
    const char *token = connect_one(id);
    assert_non_null(sql_ask(db, disconnect, user, id));
    assert_invalid(token, "no longer valid");
    assert_string_equal(status(id), "inactive");
    const char *other = fixture_make_user(db, "b@example.org");
    assert_string_equal(sql_refusal(db, disconnect, other, id), "instance_not_found");
}

static void test_connection(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    static const char sql[] = "SELECT concat_ws(' ', (instance).status, (instance).remote_port, (instance).public_url) "
                              "FROM bore.instance_connection($1, $2, $3, $4, $5, interval '1 hour')";
    assert_string_equal(sql_refusal(db, sql, user, id, "offline", NULL, NULL), "validation_error");
    assert_string_equal(sql_refusal(db, sql, user, id, "active", "javascript:alert(1)", NULL), "validation_error");
    assert_string_equal(sql_refusal(db, sql, user, "inst_nothing", "active", NULL, NULL), "instance_not_found");
    connect_one(id);
    assert_string_equal(sql_ask(db, sql, user, id, "active", NULL, "5000"), "active 5000 default.example.org:5000");
    assert_string_equal(sql_ask(db, sql, user, id, NULL, "h.example.org:80", NULL), "active 5000 h.example.org:80");
    /* the bore-server knows better */
    report("connected", id);
    assert_string_equal(
        sql_ask(db, sql, user, id, "active", "evil.example.org:1", "1"), "active 5000 default.example.org:5000");
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_answer),
        TEST(test_only_hashes_are_kept),
        TEST(test_a_token_replaces_the_last),
        TEST(test_validation),
        TEST(test_bandwidth),
        TEST(test_limit_of_connect),
        TEST(test_limit_of_validation),
        TEST(test_race_for_the_last_tunnel),
        TEST(test_race_of_validations),
        TEST(test_race_of_everything),
        TEST(test_choice_of_server),
        TEST(test_pinned_server),
        TEST(test_what_servers_are_told_to_close),
        TEST(test_delete),
        TEST(test_disconnect),
        TEST(test_connection),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
