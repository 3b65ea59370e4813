/*
 * test_registry_first_sql.c: the first `connected` of a tunnel is told in one statement (bore.tunnels_open), and all
 * must be as if it had been thought through like any other report: each script is played once with that statement and
 * once without it, and what both leave behind is compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"
#include "tests/unit/tunnel_script.h"

static char usual[SQL_TEXT_MAX]; /* the function as it is */

static int setup_group(void **state) {
    sql_setup(state);
    tunnel_clock_install(db);
    snprintf(usual, sizeof usual, "%s", sql_ask(db, "SELECT pg_get_functiondef('bore.tunnels_open'::regproc)"));
    return 0;
}

static void think_always(void) {
    sql_run(db, "CREATE OR REPLACE FUNCTION bore.tunnels_open(reports bore.batch_report[], wanted text[], "
                "locked text[], refused integer[], usages text[], starting_timeout interval, default_host text, "
                "now timestamptz) RETURNS bore.step[] LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$");
}

/* Everything of the instance, without ids; times from its beginning. */
static const char *left_behind(void) {
    return sql_ask(db,
        "SELECT concat_ws(E'\\n', "
        "(SELECT ROW (server_host, assigned_server, remote_port, public_url, phase, phase_reason, "
        "phase_since - created_at, server_reported, (SELECT connected_at - mine.created_at FROM bore.tunnel_sessions "
        "WHERE id = current_session), heartbeat_session, silent, has_code_server, status, status_reason, "
        "status_since - created_at, updated_at - created_at, (SELECT due FROM bore.waiting WHERE instance_id = id)) "
        "FROM bore.instances WHERE id = mine.id), "
        "(SELECT string_agg(ROW (state, server_id, remote_port, public_url, external_id, sequence, "
        "created_at - mine.created_at, attempts, connected_at - mine.created_at, closed_at - mine.created_at, live, "
        "closed_by, close_reason, disconnects, doubtful_port, doubtful_until - mine.created_at)::text, E'\\n' "
        "ORDER BY created_at, connected_at) FROM bore.tunnel_sessions WHERE instance_id = mine.id), "
        "(SELECT string_agg(ROW (status, reason, at - mine.created_at)::text, E'\\n' ORDER BY id) "
        "FROM bore.status_history WHERE instance_id = mine.id), "
        "(SELECT string_agg(ROW (kind, at - mine.created_at, payload - 'session_id', (SELECT created_at - "
        "mine.created_at FROM bore.tunnel_sessions WHERE id = payload ->> 'session_id'))::text, E'\\n' ORDER BY id) "
        "FROM bore.events WHERE instance_id = mine.id), "
        "(SELECT string_agg(ROW (revoked_at - mine.created_at)::text, ' ' ORDER BY created_at) "
        "FROM bore.tunnel_tokens WHERE instance_id = mine.id), "
        "(SELECT string_agg(ROW (public_port, tunnel_session IS NOT NULL, ended_at - mine.created_at)::text, ' ' "
        "ORDER BY started_at) FROM bore.usage_sessions WHERE user_id = mine.id)) "
        "FROM bore.instances AS mine WHERE id = $1",
        tunnel_script_instance());
}

static const char *const scripts[] = {
    "K V C5000",
    "K V C",
    "K V C0",
    "K V Ca:5000",
    "K V C#7:5000",
    "K C5000",
    "K V V C5000",
    "K V V C5000 C5001",
    "K V C5000 C5000",
    "K V C5000 C5001",
    "K V C5000 K V C5001",
    "K V C5000 K V +5 C5000",
    "K V C5000 D K V C5001",
    "K V C5000 D K V C5000",
    "K V C5000 D K V +5 C5000",
    "K V C5000 D K V +5 C5001 C5000",
    "K V C5000 +5 D K V C5000",
    "K V C5000 +5 D +5 K V C5000 C5000 D",
    "K V C5000 +5 D +5 K V C5000 +5 D +5 K V C5001 D",
    "K V C5000 +5 D +5 K V D C5000",
    "K V D C5000",
    "K V D K V C5000",
    "K V D +9 K V C5000",
    "K V C5000 U K V C5001",
    "K V C5000 +5 U +5 K V C5001",
    "K V C5000 +5 U +5 K V C5000 D",
    "K V U K V C5000",
    "K V U +9 K V C5000",
    "K V +61 C5000",
    "K V +61 K V C5000",
    "K V +30 K V C5000",
    "K V +30 K V C5000 C5001",
    "K V S5000 C5000",
    "K V S5001 C5000",
    "K V S5000 E1 C5000",
    "K V C5000 S5000 E1",
    "K V C5000 +5 S5001 C5001",
    "K V [ C5000 D ]",
    "K V [ C5000 C5000 ]",
    "K V [ S5000 C5000 ]",
    "K V [ S5001 C5000 ]",
    "K V S5000 [ C5000 E1 ]",
    "K V C5000 Pactive K V C5001",
    "K V Pactive C5000",
    "K V Perror C5000",
};

static void test_same_either_way(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        tunnel_script_play(db, scripts[i]);
        const char *told = left_behind();
        think_always();
        tunnel_script_play(db, scripts[i]);
        const char *thought = left_behind();
        sql_run(db, usual);
        if (strcmp(told, thought) != 0) fail_msg("%s: told\n%s\nthought through\n%s", scripts[i], told, thought);
    }
}

/* That it is told, and nothing else is asked for, nor left to think about. */
static void test_is_told(void **state) {
    (void)state;
    static const char *const usually[] = { "K V C5000", "K V C5000 +5 U +5 K V C5000", "K V [ S5001 C5000 ]" };
    const char *states = sql_ask(db, "SELECT pg_get_functiondef('bore.tunnel_states'::regproc)");
    sql_run(db, "CREATE OR REPLACE FUNCTION bore.tunnel_states(ids text[], usages text[], reports bore.batch_report[], "
                "starting_timeout interval, now timestamptz) RETURNS bore.tunnel_state[] LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'these are thought through: %', ids; END $$");
    for (size_t i = 0; i < ARRAY_SIZE(usually); i++)
        assert_memory_equal(tunnel_script_play(db, usually[i]), "active 5000", 11);
    sql_run(db, states);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_either_way),
        cmocka_unit_test(test_is_told),
    };
    return cmocka_run_group_tests(tests, setup_group, sql_teardown);
}
