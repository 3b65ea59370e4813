/*
 * engineio.c: the table of sessions, their heartbeat and their end. See engineio.h.
 *
 * Every session gets a ping each SOCKETIO_PING_INTERVAL_MS; one that says nothing for SOCKETIO_PING_TIMEOUT_MS after it
 * has ended. Any packet is a sign of life. Bounded: as many sessions as STREAM_MAX allows streams, and of them as many
 * an address as STREAM_MAX_PER_ADDRESS, signed in or not; one that joins no namespace in time has ended, too.
 */
#include "services/stream/engineio.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/stream/engineio_http.h"
#include "services/stream/socketio.h"

enum { TICK_MIN_MS = 20, TICK_MAX_MS = 1000, SID_BYTES = 15 };

struct engineio {
    struct server *server;
    zhashx_t *sessions; /* sid -> struct engineio_session */
    struct engineio_session *first;
    unsigned count;
    struct outgoing *ping; /* one text for all */
    lws_sorted_usec_list_t tick;
    int64_t tick_ms;
};

static void on_tick(lws_sorted_usec_list_t *tick);

struct engineio *engineio_new(struct server *server) {
    struct engineio *self = xcalloc(1, sizeof *self);
    self->server = server;
    self->sessions = zhashx_new();
    self->ping = outgoing_new("2", 1);
    int64_t shorter = server->options.ping_interval_ms < server->options.ping_timeout_ms
                          ? server->options.ping_interval_ms
                          : server->options.ping_timeout_ms;
    self->tick_ms = shorter / 10 < TICK_MIN_MS ? TICK_MIN_MS : shorter / 10 > TICK_MAX_MS ? TICK_MAX_MS : shorter / 10;
    lws_sul_schedule(server->context, 0, &self->tick, on_tick, self->tick_ms * 1000);
    return self;
}

void engineio_stop(struct engineio *self) {
    lws_sul_cancel(&self->tick);
    struct engineio_session *next;
    for (struct engineio_session *session = self->first; session; session = next) {
        next = session->next;
        engineio_end(session, "server_shutdown", "1");
    }
}

void engineio_free(struct engineio *self) {
    if (!self) return;
    outgoing_unref(self->ping);
    zhashx_destroy(&self->sessions);
    free(self);
}

/* ---- the life of a session ---- */

void engineio_hold(struct engineio_session *session) {
    session->references++;
}

static void free_if_unused(struct engineio_session *session) {
    if (session->state != ENGINEIO_ENDED || session->references || session->websocket || session->poll || session->post)
        return;
    outgoing_queue_release(&session->subscriber.queue);
    strbuf_release(&session->incoming);
    free(session->token);
    free(session);
}

void engineio_release(struct engineio_session *session) {
    session->references--;
    free_if_unused(session);
}

/* "<the edge's name of this process>.<random>": the edge sends what carries it back here. */
static void make_sid(const struct http_request *request, char *ret_sid) {
    char random[2 * SID_BYTES + 1];
    random_hex(SID_BYTES, random);
    snprintf(ret_sid, ENGINEIO_SID_MAX, "%s%s%s", request->edge_server, request->edge_server[0] ? "." : "", random);
}

static void insert(struct engineio *self, struct engineio_session *session) {
    session->next = self->first;
    if (self->first) self->first->previous = session;
    self->first = session;
    self->count++;
    zhashx_insert(self->sessions, session->sid, session);
}

static void take_out(struct engineio *self, struct engineio_session *session) {
    if (session->previous)
        session->previous->next = session->next;
    else
        self->first = session->next;
    if (session->next) session->next->previous = session->previous;
    session->next = session->previous = NULL;
    self->count--;
    zhashx_delete(self->sessions, session->sid);
}

/* A cookie counts only for pages of this host and of those origins that were named. */
static bool may_use_token(const struct server *server, const struct http_request *request) {
    if (!request->token[0]) return false;
    return !request->is_cookie || !request->origin[0] || http_origin_is_host(request) ||
           http_origin_trusted(server->allowed_origins, request->origin);
}

struct engineio_session *engineio_open(struct engineio *self, const struct http_request *request, int *ret_error) {
    struct server *server = self->server;
    if (server->stopping || !server->is_ready)
        *ret_error = ERR_UNAVAILABLE;
    else if (self->count >= server->options.hub.most)
        *ret_error = ERR_OVERLOADED;
    else
        *ret_error = 0;
    if (*ret_error) return NULL;
    struct tally_entry *address = tally_take(server->addresses, request->address);
    if (!address) {
        *ret_error = ERR_TOO_MANY_REQUESTS;
        return NULL;
    }
    struct engineio_session *session = xcalloc(1, sizeof *session);
    strbuf_init(&session->incoming);
    session->server = server;
    session->address = address;
    session->ping_due_ms = clock_monotonic_ms() + server->options.ping_interval_ms;
    if (may_use_token(server, request)) session->token = xstrdup(request->token);
    make_sid(request, session->sid);
    socketio_init(session);
    insert(self, session);
    return session;
}

struct engineio_session *engineio_find(struct engineio *self, const char *sid) {
    return zhashx_lookup(self->sessions, sid);
}

/* The reasons are our own words, so the counters are few. What clients and restarts do every day is not logged. */
static void note_end(const struct engineio_session *session, const char *reason) {
    static const char *const usual[] = { "closed_by_client", "transport_closed", "server_shutdown", "slow_reader" };
    for (size_t i = 0; i < ARRAY_SIZE(usual); i++) {
        if (strcmp(reason, usual[i]) == 0) return;
    }
    char labels[80];
    snprintf(labels, sizeof labels, "reason=\"%s\"", reason);
    counter_add(counter_get(COUNTER, "bore_streams_ended_total", labels), 1);
    log_info("stream ended reason=%s transport=socketio user=%s", reason, hub_user_id(&session->subscriber));
}

void engineio_end(struct engineio_session *session, const char *reason, const char *last_packet) {
    if (session->state == ENGINEIO_ENDED) return;
    note_end(session, reason);
    engineio_hold(session);
    bool is_websocket = session->state == ENGINEIO_WEBSOCKET;
    session->state = ENGINEIO_ENDED;
    take_out(session->server->engineio, session);
    tally_drop(session->server->addresses, TAKE_PTR(session->address));
    socketio_ended(session);
    if (session->post) engineio_post_abandon(session->post);
    if (session->poll) engineio_poll_finish(session->poll, last_packet);
    if (!is_websocket) outgoing_queue_release(&session->subscriber.queue);
    if (session->websocket) engineio_websocket_close(session, reason);
    engineio_release(session);
}

/* ---- what comes, and what goes ---- */

void engineio_receive(struct engineio_session *session, const struct engineio_packet *packet) {
    session->pong_due_ms = 0;
    switch (packet->type) {
    case ENGINEIO_MESSAGE:
        socketio_receive(session, packet);
        break;
    case ENGINEIO_CLOSE:
        engineio_end(session, "closed_by_client", "6");
        break;
    case ENGINEIO_PING:
        engineio_end(session, "ping_from_client", "1"); /* in this revision servers ping */
        break;
    case ENGINEIO_PONG:
    case ENGINEIO_OPEN:
    case ENGINEIO_UPGRADE:
    case ENGINEIO_NOOP:
        break; /* nothing to do, or without a meaning here */
    }
}

void engineio_wake(struct engineio_session *session) {
    if (session->state == ENGINEIO_WEBSOCKET)
        engineio_websocket_wake(session);
    else if (session->poll)
        engineio_poll_wake(session->poll);
}

void engineio_send(struct engineio_session *session, const char *text, size_t size) {
    struct outgoing *item = outgoing_new(text, size);
    outgoing_queue_push(&session->subscriber.queue, item, false);
    outgoing_unref(item);
    engineio_wake(session);
}

/* ---- time ---- */

static void look_after(struct engineio *self, struct engineio_session *session, int64_t now) {
    const struct server_options *options = &self->server->options;
    if (session->pong_due_ms && now >= session->pong_due_ms) {
        engineio_end(session, "ping_timeout", "1");
        return;
    }
    if (session->connect_due_ms && now >= session->connect_due_ms) {
        engineio_end(session, "no_namespace_joined", "1");
        return;
    }
    if (session->upgrade_due_ms > 0 && now >= session->upgrade_due_ms) {
        session->upgrade_due_ms = 0;
        if (session->state != ENGINEIO_WEBSOCKET) engineio_websocket_close(session, "upgrade_timeout");
    }
    if (now >= session->ping_due_ms) {
        session->ping_due_ms = now + options->ping_interval_ms;
        if (!session->pong_due_ms) session->pong_due_ms = now + options->ping_timeout_ms;
        outgoing_queue_push(&session->subscriber.queue, self->ping, false);
        engineio_wake(session);
    }
    socketio_tick(session, now);
}

static void each(struct engineio *self, void (*visit)(struct engineio *, struct engineio_session *, int64_t)) {
    int64_t now = clock_monotonic_ms();
    struct engineio_session *next;
    for (struct engineio_session *session = self->first; session; session = next) {
        /* a visit may end the session it is given, none other */
        next = session->next;
        visit(self, session, now);
    }
}

static void on_tick(lws_sorted_usec_list_t *tick) {
    struct engineio *self = lws_container_of(tick, struct engineio, tick);
    each(self, look_after);
    lws_sul_schedule(self->server->context, 0, &self->tick, on_tick, self->tick_ms * 1000);
}

static void announce(struct engineio *self, struct engineio_session *session, int64_t now) {
    (void)self;
    (void)now;
    socketio_announce_shutdown(session);
}

void engineio_announce_shutdown(struct engineio *self) {
    each(self, announce);
}
