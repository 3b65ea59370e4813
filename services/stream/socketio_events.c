/*
 * socketio_events.c: `subscribe`, `unsubscribe`, `ping`. See socketio_events.h.
 *
 * A client hears of its own user's instances anyway: `subscribe` to one of them is confirmed and changes nothing. An
 * admin may watch one of somebody else's. Whose it is is asked at each of these events, so that a client cannot learn
 * which ids exist. Bounded: an allowance of events a second, and few questions at once.
 */
#include "services/stream/socketio_events.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "proto/message_json.h"
#include "services/stream/socketio_packet.h"

enum { QUESTIONS_MAX = 32, QUESTION_MS = 2500, INSTANCE_ID_MAX = 64 };

/* ---- acknowledgements ---- */

static void acknowledge(struct engineio_session *session, int64_t ack_id, const char *json) {
    if (ack_id < 0 || session->state == ENGINEIO_ENDED) return;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_append_head(&text, SOCKETIO_ACK, "/", ack_id);
    strbuf_append_format(&text, "[%s]", json);
    struct outgoing *item = outgoing_new(text.data, text.size);
    if (session->subscriber.group) hub_send(session->server->hub, &session->subscriber, item, true);
    outgoing_unref(item);
}

void socketio_refuse_event(struct engineio_session *session, int64_t ack_id, const char *error, const char *message) {
    _cleanup_strbuf_ struct strbuf json = STRBUF_INIT;
    strbuf_append_format(&json, "{\"success\":false,\"error\":\"%s\",\"message\":", error);
    json_append_string(&json, message);
    strbuf_append_char(&json, '}');
    socketio_emit_error(session, error, message);
    acknowledge(session, ack_id, json.data);
}

static void refuse_for(struct engineio_session *session, int64_t ack_id, int error) {
    socketio_refuse_event(session, ack_id, error_info(error)->name, error_info(error)->sentence);
}

void socketio_emit_instance(struct engineio_session *session, const char *name, const char *instance_id) {
    _cleanup_strbuf_ struct strbuf json = STRBUF_INIT;
    strbuf_append_text(&json, "{\"instanceId\":");
    json_append_string(&json, instance_id);
    strbuf_append_char(&json, '}');
    socketio_emit(session, name, json.data);
}

/* ---- subscribe, unsubscribe ---- */

static void confirm(struct engineio_session *session, const struct admission_job *job) {
    _cleanup_strbuf_ struct strbuf json = STRBUF_INIT;
    strbuf_append_text(&json, "{\"success\":true,\"instanceId\":");
    json_append_string(&json, job->instance_id);
    strbuf_append_char(&json, '}');
    socketio_emit_instance(session, job->unsubscribe ? "unsubscribed" : "subscribed", job->instance_id);
    acknowledge(session, job->ack_id, json.data);
}

static void on_owner(struct server *server, struct admission_job *job) {
    struct engineio_session *session = job->connection;
    session->questions--;
    if (session->state != ENGINEIO_ENDED && session->subscriber.group) {
        int error = job->error;
        if (!error && !job->is_own && job->unsubscribe)
            hub_unwatch(server->hub, &session->subscriber, job->instance_id);
        else if (!error && !job->is_own && !session->subscriber.everything)
            error = hub_watch(server->hub, &session->subscriber, job->instance_id);
        socketio_note_watches(session);
        if (error)
            refuse_for(session, job->ack_id, error);
        else
            confirm(session, job);
    }
    admission_job_free(job);
    engineio_release(session);
}

/* {instanceId: "…"}, also in snake_case, or the id alone. */
static const char *instance_of(const json_t *argument) {
    const char *id = json_string_value(argument);
    if (!id) id = json_string_value(json_object_get(argument, "instanceId"));
    if (!id) id = json_string_value(json_object_get(argument, "instance_id"));
    return id && id[0] && strlen(id) <= INSTANCE_ID_MAX ? id : NULL;
}

static void ask_owner(struct engineio_session *session, const json_t *argument, int64_t ack_id, bool unsubscribe) {
    const char *instance_id = instance_of(argument);
    if (!instance_id) {
        refuse_for(session, ack_id,
            json_is_object(argument) || json_is_string(argument) ? ERR_INSTANCE_NOT_FOUND : ERR_VALIDATION);
        return;
    }
    if (session->questions >= QUESTIONS_MAX) {
        refuse_for(session, ack_id, ERR_TOO_MANY_REQUESTS);
        return;
    }
    struct admission_job *job = xcalloc(1, sizeof *job);
    job->kind = ADMISSION_OWNER;
    job->on_answer = on_owner;
    job->connection = session;
    job->ack_id = ack_id;
    job->unsubscribe = unsubscribe;
    job->deadline_ms = clock_monotonic_ms() + QUESTION_MS;
    random_hex(12, job->request_id);
    snprintf(job->instance_id, sizeof job->instance_id, "%s", instance_id);
    snprintf(job->claims.user_id, sizeof job->claims.user_id, "%s", hub_user_id(&session->subscriber));
    snprintf(job->claims.session_id, sizeof job->claims.session_id, "%s", session->subscriber.session_id);
    if (!admission_submit(session->server->admission, job)) {
        admission_job_free(job);
        refuse_for(session, ack_id, ERR_OVERLOADED);
        return;
    }
    session->questions++;
    engineio_hold(session);
}

static void on_subscribe(struct engineio_session *session, const json_t *argument, int64_t ack_id) {
    ask_owner(session, argument, ack_id, false);
}

static void on_unsubscribe(struct engineio_session *session, const json_t *argument, int64_t ack_id) {
    ask_owner(session, argument, ack_id, true);
}

/* ---- ping ---- */

static void on_ping(struct engineio_session *session, const json_t *argument, int64_t ack_id) {
    (void)argument;
    char json[80];
    snprintf(json, sizeof json, "{\"timestamp\":%" PRId64 "}", clock_wall_ms());
    socketio_emit(session, "pong", json);
    acknowledge(session, ack_id, json);
}

/* ---- every event ---- */

void socketio_on_event(struct engineio_session *session, const json_t *data, int64_t ack_id) {
    static const struct {
        const char *name;
        void (*handle)(struct engineio_session *session, const json_t *argument, int64_t ack_id);
    } events[] = { { "subscribe", on_subscribe }, { "unsubscribe", on_unsubscribe }, { "ping", on_ping } };
    if (session->credit == 0) {
        engineio_end(session, "too_many_requests", "1");
        return;
    }
    session->credit--;
    const char *name = json_string_value(json_array_get(data, 0));
    for (size_t i = 0; name && i < ARRAY_SIZE(events); i++) {
        if (strcmp(name, events[i].name) == 0) {
            events[i].handle(session, json_array_get(data, 1), ack_id);
            return;
        }
    }
    if (ack_id >= 0) acknowledge(session, ack_id, "{\"success\":false,\"error\":\"unknown_event\"}");
}
