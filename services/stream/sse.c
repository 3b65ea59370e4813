/* sse.c: writes the blocks of an event stream. See sse.h. */
#include "services/stream/sse.h"

#include <inttypes.h>
#include <string.h>

#include "services/stream/event_json.h"

bool sse_is_told(const char *kind) {
    return event_told_as(kind) != TOLD_NOT;
}

void sse_append_event(struct strbuf *out, const char *epoch, const struct event *event) {
    static const char *const names[] = {
        [TOLD_NOT] = "", [TOLD_STATUS] = "", [TOLD_INSTANCE] = "event: instance\n", [TOLD_ALERT] = "event: alert\n"
    };
    enum told told = event_told_as(event->kind);
    if (told == TOLD_NOT) return;
    strbuf_append_format(out, "id: %s-%" PRId64 "\n%sdata: ", epoch, event->id, names[told]);
    event_append_json(out, epoch, event);
    strbuf_append_text(out, "\n\n");
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
