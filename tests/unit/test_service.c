/*
 * test_service.c: the skeleton in a process of its own, as the bus sees it, with a real database.
 *
 * The program runs itself once more with the argument `service`: that is a small worker with the registry's methods,
 * whose handlers do what the requests name. The tests play the bus.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/migrate.h"
#include "services/lib/service.h"
#include "tests/unit/database.h"
#include "tests/unit/fake_bus.h"

/* ==== the service
 * ====================================================================================================== */

static const struct service_lane *lanes(void) {
    static struct service_lane table[] = { { .name = "registry", .threads = 0, .credits = 6 },
        { .name = "registry.reports", .threads = 1, .credits = 300, .nice = 1 }, { 0 } };
    table[0].threads = service_database_share(2);
    return table;
}

static void fill_instance(struct instance *instance, const char *id) {
    *instance = (struct instance){ .id = xstrdup(id),
        .user_id = xstrdup("user"),
        .name = xstrdup("name"),
        .region = xstrdup(""),
        .status = xstrdup("inactive") };
}

/* What the instance's id asks for. */
HANDLER(on_get, instance_get, instance_reply) {
    const char *wish = request->instance_id;
    if (strcmp(wish, "missing") == 0) return service_fail(context, ERR_INSTANCE_NOT_FOUND, "Not that one.", 7);
    if (strcmp(wish, "fields") == 0) {
        service_fail_field(context, "name", "is too long");
        return service_fail_field(context, "local_port", "is no port");
    }
    if (strcmp(wish, "errno") == 0) return -EIO;
    if (strcmp(wish, "state") == 0 && strcmp(context->state, "the state") != 0) return ERR_CONFLICT;
    if (strcmp(wish, "deadline") == 0 && context->deadline_ms - clock_monotonic_ms() > 1000) return ERR_CONFLICT;
    if (strcmp(wish, "id") == 0 && strcmp(context->request_id, "req-test") != 0) return ERR_CONFLICT;
    if (strncmp(wish, "sleep", 5) == 0) usleep(400000);
    if (strcmp(wish, "database") == 0) {
        static const struct db_statement statement = { .name = "sleep", .sql = "SELECT 1" };
        int error = db_run(context->db, &statement, NULL, NULL);
        if (error) return service_fail_database(context, error);
    }
    ret_reply->instance = xcalloc(1, sizeof *ret_reply->instance);
    if (strcmp(wish, "incomplete") == 0) return 0;
    fill_instance(ret_reply->instance, wish);
    return 0;
}

static const struct service_handler handlers[] = { { MSG_INSTANCE_GET, on_get }, { 0 } };

static const struct service_query queries[] = {
    { .method = MSG_INSTANCE_RENAME,
        .sql =
            "SELECT true AS success, 'inst_1' AS id, :user_id::text AS user_id, :name::text AS name, 80 AS local_port, "
            "'' AS region, 'online' AS status, true AS tunnel_connected, 1::bigint AS created_at, 2::bigint AS "
            "updated_at, "
            "'[{\"id\":41,\"at\":5,\"kind\":\"instance.renamed\",\"user_id\":\"u\",\"instance_id\":\"i\",\"payload\":"
            "\"{}\"},"
            "{\"id\":42,\"at\":5,\"kind\":\"status\",\"user_id\":null,\"instance_id\":null,\"payload\":{\"a\":1}}]' AS "
            "events "
            "WHERE :instance_id::text <> 'none'",
        .into = "instance",
        .none = ERR_INSTANCE_NOT_FOUND },
    { .method = MSG_TUNNEL_SESSION_LIST,
        .sql = "SELECT x.id, x.state, x.created_at, 'next' AS next_cursor FROM (SELECT 1) one LEFT JOIN "
               "(SELECT 'ts_' || n AS id, 'open' AS state, n::bigint AS created_at FROM generate_series(1, "
               "coalesce(:limit::integer, 3)) AS n WHERE :instance_id::text <> 'empty') x ON true ORDER BY created_at",
        .list = "sessions" },
    { .method = MSG_INSTANCE_DELETE, .sql = "SELECT true AS success FROM test.refuse(:instance_id::text)" },
    { .method = MSG_STATUS_STRIPS, .sql = "SELECT 5 AS hours WHERE false" },
    { 0 },
};

static const int report_methods[] = { MSG_TUNNEL_CONNECTED, MSG_TUNNEL_DISCONNECTED, MSG_TUNNEL_START, 0 };

/* `poison` breaks the statement, `refused` is answered with an error, `silent` with nothing; each call is noted. */
static const struct service_batch batches[] = {
    { .methods = report_methods,
        .lane = "registry.reports",
        .maximum = 100,
        .sql = "WITH asked AS (SELECT * FROM unnest(:method[]::integer[], :instance_id[]::text[], "
               ":remote_port[]::integer[]) "
               "WITH ORDINALITY AS r(method, instance, port, ord)), "
               "noted AS (INSERT INTO test.calls (size) SELECT count(*) FROM asked) "
               "SELECT ord, CASE instance WHEN 'poison' THEN (1 / (port - port))::text = '1' ELSE true END AS success, "
               "'ts_' || ord AS session_id, CASE instance WHEN 'refused' THEN 'instance_not_found' WHEN 'odd' THEN "
               "'no_such' END AS "
               "error, 'Gone.' AS error_message, CASE WHEN ord = 1 AND instance = 'event' THEN "
               "'[{\"id\":43,\"at\":5,\"kind\":\"tunnel.connected\",\"payload\":\"{}\"}]' END AS events "
               "FROM asked WHERE instance IS DISTINCT FROM 'silent' ORDER BY ord DESC" },
    { 0 },
};

static void on_tick(struct service_context *context) {
    static const struct db_statement statement = { .name = "tick", .sql = "INSERT INTO test.ticks VALUES (1)" };
    db_run(context->db, &statement, NULL, NULL);
}

static const struct service_timer timers[] = { { .interval_ms = 50, .function = on_tick, .name = "tick" }, { 0 } };

/* In place of those in sql/. */
const struct migration migrations[] = {
    { .number = 1,
        .name = "test",
        .sql = "CREATE SCHEMA test; CREATE TABLE test.calls (size integer); CREATE TABLE test.ticks (x integer);"
               "CREATE FUNCTION test.refuse(wish text) RETURNS SETOF integer LANGUAGE plpgsql AS $$ BEGIN "
               "IF wish = 'refused' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'conflict', DETAIL = "
               "'Twice.'; "
               "END IF; IF wish = 'field' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'validation_error', "
               "DETAIL = 'bad name', COLUMN = 'name'; END IF; "
               "IF wish = 'unknown' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'no_such_code'; END IF; "
               "IF wish = 'broken' THEN PERFORM 1 / 0; END IF; "
               "IF wish = 'slow' THEN PERFORM pg_sleep(10); END IF; RETURN NEXT 1; END $$;" },
};
const size_t migrations_count = ARRAY_SIZE(migrations);

static int init(struct service_context *context, void **ret_state) {
    static const struct db_statement statement = { .name = "init", .sql = "SELECT count(*) FROM test.calls" };
    int error = db_run(context->db, &statement, NULL, NULL);
    if (!error) *ret_state = xstrdup("the state");
    return error;
}

static const struct service worker = { .name = "registry",
    .purpose = "a worker for tests",
    .process = REGISTRY,
    .database = true,
    .ping_method = MSG_PING_REGISTRY,
    .lanes = lanes,
    .handlers = handlers,
    .queries = queries,
    .batches = batches,
    .timers = timers,
    .init = init,
    .release = free };

/* ==== the tests
 * ======================================================================================================== */

static char directory[] = "/tmp/bore-service.XXXXXX";
static char url[100];
static char *program;
static struct fake_bus *bus;
static pid_t child;
static struct db *db;

enum { BUDGET_MS = 2500 };

static void start_child(void) {
    child = fork();
    if (child != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(program, program, "service", (char *)NULL);
    _exit(127);
}

/* The exit status, or -1 when it has not ended in time. */
static int end_of_child(int milliseconds) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (clock_monotonic_ms() > until) return -1;
        usleep(5000);
    }
    child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void kill_child(void) {
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    child = 0;
}

static int setup_bus(void **state) {
    (void)state;
    bus = fake_bus_new(url);
    return 0;
}

static int setup(void **state) {
    setup_bus(state);
    start_child();
    return fake_bus_wait_hello(bus, "registry.reports", false, 10000, NULL) ? 0 : -1;
}

/* The service must have survived the test, and end well. */
static int teardown(void **state) {
    (void)state;
    int status = 0;
    kill(test_database_postmaster(), SIGCONT);
    if (child > 0) {
        kill(child, SIGTERM);
        status = end_of_child(8000);
        if (status) print_error("the service ended with %d\n", status);
    }
    kill_child();
    fake_bus_free(bus);
    bus = NULL;
    return status;
}

/* A publisher's first messages may find nobody: what is published before this returns may be lost. */
static void wait_for_publisher(void) {
    struct counters values;
    assert_true(fake_bus_wait_publication(bus, "counters.", 3000, &counters_descriptor, &values));
    message_release(&counters_descriptor, &values);
}

static int64_t add_get(const char *wish, int64_t budget_ms) {
    struct instance_get request = { .user_id = (char[]){ "user" }, .instance_id = (char *)(uintptr_t)wish };
    return fake_bus_add(bus, MSG_INSTANCE_GET, &request, budget_ms);
}

static int64_t send_get(const char *wish) {
    int64_t correlation = add_get(wish, BUDGET_MS);
    fake_bus_send(bus, "registry");
    return correlation;
}

static int64_t add_connected(const char *wish, bool has_port) {
    struct tunnel_connected request = { .instance_id = (char *)(uintptr_t)wish, .has_remote_port = has_port };
    return fake_bus_add(bus, MSG_TUNNEL_CONNECTED, &request, BUDGET_MS);
}

static int64_t ask_int(const char *name, const char *sql) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_statement statement = { .name = name, .sql = sql };
    assert_int_equal(db_run(db, &statement, NULL, &result), 0);
    return db_result_int(result, 0, 0, -1);
}

static void test_hello(void **state) {
    (void)state;
    struct worker_hello hello;
    assert_true(fake_bus_wait_hello(bus, "registry", false, 2000, &hello));
    assert_string_equal(hello.process, "registry");
    assert_int_equal(hello.version, PROTOCOL_VERSION);
    assert_int_equal(hello.credits, 6);
    assert_int_equal(hello.instance, 4);
    message_release(&worker_hello_descriptor, &hello);
    assert_true(fake_bus_wait_hello(bus, "registry.reports", false, 2000, &hello));
    assert_int_equal(hello.credits, 300);
    message_release(&worker_hello_descriptor, &hello);
    size_t before = fake_bus_hellos(bus);
    assert_false(fake_bus_has(bus, -1, 2100));
    assert_in_range(fake_bus_hellos(bus) - before, 6, 10); /* two lanes, every 500 ms */
}

static void test_handler_answers(void **state) {
    (void)state;
    struct instance_reply reply;
    static const char *const wishes[] = { "inst_1", "state", "id", "database" };
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        assert_int_equal(fake_bus_wait(bus, send_get(wishes[i]), &instance_reply_descriptor, &reply), 0);
        assert_string_equal(reply.instance->id, wishes[i]);
        message_release(&instance_reply_descriptor, &reply);
    }
    int64_t correlation = add_get("deadline", 900);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, NULL, NULL), 0);
}

static void test_handler_refuses(void **state) {
    (void)state;
    struct error_reply error;
    assert_int_equal(fake_bus_wait(bus, send_get("missing"), &error_reply_descriptor, &error), ERR_INSTANCE_NOT_FOUND);
    assert_string_equal(error.message, "Not that one.");
    assert_true(error.has_retry_after && error.retry_after == 7);
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(fake_bus_wait(bus, send_get("fields"), &error_reply_descriptor, &error), ERR_VALIDATION);
    assert_null(error.message);
    assert_int_equal(error.details_count, 2);
    assert_string_equal(error.details[1].field, "local_port");
    assert_string_equal(error.details[0].message, "is too long");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(fake_bus_wait(bus, send_get("errno"), NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(bus, send_get("incomplete"), NULL, NULL), ERR_INTERNAL);
    /* and nothing of it stays for the next */
    assert_int_equal(fake_bus_wait(bus, send_get("inst"), NULL, NULL), 0);
}

static void test_requests_that_cannot_be_served(void **state) {
    (void)state;
    int64_t malformed = fake_bus_add_raw(bus, MSG_INSTANCE_GET, "\xff\x00garbage", 9, BUDGET_MS);
    int64_t empty = fake_bus_add_raw(bus, MSG_INSTANCE_GET, "", 0, BUDGET_MS);
    int64_t expired = add_get("inst", 0);
    int64_t unknown = fake_bus_add_raw(bus, 65000, "\x80", 1, BUDGET_MS);
    fake_bus_send(bus, "registry");
    int64_t nowhere = add_get("inst", BUDGET_MS);
    fake_bus_send(bus, "no.such.lane");
    assert_int_equal(fake_bus_wait(bus, malformed, NULL, NULL), ERR_MALFORMED);
    assert_int_equal(fake_bus_wait(bus, empty, NULL, NULL), ERR_MALFORMED);
    assert_int_equal(fake_bus_wait(bus, expired, NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(bus, unknown, NULL, NULL), ERR_UNAVAILABLE);
    assert_int_equal(fake_bus_wait(bus, nowhere, NULL, NULL), ERR_UNAVAILABLE);
    /* frames that are no batch are survived */
    fake_bus_send_frames(bus, "12345678", 8, "nonsense", 8);
    fake_bus_send_frames(bus, "12345678", 8, "", 0);
    fake_bus_send_frames(bus, "1234567", 7, "x", 1);
    fake_bus_send_frames(bus, "", 0, "x", 1);
    assert_int_equal(fake_bus_wait(bus, send_get("inst"), NULL, NULL), 0);
}

static void test_overload_and_waiting_too_long(void **state) {
    (void)state;
    int64_t correlations[9];
    for (int i = 0; i < 9; i++) /* two threads, six credits */
        correlations[i] = add_get("sleep", i == 5 ? 300 : BUDGET_MS);
    fake_bus_send(bus, "registry");
    for (int i = 6; i < 9; i++) {
        struct error_reply error;
        assert_int_equal(fake_bus_wait(bus, correlations[i], &error_reply_descriptor, &error), ERR_OVERLOADED);
        assert_true(error.has_retry_after);
        message_release(&error_reply_descriptor, &error);
    }
    assert_false(fake_bus_has(bus, correlations[0], 100));
    for (int i = 0; i < 5; i++)
        assert_int_equal(fake_bus_wait(bus, correlations[i], NULL, NULL), 0);
    assert_int_equal(fake_bus_wait(bus, correlations[5], NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(bus, send_get("inst"), NULL, NULL), 0); /* the credits are back */
}

static void test_query_into_object(void **state) {
    (void)state;
    struct instance_rename request = { .user_id = "user_7", .instance_id = "i", .name = "new 'name'" };
    struct instance_changed_reply reply;
    wait_for_publisher();
    int64_t correlation = fake_bus_add(bus, MSG_INSTANCE_RENAME, &request, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &instance_changed_reply_descriptor, &reply), 0);
    assert_true(reply.success);
    assert_string_equal(reply.instance->name, "new 'name'");
    assert_string_equal(reply.instance->user_id, "user_7");
    message_release(&instance_changed_reply_descriptor, &reply);
    struct event event;
    assert_true(fake_bus_wait_publication(bus, "event.instance.renamed", 2000, &event_descriptor, &event));
    assert_true(event.id == 41 && event.at == 5);
    assert_string_equal(event.user_id, "u");
    message_release(&event_descriptor, &event);
    assert_true(fake_bus_wait_publication(bus, "event.status", 2000, &event_descriptor, &event));
    assert_null(event.user_id);
    assert_string_equal(event.payload, "{\"a\":1}");
    message_release(&event_descriptor, &event);

    request.instance_id = "none";
    correlation = fake_bus_add(bus, MSG_INSTANCE_RENAME, &request, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, NULL, NULL), ERR_INSTANCE_NOT_FOUND);
}

static void test_query_list(void **state) {
    (void)state;
    struct tunnel_session_list request = { .user_id = "u", .instance_id = "i" };
    struct tunnel_session_list_reply reply;
    int64_t correlation = fake_bus_add(bus, MSG_TUNNEL_SESSION_LIST, &request, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &tunnel_session_list_reply_descriptor, &reply), 0);
    assert_int_equal(reply.sessions_count, 3);
    assert_string_equal(reply.sessions[2].id, "ts_3");
    assert_string_equal(reply.next_cursor, "next");
    message_release(&tunnel_session_list_reply_descriptor, &reply);

    request.instance_id = "empty";
    correlation = fake_bus_add(bus, MSG_TUNNEL_SESSION_LIST, &request, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &tunnel_session_list_reply_descriptor, &reply), 0);
    assert_int_equal(reply.sessions_count, 0);
    assert_string_equal(reply.next_cursor, "next");
    message_release(&tunnel_session_list_reply_descriptor, &reply);

    struct status_strips strips = { .user_id = "u" };
    struct status_strips_reply strips_reply;
    correlation = fake_bus_add(bus, MSG_STATUS_STRIPS, &strips, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &status_strips_reply_descriptor, &strips_reply), 0);
    assert_int_equal(strips_reply.hours, 0);
    message_release(&status_strips_reply_descriptor, &strips_reply);
}

static int delete_with(const char *wish, struct error_reply *ret_error) {
    struct instance_delete request = { .user_id = "u", .instance_id = (char *)(uintptr_t)wish };
    int64_t correlation = fake_bus_add(bus, MSG_INSTANCE_DELETE, &request, BUDGET_MS);
    fake_bus_send(bus, "registry");
    *ret_error = (struct error_reply){ 0 };
    return fake_bus_wait(bus, correlation, strcmp(wish, "fine") == 0 ? NULL : &error_reply_descriptor, ret_error);
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
    wait_for_publisher();
    int64_t first = ask_int("calls", "SELECT count(*) FROM test.calls");
    struct success_reply success;
    struct tunnel_start_reply started;
    struct error_reply error;
    struct tunnel_start start = { .user_id = "u", .server_id = "s" };
    int64_t event = add_connected("event", false);
    int64_t refused = add_connected("refused", false);
    int64_t odd = add_connected("odd", false);
    int64_t silent = add_connected("silent", false);
    int64_t third = fake_bus_add(bus, MSG_TUNNEL_START, &start, BUDGET_MS);
    int64_t expired = fake_bus_add(bus, MSG_TUNNEL_START, &start, 0);
    int64_t malformed = fake_bus_add_raw(bus, MSG_TUNNEL_START, "x", 1, BUDGET_MS);
    fake_bus_send(bus, "registry.reports");
    assert_int_equal(fake_bus_wait(bus, event, &success_reply_descriptor, &success), 0);
    assert_true(success.success);
    assert_int_equal(fake_bus_wait(bus, refused, &error_reply_descriptor, &error), ERR_INSTANCE_NOT_FOUND);
    assert_string_equal(error.message, "Gone.");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(fake_bus_wait(bus, odd, NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(bus, silent, NULL, NULL), ERR_INTERNAL);
    assert_int_equal(fake_bus_wait(bus, third, &tunnel_start_reply_descriptor, &started), 0);
    assert_string_equal(started.session_id, "ts_5");
    message_release(&tunnel_start_reply_descriptor, &started);
    assert_int_equal(fake_bus_wait(bus, expired, NULL, NULL), ERR_TIMEOUT);
    assert_int_equal(fake_bus_wait(bus, malformed, NULL, NULL), ERR_MALFORMED);
    struct event published;
    assert_true(fake_bus_wait_publication(bus, "event.tunnel", 2000, &event_descriptor, &published));
    assert_true(published.id == 43);
    message_release(&event_descriptor, &published);
    assert_int_equal(ask_int("calls", "SELECT count(*) FROM test.calls"), first + 1);
}

static void test_poison_hurts_only_itself(void **state) {
    (void)state;
    int64_t correlations[5];
    for (int i = 0; i < 5; i++)
        correlations[i] = add_connected(i == 2 ? "poison" : "fine", i == 2);
    fake_bus_send(bus, "registry.reports");
    for (int i = 0; i < 5; i++)
        assert_int_equal(fake_bus_wait(bus, correlations[i], NULL, NULL), i == 2 ? ERR_INTERNAL : 0);
}

static void test_large_batches(void **state) {
    (void)state;
    int64_t before = ask_int("calls", "SELECT count(*) FROM test.calls");
    int64_t correlations[250];
    for (int i = 0; i < 250; i++)
        correlations[i] = add_connected("fine", false);
    fake_bus_send(bus, "registry.reports");
    for (int i = 0; i < 250; i++)
        assert_int_equal(fake_bus_wait(bus, correlations[i], NULL, NULL), 0);
    assert_int_equal(ask_int("calls", "SELECT count(*) FROM test.calls") - before, 3); /* at most 100 a call */
    assert_int_equal(ask_int("largest", "SELECT max(size) FROM test.calls"), 100);
    for (int i = 0; i < 250; i++) /* a call's rows may come in any order, the calls may not */
        assert_int_equal(fake_bus_position(bus, correlations[i]) / 100, i / 100);
}

static void test_ping(void **state) {
    (void)state;
    struct ping_reply reply;
    int64_t correlation = fake_bus_add_raw(bus, MSG_PING_REGISTRY, "\x80", 1, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &ping_reply_descriptor, &reply), 0);
    assert_true(reply.database);
    assert_null(reply.database_message);
    assert_in_range(reply.uptime_ms, 0, 100000);
    message_release(&ping_reply_descriptor, &reply);
}

static void test_timers(void **state) {
    (void)state;
    int64_t before = ask_int("ticks", "SELECT count(*) FROM test.ticks");
    assert_false(fake_bus_has(bus, -1, 600));
    assert_in_range(ask_int("ticks", "SELECT count(*) FROM test.ticks") - before, 6, 13);
}

static void test_counters(void **state) {
    (void)state;
    assert_int_equal(fake_bus_wait(bus, send_get("missing"), NULL, NULL), ERR_INSTANCE_NOT_FOUND);
    struct counters values;
    bool requests = false, seconds = false, depth = false, database = false;
    for (int i = 0; i < 3 && !requests; i++) {
        assert_true(fake_bus_wait_publication(bus, "counters.registry", 2500, &counters_descriptor, &values));
        for (size_t j = 0; j < values.values_count; j++) {
            const struct counter_value *value = &values.values[j];
            requests |= strcmp(value->name, "bore_requests_total") == 0 &&
                        strcmp(value->labels, "method=\"instance_get\",result=\"instance_not_found\"") == 0 &&
                        value->value > 0.5;
            seconds |= strcmp(value->name, "bore_request_seconds") == 0 && strstr(value->labels, "instance_get");
            depth |= strcmp(value->name, "bore_queue_depth") == 0;
            database |= strcmp(value->name, "bore_db_seconds") == 0;
        }
        message_release(&counters_descriptor, &values);
    }
    assert_true(requests && seconds && depth && database);
}

/* Requests are refused quickly while the database is gone, and served again soon after it is back. */
static void test_database_goes_away(void **state) {
    (void)state;
    assert_int_equal(fake_bus_wait(bus, send_get("database"), NULL, NULL), 0);
    pid_t postmaster = test_database_postmaster();
    kill(postmaster, SIGSTOP);
    ask_int("terminate",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bore-registry-4'");
    usleep(100000);
    int64_t start = clock_monotonic_ms();
    for (int i = 0; i < 20; i++) {
        struct error_reply error;
        assert_int_equal(fake_bus_wait(bus, send_get("database"), &error_reply_descriptor, &error), ERR_UNAVAILABLE);
        assert_true(error.has_retry_after && error.retry_after == 1);
        message_release(&error_reply_descriptor, &error);
    }
    assert_in_range(clock_monotonic_ms() - start, 0, 1500);
    struct ping_reply ping;
    int64_t correlation = fake_bus_add_raw(bus, MSG_PING_REGISTRY, "\x80", 1, BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_int_equal(fake_bus_wait(bus, correlation, &ping_reply_descriptor, &ping), 0);
    assert_false(ping.database);
    message_release(&ping_reply_descriptor, &ping);
    int64_t report = add_connected("fine", false);
    fake_bus_send(bus, "registry.reports");
    assert_int_equal(fake_bus_wait(bus, report, NULL, NULL), ERR_UNAVAILABLE);
    assert_true(fake_bus_wait_hello(bus, "registry", false, 1000, NULL)); /* still announced */

    kill(postmaster, SIGCONT);
    start = clock_monotonic_ms();
    while (fake_bus_wait(bus, send_get("database"), NULL, NULL) != 0 && clock_monotonic_ms() - start < 5000)
        usleep(20000);
    assert_in_range(clock_monotonic_ms() - start, 0, 2000);
}

static void test_bus_restart(void **state) {
    fake_bus_free(bus);
    setup_bus(state);
    assert_true(fake_bus_wait_hello(bus, "registry", false, 2000, NULL));
    assert_int_equal(fake_bus_wait(bus, send_get("inst"), NULL, NULL), 0);
}

static void test_shutdown_finishes_what_is_held(void **state) {
    (void)state;
    int64_t held[4];
    for (int i = 0; i < 4; i++)
        held[i] = add_get("sleep", BUDGET_MS);
    fake_bus_send(bus, "registry");
    assert_false(fake_bus_has(bus, held[0], 50));
    int64_t start = clock_monotonic_ms();
    kill(child, SIGTERM);
    assert_true(fake_bus_wait_hello(bus, "registry", true, 500, NULL));
    int64_t crossing = send_get("crossing"); /* sent before the bus knew */
    for (int i = 0; i < 4; i++)
        assert_int_equal(fake_bus_wait(bus, held[i], NULL, NULL), 0);
    assert_int_equal(fake_bus_wait(bus, crossing, NULL, NULL), 0);
    assert_int_equal(end_of_child(3000), 0);
    assert_in_range(clock_monotonic_ms() - start, 300, 2500);
}

static void test_refused_by_the_bus(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    struct worker_refused refused = { .message = "protocol version 1, the bus has 2" };
    assert_int_equal(message_encode_frame(&worker_refused_descriptor, &refused, &frame), 0);
    int64_t start = clock_monotonic_ms();
    fake_bus_send_frames(bus, "", 0, frame.data, frame.size);
    assert_int_equal(end_of_child(5000), 1);
    assert_in_range(clock_monotonic_ms() - start, 900, 3000);
}

static void test_database_is_waited_for(void **state) {
    setup_bus(state);
    char *before = xstrdup(getenv("DB_HOST"));
    char link[200];
    snprintf(link, sizeof link, "%s/later", directory);
    setenv("DB_HOST", link, 1);
    start_child();
    assert_false(fake_bus_wait_hello(bus, "registry", false, 1500, NULL));
    assert_int_equal(symlink(before, link), 0);
    assert_true(fake_bus_wait_hello(bus, "registry", false, 4000, NULL));
    kill(child, SIGTERM);
    assert_int_equal(end_of_child(3000), 0);
    unlink(link);
    start_child();
    usleep(500000);
    kill(child, SIGTERM);
    assert_int_equal(end_of_child(3000), 0); /* while waiting */
    setenv("DB_HOST", before, 1);
    free(before);
}

static long resident_pages(void) {
    char path[64];
    long total = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)child);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &total, &resident), 2);
    fclose(file);
    return resident;
}

static void send_many(int count) {
    for (int i = 0; i < count; i += 200) {
        int64_t last = 0;
        for (int j = 0; j < 200; j++)
            last = add_connected(j % 10 == 0 ? "refused" : "fine", false);
        fake_bus_send(bus, "registry.reports");
        for (int j = 0; j < 200; j++)
            assert_true(fake_bus_has(bus, last - j, 5000));
        add_get("missing", BUDGET_MS);
        int64_t get = add_get("database", BUDGET_MS);
        fake_bus_send(bus, "registry");
        assert_int_equal(fake_bus_wait(bus, get, NULL, NULL), 0);
        fake_bus_forget_answers(bus);
    }
}

static void test_memory_does_not_grow(void **state) {
    (void)state;
    send_many(10000);
    long before = resident_pages();
    send_many(40000);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
#ifndef __SANITIZE_THREAD__
    assert_in_range(resident_pages() - before + 200, 0, 456); /* within 1 MiB */
#endif
#endif
    assert_true(before > 0);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handler_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handler_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_that_cannot_be_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overload_and_waiting_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_query_into_object, setup, teardown),
        cmocka_unit_test_setup_teardown(test_query_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_database_says, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_poison_hurts_only_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_database_goes_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bus_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shutdown_finishes_what_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_by_the_bus, setup, teardown),
        cmocka_unit_test_teardown(test_database_is_waited_for, teardown),
        cmocka_unit_test_setup_teardown(test_memory_does_not_grow, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "service") == 0) return service_main(1, argv, &worker);
    test_database_require(argv);
    program = argv[0];
    if (!mkdtemp(directory)) return 1;
    snprintf(url, sizeof url, "ipc://%s/bus", directory);
    setenv("BUS_URL", url, 1);
    setenv("BORE_INSTANCE", "4", 1);
    struct db_options options = test_database_options();
    db = db_new(&options);
    int failed = run_all();
    db_free(db);
    for (size_t i = 0; i < 2; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/bus%s", directory, i ? ".publish" : ".workers");
        unlink(path);
    }
    rmdir(directory);
    return failed;
}
