/*
 * socketio.c: joining and leaving the namespace, and what happens to it. See socketio.h. Events that clients send are
 * in socketio_events.c.
 *
 * Who is refused for good (no token, a bad one, no admin) gets CONNECT_ERROR, after which official clients do not try
 * again by themselves; whoever cannot be let in for the moment loses the connection, so that they do. A token that ends
 * is told as `error` and DISCONNECT, where they stop, too; a slow reader and a restart are a lost connection, from
 * which they recover by their cursor.
 */
#include "services/stream/socketio.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/message_json.h"
#include "services/stream/recovery.h"
#include "services/stream/resume.h"
#include "services/stream/socketio_events.h"
#include "services/stream/socketio_text.h"

enum { CREDIT_MAX = 200, CREDIT_A_SECOND = 50, CURSOR_BEHIND = 5000 };
/* Before a client has signed in a message can hold a token and little more; later, a name and an id. */
enum { MESSAGE_MAX = 64 * 1024 };

static void wake(struct subscriber *subscriber) {
    engineio_wake((struct engineio_session *)subscriber);
}

static void end(struct subscriber *subscriber, const char *reason);
static void unwatched(struct subscriber *subscriber, const char *instance_id);

static const struct transport transport = {
    .name = "socketio", .append_event = socketio_append_event, .wake = wake, .end = end, .unwatched = unwatched
};
/* For those who watch instances of others. */
static const struct transport marked_transport = {
    .name = "socketio", .append_event = socketio_append_event_marked, .wake = wake, .end = end, .unwatched = unwatched
};

void socketio_note_watches(struct engineio_session *session) {
    session->subscriber.transport = session->subscriber.watches ? &marked_transport : &transport;
}

/* By then a client must have joined: as long as the heartbeat gives a silent one. */
static int64_t connect_due_ms(const struct server *server) {
    return clock_monotonic_ms() + server->options.ping_interval_ms + server->options.ping_timeout_ms;
}

void socketio_init(struct engineio_session *session) {
    session->subscriber.transport = &transport;
    session->connect_due_ms = connect_due_ms(session->server);
    session->credit = CREDIT_MAX;
}

/* ---- telling ---- */

static bool is_marked(const struct engineio_session *session) {
    return session->subscriber.transport == &marked_transport;
}

void socketio_emit(struct engineio_session *session, const char *name, const char *json) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_begin_event(&text, name);
    strbuf_append_text(&text, json);
    socketio_end_event(&text, session->server->epoch, session->subscriber.cursor, is_marked(session));
    if (!session->subscriber.group) {
        engineio_send(session, text.data, text.size);
        return;
    }
    struct outgoing *item = outgoing_new(text.data, text.size);
    hub_send(session->server->hub, &session->subscriber, item, true);
    outgoing_unref(item);
}

static void emit_message(struct engineio_session *session, const char *name, const char *message) {
    _cleanup_strbuf_ struct strbuf json = STRBUF_INIT;
    strbuf_append_text(&json, "{\"message\":");
    json_append_string(&json, message);
    strbuf_append_format(&json, ",\"timestamp\":%" PRId64 "}", clock_wall_ms());
    socketio_emit(session, name, json.data);
}

void socketio_emit_error(struct engineio_session *session, const char *error, const char *message) {
    _cleanup_strbuf_ struct strbuf json = STRBUF_INIT;
    strbuf_append_format(&json, "{\"error\":\"%s\",\"message\":", error);
    json_append_string(&json, message);
    strbuf_append_char(&json, '}');
    socketio_emit(session, "error", json.data);
}

/* ---- the end ---- */

static void leave(struct engineio_session *session) {
    if (session->socketio_state == SOCKETIO_JOINED) {
        session->server->socketio_open--;
        gauge_set(session->server->active_socketio, session->server->socketio_open);
    }
    session->socketio_state = SOCKETIO_OUTSIDE;
    if (session->subscriber.group) hub_remove(session->server->hub, &session->subscriber);
}

void socketio_ended(struct engineio_session *session) {
    leave(session);
}

/* The hub ends it; the queue is empty. */
static void end(struct subscriber *subscriber, const char *reason) {
    static const struct {
        const char *reason, *sentence;
    } final[] = {
        { "token_expired", "The token has expired: sign in again." },
        { "token_revoked", "This session has ended: sign in again." },
        { "forbidden", "You are no admin any more." },
    };
    struct engineio_session *session = (struct engineio_session *)subscriber;
    for (size_t i = 0; i < ARRAY_SIZE(final); i++) {
        if (strcmp(reason, final[i].reason) != 0) continue;
        socketio_emit_error(session, reason, final[i].sentence);
        engineio_send(session, "41", 2);
    }
    engineio_end(session, reason, "1");
}

static void unwatched(struct subscriber *subscriber, const char *instance_id) {
    struct engineio_session *session = (struct engineio_session *)subscriber;
    socketio_note_watches(session);
    socketio_emit_instance(session, "unsubscribed", instance_id);
}

void socketio_announce_shutdown(struct engineio_session *session) {
    if (session->socketio_state == SOCKETIO_JOINED)
        emit_message(session, "server-shutdown", "The server restarts: connect again.");
}

void socketio_tick(struct engineio_session *session, int64_t now_ms) {
    struct subscriber *subscriber = &session->subscriber;
    if (now_ms / 1000 == session->ticked_second) return;
    session->ticked_second = (unsigned)(now_ms / 1000);
    session->credit = session->credit + CREDIT_A_SECOND > CREDIT_MAX
                          ? CREDIT_MAX
                          : (unsigned short)(session->credit + CREDIT_A_SECOND);
    if (!subscriber->group) return;
    /* every event up to the newest was considered for every stream: an idle client's cursor must not grow old */
    int64_t head = recent_head(session->server->recent);
    if (head - subscriber->cursor < CURSOR_BEHIND) return;
    subscriber->cursor = head;
    socketio_emit(session, "cursor", "{}");
}

/* ---- joining ---- */

/* For good: the client hears why and does not come back by itself. */
static void refuse(struct engineio_session *session, const char *message, const char *error) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    session->socketio_state = SOCKETIO_OUTSIDE;
    socketio_append_connect_error(&text, message, error);
    engineio_send(session, text.data, text.size);
}

/* An error of admission. */
static void refuse_for(struct engineio_session *session, int error) {
    if (error == ERR_UNAUTHORIZED)
        refuse(session, "Authentication error: this session has ended, sign in again", "unauthorized");
    else if (error == ERR_FORBIDDEN)
        refuse(session, "Authentication error: scope all is for admins", "forbidden");
    else if (error == ERR_TOO_MANY_REQUESTS)
        refuse(session, "Too many connections of this user", "too_many_requests");
    else
        engineio_end(session, error_info(error)->name, "1"); /* for the moment: official clients try again */
}

struct joining {
    bool is_recovery; /* the client gave a pid that is ours and a cursor */
    bool had_state;   /* it says that it was here before */
    char pid[RECOVERY_PID_SIZE];
};

static void tell(const struct event *event, void *user_data) {
    struct engineio_session *session = user_data;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_append_event(&text, session->server->epoch, event);
    if (!text.size) return;
    struct outgoing *item = outgoing_new(text.data, text.size);
    outgoing_queue_push(&session->subscriber.queue, item, false);
    outgoing_unref(item);
}

static void send_connect(struct engineio_session *session, const char *pid) {
    char id[33];
    random_hex(10, id);
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_append_head(&text, SOCKETIO_CONNECT, "/", -1);
    strbuf_append_format(&text, "{\"sid\":\"%s\",\"pid\":\"%s\"}", id, pid);
    struct outgoing *item = outgoing_new(text.data, text.size);
    outgoing_queue_push(&session->subscriber.queue, item, false);
    outgoing_unref(item);
}

static void queue_event(struct engineio_session *session, const char *name, const char *json, int64_t cursor) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_begin_event(&text, name);
    strbuf_append_text(&text, json);
    socketio_end_event(&text, session->server->epoch, cursor, false);
    struct outgoing *item = outgoing_new(text.data, text.size);
    outgoing_queue_push(&session->subscriber.queue, item, false);
    outgoing_unref(item);
}

/* CONNECT, `connected` with the cursor that it continues from, `reset` where it cannot, then what was missed. */
static void tell_all(
    struct engineio_session *session, const struct joining *joining, const char *user_id, const struct resume *resume) {
    bool is_recovered = joining->is_recovery && !resume->reset;
    char pid[RECOVERY_PID_SIZE];
    if (is_recovered)
        memcpy(pid, joining->pid, sizeof pid);
    else
        recovery_pid_new(session->server->options.jwt_secret, user_id, session->subscriber.session_id, pid);
    send_connect(session, pid);
    char json[160];
    snprintf(json, sizeof json, "{\"message\":\"Connected to the status stream\",\"timestamp\":%" PRId64 "}",
        clock_wall_ms());
    queue_event(session, "connected", json, resume->cursor);
    if (resume->reset || (joining->had_state && !joining->is_recovery)) {
        snprintf(json, sizeof json, "{\"type\":\"reset\",\"cursor\":\"%s-%" PRId64 "\",\"timestamp\":%" PRId64 "}",
            session->server->epoch, resume->cursor, clock_wall_ms());
        queue_event(session, "reset", json, resume->cursor);
    }
    resume_tell(session->server, &session->subscriber, user_id, resume, tell, session);
}

static void join(
    struct engineio_session *session, const struct joining *joining, const char *user_id, const struct resume *resume) {
    struct server *server = session->server;
    int error = hub_add(server->hub, &session->subscriber, user_id);
    if (error) {
        refuse_for(session, error);
        return;
    }
    session->socketio_state = SOCKETIO_JOINED;
    session->connect_due_ms = 0;
    gauge_set(server->active_socketio, ++server->socketio_open);
    counter_add(server->opened_socketio, 1);
    tell_all(session, joining, user_id, resume);
    engineio_wake(session);
}

static void on_admitted(struct server *server, struct admission_job *job) {
    struct engineio_session *session = job->connection;
    _cleanup_free_ struct joining *joining = job->details;
    job->details = NULL;
    if (session->state != ENGINEIO_ENDED) {
        struct resume resume;
        int error = resume_from_job(server, job, &resume);
        if (error)
            refuse_for(session, error);
        else
            join(session, joining, job->claims.user_id, &resume);
    }
    admission_job_free(job);
    engineio_release(session);
}

static const char *text_of(const json_t *data, const char *name) {
    return json_string_value(json_object_get(data, name));
}

/* The token of the CONNECT packet, else of the handshake. 0, or after a refusal an error. */
static int authenticate(struct engineio_session *session, const json_t *data, struct token_claims *ret_claims) {
    const char *token = text_of(data, "token");
    if (token && strncasecmp(token, "Bearer ", 7) == 0) token += 7;
    if (!token || !token[0]) token = session->token;
    if (!token) {
        refuse(session, "Authentication error: no token", "unauthorized");
        return ERR_UNAUTHORIZED;
    }
    int error = token_cache_verify(session->server->tokens, token, ret_claims);
    if (error)
        refuse(session,
            error == -ETIMEDOUT ? "Authentication error: the token has expired"
                                : "Authentication error: the token is not valid",
            "unauthorized");
    return error ? ERR_UNAUTHORIZED : 0;
}

/* What the client wants to continue from: as an official client's recovery (pid and offset), else the cursor of a
 * GET /instances. */
static const char *wanted_cursor(
    const struct server *server, const json_t *data, const struct token_claims *claims, struct joining *ret_joining) {
    const char *pid = text_of(data, "pid"), *offset = text_of(data, "offset");
    *ret_joining = (struct joining){ .had_state = pid != NULL };
    if (!pid) return text_of(data, "cursor");
    const char *previous = server->options.jwt_secret_previous;
    bool is_ours = recovery_pid_is_of(server->options.jwt_secret, claims->user_id, claims->session_id, pid) ||
                   (previous && previous[0] && recovery_pid_is_of(previous, claims->user_id, claims->session_id, pid));
    if (!offset || !is_ours) return NULL;
    ret_joining->is_recovery = true;
    snprintf(ret_joining->pid, sizeof ret_joining->pid, "%s", pid);
    return offset;
}

/* The answer needs auth or the database. */
static void submit(struct engineio_session *session, struct admission_job *job, const struct joining *joining) {
    char request_id[25];
    random_hex(12, request_id);
    job->connection = session;
    job->on_answer = on_admitted;
    job->details = xmemdup(joining, sizeof *joining);
    engineio_hold(session);
    int error = resume_submit(session->server, job, request_id);
    if (error) {
        admission_job_free(job);
        engineio_end(session, error_info(error)->name, "1"); /* for the moment */
        engineio_release(session);
    }
}

static void connect_namespace(struct engineio_session *session, const json_t *data) {
    struct server *server = session->server;
    struct token_claims claims;
    if (authenticate(session, data, &claims) != 0) return;
    int known = revocations_check_cached(server->revocations, &claims);
    if (known == ERR_UNAUTHORIZED) {
        refuse_for(session, known);
        return;
    }
    const char *scope = text_of(data, "scope");
    session->socketio_state = SOCKETIO_JOINING;
    session->subscriber.everything = scope && strcmp(scope, "all") == 0;
    session->subscriber.expires_at = claims.expires_at;
    snprintf(session->subscriber.session_id, sizeof session->subscriber.session_id, "%.40s", claims.session_id);
    struct joining joining;
    struct resume resume;
    struct admission_job *job = xcalloc(1, sizeof *job);
    job->claims = claims;
    job->everything = session->subscriber.everything;
    resume_plan(server, wanted_cursor(server, data, &claims, &joining), job, &resume);
    if (known != 0 || job->everything || job->replay) {
        submit(session, job, &joining);
        return;
    }
    admission_job_free(job);
    join(session, &joining, claims.user_id, &resume);
}

/* ---- receiving ---- */

static void receive_other_namespace(struct engineio_session *session, const struct socketio_packet *packet) {
    if (packet->type != SOCKETIO_CONNECT) {
        engineio_end(session, "invalid_state", "1");
        return;
    }
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    socketio_append_head(&text, SOCKETIO_CONNECT_ERROR, packet->name_space, -1);
    strbuf_append_text(&text, "{\"message\":\"Invalid namespace\"}");
    engineio_send(session, text.data, text.size);
}

static void receive_joined(struct engineio_session *session, const struct socketio_packet *packet) {
    switch (packet->type) {
    case SOCKETIO_EVENT:
        socketio_on_event(session, packet->data, packet->id);
        break;
    case SOCKETIO_BINARY_EVENT:
        session->attachments_due = (unsigned char)packet->attachments;
        socketio_refuse_event(session, packet->id, "binary_not_supported", "Binary data has no meaning here.");
        break;
    case SOCKETIO_BINARY_ACK:
        session->attachments_due = (unsigned char)packet->attachments;
        break;
    case SOCKETIO_DISCONNECT:
        leave(session);
        session->connect_due_ms = connect_due_ms(session->server);
        break;
    case SOCKETIO_ACK:
        break; /* we ask for none */
    case SOCKETIO_CONNECT:
    case SOCKETIO_CONNECT_ERROR:
        engineio_end(session, "invalid_state", "1");
        break;
    }
}

static void receive_packet(struct engineio_session *session, const struct socketio_packet *packet) {
    if (strcmp(packet->name_space, "/") != 0)
        receive_other_namespace(session, packet);
    else if (session->socketio_state == SOCKETIO_JOINED)
        receive_joined(session, packet);
    else if (session->socketio_state == SOCKETIO_OUTSIDE && packet->type == SOCKETIO_CONNECT)
        connect_namespace(session, packet->data);
    else
        engineio_end(session, "invalid_state", "1");
}

void socketio_receive(struct engineio_session *session, const struct engineio_packet *packet) {
    if (packet->is_binary && session->attachments_due > 0) {
        session->attachments_due--; /* of an event that was refused */
        return;
    }
    if (packet->is_binary || session->attachments_due > 0) {
        engineio_end(session, "unexpected_data", "1");
        return;
    }
    if (packet->size > MESSAGE_MAX && session->socketio_state == SOCKETIO_JOINED) {
        socketio_refuse_event(session, -1, "payload_too_large", "No event here is that large.");
        return;
    }
    struct socketio_packet parsed;
    if (packet->size > MESSAGE_MAX || socketio_packet_parse(packet->data, packet->size, &parsed) != 0) {
        engineio_end(session, "invalid_packet", "1");
        return;
    }
    receive_packet(session, &parsed);
    socketio_packet_release(&parsed);
}
