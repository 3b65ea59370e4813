/*
 * test_counters.c: counting from many threads, the snapshot, and the view of other processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/counters.h"

enum { THREADS = 4, ROUNDS = 20000, EACH_SIDE = THREADS * ROUNDS / 2 };

static const struct counter_value *find(const struct counters *counters, const char *name, const char *labels) {
    for (size_t i = 0; i < counters->values_count; i++) {
        const struct counter_value *value = &counters->values[i];
        if (strcmp(value->name, name) == 0 && strcmp(value->labels, labels) == 0) return value;
    }
    return NULL;
}

static double value_of(const char *name, const char *labels) {
    struct counters counters;
    counters_snapshot("test", 1, &counters);
    const struct counter_value *found = find(&counters, name, labels);
    assert_non_null(found);
    double value = found->value;
    message_release(&counters_descriptor, &counters);
    return value;
}

static void *count_much(void *argument) {
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        counter_add(counter_get(COUNTER, "test_threads_total", i % 2 ? "side=\"left\"" : "side=\"right\""), 1);
        histogram_observe(counter_get(HISTOGRAM, "test_threads_seconds", ""), 0.003);
    }
    return NULL;
}

static void test_many_threads(void **state) {
    pthread_t threads[THREADS];
    (void)state;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_much, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(value_of("test_threads_total", "side=\"left\"") == EACH_SIDE);
    assert_true(value_of("test_threads_total", "side=\"right\"") == EACH_SIDE);
    double seconds = value_of("test_threads_seconds", "");
    assert_true(seconds > 0.0029 * THREADS * ROUNDS && seconds < 0.0031 * THREADS * ROUNDS);
}

static void test_the_same_counter(void **state) {
    (void)state;
    struct counter *counter = counter_get(COUNTER, "test_same_total", NULL);
    assert_ptr_equal(counter, counter_get(COUNTER, "test_same_total", ""));
    assert_ptr_not_equal(counter, counter_get(COUNTER, "test_same_total", "a=\"b\""));
    struct counter *gauge = counter_get(GAUGE, "test_gauge", "");
    gauge_set(gauge, 2.5);
    assert_true(value_of("test_gauge", "") == 2.5);
    gauge_set(gauge, -1);
    assert_true(value_of("test_gauge", "") == -1);
}

static void test_a_withdrawn_gauge(void **state) {
    struct counters counters;
    (void)state;
    struct counter *gauge = counter_get(GAUGE, "test_withdrawn", "");
    gauge_clear(gauge);
    counters_snapshot("test", 1, &counters);
    assert_null(find(&counters, "test_withdrawn", ""));
    assert_non_null(find(&counters, "bore_process_cpu_seconds_total", ""));
    message_release(&counters_descriptor, &counters);
    gauge_set(gauge, 0);
    assert_true(value_of("test_withdrawn", "") == 0);
}

static void test_buckets(void **state) {
    struct counters counters;
    (void)state;
    struct counter *histogram = counter_get(HISTOGRAM, "test_seconds", "");
    histogram_observe(histogram, 0.0005);
    histogram_observe(histogram, 0.0006);
    histogram_observe(histogram, 0.2);
    histogram_observe(histogram, 100);
    histogram_observe(histogram, -1);
    histogram_observe(histogram, 0.0 / 0.0);
    counters_snapshot("test", 1, &counters);
    const struct counter_value *value = find(&counters, "test_seconds", "");
    assert_string_equal(value->buckets,
        "0.0005:3,0.001:4,0.0025:4,0.005:4,0.01:4,0.025:4,0.05:4,0.1:4,0.25:5,0.5:5,1:5,2.5:5,"
        "5:5,10:5,+Inf:6");
    assert_true(value->value > 100.2 && value->value < 100.3);
    message_release(&counters_descriptor, &counters);
}

static void test_the_snapshot_is_a_message(void **state) {
    struct counters counters, again;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    (void)state;
    counters_snapshot("test", 3, &counters);
    assert_string_equal(counters.process, "test");
    assert_int_equal(counters.instance, 3);
    assert_true(counters.started > clock_wall_ms() - 600000 && counters.started <= clock_wall_ms());
    assert_true(find(&counters, "bore_process_resident_memory_bytes", "")->value > 100000);
    assert_true(find(&counters, "bore_process_cpu_seconds_total", "")->value > 0);
    assert_int_equal(message_encode_frame(&counters_descriptor, &counters, &frame), 0);
    assert_int_equal(message_decode_frame(&counters_descriptor, frame.data, frame.size, &again), 0);
    assert_true(message_equal(&counters_descriptor, &counters, &again));
    message_release(&counters_descriptor, &again);
    message_release(&counters_descriptor, &counters);
}

/* Runs last: it fills the table, with the largest there can be: histograms of long names and labels. */
static void test_too_many(void **state) {
    struct counters counters;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    char name[101], labels[301], long_labels[400];
    (void)state;
    for (int i = 0; i < 2 * COUNTERS_MAX; i++) {
        snprintf(name, sizeof(name), "test_flood_%089d", i);
        snprintf(labels, sizeof(labels), "a=\"%0296d\"", i);
        histogram_observe(counter_get(HISTOGRAM, name, labels), 0.00001);
    }
    memset(long_labels, 'x', sizeof(long_labels) - 1);
    long_labels[sizeof(long_labels) - 1] = '\0';
    counter_add(counter_get(GAUGE, "test_long_labels", long_labels), 1);
    counters_snapshot("test", 1, &counters);
    assert_int_equal(counters.values_count, COUNTERS_MAX);
    assert_true(find(&counters, "bore_counters_overflow_total", "")->value > COUNTERS_MAX);
    assert_int_equal(message_encode_frame(&counters_descriptor, &counters, &frame), 0);
    assert_in_range(frame.size, 1000000, BUS_BODY_MAX / 4);
    message_release(&counters_descriptor, &counters);
}

/* --- the view -------------------------------------------------------------------------------------------------------
 */

static void publish(struct counters_view *view, const char *process, const char *identity, double value) {
    struct counter_value values[] = {
        { .name = (char *)(uintptr_t) "x_total", .labels = (char *)(uintptr_t) "a=\"1\"", .value = value },
        { .name = (char *)(uintptr_t) "w_total", .labels = (char *)(uintptr_t) "", .value = 1 },
        { .name = (char *)(uintptr_t) "x_total", .labels = (char *)(uintptr_t) "a=\"2\"", .value = value },
    };
    struct counters counters = { .process = (char *)(uintptr_t)process,
        .instance = 1,
        .identity = (char *)(uintptr_t)identity,
        .values = values,
        .values_count = ARRAY_SIZE(values) };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    assert_int_equal(message_encode_frame(&counters_descriptor, &counters, &frame), 0);
    counters_view_on_message(view, "counters.test", frame.data, frame.size);
}

static void test_sums_and_processes(void **state) {
    struct counters_view *view = counters_view_new();
    (void)state;
    assert_true(counters_view_sum(view, "x_total") == 0);
    publish(view, "stream", "stream-1-a", 10);
    publish(view, "stream", "stream-2-b", 20);
    publish(view, "gateway", "gateway-1-c", 100);
    publish(view, "gateway", "gateway-1-c", 101);
    counters_view_on_message(view, "counters.test", "nonsense", 8);
    assert_true(counters_view_sum(view, "x_total") == 2 * (10 + 20 + 101));
    assert_true(counters_view_sum(view, "w_total") == 3);
    assert_true(counters_view_sum(view, "none") == 0);
    assert_int_equal(counters_view_processes(view, "stream"), 2);
    assert_int_equal(counters_view_processes(view, "gateway"), 1);
    assert_int_equal(counters_view_processes(view, "auth"), 0);
    assert_true(counters_view_rate(view, "x_total") == 0); /* too early to say */
    for (int i = 0; i < 1000; i++) {                       /* bounded */
        char identity[30];
        snprintf(identity, sizeof(identity), "many-%d", i);
        publish(view, "many", identity, 1);
    }
    assert_int_equal(counters_view_processes(view, "many"), 256 - 3);
    counters_view_free(view);
}

static void test_rate_and_silence(void **state) {
    struct counters_view *view = counters_view_new();
    (void)state;
    for (int i = 0; i < 6; i++) {
        publish(view, "stream", "stream-1-a", 100.0 * i);
        if (i == 3) publish(view, "stream", "stream-2-b", 5); /* a life too short for a rate */
        usleep(500000);
    }
    double rate = counters_view_rate(view, "x_total");
    assert_true(rate > 350 && rate < 450); /* 2 * 100 every half second */
    usleep(3700000);
    assert_int_equal(counters_view_processes(view, "stream"), 1); /* b is silent for more than 5 s */
    usleep(1500000);
    assert_int_equal(counters_view_processes(view, "stream"), 0);
    assert_true(counters_view_rate(view, "x_total") == 0);
    counters_view_free(view);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_the_same_counter),
        cmocka_unit_test(test_a_withdrawn_gauge),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_the_snapshot_is_a_message),
        cmocka_unit_test(test_sums_and_processes),
        cmocka_unit_test(test_rate_and_silence),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
