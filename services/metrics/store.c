/*
 * store.c: see store.h. What was kept and cannot be read, by a program that is older than its writer, counts as an
 * error: nothing is overwritten.
 */
#include "services/metrics/store.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/log.h"
#include "proto/message_json.h"

static const struct db_statement statement = { "metrics_store", "SELECT outcome, state, events FROM "
                                                                "bore.metrics_store($1, $2)" };

/* 0 or -EIO. */
static int read_state(const char *text, struct metrics_state *ret_state) {
    struct field_errors errors = { .count = 0 };
    json_t *object = json_loads(text, 0, NULL);
    int error = object != NULL ? message_from_json(&metrics_state_descriptor, object, ret_state, &errors) : -EINVAL;
    json_decref(object);
    if (error == 0) return 0;
    log_error(
        "the counters kept in the database cannot be read: %s %s", errors.items[0].field, errors.items[0].message);
    return -EIO;
}

static void add_event(const json_t *entry, struct series_list *events) {
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    const char *status = json_string_value(json_object_get(entry, "status"));
    double count = json_number_value(json_object_get(entry, "count"));
    _cleanup_strbuf_ struct strbuf labels = STRBUF_INIT;
    if (kind == NULL || status == NULL) return;
    metric_label_append(&labels, "kind", kind);
    series_list_add_value(events, "bore_events_total", labels.data, count);
    if (strcmp(kind, "tunnel.connected") == 0)
        series_list_add_value(events, "bore_tunnel_connections_total", "", count);
    if (strcmp(kind, "tunnel.disconnected") == 0)
        series_list_add_value(events, "bore_tunnel_disconnections_total", "", count);
    if (*status == '\0') return;
    strbuf_clear(&labels);
    metric_label_append(&labels, "status", status);
    series_list_add_value(events, "bore_status_changes_total", labels.data, count);
}

static void add_events(const char *text, struct series_list *events) {
    json_t *entries = text != NULL ? json_loads(text, 0, NULL) : NULL;
    for (size_t i = 0; i < json_array_size(entries); i++)
        add_event(json_array_get(entries, i), events);
    json_decref(entries);
}

int store_save(struct db *db, const char *writer, const struct metrics_state *state, struct metrics_state *ret_state,
    struct series_list *events) {
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    if (state != NULL) message_to_json(&metrics_state_descriptor, state, &text);
    db_params_init(&params);
    db_params_add_text(&params, writer);
    db_params_add_text(&params, state != NULL ? text.data : NULL);
    int error = db_run(db, &statement, &params, &result);
    if (error != 0) return error;
    const char *outcome = db_result_text(result, 0, 0);
    if (strcmp(outcome, "waiting") == 0) return STORE_WAITING;
    add_events(db_result_text(result, 0, 2), events);
    if (strcmp(outcome, "stored") == 0) return STORE_STORED;
    error = read_state(db_result_text(result, 0, 1), ret_state);
    return error != 0 ? error : STORE_ADOPTED;
}
