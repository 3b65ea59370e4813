/*
 * test_registry_reports_sql.c: what reports of bore-servers mean, one row a case (the words are those of
 * tunnel_script.h), and what they leave behind: tokens, events, sessions, bytes.
 *
 * The model test (test_registry_model.c) tries what nobody thought of; here stands what must be so.
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
#include "proto/protocol.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"
#include "tests/unit/tunnel_script.h"

static int setup_group(void **state) {
    sql_setup(state);
    tunnel_clock_install(db);
    return 0;
}

struct script {
    const char *words;
    const char *end; /* "status port" */
};

static void play_all(const struct script *scripts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *end = tunnel_script_play(db, scripts[i].words);
        if (strcmp(end, scripts[i].end) != 0)
            fail_msg("%s: ends %s, not %s (%s)", scripts[i].words, end, scripts[i].end, tunnel_script_history(db));
    }
}

#define PLAY(...)                                        \
    do {                                                 \
        static const struct script list[] = __VA_ARGS__; \
        play_all(list, ARRAY_SIZE(list));                \
    } while (0)

/* --- one session -------------------------------------------------------------------------------------------------- */

static void test_one_session(void **state) {
    (void)state;
    PLAY({
        { "", "inactive" },
        { "K", "starting" },
        { "K V", "starting" },
        { "K V C5000", "active 5000" },
        { "K V C5000 C5000 C5000", "active 5000" },
        { "K V C", "active" },
        { "K V C C", "active" },
        { "K V C5000 D", "offline" },
        { "K V C5000 D D D", "offline" },
        /* late copies */
        { "K V C5000 D C5000", "offline" },
        { "K V C5000 D C5000 D C5000", "offline" },
        { "K V C5000 +3 D C5000", "offline" },
        /* `disconnected` overtook `connected` */
        { "K V D", "offline" },
        { "K V D C5000", "offline" },
        { "K V D C5000 C5000", "offline" },
        { "K V D D C5000 D C5000", "offline" },
        /* validate-key repeated is one attempt */
        { "K V V V C5000 D", "offline" },
        { "K V V D C5000", "offline" },
        /* in one batch */
        { "K V [ C5000 D ]", "offline" },
        { "K V [ D C5000 ]", "offline" },
        { "K V [ C5000 C5000 D D C5000 ]", "offline" },
    });
}

static void test_without_validation(void **state) {
    (void)state;
    PLAY({
        { "C5000", "active 5000" },
        { "K C5000", "active 5000" },
        { "C5000 D", "offline" },
        { "C5000 D C5001", "active 5001" },
        /* who does not validate can announce a session in no other way */
        { "C5000 D C5000", "active 5000" },
        { "D", "inactive" },
        { "K D", "starting" },
    });
}

/* --- several sessions --------------------------------------------------------------------------------------------- */

static void test_reconnects(void **state) {
    (void)state;
    PLAY({
        { "K V C5000 V C5001", "active 5001" },
        { "K V C5000 V C5001 D", "active 5001" },
        { "K V C5000 V C5001 D D", "offline" },
        { "K V C5000 V D C5001", "active 5001" },
        { "K V C5000 V D C5001 D", "offline" },
        { "K V C5000 V C5001 C5000 D", "active 5001" },
        { "K V C5000 V C5001 V C5002 D D", "active 5002" },
        { "K V C5000 V C5001 V C5002 D D D", "offline" },
        { "K V C5000 D K V C5001", "active 5001" },
        { "K V C5000 D K V C5001 D", "offline" },
        { "K V C5000 D D K V C5001", "active 5001" },
        /* a copy of `disconnected` comes when the next session is only validated */
        { "K V C5000 D K V D C5001", "active 5001" },
        /* `disconnected` without a session to end is not kept for later */
        { "K V C5000 D D D +5 K V C5001", "active 5001" },
    });
}

static void test_same_port_again(void **state) {
    (void)state;
    PLAY({
        { "K V C5000 D K V C5000", "active 5000" },
        { "K V C5000 D K V C5000 D", "offline" },
        { "K V C5000 +9 D K V C5000 +9 D", "offline" },
        /* a bore-server uses a port for one tunnel at a time: so the old one is gone, and its report is to come */
        { "K V C5000 +9 V C5000", "active 5000" },
        { "K V C5000 +9 V C5000 D", "active 5000" },
        { "K V C5000 +9 V C5000 D +9 D", "offline" },
        /* what was taken for the next session was a late copy of the last one */
        { "K V C5000 D K V C5000 C5001", "active 5001" },
        { "K V C5000 D K V C5000 C5001 D", "offline" },
        { "K V D K V C5000 C5001", "active 5001" },
    });
}

static void test_new_token_meanwhile(void **state) {
    (void)state;
    PLAY({
        { "K V C5000 K", "starting" },
        { "K V C5000 K C5000", "starting" },
        { "K V C5000 K D", "starting" },
        { "K V C5000 K D D", "starting" },
        { "K V C5000 K V C5001", "active 5001" },
        { "K V C5000 K V C5001 D", "active 5001" },
        { "K V C5000 K V D C5001", "active 5001" },
        { "K V C5000 K V C5001 D D", "offline" },
        { "K V K V C5000 C5001 D", "active 5001" },
        { "K V K V2 C5000", "active 5000" },
    });
}

static void test_named_sessions(void **state) {
    (void)state;
    PLAY({
        { "K V Ca:5000", "active 5000" },
        { "K V Ca:5000 Ca:5000 Da", "offline" },
        { "K V Ca:5000 Da Ca:5000", "offline" },
        { "K V Da Ca:5000", "offline" },
        { "Da Ca:5000", "inactive" },
        { "K V Ca:5000 V Cb:5001 Da", "active 5001" },
        { "K V Ca:5000 V Cb:5001 Db", "active 5000" },
        { "K V Ca:5000 V Cb:5001 Db Da", "offline" },
        { "K V Ca:5000 V Cb:5001 Da Da Da", "active 5001" },
        { "K V Ca:5000 V Da Da Cb:5001", "active 5001" },
        /* the first `connected` named nothing */
        { "K V C5000 Ca:5000 Da", "offline" },
        { "K V C5000 Da Ca:5000", "offline" },
        /* by number */
        { "K V C#1:5000 V C#2:5001 D#1", "active 5001" },
        { "K V C#1:5000 V C#2:5001 D#2", "active 5000" },
        { "K V V C#2:5001 C#1:5000", "active 5001" },
        { "K V V C#2:5001 C#1:5000 D#2", "active 5000" },
        { "K V D#1 C#1:5000 C#2:5001", "active 5001" },
    });
}

static void test_usage_is_proof(void **state) {
    (void)state;
    PLAY({
        { "K V C5000 S5000 E1", "offline" },
        { "K V C5000 S5000 D E1", "offline" },
        { "K V C5000 S5000 E1 D", "offline" },
        { "K V S5000 C5000 E1", "offline" },
        { "K V S5000 E1 C5000", "offline" },
        { "K V C5000 S5000 DE1", "offline" },
        /* the report that belongs to tunnel/end is to come */
        { "K V C5000 S5000 V C5001 S5001 E1 D", "active 5001" },
        { "K V C5000 S5000 V C5001 S5001 D E1", "active 5001" },
        { "K V C5000 S5000 V C5001 S5001 E2", "active 5000" },
        { "K V C5000 S5000 V C5001 S5001 D E2 +5 ?", "active 5000" },
        /* a copy of `disconnected` closed the next one: without its tunnel/end that is taken back */
        { "K V C5000 S5000 D E1 K V C5001 S5001 D", "offline" },
        { "K V C5000 S5000 D E1 K V C5001 S5001 D +5 ?", "active 5001" },
        { "K V C5000 S5000 D E1 K V C5001 S5001 D E2 +5 ?", "offline" },
        { "K V C5000 S5000 D E1 K V C5001 S5001 D U +5 ?", "inactive" },
        /* a single session's end needs no proof */
        { "K V C5000 S5000 D +5 ?", "offline" },
        /* what seemed to be the next session was a late copy */
        { "K V D S5000 E1 K V C5000", "starting" },
        { "K V D S5000 E1 K V C5000 C5001", "active 5001" },
        { "K V D K V C5000 S5000 E1", "offline" },
    });
}

/* --- the user ----------------------------------------------------------------------------------------------------- */

static void test_user_disconnects(void **state) {
    (void)state;
    PLAY({
        { "K U", "inactive" },
        { "K V U", "inactive" },
        { "K V C5000 U", "inactive" },
        { "K V C5000 U U", "inactive" },
        { "K V C5000 U D", "inactive" },
        { "K V C5000 U C5000", "inactive" },
        { "K V C5000 U C5000 D C5000 D", "inactive" },
        { "K V C5000 +60 U C5000", "inactive" },
        { "K V U C5000", "inactive" },
        { "K V U +30 C5000 D", "inactive" },
        { "K V C5000 D U", "inactive" },
        { "K V Ca:5000 U Da Ca:5000", "inactive" },
        { "K V C5000 S5000 U E1", "inactive" },
        { "K V C5000 V C5001 U D D", "inactive" },
        { "K V U V!", "inactive" },
        /* then a new tunnel: what comes late is of the old one */
        { "K V C5000 U K", "starting" },
        { "K V C5000 U K D", "starting" },
        { "K V C5000 U K V C5001 D", "active 5001" },
        { "K V C5000 U D K V C5001 D", "offline" },
        { "K V C5000 U K V D C5001", "active 5001" },
        { "K V C5000 U K V C5000", "active 5000" },
        { "K V U K V C5000 C5001", "active 5001" },
    });
}

static void test_clients_word(void **state) {
    (void)state;
    PLAY({
        { "Pactive", "active" },
        { "Pstarting", "starting" },
        { "Perror", "error" },
        { "Perror Pinactive", "inactive" },
        { "K Pactive", "active" },
        { "K Perror", "error" },
        { "K Perror Pactive", "active" },
        { "K Pactive Pinactive", "inactive" },
        { "K Pactive Perror", "error" },
        { "K V Perror C5000", "active 5000" },
        { "K V Pactive C5000", "active 5000" },
        { "K V Pactive D", "offline" },
        { "K Pactive D", "offline" },
        { "K V Pactive D C5000", "offline" },
        /* what a bore-server said stands */
        { "K V C5000 Pinactive", "active 5000" },
        { "K V C5000 Perror", "active 5000" },
        { "K V C5000 D Pactive", "offline" },
        { "K V C5000 D Pinactive", "offline" },
        { "K V C5000 D K Pactive", "active" },
        { "K V C5000 U Pactive", "inactive" },
        { "K U Pactive", "inactive" },
    });
}

/* --- what is left behind ------------------------------------------------------------------------------------------ */

static void test_tokens(void **state) {
    (void)state;
    PLAY({
        { "K K V1! V2", "starting" },
        { "K V C5000 D V!", "offline" },
        { "K V D V!", "offline" },
        { "K V C5000 S5000 E1 V!", "offline" },
        /* another session uses the same one */
        { "K V C5000 V C5001 D V", "active 5001" },
        { "K V C5000 V D V", "offline" },
    });
}

static void test_history_and_events(void **state) {
    (void)state;
    tunnel_script_play(db, "K V C5000 C5000 D D V! K V C5001 V C5002 D U");
    assert_string_equal(tunnel_script_history(db), "inactive starting active offline starting active inactive");
    assert_string_equal(
        sql_ask(db,
            "SELECT string_agg(kind || coalesce(' ' || (payload ->> 'status'), ' ' || (payload ->> 'remote_port')), "
            "', ' ORDER BY id) FROM bore.events WHERE instance_id = $1",
            tunnel_script_instance()),
        "status starting, tunnel.connected 5000, status active, tunnel.disconnected 5000, status offline, "
        "status starting, tunnel.connected 5001, status active, tunnel.connected 5002, tunnel.disconnected 5001, "
        "tunnel.disconnected 5002, status inactive");
    assert_string_equal(sql_ask(db,
                            "SELECT payload - 'name' FROM bore.events WHERE instance_id = $1 AND kind = 'status' "
                            "ORDER BY id OFFSET 1 LIMIT 1",
                            tunnel_script_instance()),
        "{\"actor\": \"server\", \"reason\": \"tunnel connected\", \"status\": \"active\", "
        "\"previous_status\": \"starting\"}");
    assert_int_equal(sql_number(db,
                         "SELECT count(*) FROM bore.instances WHERE id = $1 AND remote_port IS NULL AND public_url IS "
                         "NULL AND current_session IS NULL",
                         tunnel_script_instance()),
        1);
}

/* Each status that was acknowledged is in the history, also when several reports came in one batch. */
static void test_batch_keeps_each_step(void **state) {
    (void)state;
    tunnel_script_play(db, "K V [ C5000 D ] K V [ C5001 D#3 C5001 ]");
    assert_string_equal(tunnel_script_history(db), "inactive starting active offline starting active offline");
}

static const char *session(const char *column) {
    char sql[200];
    snprintf(sql, sizeof sql,
        "SELECT %s::text FROM bore.tunnel_sessions WHERE instance_id = $1 ORDER BY created_at DESC, id LIMIT 1",
        column);
    const char *text = sql_ask(db, sql, tunnel_script_instance());
    return text ? text : "none";
}

static void test_sessions_and_addresses(void **state) {
    (void)state;
    tunnel_script_play(db, "K V C5000");
    assert_string_equal(session("public_url"), "host:5000");
    assert_string_equal(session("state"), "open");
    assert_string_equal(session("bytes_transferred"), "none");
    tunnel_script_play(db, "K V C5000 S5000 E1");
    assert_string_equal(session("state"), "closed");
    assert_string_equal(session("bytes_transferred"), "1000");
    assert_string_equal(session("close_reason"), "tunnel ended");
    tunnel_script_play(db, "K V S5000 E1 C5000");
    assert_string_equal(session("state"), "closed");
    assert_string_equal(session("bytes_transferred"), "1000");
    /* An address with colons is written in brackets. */
    assert_string_equal(sql_ask(db, "SELECT bore.host_and_port('::1', 80)"), "[::1]:80");
    assert_null(sql_ask(db, "SELECT bore.host_and_port('host', NULL)"));
}

static void test_many_sessions_are_bounded(void **state) {
    (void)state;
    char script[300] = "K V";
    for (int port = 6000; port < 6020; port++)
        snprintf(script + strlen(script), sizeof script - strlen(script), " C%d", port);
    assert_string_equal(tunnel_script_play(db, script), "active 6019");
    assert_int_equal(
        sql_number(db, "SELECT count(*) FROM bore.tunnel_sessions WHERE instance_id = $1 AND state = 'open'",
            tunnel_script_instance()),
        6);
}

/* --- single answers ----------------------------------------------------------------------------------------------- */

/* ord, kind, instance, port, public_url, name, user, public port, bytes */
#define REPORT(ord, kind, instance, url, name, account, bytes)                                      \
    "ROW (" ord ", " kind ", " instance ", 5000, " url ", " name ", 'server', NULL, NULL, " account \
    ", 5000, 80, NULL, NULL, " bytes ")::bore.batch_report"
#define REPORTS(columns, list)                                                                                 \
    "SELECT " columns " FROM bore.tunnel_reports(ARRAY [" list "], 'host', interval '1 minute', interval '30 " \
    "minutes')"

static void test_refusals(void **state) {
    (void)state;
    tunnel_script_play(db, "K V");
    static const char sql[] = REPORTS("string_agg(concat_ws(' ', ord, success, error, error_field), ', ' ORDER BY ord)",
        REPORT("1", "'connected'", "'inst_nothing'", "NULL", "NULL", "NULL", "NULL") ", " REPORT(
            "2", "'connected'", "$1", "'javascript:alert(1)'", "NULL", "NULL", "NULL") ", " REPORT("3", "'end'", "NULL",
            "NULL", "'use_nothing'", "NULL", "1") ", " REPORT("4", "'start'", "NULL", "NULL", "NULL", "'user_nobody'",
            "NULL") ", " REPORT("5", "'usage'", "NULL", "NULL", "'use_nothing'", "NULL", "1") ", " REPORT("6",
            "'disconnected'", "'inst_nothing'", "NULL", "NULL", "NULL", "NULL"));
    assert_string_equal(sql_ask(db, sql, tunnel_script_instance()),
        "1 t instance_not_found, 2 t validation_error public_url, 3 t, 4 t user_not_found, 5 t, "
        "6 t instance_not_found");
    assert_string_equal(session("state"), "pending");
}

static void test_public_urls(void **state) {
    (void)state;
    static const char *const good[] = { "host:1", "1.2.3.4:65535", "[::1]:80", "https://x.example.org",
        "http://h:8080/path?a=b#c", "https://[::1]:8/" };
    static const char *const bad[] = { "", "host", "host:", "host:0", "host:65536", "host:99999999999", "ftp://h",
        "javascript:alert(1)", "http://", "http://h h", "h:80/x", "https://h\n", "http://h/\xc3\xa4", "//h:80" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (strcmp(sql_ask(db, "SELECT bore.is_public_url($1)", good[i]), "t") != 0) fail_msg("%s is one", good[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (strcmp(sql_ask(db, "SELECT bore.is_public_url($1)", bad[i]), "f") != 0) fail_msg("%s is none", bad[i]);
}

/* The numbers stand in SQL too. */
static void test_message_numbers(void **state) {
    (void)state;
    static const struct {
        int method;
        const char *kind;
    } cases[] = { { MSG_TUNNEL_CONNECTED, "connected" }, { MSG_TUNNEL_DISCONNECTED, "disconnected" },
        { MSG_TUNNEL_START, "start" }, { MSG_TUNNEL_END, "end" }, { MSG_TUNNEL_USAGE, "usage" } };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char method[16];
        snprintf(method, sizeof method, "%d", cases[i].method);
        assert_string_equal(sql_ask(db, "SELECT bore.report_kind($1)", method), cases[i].kind);
    }
    assert_null(sql_ask(db, "SELECT bore.report_kind(1)"));
}

/* --- usage -------------------------------------------------------------------------------------------------------- */

static const char *start_usage(void) {
    return sql_ask(db, REPORTS("session_id", REPORT("1", "'start'", "NULL", "NULL", "NULL", "$1", "NULL")),
        tunnel_script_instance());
}

static void send_usage(const char *kind, const char *usage, const char *bytes) {
    assert_string_equal(sql_ask(db, REPORTS("success", REPORT("1", "$1", "NULL", "NULL", "$2", "NULL", "$3::bigint")),
                            kind, usage, bytes),
        "t");
}

static long long carried(void) {
    return sql_number(db, "SELECT bandwidth_bytes FROM bore.users WHERE id = $1", tunnel_script_instance());
}

static void test_bytes(void **state) {
    (void)state;
    tunnel_script_play(db, "K V C5000");
    const char *first = start_usage();
    assert_string_equal(start_usage(), first); /* repeated */
    send_usage("usage", first, "500");
    assert_int_equal(carried(), 500);
    send_usage("usage", first, "300"); /* late */
    assert_int_equal(carried(), 500);
    send_usage("end", first, "900");
    send_usage("end", first, "900");
    assert_int_equal(carried(), 900);
    const char *second = start_usage();
    assert_string_not_equal(second, first); /* the first one has ended */
    send_usage("end", second, "9223372036854775807");
    assert_int_equal(carried(), 1000000000000900);
    assert_string_equal(sql_ask(db, "SELECT (bandwidth_month = '2030-01-01')::text FROM bore.users WHERE id = $1",
                            tunnel_script_instance()),
        "true");
}

static void test_usage_of_one_batch(void **state) {
    (void)state;
    tunnel_script_play(db, "K V C5000");
    const char *usage = start_usage();
    sql_ask(db,
        REPORTS(
            "count(*)", REPORT("1", "'usage'", "NULL", "NULL", "$1", "NULL", "10") ", " REPORT("2", "'usage'", "NULL",
                            "NULL", "$1", "NULL", "30") ", " REPORT("3", "'end'", "NULL", "NULL", "$1", "NULL", "20")),
        usage);
    assert_int_equal(carried(), 30);
    assert_string_equal(session("bytes_transferred"), "30");
    assert_string_equal(session("state"), "closed");
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_session),
        cmocka_unit_test(test_without_validation),
        cmocka_unit_test(test_reconnects),
        cmocka_unit_test(test_same_port_again),
        cmocka_unit_test(test_new_token_meanwhile),
        cmocka_unit_test(test_named_sessions),
        cmocka_unit_test(test_usage_is_proof),
        cmocka_unit_test(test_user_disconnects),
        cmocka_unit_test(test_clients_word),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_history_and_events),
        cmocka_unit_test(test_batch_keeps_each_step),
        cmocka_unit_test(test_sessions_and_addresses),
        cmocka_unit_test(test_many_sessions_are_bounded),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_public_urls),
        cmocka_unit_test(test_message_numbers),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_usage_of_one_batch),
    };
    return cmocka_run_group_tests(tests, setup_group, sql_teardown);
}
