/*
 * event_log.c: publishing rows of the event log after COMMIT, and the cursor as clients see it.
 *
 * Emits `event.<kind>` with an EVENT frame. Publishing is best effort: whoever misses a message finds the row in the
 * log within a second (event_reader.c). So what cannot be read here is logged at debug and left out.
 */
#include "services/lib/event_log.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "proto/topics.h"

/* --- publishing -------------------------------------------------------------------------------------------------- */

/* NULL when unset; borrowed from the JSON. */
static char *text_member(const json_t *object, const char *name) {
    return (char *)(uintptr_t)json_string_value(json_object_get(object, name));
}

static void publish_one(struct bus_client *bus, const json_t *object) {
    const json_t *payload = json_object_get(object, "payload");
    _cleanup_free_ char *nested = json_is_object(payload) ? json_dumps(payload, JSON_COMPACT) : NULL;
    struct event event = { .id = json_integer_value(json_object_get(object, "id")),
        .at = json_integer_value(json_object_get(object, "at")),
        .kind = text_member(object, "kind"),
        .user_id = text_member(object, "user_id"),
        .instance_id = text_member(object, "instance_id"),
        .payload = nested ? nested : text_member(object, "payload") };
    char topic[TOPIC_MAX];
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    if (message_encode_frame(&event_descriptor, &event, &frame) < 0) {
        log_debug("event %" PRId64 " is not published: it breaks the declared bounds", event.id);
        return;
    }
    snprintf(topic, sizeof topic, TOPIC_EVENTS "%s", event.kind);
    bus_publish(bus, topic, frame.data, frame.size);
}

void event_log_publish(struct bus_client *bus, const char *events_json) {
    json_t *events = json_loads(events_json, 0, NULL);
    if (!json_is_array(events)) log_debug("events to publish are no JSON array");
    for (size_t i = 0; i < json_array_size(events); i++)
        publish_one(bus, json_array_get(events, i));
    json_decref(events);
}

/* --- cursors ----------------------------------------------------------------------------------------------------- */

int event_cursor_parse(const char *text, char *ret_epoch, size_t epoch_size, int64_t *ret_id) {
    const char *dash = text ? strrchr(text, '-') : NULL;
    if (!dash || dash == text || (size_t)(dash - text) >= epoch_size) return -EINVAL;
    for (const char *character = text; character < dash; character++)
        if (!isalnum((unsigned char)*character)) return -EINVAL;
    size_t digits = strspn(dash + 1, "0123456789");
    if (digits == 0 || digits > 19 || dash[1 + digits]) return -EINVAL;
    errno = 0;
    long long id = strtoll(dash + 1, NULL, 10);
    if (errno) return -EINVAL;
    memcpy(ret_epoch, text, (size_t)(dash - text));
    ret_epoch[dash - text] = '\0';
    *ret_id = id;
    return 0;
}

void event_cursor_format(const char *epoch, int64_t id, char *ret_text, size_t size) {
    snprintf(ret_text, size, "%s-%" PRId64, epoch, id);
}
