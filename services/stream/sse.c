/*
 * sse.c: writes the blocks of an event stream. See sse.h.
 *
 * A payload that cannot be read (it was written by a newer version) is told with what the row itself says.
 */
#include "services/stream/sse.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "proto/message_json.h"

static void append_member(struct strbuf *out, const char *name, const char *text) {
    strbuf_append_format(out, "\"%s\":", name);
    if (text)
        json_append_string(out, text);
    else
        strbuf_append_text(out, "null");
    strbuf_append_char(out, ',');
}

static void append_tail(struct strbuf *out, const char *epoch, const struct event *event) {
    strbuf_append_format(
        out, "\"eventId\":\"%s-%" PRId64 "\",\"timestamp\":%" PRId64 "}\n\n", epoch, event->id, event->at);
}

/* Reads event->payload as the given message; zeroed when it cannot be read. */
static void read_payload(const struct event *event, const struct message_descriptor *descriptor, void *ret_payload) {
    struct field_errors errors = { 0 };
    json_t *object = json_loads(event->payload, 0, NULL);
    if (!object || message_from_json(descriptor, object, ret_payload, &errors) != 0)
        memset(ret_payload, 0, descriptor->size);
    json_decref(object);
}

static void append_status(struct strbuf *out, const char *epoch, const struct event *event) {
    struct status_event payload;
    read_payload(event, &status_event_descriptor, &payload);
    strbuf_append_text(out, "data: {");
    append_member(out, "instanceId", event->instance_id);
    append_member(out, "status", payload.status);
    append_member(out, "reason", payload.reason);
    append_member(out, "previousStatus", payload.previous_status);
    append_tail(out, epoch, event);
    message_release(&status_event_descriptor, &payload);
}

static void append_instance(struct strbuf *out, const char *epoch, const struct event *event) {
    struct instance_event payload;
    read_payload(event, &instance_event_descriptor, &payload);
    strbuf_append_text(out, "event: instance\ndata: {");
    append_member(out, "type", strchr(event->kind, '.') + 1);
    append_member(out, "instanceId", event->instance_id);
    append_member(out, "name", payload.name);
    append_member(out, "status", payload.status);
    append_tail(out, epoch, event);
    message_release(&instance_event_descriptor, &payload);
}

static void append_alert(struct strbuf *out, const char *epoch, const struct event *event) {
    struct alert_event payload;
    read_payload(event, &alert_event_descriptor, &payload);
    strbuf_append_text(out, "event: alert\ndata: {");
    append_member(out, "instanceId", event->instance_id);
    append_member(out, "alertId", payload.alert_id);
    append_member(out, "alertType", payload.alert_type);
    append_member(out, "message", payload.message);
    append_tail(out, epoch, event);
    message_release(&alert_event_descriptor, &payload);
}

bool sse_is_told(const char *kind) {
    return strcmp(kind, "status") == 0 || strncmp(kind, "instance.", 9) == 0 || strncmp(kind, "alert.", 6) == 0;
}

void sse_append_event(struct strbuf *out, const char *epoch, const struct event *event) {
    if (!sse_is_told(event->kind)) return;
    strbuf_append_format(out, "id: %s-%" PRId64 "\n", epoch, event->id);
    if (event->kind[0] == 's')
        append_status(out, epoch, event);
    else if (event->kind[0] == 'i')
        append_instance(out, epoch, event);
    else
        append_alert(out, epoch, event);
}

void sse_append_connected(struct strbuf *out, const char *epoch, int64_t cursor, int64_t now_ms) {
    strbuf_append_format(out,
        "retry: %d\nid: %s-%" PRId64 "\ndata: {\"type\":\"connected\",\"timestamp\":%" PRId64 "}\n\n", SSE_RETRY_MS,
        epoch, cursor, now_ms);
}

void sse_append_reset(struct strbuf *out, const char *epoch, int64_t cursor, int64_t now_ms) {
    strbuf_append_format(out,
        "id: %s-%" PRId64 "\nevent: reset\ndata: {\"type\":\"reset\",\"cursor\":\"%s-%" PRId64
        "\",\"timestamp\":%" PRId64 "}\n\n",
        epoch, cursor, epoch, cursor, now_ms);
}

void sse_append_keep_alive(struct strbuf *out, const char *epoch, int64_t cursor) {
    if (cursor >= 0)
        strbuf_append_format(out, ": keep-alive\nid: %s-%" PRId64 "\n\n", epoch, cursor);
    else
        strbuf_append_text(out, ": keep-alive\n\n");
}
