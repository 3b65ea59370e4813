/*
 * test_registry_history_sql.c: status history, uptime, strips, lists of sessions and alerts, against a real PostgreSQL.
 *
 * Each test begins with one user and one instance.
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

static const char *user, *instance;

static int setup(void **state) {
    (void)state;
    fixture_clear_all(db);
    user = fixture_make_user(db, "a@example.org");
    instance = fixture_make_instance(db, user, "web");
    return 0;
}

/* --- uptime ------------------------------------------------------------------------------------------------------- */

/* Minutes ago; window in minutes, NULL: the whole history. Expected: percentage, minutes down, incidents, minutes. */
static const struct {
    const char *history;
    const char *window;
    const char *expected;
} uptimes[] = {
    { "inactive 60", NULL, "100 0 0 60" },
    { "inactive 60, starting 50", NULL, "100 0 0 60" },
    { "inactive 60, starting 50, active 40", NULL, "100.000 0 0 60" },
    { "inactive 60, starting 50, active 40, online 39, degraded 30, idle 20", NULL, "100.000 0 0 60" },
    { "online 100, offline 25", NULL, "75.000 25 1 100" },
    { "online 100, offline 90, online 80, error 70, online 60", NULL, "80.000 20 2 100" },
    { "offline 30", NULL, "0.000 30 1 30" },
    { "inactive 90, error 60, inactive 30", NULL, "0.000 30 1 90" },
    { "online 60, offline 50, error 40, online 30", NULL, "66.667 20 1 60" },
    { "online 60, offline 50, starting 40, offline 35, online 30", NULL, "72.727 15 2 60" },
    { "online 60, offline 30, inactive 20, online 10", NULL, "80.000 10 1 60" },
    /* windows: what reaches into them counts from their beginning */
    { "online 100, offline 50", "20", "0.000 20 1 20" },
    { "online 100, offline 50, online 40", "20", "100.000 0 0 20" },
    { "online 100, offline 50, online 40", "45", "88.889 5 1 45" },
    { "online 100, offline 50, online 40", "50", "80.000 10 1 50" },
    { "online 100, offline 50, online 40", "1000", "90.000 10 1 100" },
    { "offline 100, error 10", "20", "0.000 20 1 20" },
    { "", NULL, "100 0 0 0" },
};

static void test_uptime(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(uptimes); i++) {
        sql_run(db, "BEGIN"); /* so that now() stands still */
        fixture_set_history(db, instance, uptimes[i].history);
        const char *found = sql_ask(db,
            "SELECT concat_ws(' ', data ->> 'uptime_percentage', (data ->> 'total_downtime_ms')::bigint / 60000, "
            "data ->> 'incident_count', (data ->> 'history_span_ms')::bigint / 60000) "
            "FROM bore.uptime_data($1, now() - $2::integer * interval '1 minute', now()) AS data",
            instance, uptimes[i].window);
        sql_run(db, "ROLLBACK");
        if (strcmp(found, uptimes[i].expected) != 0)
            fail_msg("%s (%s): %s, not %s", uptimes[i].history, uptimes[i].window ? uptimes[i].window : "all", found,
                uptimes[i].expected);
    }
}

/* --- history ------------------------------------------------------------------------------------------------------ */

static const char statuses[] = "SELECT string_agg(status, ' ' ORDER BY n) FROM "
                               "bore.instance_history($1, $2, $3, $4, $5) WITH ORDINALITY AS told (instance_id, "
                               "current_status, status_reason, health_metrics, last_heartbeat, heartbeat_age_ms, "
                               "uptime_data, next_cursor, id, status, reason, at, n)";
static const char next_mark[] = "SELECT next_cursor FROM bore.instance_history($1, $2, $3, $4, $5)";

static void test_history(void **state) {
    (void)state;
    fixture_set_history(db, instance, "inactive 100, starting 90, active 80, online 70, offline 60");
    assert_string_equal(
        sql_ask(db, statuses, user, instance, "100", NULL, NULL), "offline online active starting inactive");
    const char *mark = NULL;
    static const char *const pages[] = { "offline online", "active starting", "inactive" };
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        assert_string_equal(sql_ask(db, statuses, user, instance, "2", mark, NULL), pages[i]);
        mark = sql_ask(db, next_mark, user, instance, "2", mark, NULL);
        assert_int_equal(mark != NULL, i < 2);
    }
    /* several of one moment */
    sql_ask(db, "UPDATE bore.status_history SET at = now() WHERE instance_id = $1", instance);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        assert_string_equal(sql_ask(db, statuses, user, instance, "2", mark, NULL), pages[i]);
        mark = sql_ask(db, next_mark, user, instance, "2", mark, NULL);
    }
}

/* The instance's own facts stand beside a page without rows, too. */
static void test_history_head(void **state) {
    (void)state;
    sql_ask(db,
        "WITH heard AS (INSERT INTO bore.heartbeats SELECT 0, now() - interval '1 minute', true, false, 1, 7, 12.5, "
        "NULL, $1) "
        "UPDATE bore.instances SET status = 'online', status_reason = 'well', has_code_server = true WHERE id = $1",
        instance);
    static const char head[] =
        "SELECT concat_ws(' ', instance_id = $2, current_status, status_reason, health_metrics::jsonb ->> 'cpu_usage', "
        "health_metrics::jsonb ->> 'has_code_server', coalesce(health_metrics::jsonb ->> 'vscode_responsive', 'none'), "
        "health_metrics::jsonb ->> 'last_activity', bore.ms(now()) - last_heartbeat BETWEEN 60000 AND 90000, "
        "heartbeat_age_ms BETWEEN 60000 AND 90000, uptime_data IS NOT NULL, coalesce(status, 'no row')) "
        "FROM bore.instance_history($1, $2, 100, $3, NULL)";
    assert_string_equal(sql_ask(db, head, user, instance, NULL), "t online well 12.5 true none 7 t t t inactive");
    assert_string_equal(sql_ask(db, head, user, instance, "1.1"), "t online well 12.5 true none 7 t t t no row");
}

static void test_history_window(void **state) {
    (void)state;
    fixture_set_history(
        db, instance, "inactive 50000, online 20000, offline 10100, online 10000, offline 1450, error 10");
    static const char *const windows[][2] = {
        { NULL, "error offline online offline online inactive" },
        { "30d", "error offline online offline online inactive" },
        { "7d", "error offline online offline" },
        { "24h", "error offline" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(windows); i++)
        assert_string_equal(sql_ask(db, statuses, user, instance, "100", NULL, windows[i][0]), windows[i][1]);
    const char *mark = sql_ask(db, next_mark, user, instance, "1", NULL, "24h");
    assert_string_equal(sql_ask(db, statuses, user, instance, "100", mark, "24h"), "offline");
}

static void test_history_refusals(void **state) {
    (void)state;
    const char *other = fixture_make_user(db, "b@example.org");
    assert_string_equal(sql_refusal(db, statuses, other, instance, "1", NULL, NULL), "instance_not_found");
    assert_string_equal(sql_refusal(db, statuses, user, "inst_none", "1", NULL, NULL), "instance_not_found");
    static const char *const windows[] = { "", "1h", "24H", "24h ", "1d" };
    for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
        assert_string_equal(sql_refusal(db, statuses, user, instance, "1", NULL, windows[i]), "validation_error");
        assert_string_equal(db_refusal_column(db), "window");
    }
    static const char *const marks[] = { "", "x", "1.inst_1", "1.-1", "1.9999999999999999999" };
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
        assert_string_equal(sql_refusal(db, statuses, user, instance, "1", marks[i], NULL), "validation_error");
        assert_string_equal(db_refusal_column(db), "cursor");
    }
}

/* --- strips ------------------------------------------------------------------------------------------------------- */

static void test_strips(void **state) {
    (void)state;
    const char *newer = fixture_make_instance(db, user, "newer");
    fixture_make_instance(db, fixture_make_user(db, "b@example.org"), "not mine");
    fixture_set_history(db, instance, "inactive 600, online 130, offline 90, online 30");
    fixture_set_history(db, newer, "inactive 20");
    /* status, begin and length in minutes before now, rounded; the present one has no end */
    static const char strips[] =
        "SELECT string_agg(strip, '; ' ORDER BY n) FROM (SELECT n, (SELECT string_agg(concat_ws(' ', stretch ->> "
        "'status', "
        "round((bore.ms(now()) - (stretch ->> 'from')::bigint) / 60000.0), "
        "coalesce(round((bore.ms(now()) - (stretch ->> 'to')::bigint) / 60000.0)::text, 'now')), ', ') "
        "FROM json_array_elements(stretches::json) AS stretch) AS strip "
        "FROM bore.status_strips($1, $2) WITH ORDINALITY AS told (hours, instance_id, stretches, n)) AS strips";
    assert_string_equal(sql_ask(db, strips, user, "1"), "inactive 20 now; offline 60 30, online 30 now");
    assert_string_equal(sql_ask(db, strips, user, "2"), "inactive 20 now; online 120 90, offline 90 30, online 30 now");
    assert_string_equal(sql_ask(db, strips, user, "168"),
        "inactive 20 now; inactive 600 130, online 130 90, offline 90 30, online 30 now");
    static const char hours[] =
        "SELECT concat_ws(' ', hours, coalesce(instance_id, 'none')) FROM bore.status_strips($1, 5)";
    assert_string_equal(sql_ask(db, hours, "user_none"), "5 none");
}

static void test_strips_are_bounded(void **state) {
    (void)state;
    sql_ask(db,
        "INSERT INTO bore.status_history (instance_id, status, reason, at) SELECT $1, 'online', 'told', "
        "now() - n * interval '10 seconds' FROM generate_series(1, 1500) AS n",
        instance);
    static const char length[] = "SELECT max(json_array_length(stretches::json)) FROM bore.status_strips($1, 24)";
    assert_int_equal(sql_number(db, length, user), 1000);
    assert_string_equal(sql_ask(db,
                            "SELECT stretches::json -> 999 ->> 'to' IS NULL AND stretches::json -> 999 ->> 'status' = "
                            "'inactive' FROM bore.status_strips($1, 24)",
                            user),
        "t"); /* the newest are there */
    sql_ask(db,
        "INSERT INTO bore.instances (id, user_id, name, local_port) "
        "SELECT bore.new_id('inst'), $1, 'n' || n, 80 FROM generate_series(1, 499) AS n",
        user);
    assert_int_equal(sql_number(db, length, user), 100);
}

/* --- sessions and alerts ------------------------------------------------------------------------------------------ */

static void test_sessions(void **state) {
    (void)state;
    sql_ask(db,
        "INSERT INTO bore.tunnel_sessions (id, instance_id, user_id, state, remote_port, created_at, bytes_in) "
        "SELECT 'ts_' || n, $1, $2, 'closed', 1000 + n, now() - n / 2 * interval '1 minute', nullif(n, 5) "
        "FROM generate_series(1, 5) AS n",
        instance, user);
    static const char page[] =
        "SELECT string_agg(concat_ws('/', id, state, remote_port, coalesce(bytes_in::text, 'none')), "
        "' ') FROM bore.tunnel_session_list($1, $2, $3, $4)";
    static const char next[] = "SELECT next_cursor FROM bore.tunnel_session_list($1, $2, $3, $4)";
    assert_string_equal(
        sql_ask(db, page, user, instance, "3", NULL), "ts_1/closed/1001/1 ts_3/closed/1003/3 ts_2/closed/1002/2");
    const char *mark = sql_ask(db, next, user, instance, "3", NULL);
    assert_string_equal(sql_ask(db, page, user, instance, "3", mark), "ts_5/closed/1005/none ts_4/closed/1004/4");
    assert_null(sql_ask(db, next, user, instance, "3", mark));
    assert_null(sql_ask(db, next, user, instance, "5", NULL));
    assert_string_equal(sql_refusal(db, page, user, instance, "3", "?"), "validation_error");
    assert_string_equal(
        sql_refusal(db, page, fixture_make_user(db, "b@example.org"), instance, "3", NULL), "instance_not_found");
}

static void test_alerts(void **state) {
    (void)state;
    sql_ask(db,
        "INSERT INTO bore.alert_history (id, instance_id, user_id, alert_type, message, sent_at) "
        "SELECT 'alert_' || n, CASE n WHEN 4 THEN 'inst_other' ELSE $1 END, $2, 'Instance Offline', 'gone', "
        "now() - n * interval '1 minute' FROM generate_series(1, 4) AS n",
        instance, user);
    sql_run(db, "INSERT INTO bore.alert_deliveries (alert_id, channel, state, attempts, last_error) VALUES "
                "('alert_1', 'slack', 'failed', 5, 'timeout'), ('alert_1', 'email', 'delivered', 1, NULL)");
    static const char page[] = "SELECT string_agg(concat_ws(' ', id, json_array_length(deliveries::json), "
                               "deliveries::json -> 1 ->> 'last_error', deliveries::json -> 0 ->> 'state'), ', ') "
                               "FROM bore.instance_alert_list($1, $2, $3, $4)";
    assert_string_equal(
        sql_ask(db, page, user, instance, "100", NULL), "alert_1 2 timeout delivered, alert_2 0, alert_3 0");
    const char *mark = sql_ask(db, "SELECT next_cursor FROM bore.instance_alert_list($1, $2, 2, NULL)", user, instance);
    assert_string_equal(sql_ask(db, page, user, instance, "2", mark), "alert_3 0");
    assert_string_equal(sql_refusal(db, page, user, instance, "2", "1"), "validation_error");
    assert_string_equal(
        sql_refusal(db, page, fixture_make_user(db, "b@example.org"), instance, "3", NULL), "instance_not_found");
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_uptime),
        TEST(test_history),
        TEST(test_history_head),
        TEST(test_history_window),
        TEST(test_history_refusals),
        TEST(test_strips),
        TEST(test_strips_are_bounded),
        TEST(test_sessions),
        TEST(test_alerts),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
