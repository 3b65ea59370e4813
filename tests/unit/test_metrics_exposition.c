/*
 * test_metrics_exposition.c: Prometheus text: form, order, escaping, bounds; and the table that it is made from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/metrics/exposition.h"

static char *borrowed(const char *text) {
    return (char *)(uintptr_t)text;
}

static void tell(struct series_list *list, const char *name, const char *labels, double value, const char *buckets) {
    const struct metric *metric = metric_find(name);
    assert_non_null(metric);
    const struct counter_value told = { borrowed(name), borrowed(labels), metric->type, value, borrowed(buckets) };
    assert_true(series_list_add_told(list, &told, "gate\"way", 2));
}

/* The lines of one family. Heap. */
static char *family(const char *text, const char *name) {
    _cleanup_free_ char *head = xasprintf("# HELP %s ", name);
    const char *begin = strstr(text, head);
    assert_non_null(begin);
    const char *end = strstr(begin + 1, "# HELP ");
    return xasprintf("%.*s", (int)(end != NULL ? (size_t)(end - begin) : strlen(begin)), begin);
}

static char *write_all(struct series_list *list) {
    struct strbuf text = STRBUF_INIT;
    series_list_sum(list);
    assert_true(exposition_write(list, 1000000, &text));
    return strbuf_detach(&text);
}

static void test_form(void **state) {
    struct series_list list = { .count = 0 };
    (void)state;
    tell(&list, "bore_status_changes_total", "status=\"online\"", 1e15, NULL);
    tell(&list, "bore_status_changes_total", "status=\"error\"", 0.1, NULL);
    tell(&list, "bore_heartbeat_response_time_seconds", "", 1.0 / 3, "0.0005:1,0.25:2,+Inf:3");
    tell(&list, "bore_process_resident_memory_bytes", "", 4096, NULL);
    tell(&list, "bore_bus_client_calls_total", "", 7, NULL);
    _cleanup_free_ char *text = write_all(&list);
    _cleanup_free_ char *changes = family(text, "bore_status_changes_total");
    assert_string_equal(changes,
        "# HELP bore_status_changes_total Changes of an instance's status, by the new one; each is counted once.\n"
        "# TYPE bore_status_changes_total counter\n"
        "bore_status_changes_total{status=\"error\"} 0.1\n"
        "bore_status_changes_total{status=\"online\"} 1e+15\n");
    _cleanup_free_ char *histogram = family(text, "bore_heartbeat_response_time_seconds");
    assert_non_null(strstr(histogram, "# TYPE bore_heartbeat_response_time_seconds histogram\n"
                                      "bore_heartbeat_response_time_seconds_bucket{le=\"0.0005\"} 1\n"
                                      "bore_heartbeat_response_time_seconds_bucket{le=\"0.25\"} 2\n"
                                      "bore_heartbeat_response_time_seconds_bucket{le=\"+Inf\"} 3\n"
                                      "bore_heartbeat_response_time_seconds_sum 0.3333333333333333\n"
                                      "bore_heartbeat_response_time_seconds_count 3\n"));
    assert_non_null(strstr(text, "\nbore_process_resident_memory_bytes{process=\"gate\\\"way\",replica=\"2\"} 4096\n"));
    assert_non_null(strstr(text, "\nbore_bus_client_calls_total{process=\"gate\\\"way\"} 7\n"));
    series_list_release(&list);
}

static void test_nothing_yet(void **state) {
    struct series_list list = { .count = 0 };
    (void)state;
    _cleanup_free_ char *text = write_all(&list);
    assert_non_null(strstr(text, "\nbore_tunnel_connections_total 0\n"));
    assert_non_null(strstr(text, "\nbore_status_lag_seconds_bucket{le=\"+Inf\"} 0\nbore_status_lag_seconds_sum 0\n"));
    assert_null(strstr(text, "bore_instances_by_status")); /* nobody holds it */
    assert_null(strstr(text, "bore_api_requests_total"));
}

/* Whatever the order in which it was told. */
static void test_order(void **state) {
    struct series_list forth = { .count = 0 }, back = { .count = 0 };
    (void)state;
    char labels[64];
    for (int i = 0; i < 200; i++) {
        snprintf(labels, sizeof(labels), "method=\"GET\",route=\"/%03d\",status=\"200\"", i);
        tell(&forth, "bore_api_requests_total", labels, i, NULL);
        tell(&forth, "bore_heartbeats_total", "", 1, NULL);
        snprintf(labels, sizeof(labels), "method=\"GET\",route=\"/%03d\",status=\"200\"", 199 - i);
        tell(&back, "bore_heartbeats_total", "", 1, NULL);
        tell(&back, "bore_api_requests_total", labels, 199 - i, NULL);
    }
    _cleanup_free_ char *one = write_all(&forth);
    _cleanup_free_ char *other = write_all(&back);
    assert_string_equal(one, other);
    assert_non_null(strstr(one, "\nbore_heartbeats_total 200\n"));
    series_list_release(&forth);
    series_list_release(&back);
}

static void test_escaping(void **state) {
    _cleanup_strbuf_ struct strbuf labels = STRBUF_INIT;
    (void)state;
    metric_label_append(&labels, "a", "back\\slash \"quoted\"\nnext");
    metric_label_append(&labels, "b", "");
    assert_string_equal(labels.data, "a=\"back\\\\slash \\\"quoted\\\"\\nnext\",b=\"\"");
    assert_true(metric_labels_valid(labels.data));
}

static void test_bound(void **state) {
    struct series_list list = { .count = 0 };
    struct strbuf text = STRBUF_INIT;
    (void)state;
    tell(&list, "bore_bus_client_calls_total", "", 7, NULL);
    series_list_sum(&list);
    assert_false(exposition_write(&list, 1000, &text));
    assert_true(text.size <= 1000 && text.size > 0);
    assert_int_equal(text.data[text.size - 1], '\n');
    strbuf_release(&text);
    series_list_release(&list);
}

static void test_table(void **state) {
    (void)state;
    for (const struct metric *metric = metric_table; metric->name != NULL; metric++) {
        if (metric > metric_table) assert_true(strcmp(metric[-1].name, metric->name) < 0);
        assert_ptr_equal(metric_find(metric->name), metric);
        size_t size = strlen(metric->name);
        bool is_total = size > 6 && strcmp(metric->name + size - 6, "_total") == 0;
        assert_int_equal(is_total, metric->type == COUNTER);
        assert_true(*metric->help != '\0');
    }
    assert_null(metric_find("bore_no_such_total"));
    assert_null(metric_find(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_nothing_yet),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
