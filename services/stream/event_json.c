/*
 * event_json.c: see event_json.h.
 *
 * A payload that cannot be read (it was written by a newer version) is told with what the row itself says.
 */
#include "services/stream/event_json.h"

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
    strbuf_append_format(out, "\"eventId\":\"%s-%" PRId64 "\",\"timestamp\":%" PRId64 "}", epoch, event->id, event->at);
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
    strbuf_append_char(out, '{');
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
    strbuf_append_char(out, '{');
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
    strbuf_append_char(out, '{');
    append_member(out, "instanceId", event->instance_id);
    append_member(out, "alertId", payload.alert_id);
    append_member(out, "alertType", payload.alert_type);
    append_member(out, "message", payload.message);
    append_tail(out, epoch, event);
    message_release(&alert_event_descriptor, &payload);
}

enum told event_told_as(const char *kind) {
    if (strcmp(kind, "status") == 0) return TOLD_STATUS;
    if (strncmp(kind, "instance.", 9) == 0) return TOLD_INSTANCE;
    if (strncmp(kind, "alert.", 6) == 0) return TOLD_ALERT;
    return TOLD_NOT;
}

void event_append_json(struct strbuf *out, const char *epoch, const struct event *event) {
    switch (event_told_as(event->kind)) {
    case TOLD_STATUS:
        append_status(out, epoch, event);
        break;
    case TOLD_INSTANCE:
        append_instance(out, epoch, event);
        break;
    case TOLD_ALERT:
        append_alert(out, epoch, event);
        break;
    case TOLD_NOT:
        break;
    }
}
