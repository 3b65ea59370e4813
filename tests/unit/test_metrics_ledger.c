/*
 * test_metrics_ledger.c: sums over processes, restarts, folding once, keeping and going on.
 *
 * Time is an argument, so minutes pass at once.
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
#include "services/metrics/ledger.h"

static struct ledger *ledger;
static int64_t now_ms;

static int setup(void **state) {
    (void)state;
    ledger = ledger_new();
    now_ms = 1000000;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    ledger_free(ledger);
    return 0;
}

static char *borrowed(const char *text) {
    return (char *)(uintptr_t)text;
}

struct told {
    const char *identity;
    int64_t started;
    double heartbeats; /* COUNTER, TOTAL */
    double calls;      /* COUNTER, SERVICE */
    const char *buckets;
    bool ended;
};

static struct told tell_of(
    const char *identity, int64_t started, double heartbeats, double calls, const char *buckets) {
    return (struct told){ identity, started, heartbeats, calls, buckets, false };
}

static struct told ended(struct told told) {
    told.ended = true;
    return told;
}

/* identity "gateway-1-a": process and replica are read from it. */
static void hear(struct told told) {
    char name[40];
    int replica;
    assert_int_equal(sscanf(told.identity, "%39[a-z]-%d", name, &replica), 2);
    struct counter_value values[] = {
        { borrowed("bore_heartbeats_total"), borrowed(""), COUNTER, told.heartbeats, NULL },
        { borrowed("bore_bus_client_calls_total"), borrowed(""), COUNTER, told.calls, NULL },
        { borrowed("bore_active_sse_connections"), borrowed(""), GAUGE, 3, NULL },
        { borrowed("bore_process_cpu_seconds_total"), borrowed(""), COUNTER, 0.25, NULL },
        { borrowed("bore_active_tunnels"), borrowed(""), GAUGE, told.heartbeats, NULL },
        { borrowed("bore_status_lag_seconds"), borrowed(""), HISTOGRAM, 1.5, borrowed(told.buckets) },
    };
    struct counters counters = { .process = name,
        .instance = replica,
        .identity = borrowed(told.identity),
        .started = told.started,
        .values = values,
        .values_count = ARRAY_SIZE(values) - (told.buckets == NULL),
        .has_ended = told.ended,
        .ended = told.ended };
    ledger_hear(ledger, &counters, now_ms);
}

/* Seconds in which only this process is heard; then who is to be folded is. */
static void let_pass(int seconds, struct told told) {
    for (int i = 0; i < seconds; i++) {
        now_ms += 1000;
        hear(told);
    }
    ledger_settle(ledger);
}

static const double absent = -1;

static double sum_of(const char *name, const char *labels) {
    struct series_list sums;
    double found = absent;
    ledger_sum(ledger, &sums);
    for (size_t i = 0; i < sums.count; i++) {
        bool is_it = strcmp(sums.items[i].metric->name, name) == 0 && strcmp(sums.items[i].labels, labels) == 0;
        if (is_it) assert_true(found == absent); /* never twice */
        if (is_it) found = sums.items[i].value;
    }
    series_list_release(&sums);
    return found;
}

static double heartbeats_sum(void) {
    return sum_of("bore_heartbeats_total", "");
}

#define assert_number(number, expected) assert_string_equal(text_of(number), text_of(expected))
static const char *text_of(double number) {
    static char texts[2][32];
    static int turn;
    char *text = texts[turn++ % 2];
    snprintf(text, sizeof(texts[0]), "%.9g", number);
    return text;
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

static void test_scopes(void **state) {
    (void)state;
    hear(tell_of("monitor-1-a", 1, 10, 1, NULL));
    hear(tell_of("monitor-2-b", 2, 20, 2, NULL));
    hear(tell_of("stream-1-c", 3, 5, 4, NULL));
    hear(tell_of("stream-1-c", 3, 7, 8, NULL)); /* its latest */
    assert_number(heartbeats_sum(), 37);
    assert_number(sum_of("bore_bus_client_calls_total", "process=\"monitor\""), 3);
    assert_number(sum_of("bore_bus_client_calls_total", "process=\"stream\""), 8);
    assert_number(sum_of("bore_active_sse_connections", ""), 9);
    assert_number(sum_of("bore_active_tunnels", ""), 20); /* the largest: one holder */
    assert_number(sum_of("bore_process_cpu_seconds_total", "process=\"monitor\",replica=\"2\""), 0.25);
    assert_number(sum_of("bore_process_up", "process=\"stream\",replica=\"1\""), 1);
    assert_number(sum_of("bore_process_restarts_total", "process=\"stream\""), 0);
    assert_number(sum_of("bore_metrics_processes", ""), 3);
}

static void test_histograms(void **state) {
    struct series_list sums;
    (void)state;
    hear(tell_of("stream-1-a", 1, 0, 0, "0.001:1,0.01:3,1:3,+Inf:4"));
    hear(tell_of("stream-2-b", 1, 0, 0, "0.001:0,0.01:2,1:5,+Inf:5"));
    hear(tell_of("stream-3-c", 1, 0, 0, "0.005:7,0.1:8,+Inf:9")); /* another release's bounds */
    ledger_sum(ledger, &sums);
    for (size_t i = 0; i < sums.count; i++) {
        const struct series *series = &sums.items[i];
        if (strcmp(series->metric->name, "bore_status_lag_seconds") != 0) continue;
        assert_int_equal(series->bucket_count, 4);
        assert_number(series->buckets[0].count, 1);
        assert_number(series->buckets[1].count, 3 + 2 + 7);
        assert_number(series->buckets[2].count, 3 + 5 + 8);
        assert_number(series->buckets[3].count, 4 + 5 + 9);
        assert_number(series->value, 4.5);
    }
    series_list_release(&sums);
}

static void test_refused(void **state) {
    (void)state;
    static const struct counter_value bad[] = {
        { "bore_no_such_total", "", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "", GAUGE, 1, NULL },
        { "bore_heartbeats_total", "a=\"b\"x", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "a=b", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "a=\"\n\"", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "a=\"b\",", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "1a=\"b\"", COUNTER, 1, NULL },
        { "bore_heartbeats_total", "a=\"\\x\"", COUNTER, 1, NULL },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, NULL },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "1:2,+Inf:1" },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "2:1,1:1,+Inf:1" },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "1:1" },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "nan:1,+Inf:1" },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "x" },
        { "bore_status_lag_seconds", "", HISTOGRAM, 1, "" },
    };
    struct counters counters = { .process = borrowed("stream"),
        .instance = 1,
        .identity = borrowed("stream-1-a"),
        .values = (struct counter_value *)(uintptr_t)bad,
        .values_count = ARRAY_SIZE(bad) };
    ledger_hear(ledger, &counters, now_ms);
    assert_number(heartbeats_sum(), absent);
    assert_number(sum_of("bore_status_lag_seconds", ""), absent);
    const size_t count = ARRAY_SIZE(bad);
    assert_number(sum_of("bore_metrics_refused_values_total", ""), (double)count);
    assert_true(metric_labels_valid("a=\"b\",c_1=\"\\\\ \\\" \\n {}\""));
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void test_a_restart_is_folded_once(void **state) {
    (void)state;
    struct told second = tell_of("monitor-1-b", 2, 4, 4, NULL);
    hear(tell_of("monitor-1-a", 1, 10, 10, NULL));
    let_pass(1, second);
    assert_number(heartbeats_sum(), 14);
    assert_number(sum_of("bore_process_restarts_total", "process=\"monitor\""), 1);
    assert_number(sum_of("bore_active_sse_connections", ""), 6); /* for a moment both are heard */
    assert_number(sum_of("bore_process_cpu_seconds_total", "process=\"monitor\",replica=\"1\""), 0.25); /* the newer */
    let_pass(6, second);
    assert_number(sum_of("bore_active_sse_connections", ""), 3);
    assert_number(sum_of("bore_metrics_processes", ""), 2);
    let_pass(60, second);
    assert_number(sum_of("bore_metrics_processes", ""), 1);
    assert_number(heartbeats_sum(), 14);
    assert_number(sum_of("bore_bus_client_calls_total", "process=\"monitor\""), 14);
    hear(tell_of("monitor-1-a", 1, 11, 11, NULL)); /* it was frozen, and is not heard any more */
    assert_number(heartbeats_sum(), 14);
    assert_number(sum_of("bore_process_restarts_total", "process=\"monitor\""), 1);
    let_pass(100, second);
    assert_number(heartbeats_sum(), 14);
}

static void test_silence(void **state) {
    (void)state;
    struct told other = tell_of("bus-1-x", 1, 0, 0, NULL);
    hear(tell_of("monitor-1-a", 1, 10, 10, NULL));
    let_pass(5, other);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), 1);
    let_pass(1, other);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), 0);
    assert_number(sum_of("bore_process_cpu_seconds_total", "process=\"monitor\",replica=\"1\""), absent);
    let_pass(4000, other);
    assert_number(heartbeats_sum(), 10);
    hear(tell_of("monitor-1-a", 1, 12, 12, NULL)); /* nobody took its place: it is welcome */
    assert_number(heartbeats_sum(), 12);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), 1);
    let_pass(24 * 3600 + 2, other);
    assert_number(sum_of("bore_metrics_processes", ""), 1);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), absent);
    assert_number(heartbeats_sum(), 12);
}

/* Nobody is heard while the bus is down: nobody has become silent. */
static void test_deafness(void **state) {
    (void)state;
    hear(tell_of("monitor-1-a", 1, 10, 10, NULL));
    hear(tell_of("bus-1-x", 1, 0, 0, NULL));
    now_ms += 3600 * 1000;
    hear(tell_of("bus-1-y", 2, 0, 0, NULL));
    ledger_settle(ledger);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), 1);
    assert_number(sum_of("bore_metrics_processes", ""), 3);
}

static void test_an_orderly_end(void **state) {
    (void)state;
    struct told first = tell_of("gateway-1-a", 1, 1, 1, NULL);
    hear(first);
    hear(ended(tell_of("gateway-2-b", 1, 2, 2, NULL)));
    assert_number(sum_of("bore_process_up", "process=\"gateway\",replica=\"2\""), absent);
    assert_number(sum_of("bore_active_sse_connections", ""), 3);
    assert_number(heartbeats_sum(), 3);
    first.ended = true;
    hear(first);
    assert_number(sum_of("bore_process_up", "process=\"gateway\",replica=\"1\"") +
                      sum_of("bore_process_up", "process=\"gateway\",replica=\"2\""),
        absent); /* one of them is 0, the other absent: a service that is gone shows */
    assert_number(heartbeats_sum(), 3);
}

static void test_bounds(void **state) {
    (void)state;
    char identity[40];
    for (int i = 0; i < 3 * LEDGER_PROCESSES_MAX; i++) {
        now_ms += 10;
        snprintf(identity, sizeof(identity), "monitor-%d-a", i);
        hear(tell_of(identity, 1, 1, 1, NULL));
    }
    assert_number(heartbeats_sum(), 3 * LEDGER_PROCESSES_MAX);
    assert_number(sum_of("bore_metrics_processes", ""), LEDGER_PROCESSES_MAX);
}

/* --- keeping ------------------------------------------------------------------------------------------------------ */

/* As after a kill -9 of metrics: a new ledger that first hears this, then goes on from what the old one kept. */
static void restart(const struct told *heard, size_t count) {
    struct metrics_state kept, read;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    ledger_keep(ledger, &kept);
    assert_int_equal(message_encode_frame(&metrics_state_descriptor, &kept, &frame), 0);
    message_release(&metrics_state_descriptor, &kept);
    ledger_free(ledger);
    ledger = ledger_new();
    for (size_t i = 0; i < count; i++)
        hear(heard[i]);
    assert_int_equal(message_decode_frame(&metrics_state_descriptor, frame.data, frame.size, &read), 0);
    ledger_adopt(ledger, &read);
    message_release(&metrics_state_descriptor, &read);
}

static void test_going_on(void **state) {
    (void)state;
    const struct told after[] = { tell_of("monitor-1-b", 2, 6, 6, NULL), tell_of("stream-1-d", 9, 1, 1, NULL) };
    hear(tell_of("monitor-1-a", 1, 10, 10, "1:1,+Inf:2"));
    hear(tell_of("monitor-1-b", 2, 4, 4, NULL));
    hear(tell_of("stream-1-c", 1, 100, 100, NULL));
    let_pass(70, tell_of("monitor-1-b", 2, 4, 4, NULL)); /* a is in the totals */
    assert_number(heartbeats_sum(), 114);
    restart(after, ARRAY_SIZE(after));
    assert_number(heartbeats_sum(), 10 + 6 + 100 + 1);
    assert_number(sum_of("bore_process_restarts_total", "process=\"monitor\""), 1);
    assert_number(sum_of("bore_process_restarts_total", "process=\"stream\""), 1); /* while nobody looked */
    assert_number(sum_of("bore_status_lag_seconds", ""), 1.5);
    hear(tell_of("monitor-1-a", 1, 11, 11, NULL)); /* remembered as folded */
    assert_number(heartbeats_sum(), 117);
    restart(NULL, 0);
    assert_number(heartbeats_sum(), 117);
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), absent); /* not known yet */
    assert_number(sum_of("bore_active_sse_connections", ""), absent);
    let_pass(7, tell_of("bus-1-x", 1, 0, 0, NULL));
    assert_number(sum_of("bore_process_up", "process=\"monitor\",replica=\"1\""), 0);
    for (int i = 0; i < 5; i++)
        restart(after, ARRAY_SIZE(after));
    assert_number(heartbeats_sum(), 117);
    assert_number(sum_of("bore_process_restarts_total", "process=\"stream\""), 1);
}

/* Every order of losing publications, restarting processes and restarting metrics: never backwards, never twice. */
static void test_any_order(void **state) {
    (void)state;
    double told_sum[3] = { 0 }, ended_sum = 0, shown = 0;
    int generation[3] = { 0 };
    srand(7);
    for (int step = 0; step < 20000; step++) {
        int i = rand() % 3;
        now_ms += rand() % 1500;
        int what = rand() % 20;
        if (what == 0) {
            ended_sum += told_sum[i];
            told_sum[i] = 0;
            generation[i]++;
        } else if (what == 1) {
            restart(NULL, 0);
        } else if (what == 2) {
            ledger_settle(ledger);
        } else {
            char identity[40];
            snprintf(identity, sizeof(identity), "%s-%d-%d", i == 2 ? "bus" : "monitor", i + 1, generation[i]);
            told_sum[i] += rand() % 5;
            hear(tell_of(identity, generation[i], told_sum[i], 0, NULL));
        }
        double sum = heartbeats_sum();
        if (sum == absent) sum = 0; /* nothing but zeroes was ever told */
        assert_true(sum >= shown);
        assert_number(sum, ended_sum + told_sum[0] + told_sum[1] + told_sum[2]);
        shown = sum;
    }
    assert_true(shown > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scopes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_histograms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_restart_is_folded_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deafness, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_orderly_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_going_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
