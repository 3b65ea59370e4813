/* test_service.c: requests to the skeleton: handlers, queries, batches, pings, and whatever cannot be served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/migrate.h"
#include "tests/unit/service_fixture.h"

/* In place of those in sql/. */
const struct migration migrations[] = { { .number = 1, .name = "test", .sql = "SELECT 1" } };
const size_t migrations_count = ARRAY_SIZE(migrations);

static void test_handler_answers(void **state) {
    (void)state;
    struct instance_reply reply;
    static const char *const wishes[] = { "inst_1", "state", "id", "database" };
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        assert_int_equal(fake_bus_wait(sample_bus, sample_send_get(wishes[i]), &instance_reply_descriptor, &reply), 0);
        assert_string_equal(reply.instance->id, wishes[i]);
        message_release(&instance_reply_descriptor, &reply);
    }
    int64_t correlation = sample_add_get("deadline", 900);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, NULL, NULL), 0);
}

static void test_handler_refuses(void **state) {
    (void)state;
    struct error_reply error;
    assert_int_equal(
        fake_bus_wait(sample_bus, sample_send_get("missing"), &error_reply_descriptor, &error), ERR_INSTANCE_NOT_FOUND);
    assert_string_equal(error.message, "Not that one.");
    assert_true(error.has_retry_after && error.retry_after == 7);
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(
        fake_bus_wait(sample_bus, sample_send_get("fields"), &error_reply_descriptor, &error), ERR_VALIDATION);
    assert_null(error.message);
    assert_int_equal(error.details_count, 2);
    assert_string_equal(error.details[1].field, "local_port");
    assert_string_equal(error.details[0].message, "is too long");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("errno"), NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("incomplete"), NULL, NULL), ERR_INTERNAL);
    /* and nothing of it stays for the next */
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("inst"), NULL, NULL), 0);
}

static void test_requests_that_cannot_be_served(void **state) {
    (void)state;
    int64_t malformed = fake_bus_add_raw(sample_bus, MSG_INSTANCE_GET, "\xff\x00garbage", 9, SAMPLE_BUDGET_MS);
    int64_t empty = fake_bus_add_raw(sample_bus, MSG_INSTANCE_GET, "", 0, SAMPLE_BUDGET_MS);
    int64_t expired = sample_add_get("inst", 0);
    int64_t unknown = fake_bus_add_raw(sample_bus, 65000, "\x80", 1, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    int64_t nowhere = sample_add_get("inst", SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "no.such.lane");
    assert_int_equal(fake_bus_wait(sample_bus, malformed, NULL, NULL), ERR_MALFORMED);
    assert_int_equal(fake_bus_wait(sample_bus, empty, NULL, NULL), ERR_MALFORMED);
    assert_int_equal(fake_bus_wait(sample_bus, expired, NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(sample_bus, unknown, NULL, NULL), ERR_UNAVAILABLE);
    assert_int_equal(fake_bus_wait(sample_bus, nowhere, NULL, NULL), ERR_UNAVAILABLE);
    /* frames that are no batch are survived */
    fake_bus_send_frames(sample_bus, "12345678", 8, "nonsense", 8);
    fake_bus_send_frames(sample_bus, "12345678", 8, "", 0);
    fake_bus_send_frames(sample_bus, "1234567", 7, "x", 1);
    fake_bus_send_frames(sample_bus, "", 0, "x", 1);
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("inst"), NULL, NULL), 0);
}

static void test_overload_and_waiting_too_long(void **state) {
    (void)state;
    int64_t correlations[9];
    for (int i = 0; i < 9; i++) /* two threads, six credits */
        correlations[i] = sample_add_get("sleep", i == 5 ? 300 : SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    for (int i = 6; i < 9; i++) {
        struct error_reply error;
        assert_int_equal(fake_bus_wait(sample_bus, correlations[i], &error_reply_descriptor, &error), ERR_OVERLOADED);
        assert_true(error.has_retry_after);
        message_release(&error_reply_descriptor, &error);
    }
    assert_false(fake_bus_has(sample_bus, correlations[0], 100));
    for (int i = 0; i < 5; i++)
        assert_int_equal(fake_bus_wait(sample_bus, correlations[i], NULL, NULL), 0);
    assert_int_equal(fake_bus_wait(sample_bus, correlations[5], NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("inst"), NULL, NULL), 0); /* the credits are back */
}

static void test_query_into_object(void **state) {
    (void)state;
    struct instance_rename request = { .user_id = "user_7", .instance_id = "i", .name = "new 'name'" };
    struct instance_changed_reply reply;
    sample_wait_for_publisher();
    int64_t correlation = fake_bus_add(sample_bus, MSG_INSTANCE_RENAME, &request, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &instance_changed_reply_descriptor, &reply), 0);
    assert_true(reply.success);
    assert_string_equal(reply.instance->name, "new 'name'");
    assert_string_equal(reply.instance->user_id, "user_7");
    message_release(&instance_changed_reply_descriptor, &reply);
    struct event event;
    assert_true(fake_bus_wait_publication(sample_bus, "event.instance.renamed", 2000, &event_descriptor, &event));
    assert_true(event.id == 41 && event.at == 5);
    assert_string_equal(event.user_id, "u");
    message_release(&event_descriptor, &event);
    assert_true(fake_bus_wait_publication(sample_bus, "event.status", 2000, &event_descriptor, &event));
    assert_null(event.user_id);
    assert_string_equal(event.payload, "{\"a\":1}");
    message_release(&event_descriptor, &event);

    request.instance_id = "none";
    correlation = fake_bus_add(sample_bus, MSG_INSTANCE_RENAME, &request, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, NULL, NULL), ERR_INSTANCE_NOT_FOUND);
}

static void test_query_list(void **state) {
    (void)state;
    struct tunnel_session_list request = { .user_id = "u", .instance_id = "i" };
    struct tunnel_session_list_reply reply;
    int64_t correlation = fake_bus_add(sample_bus, MSG_TUNNEL_SESSION_LIST, &request, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &tunnel_session_list_reply_descriptor, &reply), 0);
    assert_int_equal(reply.sessions_count, 3);
    assert_string_equal(reply.sessions[2].id, "ts_3");
    assert_string_equal(reply.next_cursor, "next");
    message_release(&tunnel_session_list_reply_descriptor, &reply);

    request.instance_id = "empty";
    correlation = fake_bus_add(sample_bus, MSG_TUNNEL_SESSION_LIST, &request, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &tunnel_session_list_reply_descriptor, &reply), 0);
    assert_int_equal(reply.sessions_count, 0);
    assert_string_equal(reply.next_cursor, "next");
    message_release(&tunnel_session_list_reply_descriptor, &reply);

    struct status_strips strips = { .user_id = "u" };
    struct status_strips_reply strips_reply;
    correlation = fake_bus_add(sample_bus, MSG_STATUS_STRIPS, &strips, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &status_strips_reply_descriptor, &strips_reply), 0);
    assert_int_equal(strips_reply.hours, 0);
    message_release(&status_strips_reply_descriptor, &strips_reply);
}

static int delete_with(const char *wish, struct error_reply *ret_error) {
    struct instance_delete request = { .user_id = "u", .instance_id = (char *)(uintptr_t)wish };
    int64_t correlation = fake_bus_add(sample_bus, MSG_INSTANCE_DELETE, &request, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    *ret_error = (struct error_reply){ 0 };
    return fake_bus_wait(
        sample_bus, correlation, strcmp(wish, "fine") == 0 ? NULL : &error_reply_descriptor, ret_error);
}

static void test_what_the_database_says(void **state) {
    (void)state;
    struct error_reply error;
    assert_int_equal(delete_with("fine", &error), 0);
    assert_int_equal(delete_with("refused", &error), ERR_CONFLICT);
    assert_string_equal(error.message, "Twice.");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(delete_with("field", &error), ERR_VALIDATION);
    assert_string_equal(error.details[0].field, "name");
    assert_string_equal(error.details[0].message, "bad name");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(delete_with("unknown", &error), ERR_INTERNAL);
    assert_int_equal(delete_with("broken", &error), ERR_INTERNAL);
    int64_t start = clock_monotonic_ms();
    assert_int_equal(delete_with("slow", &error), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - start, 2000, 2600);
    assert_int_equal(delete_with("fine", &error), 0);
}

static void test_batch(void **state) {
    (void)state;
    sample_wait_for_publisher();
    int64_t first = sample_ask("calls", "SELECT count(*) FROM test.calls");
    struct success_reply success;
    struct tunnel_start_reply started;
    struct error_reply error;
    struct tunnel_start start = { .user_id = "u", .server_id = "s" };
    int64_t event = sample_add_connected("event", false);
    int64_t refused = sample_add_connected("refused", false);
    int64_t odd = sample_add_connected("odd", false);
    int64_t silent = sample_add_connected("silent", false);
    int64_t third = fake_bus_add(sample_bus, MSG_TUNNEL_START, &start, SAMPLE_BUDGET_MS);
    int64_t expired = fake_bus_add(sample_bus, MSG_TUNNEL_START, &start, 0);
    int64_t malformed = fake_bus_add_raw(sample_bus, MSG_TUNNEL_START, "x", 1, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry.reports");
    assert_int_equal(fake_bus_wait(sample_bus, event, &success_reply_descriptor, &success), 0);
    assert_true(success.success);
    assert_int_equal(fake_bus_wait(sample_bus, refused, &error_reply_descriptor, &error), ERR_INSTANCE_NOT_FOUND);
    assert_string_equal(error.message, "Gone.");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(fake_bus_wait(sample_bus, odd, NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(sample_bus, silent, NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(sample_bus, third, &tunnel_start_reply_descriptor, &started), 0);
    assert_string_equal(started.session_id, "ts_5");
    message_release(&tunnel_start_reply_descriptor, &started);
    assert_int_equal(fake_bus_wait(sample_bus, expired, NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(sample_bus, malformed, NULL, NULL), ERR_MALFORMED);
    struct event published;
    assert_true(fake_bus_wait_publication(sample_bus, "event.tunnel", 2000, &event_descriptor, &published));
    assert_true(published.id == 43);
    message_release(&event_descriptor, &published);
    assert_int_equal(sample_ask("calls", "SELECT count(*) FROM test.calls"), first + 1);
}

static void test_poison_hurts_only_itself(void **state) {
    (void)state;
    int64_t correlations[5];
    for (int i = 0; i < 5; i++)
        correlations[i] = sample_add_connected(i == 2 ? "poison" : "fine", i == 2);
    fake_bus_send(sample_bus, "registry.reports");
    for (int i = 0; i < 5; i++)
        assert_int_equal(fake_bus_wait(sample_bus, correlations[i], NULL, NULL), i == 2 ? ERR_INTERNAL : 0);
}

static void test_large_batches(void **state) {
    (void)state;
    int64_t before = sample_ask("calls", "SELECT count(*) FROM test.calls");
    int64_t correlations[250];
    for (int i = 0; i < 250; i++)
        correlations[i] = sample_add_connected("fine", false);
    fake_bus_send(sample_bus, "registry.reports");
    for (int i = 0; i < 250; i++)
        assert_int_equal(fake_bus_wait(sample_bus, correlations[i], NULL, NULL), 0);
    assert_int_equal(sample_ask("calls", "SELECT count(*) FROM test.calls") - before, 3); /* at most 100 a call */
    assert_int_equal(sample_ask("largest", "SELECT max(size) FROM test.calls"), 100);
    for (int i = 0; i < 250; i++) /* a call's rows may come in any order, the calls may not */
        assert_int_equal(fake_bus_position(sample_bus, correlations[i]) / 100, i / 100);
}

static void test_ping(void **state) {
    (void)state;
    struct ping_reply reply;
    int64_t correlation = fake_bus_add_raw(sample_bus, MSG_PING_REGISTRY, "\x80", 1, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &ping_reply_descriptor, &reply), 0);
    assert_true(reply.database);
    assert_null(reply.database_message);
    assert_in_range(reply.uptime_ms, 0, 100000);
    message_release(&ping_reply_descriptor, &reply);
}

static void test_counters(void **state) {
    (void)state;
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("missing"), NULL, NULL), ERR_INSTANCE_NOT_FOUND);
    struct counters values;
    bool requests = false, seconds = false, depth = false, database = false;
    for (int i = 0; i < 3 && !requests; i++) {
        assert_true(fake_bus_wait_publication(sample_bus, "counters.registry", 2500, &counters_descriptor, &values));
        for (size_t j = 0; j < values.values_count; j++) {
            const struct counter_value *value = &values.values[j];
            requests |= strcmp(value->name, "bore_service_requests_total") == 0 &&
                        strcmp(value->labels, "method=\"instance_get\",result=\"instance_not_found\"") == 0 &&
                        value->value > 0.5;
            seconds |=
                strcmp(value->name, "bore_service_request_seconds") == 0 && strstr(value->labels, "instance_get");
            depth |= strcmp(value->name, "bore_lane_requests") == 0;
            database |= strcmp(value->name, "bore_database_seconds") == 0;
        }
        message_release(&counters_descriptor, &values);
    }
    assert_true(requests && seconds && depth && database);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_handler_answers, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_handler_refuses, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_requests_that_cannot_be_served, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_overload_and_waiting_too_long, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_query_into_object, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_query_list, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_what_the_database_says, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_batch, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_poison_hurts_only_itself, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_large_batches, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_ping, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_counters, sample_setup, sample_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    return sample_main(argc, argv, run_all);
}
