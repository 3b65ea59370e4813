/*
 * test_registry_status_sql.c: the rule of status (sql/003_status.sql): each row of its table, and each edge.
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

/* Texts as SQL reads them; NULL is NULL. The last activity is in seconds before now. */
struct evidence {
    const char *phase, *heartbeat_session, *silent, *has_code_server, *vscode_responsive, *activity;
    const char *status, *reason;
};

#define WHY "said why"

static const struct evidence rows[] = {
    /* what bore-servers and users said is stronger than anything a client says */
    { "inactive", "f", "f", NULL, NULL, NULL, "inactive", WHY },
    { "inactive", "t", "t", "t", "f", "9999", "inactive", WHY },
    { "starting", "f", "f", NULL, NULL, NULL, "starting", WHY },
    { "starting", "t", "f", "t", "t", "0", "starting", WHY },
    { "starting", "t", "t", "t", "f", "9999", "starting", WHY },
    { "failed", "f", "f", NULL, NULL, NULL, "error", WHY },
    { "failed", "t", "t", "t", "f", "9999", "error", WHY },
    { "disconnected", "f", "f", NULL, NULL, NULL, "offline", WHY },
    { "disconnected", "t", "f", "t", "t", "0", "offline", WHY },
    /* connected, and no heartbeat in this session: silence is no evidence */
    { "connected", "f", "f", NULL, NULL, NULL, "active", WHY },
    { "connected", "f", "t", NULL, NULL, NULL, "active", WHY },
    { "connected", "f", "f", "t", "f", "9999", "active", WHY },
    /* heartbeats stopped, whatever they said before */
    { "connected", "t", "t", NULL, NULL, NULL, "offline", "heartbeats stopped" },
    { "connected", "t", "t", "t", "f", "9999", "offline", "heartbeats stopped" },
    /* code-server: an ordinary program behind the tunnel is never degraded */
    { "connected", "t", "f", "t", "f", NULL, "degraded", "VSCode does not respond" },
    { "connected", "t", "f", "t", "f", "9999", "degraded", "VSCode does not respond" },
    { "connected", "t", "f", "f", "f", NULL, "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", NULL, "f", NULL, "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", "t", NULL, NULL, "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", "t", "t", NULL, "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", NULL, NULL, NULL, "online", "tunnel connected, heartbeats arrive" },
    /* activity: more than 30 minutes, not 30 */
    { "connected", "t", "f", "t", "t", "0", "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", "t", "t", "1799", "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", "t", "t", "1800", "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", "t", "t", "1801", "idle", "no recent activity" },
    { "connected", "t", "f", NULL, NULL, "1801", "idle", "no recent activity" },
    { "connected", "t", "f", "f", "f", "1801", "idle", "no recent activity" },
    /* whatever a client claims */
    { "connected", "t", "f", NULL, NULL, "-100000", "online", "tunnel connected, heartbeats arrive" },
    { "connected", "t", "f", NULL, NULL, "9000000000000000000", "idle", "no recent activity" },
    { "connected", "t", "f", NULL, NULL, "-9000000000000000000", "online", "tunnel connected, heartbeats arrive" },
};

static void test_rows(void **state) {
    (void)state;
    static const char sql[] =
        "SELECT status || ': ' || reason FROM bore.instance_status($1, '" WHY "', $2::boolean, $3::boolean, "
        "$4::boolean, $5::boolean, extract(epoch FROM timestamptz '2030-01-01')::bigint - $6::bigint, "
        "timestamptz '2030-01-01', interval '30 minutes')";
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct evidence *row = &rows[i];
        char expected[200];
        snprintf(expected, sizeof expected, "%s: %s", row->status, row->reason);
        const char *answer = sql_ask(db, sql, row->phase, row->heartbeat_session, row->silent, row->has_code_server,
            row->vscode_responsive, row->activity);
        if (!answer || strcmp(answer, expected) != 0)
            fail_msg("row %zu (%s): %s, not %s", i, row->phase, answer ? answer : "NULL", expected);
    }
}

/* All evidence there can be: one status, one reason, and nothing fails. */
static void test_every_combination(void **state) {
    (void)state;
    assert_int_equal(
        sql_number(db, "SELECT count(*) FROM unnest(ARRAY ['inactive', 'starting', 'failed', 'connected', "
                       "'disconnected']) AS phase, unnest(ARRAY [true, false]) AS heartbeats, unnest(ARRAY [true, "
                       "false]) AS silent, unnest(ARRAY [true, false, NULL]) AS code, unnest(ARRAY [true, false, "
                       "NULL]) AS responsive, unnest(ARRAY [NULL, 0, 9223372036854775807, -9223372036854775808]) AS "
                       "activity CROSS JOIN LATERAL bore.instance_status(phase, 'x', heartbeats, silent, code, "
                       "responsive, activity, now(), interval '1 second') AS verdict "
                       "WHERE verdict.status IN ('inactive', 'starting', 'active', 'online', 'degraded', 'idle', "
                       "'offline', 'error') AND verdict.reason <> ''"),
        5 * 2 * 2 * 3 * 3 * 4);
}

/* --- bore.settle -------------------------------------------------------------------------------------------------- */

static const char *settle(const char *instance, const char *change) {
    char sql[400];
    snprintf(sql, sizeof sql, "UPDATE bore.instances SET %s WHERE id = $1", change);
    sql_ask(db, sql, instance);
    return sql_ask(db,
        "SELECT string_agg(kind || ' ' || (payload ->> 'previous_status') || '-' || (payload ->> 'status'), ', ') "
        "FROM unnest(bore.settle_instances(ARRAY [$1], 'monitor', NULL, interval '30 minutes'))",
        instance);
}

static void test_settle(void **state) {
    (void)state;
    fixture_clear_all(db);
    const char *id = fixture_make_instance(db, fixture_make_user(db, "a@example.org"), "web");
    assert_string_equal(settle(id, "phase = 'connected'"), "status inactive-active");
    assert_null(settle(id, "phase = 'connected'"));
    assert_string_equal(settle(id, "heartbeat_session = true"), "status active-online");
    assert_string_equal(settle(id, "silent = true"), "status online-offline");
    /* another reason for the same status is written, and not told */
    assert_null(settle(id, "phase = 'disconnected', phase_reason = 'gone'"));
    assert_string_equal(
        sql_ask(db, "SELECT status || ' ' || status_reason FROM bore.instances WHERE id = $1", id), "offline gone");
    assert_string_equal(
        sql_ask(
            db, "SELECT string_agg(status, ' ' ORDER BY at, id) FROM bore.status_history WHERE instance_id = $1", id),
        "inactive active online offline");
    assert_int_equal(sql_number(db,
                         "SELECT count(*) FROM bore.instances JOIN bore.status_history ON instance_id = instances.id "
                         "AND at = status_since WHERE instances.id = $1",
                         id),
        1);
}

/* A clock that went back does not make history go back. */
static void test_time_goes_forward(void **state) {
    (void)state;
    fixture_clear_all(db);
    const char *id = fixture_make_instance(db, fixture_make_user(db, "a@example.org"), "web");
    sql_ask(db, "UPDATE bore.instances SET status_since = now() + interval '1 hour' WHERE id = $1", id);
    settle(id, "phase = 'connected'");
    settle(id, "phase = 'disconnected'");
    assert_int_equal(sql_number(db,
                         "SELECT count(*) FROM bore.status_history WHERE instance_id = $1 AND at > now() + interval "
                         "'59 minutes'",
                         id),
        2);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_time_goes_forward),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
