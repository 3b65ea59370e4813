/*
 * test_bus_publish.c: publications and subscriptions through a real bus (in a thread) and real sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "services/lib/counters.h"
#include "tests/unit/bus_thread.h"
#include "tests/unit/bus_worker.h"

static char *url;
static struct bus_thread *bus;
static struct bus_client *client;

static int set_up(void **state) {
    (void)state;
    url = bus_url_new();
    bus =
        bus_thread_start(&(struct bus_options){ .url = url, .curve_directory = "", .queue_max = 20000, .instance = 1 });
    client = bus_client_new(url, "");
    return bus == NULL || client == NULL;
}

static int tear_down(void **state) {
    (void)state;
    bus_client_free(client);
    bus_thread_stop(bus);
    bus_url_free(url);
    return 0;
}

struct inbox {
    _Atomic int count;
    _Atomic int out_of_order;
    _Atomic int foreign;
    char prefix[20];
    int64_t last;
};

static void on_message(void *user_data, const char *topic, const void *frame, size_t size) {
    struct inbox *inbox = user_data;
    int64_t number;
    if (strncmp(topic, inbox->prefix, strlen(inbox->prefix)) != 0) inbox->foreign++;
    if (size != sizeof(number)) return; /* the bus's own counters */
    memcpy(&number, frame, sizeof(number));
    if (number != inbox->last + 1) inbox->out_of_order++;
    inbox->last = number;
    inbox->count++;
}

static void await(_Atomic int *count, int wanted) {
    for (int i = 0; i < 500 && *count < wanted; i++)
        sleep_ms(10);
    assert_int_equal(*count, wanted);
}

static void test_publish_and_subscribe(void **state) {
    static struct inbox all, status, counters;
    struct bus_client_statistics statistics;
    struct bus_client *other = bus_client_new(url, "");
    (void)state;
    all = (struct inbox){ .prefix = "event." };
    status = (struct inbox){ .prefix = "event.status" };
    counters = (struct inbox){ .prefix = "counters." };
    assert_int_equal(bus_subscribe(other, "event.", on_message, &all), 0);
    assert_int_equal(bus_subscribe(client, "event.status", on_message, &status), 0);
    assert_int_equal(bus_subscribe(other, "counters.", on_message, &counters), 0);
    sleep_ms(300); /* until the subscriptions have arrived */
    for (int64_t number = 1; number <= 1000; number++) {
        bus_publish(client, "event.status", &number, sizeof(number));
        if (number % 100 == 0) sleep_ms(1);
    }
    await(&all.count, 1000);
    await(&status.count, 1000);
    int64_t number = 1001;
    bus_publish(client, "event.created", &number, sizeof(number));
    await(&all.count, 1001);
    assert_int_equal(status.count, 1000);
    assert_int_equal(counters.count, 0);
    assert_int_equal(all.out_of_order + status.out_of_order + all.foreign + status.foreign + counters.foreign, 0);
    bus_client_statistics(client, &statistics);
    assert_int_equal(statistics.publish_drops, 0);
    bus_client_free(other);
}

static void on_counters(void *user_data, const char *topic, const void *frame, size_t size) {
    counters_view_on_message(user_data, topic, frame, size);
}

static void test_the_bus_publishes_its_counters(void **state) {
    struct counters_view *view = counters_view_new();
    (void)state;
    bus_subscribe(client, "counters.", on_counters, view);
    struct bus_worker *worker =
        bus_worker_new(&(struct bus_worker_options){ .url = url, .lane = "counted", .instance = 1, .credits = 8 });
    static const struct method counted = { .request_id = MSG_PING_AUTH, .lane = "counted" };
    double before = counters_view_sum(view, "bore_bus_requests_total");
    for (int i = 0; i < 10; i++) {
        unsigned char *reply;
        size_t size;
        assert_int_equal(bus_call_raw(client, &counted, "x", 1, NULL, &reply, &size, NULL), 0);
        free(reply);
    }
    for (int i = 0; i < 300 && counters_view_sum(view, "bore_bus_requests_total") < before + 10; i++)
        sleep_ms(10);
    assert_true(counters_view_sum(view, "bore_bus_requests_total") >= before + 10);
    assert_int_equal(counters_view_processes(view, "bus"), 1);
    bus_client_free(client);
    client = NULL;
    counters_view_free(view);
    bus_worker_free(worker);
}

static void test_subscription_limits(void **state) {
    char long_prefix[200];
    (void)state;
    memset(long_prefix, 'x', sizeof(long_prefix) - 1);
    long_prefix[sizeof(long_prefix) - 1] = '\0';
    assert_int_equal(bus_subscribe(client, long_prefix, on_message, NULL), -EINVAL);
    for (int i = 0; i < 8; i++)
        assert_int_equal(bus_subscribe(client, "none.", on_message, NULL), 0);
    assert_int_equal(bus_subscribe(client, "none.", on_message, NULL), -ENOSPC);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_publish_and_subscribe),
        TEST(test_the_bus_publishes_its_counters),
        TEST(test_subscription_limits),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
