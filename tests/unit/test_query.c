/* test_query.c: names in SQL become parameters, and nothing else does; values arrive as they were; rows become
 * messages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/config.h"
#include "services/lib/query.h"
#include "tests/unit/database.h"

static struct db *db;

static const struct message_descriptor *const renew = &server_renew_descriptor;
static const struct message_descriptor *const reports[] = { &tunnel_connected_descriptor,
    &tunnel_disconnected_descriptor, NULL };

static int setup(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    log_init("test", 1, "off", "text");
    db = db_new(&options);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    db_free(db);
    return 0;
}

/* --- compiling --------------------------------------------------------------------------------------------------- */

static void assert_compiled(const char *sql, const char *expected) {
    struct query *query = query_new("test", sql, renew);
    assert_non_null(query);
    assert_string_equal(query_sql(query), expected);
    query_free(query);
}

static void test_names_become_parameters(void **state) {
    (void)state;
    assert_compiled("SELECT :id", "SELECT $1");
    assert_compiled("SELECT :id, :host, :id", "SELECT $1, $2, $1");
    assert_compiled("SELECT :id::text, :port::integer", "SELECT $1::text, $2::integer");
    assert_compiled("f(:id,:max_tunnels)", "f($1,$2)");
    assert_compiled(":id", "$1");
    assert_compiled("f(name=>:id)", "f(name=>$1)");
    assert_compiled("f(a := :id)", "f(a := $1)");
    assert_compiled("", "");
}

static void test_names_inside_of_literals_are_left_alone(void **state) {
    (void)state;
    static const char *const same[] = { "SELECT ':id'", "SELECT 'it''s :id'", "SELECT \":id\"", "SELECT \"a\"\":id\"",
        "SELECT E'\\':id'", "SELECT e'\\\\' , 'x:id'", "SELECT 1 -- :id", "SELECT 1 -- :id\n", "/* :id */ SELECT 1",
        "/* /* */ :id */ SELECT 1", "SELECT $$ :id $$", "SELECT $body$ $$ :id $body$", "SELECT a::text, b::int[]",
        "SELECT '12:30'::time", "SELECT x[1:2]", "SELECT 'unfinished :id", "SELECT $x$ :id", "/* :id", "SELECT $1",
        "SELECT name$1:: text", "a:=1" };
    for (size_t i = 0; i < ARRAY_SIZE(same); i++)
        assert_compiled(same[i], same[i]);
    assert_compiled("SELECT 'a' || :id -- 'x\n || :host", "SELECT 'a' || $1 -- 'x\n || $2");
    assert_compiled("SELECT type'x'||:id", "SELECT type'x'||$1");
    assert_compiled("SELECT 'it\\' || :id", "SELECT 'it\\' || $1"); /* standard strings know no backslash */
    assert_compiled("SELECT $a$x$a$ || :id", "SELECT $a$x$a$ || $1");
    assert_compiled("SELECT \"ä\", 'ö:id', :id", "SELECT \"ä\", 'ö:id', $1");
}

static void test_misspelled_names_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = { "SELECT :idd", "SELECT :config.no_such", "SELECT :config.db_password",
        "SELECT :nosuch[]", "SELECT :config", "SELECT :method", "SELECT :id[]", "SELECT :method[]" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_null(query_new("test", wrong[i], renew));
    assert_null(query_new("test", "SELECT :id", NULL));
    assert_null(query_new("test", "SELECT :requests", &request_batch_descriptor));
    assert_null(query_new_batch("test", "SELECT :nosuch[]", reports));
    assert_null(query_new_batch("test", "SELECT :instance_id", reports)); /* not of one, but of all */
    query_free(NULL);
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static struct db_result *run(
    const char *name, const char *sql, const struct message_descriptor *descriptor, const void *request) {
    struct query *query = query_new(name, sql, descriptor);
    struct db_result *result = NULL;
    assert_non_null(query);
    db_set_deadline(db, clock_monotonic_ms() + 2000);
    int error = query_run(query, db, request, &result);
    if (error) print_error("%s\n", db_error_message(db));
    assert_int_equal(error, 0);
    query_free(query);
    return result;
}

static void test_values_of_every_kind(void **state) {
    (void)state;
    struct server_renew request = {
        .id = "it's \"ä\" \\ $1 :id; --", .host = "", .port = 7835, .has_active = true, .active = true
    };
    _cleanup_db_result_ struct db_result *result = run("kinds",
        "SELECT :id::text, :host::text, :port::integer, :region::text IS NULL, :max_tunnels::integer IS NULL, "
        ":active::boolean",
        &server_renew_descriptor, &request);
    assert_string_equal(db_result_text(result, 0, 0), request.id);
    assert_string_equal(db_result_text(result, 0, 1), "");
    assert_int_equal(db_result_int(result, 0, 2, 0), 7835);
    assert_true(db_result_bool(result, 0, 3, false));
    assert_true(db_result_bool(result, 0, 4, false));
    assert_true(db_result_bool(result, 0, 5, false));

    struct uptime_data numbers = {
        .uptime_percentage = 0.1, .total_downtime_ms = INT64_MIN, .history_span_ms = INT64_MAX
    };
    _cleanup_db_result_ struct db_result *second = run("numbers",
        "SELECT :uptime_percentage::double precision = 0.1, :total_downtime_ms::bigint, :history_span_ms::bigint",
        &uptime_data_descriptor, &numbers);
    assert_true(db_result_bool(second, 0, 0, false));
    assert_true(db_result_int(second, 0, 1, 0) == INT64_MIN);
    assert_true(db_result_int(second, 0, 2, 0) == INT64_MAX);

    char *sessions[] = { "a", "b,c", "{\"x\\y\"}", "" };
    struct user_revoked_event revoked = { .session_ids = sessions, .session_ids_count = ARRAY_SIZE(sessions) };
    _cleanup_db_result_ struct db_result *third =
        run("strings", "SELECT unnest(:session_ids::text[])", &user_revoked_event_descriptor, &revoked);
    assert_int_equal(db_result_rows(third), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(db_result_text(third, i, 0), sessions[i]);
}

static void test_settings_as_parameters(void **state) {
    (void)state;
    config.server_lease_ms = 30000;
    config.bore_server_host = (char[]){ "example.org" };
    config.pro_self_service = true;
    struct server_renew request = { .id = "x", .host = "h", .port = 1 };
    _cleanup_db_result_ struct db_result *result = run("settings",
        "SELECT :config.server_lease_ms::bigint, :config.bore_server_host::text, :id::text, "
        ":config.pro_self_service::boolean",
        &server_renew_descriptor, &request);
    assert_int_equal(db_result_int(result, 0, 0, 0), 30000);
    assert_string_equal(db_result_text(result, 0, 1), "example.org");
    assert_string_equal(db_result_text(result, 0, 2), "x");
    assert_true(db_result_bool(result, 0, 3, false));
    config = (struct config){ 0 };
}

/* A list of texts passes through a batch as it is: the text that a reply's STRINGS field reads. */
static void test_lists_in_a_batch(void **state) {
    (void)state;
    static const struct message_descriptor *const heartbeats[] = { &heartbeat_descriptor, NULL };
    struct query *query = query_new_batch("lists", "SELECT unnest(:ignored[]::text[]) AS ignored", heartbeats);
    char *names[] = { "cpu_usage", "a,\"b\\}" };
    struct heartbeat some = { .ignored = names, .ignored_count = ARRAY_SIZE(names) }, none = { .ignored_count = 0 };
    const void *requests[] = { &some, &none };
    const struct message_descriptor *descriptors[] = { &heartbeat_descriptor, &heartbeat_descriptor };
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_int_equal(
        query_run_batch(query, db, descriptors, (const int[]){ MSG_HEARTBEAT, MSG_HEARTBEAT }, requests, 2, &result),
        0);
    struct heartbeat_reply reply = { .ignored_count = 0 };
    assert_int_equal(query_row_to_message(result, 0, &heartbeat_reply_descriptor, &reply), 0);
    assert_int_equal(reply.ignored_count, 2);
    assert_string_equal(reply.ignored[1], names[1]);
    message_release(&heartbeat_reply_descriptor, &reply);
    assert_null(db_result_text(result, 1, 0));
    query_free(query);
}

static void test_batch(void **state) {
    (void)state;
    struct query *query = query_new_batch("batch",
        "SELECT r.ord, r.method, r.instance, r.port, r.reason, :config.server_lease_ms::bigint AS lease FROM "
        "unnest(:method[]::integer[], :instance_id[]::text[], :remote_port[]::integer[], :reason[]::text[]) WITH "
        "ORDINALITY "
        "AS r(method, instance, port, reason, ord) ORDER BY ord",
        reports);
    assert_non_null(query);
    struct tunnel_connected first = { .instance_id = "i,\"1\"", .has_remote_port = true, .remote_port = 5 };
    struct tunnel_disconnected second = { .instance_id = "i2", .reason = "NULL" };
    struct tunnel_connected third = { .instance_id = "i3" };
    const void *requests[] = { &first, &second, &third };
    const struct message_descriptor *descriptors[] = { &tunnel_connected_descriptor, &tunnel_disconnected_descriptor,
        &tunnel_connected_descriptor };
    const int method_ids[] = { MSG_TUNNEL_CONNECTED, MSG_TUNNEL_DISCONNECTED, MSG_TUNNEL_CONNECTED };
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_int_equal(query_run_batch(query, db, descriptors, method_ids, requests, 3, &result), 0);
    assert_int_equal(db_result_rows(result), 3);
    assert_int_equal(db_result_int(result, 1, 1, 0), MSG_TUNNEL_DISCONNECTED);
    assert_string_equal(db_result_text(result, 0, 2), "i,\"1\"");
    assert_int_equal(db_result_int(result, 0, 3, 0), 5);
    assert_null(db_result_text(result, 1, 3));
    assert_null(db_result_text(result, 2, 3));
    assert_null(db_result_text(result, 0, 4));
    assert_string_equal(db_result_text(result, 1, 4), "NULL");
    query_free(query);
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

static int fill(const char *sql, const struct message_descriptor *descriptor, void *message) {
    _cleanup_db_result_ struct db_result *result = NULL;
    static unsigned number;
    char name[32];
    snprintf(name, sizeof name, "fill%u", number++);
    struct db_statement statement = { .name = name, .sql = sql };
    assert_int_equal(db_run(db, &statement, NULL, &result), 0);
    memset(message, 0, descriptor->size);
    return query_row_to_message(result, 0, descriptor, message);
}

static void test_row_of_every_kind(void **state) {
    (void)state;
    struct instance instance;
    assert_int_equal(
        fill("SELECT 'inst_1' AS id, 'user_1' AS user_id, 'ä' AS name, 80 AS local_port, NULL::int AS remote_port, "
             "'' AS region, 'online' AS status, true AS tunnel_connected, 1700000000123::bigint AS created_at, "
             "1700000000456::bigint AS updated_at, 12::bigint AS last_heartbeat, NULL::bigint AS status_since, "
             "'ignored' AS no_such_field, 7 AS ord",
            &instance_descriptor, &instance),
        0);
    assert_string_equal(instance.name, "ä");
    assert_int_equal(instance.local_port, 80);
    assert_false(instance.has_remote_port);
    assert_true(instance.tunnel_connected);
    assert_true(instance.created_at == 1700000000123);
    assert_true(instance.has_last_heartbeat && instance.last_heartbeat == 12);
    assert_false(instance.has_status_since);
    assert_null(instance.server_host);
    message_release(&instance_descriptor, &instance);

    struct health_metrics metrics;
    assert_int_equal(fill("SELECT false AS vscode_responsive, 12.5::double precision AS cpu_usage, 1e300::double "
                          "precision AS memory_usage",
                         &health_metrics_descriptor, &metrics),
        0);
    assert_true(metrics.has_vscode_responsive && !metrics.vscode_responsive && !metrics.has_has_code_server);
    assert_true(metrics.cpu_usage > 12.4 && metrics.cpu_usage < 12.6 && metrics.memory_usage > 9e299);
}

static void test_arrays(void **state) {
    (void)state;
    struct server_renew_reply reply;
    assert_int_equal(fill("SELECT true AS success, 30 AS lease_seconds, "
                          "ARRAY['a', 'b c', 'd,e', '{f}', 'g\"h\\i', '', 'NULL', NULL, 'null'] AS close",
                         &server_renew_reply_descriptor, &reply),
        0);
    static const char *const expected[] = { "a", "b c", "d,e", "{f}", "g\"h\\i", "", "NULL", "null" };
    assert_int_equal(reply.close_count, ARRAY_SIZE(expected));
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        assert_string_equal(reply.close[i], expected[i]);
    message_release(&server_renew_reply_descriptor, &reply);
    assert_int_equal(fill("SELECT '{}'::text[] AS close", &server_renew_reply_descriptor, &reply), 0);
    assert_int_equal(reply.close_count, 0);

    const struct field *field = message_field(&server_renew_reply_descriptor, "close");
    static const char *const malformed[] = { "", "a", "{", "{a", "{\"a", "{\"a\"b}", "{a}b", "{a,", "{\"a\\" };
    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
        memset(&reply, 0, sizeof reply);
        assert_int_equal(strings_from_array(field, &reply, malformed[i]), -EBADMSG);
        message_release(&server_renew_reply_descriptor, &reply);
    }
}

static void test_json_columns(void **state) {
    (void)state;
    struct admin_stats_reply stats;
    assert_int_equal(
        fill(
            "SELECT 3 AS total_users, json_build_object('inactive', 1, 'starting', 0, 'active', 2, 'online', 0, "
            "'degraded', 0, 'idle', 0, 'offline', 0, 'error', 0)::text AS by_status, "
            "'[{\"id\":\"s\",\"host\":\"h\",\"port\":1,\"region\":\"\",\"max_tunnels\":0,\"tunnels\":0,\"active\":true,"
            "\"alive\":false,\"lease_expires_at\":1700000000123,\"utilization\":0.5},{\"id\":\"t\",\"host\":\"h\","
            "\"port\":1,"
            "\"region\":\"\",\"max_tunnels\":0,\"tunnels\":0,\"active\":true,\"alive\":false,\"lease_expires_at\":null,"
            "\"utilization\":1}]'::text AS servers",
            &admin_stats_reply_descriptor, &stats),
        0);
    assert_int_equal(stats.by_status->active, 2);
    assert_int_equal(stats.servers_count, 2);
    assert_true(stats.servers[0].has_lease_expires_at && stats.servers[0].lease_expires_at == 1700000000123);
    assert_false(stats.servers[1].has_lease_expires_at);
    message_release(&admin_stats_reply_descriptor, &stats);

    struct status_strip strip;
    assert_int_equal(fill("SELECT 'i' AS instance_id, "
                          "'[{\"status\":\"online\",\"from\":\"2026-01-31T12:00:00.000Z\",\"to\":5}]'::jsonb "
                          "AS stretches",
                         &status_strip_descriptor, &strip),
        0);
    assert_true(strip.stretches[0].from == 1769860800000 && strip.stretches[0].to == 5);
    message_release(&status_strip_descriptor, &strip);

    static const char *const wrong[] = { "SELECT '{}' AS servers", "SELECT '[1]' AS servers", "SELECT '[' AS servers",
        "SELECT '[{}]' AS servers", "SELECT '[]' AS by_status", "SELECT '{\"inactive\":\"1\"}' AS by_status",
        "SELECT 'x' AS total_users", "SELECT 1.5 AS total_users", "SELECT '' AS by_status" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(fill(wrong[i], &admin_stats_reply_descriptor, &stats), -EBADMSG);
        message_release(&admin_stats_reply_descriptor, &stats);
    }
    assert_int_equal(fill("SELECT 'null' AS by_status, '[]' AS servers", &admin_stats_reply_descriptor, &stats), 0);
    assert_null(stats.by_status);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_become_parameters),
        cmocka_unit_test(test_names_inside_of_literals_are_left_alone),
        cmocka_unit_test(test_misspelled_names_are_refused),
        cmocka_unit_test(test_values_of_every_kind),
        cmocka_unit_test(test_settings_as_parameters),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_lists_in_a_batch),
        cmocka_unit_test(test_row_of_every_kind),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_json_columns),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
