/* socketio_text.c: see socketio_text.h. */
#include "services/stream/socketio_text.h"

#include <inttypes.h>

#include "proto/message_json.h"
#include "services/stream/event_json.h"

void socketio_append_cursor(struct strbuf *out, const char *epoch, int64_t id, bool is_marked) {
    strbuf_append_format(out, "%s-%" PRId64 "%s", epoch, id, is_marked ? "!" : "");
}

void socketio_begin_event(struct strbuf *out, const char *name) {
    socketio_append_head(out, SOCKETIO_EVENT, "/", -1);
    strbuf_append_format(out, "[\"%s\",", name);
}

void socketio_end_event(struct strbuf *out, const char *epoch, int64_t id, bool is_marked) {
    strbuf_append_text(out, ",\"");
    socketio_append_cursor(out, epoch, id, is_marked);
    strbuf_append_text(out, "\"]");
}

static void append_event(struct strbuf *out, const char *epoch, const struct event *event, bool is_marked) {
    static const char *const names[] = {
        [TOLD_STATUS] = "status-change", [TOLD_INSTANCE] = "instance", [TOLD_ALERT] = "alert"
    };
    enum told told = event_told_as(event->kind);
    if (told == TOLD_NOT) return;
    socketio_begin_event(out, names[told]);
    event_append_json(out, epoch, event);
    socketio_end_event(out, epoch, event->id, is_marked);
}

void socketio_append_event(struct strbuf *out, const char *epoch, const struct event *event) {
    append_event(out, epoch, event, false);
}

void socketio_append_event_marked(struct strbuf *out, const char *epoch, const struct event *event) {
    append_event(out, epoch, event, true);
}

void socketio_append_connect_error(struct strbuf *out, const char *message, const char *error) {
    socketio_append_head(out, SOCKETIO_CONNECT_ERROR, "/", -1);
    strbuf_append_text(out, "{\"message\":");
    json_append_string(out, message);
    strbuf_append_format(out, ",\"data\":{\"error\":\"%s\"}}", error);
}
