/*
 * service_query.c: a method that one SQL statement answers (struct service_query).
 *
 * The result's columns fill the reply, its `into` object, or one element of its `list` a row. Events that the statement
 * appended are published once it has committed, before the reply leaves.
 */
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/event_log.h"
#include "services/lib/service_internal.h"

void publish_events(struct service_context *context, const struct db_result *result) {
    int column = db_result_column(result, "events");
    if (column < 0 || !context->bus) return;
    for (size_t row = 0; row < db_result_rows(result); row++) {
        const char *events = db_result_text(result, row, (size_t)column);
        if (events) event_log_publish(context->bus, events);
    }
}

/* Top-level columns from the first row, one element from each row. A row whose element columns are all NULL adds none:
 * so an outer join can answer top-level columns beside an empty list. */
static int fill_list(const struct route *route, const struct db_result *result, void *ret_reply) {
    const struct message_descriptor *reply = route->method->reply;
    struct row_mapping top, element;
    row_mapping_init(&top, result, reply, NULL);
    row_mapping_init(&element, result, route->list->record, reply);
    int error = db_result_rows(result) > 0 ? row_mapping_apply(&top, 0, ret_reply) : 0;
    for (size_t row = 0; !error && row < db_result_rows(result); row++) {
        if (row_mapping_is_null(&element, row)) continue;
        void *record = message_list_add(route->list, ret_reply);
        error = record ? row_mapping_apply(&element, row, record) : -EBADMSG;
    }
    return error;
}

static int fill_object(const struct route *route, const struct db_result *result, void *ret_reply) {
    const struct message_descriptor *reply = route->method->reply;
    struct row_mapping top, inner;
    row_mapping_init(&top, result, reply, NULL);
    row_mapping_init(&inner, result, route->into->record, reply);
    int error = row_mapping_apply(&top, 0, ret_reply);
    if (error || row_mapping_is_null(&inner, 0)) return error;
    void **place = (void **)(void *)((char *)ret_reply + route->into->offset);
    *place = xcalloc(1, route->into->record->size);
    return row_mapping_apply(&inner, 0, *place);
}

static int fill_reply(const struct route *route, const struct db_result *result, void *ret_reply) {
    if (route->list) return fill_list(route, result, ret_reply);
    if (db_result_rows(result) == 0) return 0;
    if (route->into) return fill_object(route, result, ret_reply);
    return query_row_to_message(result, 0, route->method->reply, ret_reply);
}

int worker_run_query(struct worker *self, const struct route *route, const void *request, void *ret_reply) {
    _cleanup_db_result_ struct db_result *result = NULL;
    int error = query_run(route->query, self->context.db, request, &result);
    if (error) return service_fail_database(&self->context, error);
    publish_events(&self->context, result);
    if (db_result_rows(result) == 0 && route->spec->none) return route->spec->none;
    if (fill_reply(route, result, ret_reply) == 0) return 0;
    log_error("%s: a column of its result does not fit the reply", route->name);
    return ERR_INTERNAL;
}
