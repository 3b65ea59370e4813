/*
 * test_bus_client.c: calls through a real bus (in a thread) and real sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "tests/unit/bus_thread.h"
#include "tests/unit/bus_worker.h"

static const struct method echo = { .request_id = MSG_PING_AUTH, .lane = "echo", .idempotent = true };
static const struct method once = { .request_id = MSG_PING_AUTH, .lane = "echo", .idempotent = false };

static const struct bus_status ask;

struct world {
    char *url;
    struct bus_thread *bus;
    struct bus_client *client;
};

static struct world world;

static int set_up(void **state) {
    (void)state;
    world.url = bus_url_new();
    world.bus = bus_thread_start(
        &(struct bus_options){ .url = world.url, .curve_directory = "", .queue_max = 20000, .instance = 1 });
    assert_non_null(world.bus);
    world.client = bus_client_new(world.url, "");
    assert_non_null(world.client);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    bus_client_free(world.client);
    bus_thread_stop(world.bus);
    bus_url_free(world.url);
    return 0;
}

static struct bus_worker *start_worker(const char *lane, int instance, int credits, int delay_ms) {
    return bus_worker_new(&(struct bus_worker_options){
        .url = world.url, .lane = lane, .instance = instance, .credits = credits, .delay_ms = delay_ms });
}

/* One call of the echo method; on 0 the reply is compared with the request. */
static int call_echo(const struct method *method, int64_t budget_ms) {
    unsigned char body[100], *reply = NULL;
    size_t size = 0;
    static _Atomic int calls;
    int length = snprintf((char *)body, sizeof(body), "body %d", calls++);
    struct bus_call call = { .deadline_ms = clock_monotonic_ms() + budget_ms, .request_id = "test-1" };
    int error = bus_call_raw(world.client, method, body, (size_t)length, &call, &reply, &size, NULL);
    if (error != 0) return error;
    assert_int_equal(size, length);
    assert_memory_equal(reply, body, size);
    free(reply);
    return 0;
}

static struct bus_client_statistics statistics(void) {
    struct bus_client_statistics result;
    bus_client_statistics(world.client, &result);
    return result;
}

/* --- calls ----------------------------------------------------------------------------------------------------------
 */

static void test_there_and_back(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    (void)state;
    for (int i = 0; i < 200; i++)
        assert_int_equal(call_echo(&echo, 2500), 0);
    assert_int_equal(bus_worker_requests(worker), 200);
    assert_int_equal(statistics().calls, 200);
    assert_int_equal(statistics().pending, 0);
    bus_worker_free(worker);
}

static void test_messages_and_errors(void **state) {
    struct bus_status_reply reply;
    struct error_reply error;
    (void)state;
    struct bus_worker *worker = start_worker("auth", 1, 8, 0);
    struct me request = { .user_id = (char *)(uintptr_t) "user_1" };
    struct me_reply me;
    assert_int_equal(bus_call(world.client, MSG_BUS_STATUS, &ask, NULL, &reply, &error), 0);
    message_release(&bus_status_reply_descriptor, &reply);
    /* The worker echoes the request, which is no me_reply. */
    assert_int_equal(bus_call(world.client, MSG_ME, &request, NULL, &me, &error), ERR_MALFORMED);
    assert_int_equal(bus_call(world.client, MSG_BUS_STATUS, &ask, NULL, &reply, NULL), 0);
    assert_int_equal(reply.lanes_count, 1);
    assert_string_equal(reply.lanes[0].lane, "auth");
    assert_int_equal(reply.lanes[0].workers, 1);
    message_release(&bus_status_reply_descriptor, &reply);
    bus_worker_set_mode(worker, WORKER_REFUSE);
    assert_int_equal(bus_call(world.client, MSG_ME, &request, NULL, &me, &error), ERR_FORBIDDEN);
    assert_string_equal(error.message, "not for you");
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(bus_call(world.client, MSG_ME, &request, NULL, &me, NULL), ERR_FORBIDDEN);
    assert_int_equal(bus_call(world.client, MSG_ME, &(struct me){ 0 }, NULL, &me, &error), ERR_VALIDATION);
    bus_worker_free(worker);
}

static void test_large_bodies(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    size_t size = BUS_BODY_MAX, reply_size;
    unsigned char *body = xcalloc(1, size + 1), *reply;
    (void)state;
    body[0] = 1;
    body[size - 1] = 2;
    assert_int_equal(bus_call_raw(world.client, &echo, body, size, NULL, &reply, &reply_size, NULL), 0);
    assert_int_equal(reply_size, size);
    assert_memory_equal(reply, body, size);
    free(reply);
    assert_int_equal(
        bus_call_raw(world.client, &echo, body, size + 1, NULL, &reply, &reply_size, NULL), ERR_VALIDATION);
    free(body);
    bus_worker_free(worker);
}

static void test_odd_request_ids_spoil_nothing(void **state) {
    static const char *const ids[] = { NULL, "", "fine", "\xff\xfe", "tab\there",
        "a very long one, longer than the sixty-four characters that a request id may have" };
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    unsigned char *reply;
    size_t size;
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        struct bus_call call = { .request_id = ids[i] };
        assert_int_equal(bus_call_raw(world.client, &echo, "x", 1, &call, &reply, &size, NULL), 0);
        free(reply);
    }
    bus_worker_free(worker);
}

static void test_deadlines(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    (void)state;
    assert_int_equal(call_echo(&echo, 2500), 0);
    bus_worker_set_mode(worker, WORKER_HOLD);
    for (int64_t budget = 0; budget <= 400; budget += 100) {
        int64_t start_ms = clock_monotonic_ms();
        assert_int_equal(call_echo(&echo, budget), ERR_TIMEOUT);
        int64_t took_ms = clock_monotonic_ms() - start_ms;
        assert_in_range(took_ms, budget, budget + 60);
    }
    bus_worker_set_mode(worker, WORKER_ECHO); /* now the late ones come */
    sleep_ms(100);
    assert_int_equal(call_echo(&echo, 2500), 0);
    assert_int_equal(statistics().timeouts, 5);
    assert_int_equal(statistics().pending, 0);
    bus_worker_free(worker);
}

static void test_a_retry_only_where_allowed(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    (void)state;
    bus_worker_set_mode(worker, WORKER_UNAVAILABLE);
    assert_int_equal(call_echo(&once, 2500), ERR_UNAVAILABLE);
    assert_int_equal(bus_worker_requests(worker), 1);
    assert_int_equal(call_echo(&echo, 2500), ERR_UNAVAILABLE);
    assert_int_equal(bus_worker_requests(worker), 3);
    assert_int_equal(statistics().retries, 1);
    bus_worker_free(worker);
}

static void test_nobody_there(void **state) {
    (void)state;
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(call_echo(&once, 5000), ERR_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - start_ms, 900, 1300); /* held for a second */
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    assert_int_equal(call_echo(&once, 5000), 0);
    bus_worker_free(worker);
}

struct caller {
    pthread_t thread;
    const struct method *method;
    int64_t budget_ms;
    int calls;
    int errors;
    int last_error;
};

static void *call_often(void *argument) {
    struct caller *self = argument;
    for (int i = 0; i < self->calls; i++) {
        int error = call_echo(self->method, self->budget_ms);
        self->errors += error != 0;
        if (error != 0) self->last_error = error;
    }
    return NULL;
}

static void start_callers(struct caller *callers, size_t count, const struct caller *like) {
    for (size_t i = 0; i < count; i++) {
        callers[i] = *like;
        pthread_create(&callers[i].thread, NULL, call_often, &callers[i]);
    }
}

/* Returns the number of errors. */
static int join_callers(struct caller *callers, size_t count) {
    int errors = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        errors += callers[i].errors;
    }
    return errors;
}

static void test_many_threads_share_batches(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 1000, 0);
    struct caller callers[64];
    (void)state;
    start_callers(callers, 64, &(struct caller){ .method = &echo, .budget_ms = 10000, .calls = 200 });
    assert_int_equal(join_callers(callers, 64), 0);
    assert_int_equal(bus_worker_requests(worker), 64 * 200);
    assert_true(bus_worker_batches(worker) < 64 * 200);
    bus_worker_free(worker);
}

/* One caller process with 64 threads, three workers of 4 threads each: all of them have the same to do. */
static void test_one_process_spreads_over_all_workers(void **state) {
    struct bus_worker *workers[3];
    struct caller callers[64];
    (void)state;
    for (int i = 0; i < 3; i++)
        workers[i] = start_worker("echo", i + 1, 8, 10);
    sleep_ms(200);
    start_callers(callers, 64, &(struct caller){ .method = &echo, .budget_ms = 10000, .calls = 30 });
    assert_int_equal(join_callers(callers, 64), 0);
    for (int i = 0; i < 3; i++) {
        assert_in_range(bus_worker_requests(workers[i]), 64 * 30 / 4, 64 * 30 / 2);
        assert_true(bus_worker_most_held(workers[i]) <= 7 + 8); /* credits, and one batch */
        bus_worker_free(workers[i]);
    }
}

static void test_a_worker_dies_under_load(void **state) {
    struct bus_worker *workers[2];
    struct caller callers[16];
    (void)state;
    for (int i = 0; i < 2; i++)
        workers[i] = start_worker("echo", i + 1, 8, 5);
    sleep_ms(200);
    start_callers(callers, 16, &(struct caller){ .method = &echo, .budget_ms = 2500, .calls = 100 });
    sleep_ms(150);
    bus_worker_free(workers[0]);
    assert_int_equal(join_callers(callers, 16), 0);
    assert_true(statistics().retries > 0);
    bus_worker_free(workers[1]);
}

static void test_a_silent_worker_costs_a_deadline(void **state) {
    struct bus_worker *workers[2];
    struct caller callers[8];
    (void)state;
    for (int i = 0; i < 2; i++)
        workers[i] = start_worker("echo", i + 1, 4, 0);
    sleep_ms(200);
    bus_worker_set_mode(workers[0], WORKER_HOLD);
    bus_worker_set_mute(workers[0], true);
    start_callers(callers, 8, &(struct caller){ .method = &echo, .budget_ms = 4000, .calls = 20 });
    assert_int_equal(join_callers(callers, 8), 0); /* after 2.5 s they were given to the other one */
    assert_true(statistics().retries > 0);
    uint64_t before = bus_worker_requests(workers[0]);
    for (int i = 0; i < 20; i++)
        assert_int_equal(call_echo(&echo, 1000), 0);
    assert_int_equal(bus_worker_requests(workers[0]), before);
    bus_worker_free(workers[0]);
    bus_worker_free(workers[1]);
}

static void test_too_many_calls(void **state) {
    struct bus_thread *small;
    struct caller callers[40];
    int overloaded = 0;
    (void)state;
    bus_client_free(world.client);
    bus_thread_stop(world.bus);
    small = bus_thread_start(
        &(struct bus_options){ .url = world.url, .curve_directory = "", .queue_max = 16, .instance = 1 });
    world.bus = small;
    world.client = bus_client_new(world.url, "");
    struct bus_worker *worker = start_worker("echo", 1, 1, 0);
    assert_int_equal(call_echo(&echo, 2500), 0);
    bus_worker_set_mode(worker, WORKER_HOLD);
    start_callers(callers, 40, &(struct caller){ .method = &echo, .budget_ms = 800, .calls = 1 });
    for (size_t i = 0; i < 40; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].errors, 1);
        overloaded += callers[i].last_error == ERR_OVERLOADED;
        if (callers[i].last_error != ERR_OVERLOADED) assert_int_equal(callers[i].last_error, ERR_TIMEOUT);
    }
    assert_in_range(overloaded, 8, 31); /* the queue takes 16, or no more than 9 when the next batch has 8 */
    bus_worker_free(worker);
}

static void *free_soon(void *argument) {
    (void)argument;
    sleep_ms(200);
    bus_client_free(world.client);
    return NULL;
}

static void test_free_ends_calls(void **state) {
    struct bus_worker *worker = start_worker("echo", 1, 8, 0);
    struct caller callers[4];
    pthread_t thread;
    (void)state;
    assert_int_equal(call_echo(&echo, 2500), 0);
    bus_worker_set_mode(worker, WORKER_HOLD);
    start_callers(callers, 4, &(struct caller){ .method = &echo, .budget_ms = 5000, .calls = 1 });
    pthread_create(&thread, NULL, free_soon, NULL);
    assert_int_equal(join_callers(callers, 4), 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(callers[i].last_error, ERR_UNAVAILABLE);
    pthread_join(thread, NULL);
    world.client = NULL;
    bus_worker_free(worker);
}

static void test_bad_addresses_and_keys(void **state) {
    (void)state;
    errno = 0;
    assert_null(bus_client_new("http://example.org", ""));
    assert_int_equal(errno, EINVAL);
    assert_null(bus_client_new(world.url, "/nonexistent"));
    assert_int_equal(errno, ENOENT);
    bus_client_free(NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_messages_and_errors),
        TEST(test_large_bodies),
        TEST(test_odd_request_ids_spoil_nothing),
        TEST(test_deadlines),
        TEST(test_a_retry_only_where_allowed),
        TEST(test_nobody_there),
        TEST(test_many_threads_share_batches),
        TEST(test_one_process_spreads_over_all_workers),
        TEST(test_a_worker_dies_under_load),
        TEST(test_a_silent_worker_costs_a_deadline),
        TEST(test_too_many_calls),
        TEST(test_free_ends_calls),
        TEST(test_bad_addresses_and_keys),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
