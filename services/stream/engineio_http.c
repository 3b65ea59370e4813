/*
 * engineio_http.c: see engineio_http.h.
 *
 * A GET takes what is queued, at most POLL_ANSWER_MAX bytes at once, or waits for it; the server's ping ends every
 * wait. A POST is read whole before any of it counts. Bounded: a body by maxPayload, all bodies that are being read
 * together by BODIES_MAX. Refusals have the body that Engine.IO's own server gives. Every answer ends its connection
 * (http.c).
 */
#include "services/stream/engineio_http.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/stream/client_watch.h"

enum {
    POLL_ANSWER_MAX = 128 * 1024,
    BODIES_MAX = 64 * 1024 * 1024,
    BODY_SECONDS = 20,
    DISCARDED_MAX = 4 * ENGINEIO_PAYLOAD_MAX
};

/* What an answer needs after the request's headers are gone. */
struct answer_context {
    char request_id[65];
    char *origin;
};

struct engineio_poll {
    struct engineio_session *session; /* NULL: it has ended, `last` says how */
    struct server *server;
    struct lws *wsi;
    struct client_watch watch;
    struct answer_context context;
    struct strbuf last; /* the answer, once the session has ended */
};

struct engineio_post {
    struct engineio_session *session; /* NULL: it has ended */
    struct server *server;
    struct lws *wsi;
    struct strbuf body;
    size_t size;       /* as announced */
    bool is_too_large; /* read all the same, so that the client reads the refusal, and thrown away */
    struct answer_context context;
};

static size_t bodies; /* bytes announced by all posts that are being read; the loop is one thread */

static void context_init(struct answer_context *self, const struct http_request *request) {
    memcpy(self->request_id, request->request_id, sizeof self->request_id);
    self->origin = xstrdup(request->origin);
}

static void context_restore(const struct answer_context *self, struct http_request *ret_request) {
    memset(ret_request, 0, sizeof *ret_request);
    memcpy(ret_request->request_id, self->request_id, sizeof ret_request->request_id);
    snprintf(ret_request->origin, sizeof ret_request->origin, "%s", self->origin);
}

static int refuse(
    struct server *server, struct lws *wsi, const struct http_request *request, enum engineio_error error) {
    return http_answer(wsi, request, engineio_error_status(error), engineio_error_body(error), server->allowed_origins);
}

/* ---- GET ---- */

/* Moves queued packets into a payload: all, or as many as one answer holds. */
static void append_queued(struct strbuf *out, struct outgoing_queue *queue) {
    struct outgoing *item;
    while ((item = outgoing_queue_peek(queue)) != NULL &&
           (!out->size || out->size + outgoing_size(item) < POLL_ANSWER_MAX)) {
        if (out->size) strbuf_append_char(out, ENGINEIO_SEPARATOR);
        strbuf_append(out, outgoing_text(item), outgoing_size(item));
        outgoing_queue_pop(queue);
    }
}

static int answer_poll(struct engineio_poll *self, const struct strbuf *payload) {
    struct http_request request;
    context_restore(&self->context, &request);
    return http_answer_text(self->wsi, &request, 200, "text/plain; charset=UTF-8", payload->data, payload->size,
        self->server->allowed_origins);
}

static int on_poll_writeable(void *owner) {
    struct engineio_poll *self = owner;
    struct engineio_session *session = self->session;
    if (!session) return answer_poll(self, &self->last);
    _cleanup_strbuf_ struct strbuf payload = STRBUF_INIT;
    append_queued(&payload, &session->subscriber.queue);
    if (!payload.size && session->state == ENGINEIO_PROBED) strbuf_append_char(&payload, '0' + ENGINEIO_NOOP);
    if (!payload.size) return 0; /* taken by somebody else meanwhile */
    session->poll = NULL;
    self->session = NULL;
    return answer_poll(self, &payload);
}

static void on_poll_closed(void *owner) {
    struct engineio_poll *self = owner;
    struct engineio_session *session = self->session;
    client_watch_stop(&self->watch, self->server->loop);
    if (session) { /* not answered: the client is gone */
        session->poll = NULL;
        engineio_end(session, "transport_closed", "1");
    }
    strbuf_release(&self->last);
    free(self->context.origin);
    free(self);
}

static const struct connection_handler poll_handler = { .writeable = on_poll_writeable, .closed = on_poll_closed };

void engineio_poll_wake(struct engineio_poll *self) {
    lws_callback_on_writable(self->wsi);
}

void engineio_poll_leave(struct engineio_poll *self) {
    strbuf_append_char(&self->last, '0' + ENGINEIO_NOOP);
    self->session->poll = NULL;
    self->session = NULL;
    lws_callback_on_writable(self->wsi);
}

void engineio_poll_finish(struct engineio_poll *self, const char *last_packet) {
    append_queued(&self->last, &self->session->subscriber.queue);
    if (self->last.size) strbuf_append_char(&self->last, ENGINEIO_SEPARATOR);
    strbuf_append_text(&self->last, last_packet);
    self->session->poll = NULL;
    self->session = NULL;
    lws_callback_on_writable(self->wsi);
}

static int begin_poll(struct engineio_session *session, struct lws *wsi, const struct http_request *request,
    struct connection *connection) {
    struct server *server = session->server;
    if (session->poll) {
        engineio_end(session, "overlapping_polls", "1");
        return refuse(server, wsi, request, ENGINEIO_BAD_REQUEST);
    }
    struct engineio_poll *self = xcalloc(1, sizeof *self);
    self->session = session;
    self->server = server;
    self->wsi = wsi;
    strbuf_init(&self->last);
    context_init(&self->context, request);
    session->poll = self;
    *connection = (struct connection){ &poll_handler, self };
    client_watch_start(&self->watch, server->loop, wsi);
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    lws_http_headers_detach(wsi);
    if (!outgoing_queue_empty(&session->subscriber.queue) || session->state == ENGINEIO_PROBED)
        lws_callback_on_writable(wsi);
    return 0;
}

static int begin_session(struct server *server, struct lws *wsi, const struct http_request *request) {
    int error;
    struct engineio_session *session = engineio_open(server->engineio, request, &error);
    if (!session) return http_answer_error(wsi, request, error, server->allowed_origins);
    _cleanup_strbuf_ struct strbuf packet = STRBUF_INIT;
    engineio_append_open(
        &packet, session->sid, true, server->options.ping_interval_ms, server->options.ping_timeout_ms);
    return http_answer_text(
        wsi, request, 200, "text/plain; charset=UTF-8", packet.data, packet.size, server->allowed_origins);
}

/* ---- POST ---- */

void engineio_post_abandon(struct engineio_post *self) {
    self->session->post = NULL;
    self->session = NULL;
}

static int on_post_body(void *owner, const void *data, size_t size) {
    struct engineio_post *self = owner;
    if (self->body.size + size > self->size) return -1;
    if (self->session && !self->is_too_large) strbuf_append(&self->body, data, size);
    return 0;
}

/* Whether all of the payload was good. */
static bool receive_payload(struct engineio_session *session, const struct strbuf *body) {
    struct engineio_packet packet = { .type = ENGINEIO_NOOP };
    const char *position = body->data, *end = body->data + body->size;
    int found = 0;
    while (session->state != ENGINEIO_ENDED && (found = engineio_payload_next(&position, end, &packet)) > 0)
        engineio_receive(session, &packet);
    if (found < 0) engineio_end(session, "invalid_packet", "1");
    return found >= 0 && (session->state != ENGINEIO_ENDED || packet.type == ENGINEIO_CLOSE);
}

static int on_post_complete(void *owner) {
    struct engineio_post *self = owner;
    struct engineio_session *session = self->session;
    struct http_request request;
    context_restore(&self->context, &request);
    if (!session) return refuse(self->server, self->wsi, &request, ENGINEIO_UNKNOWN_SID);
    engineio_post_abandon(self);
    if (self->is_too_large)
        return http_answer_error(self->wsi, &request, ERR_PAYLOAD_TOO_LARGE, self->server->allowed_origins);
    engineio_hold(session);
    bool is_good = receive_payload(session, &self->body);
    engineio_release(session);
    if (!is_good) return refuse(self->server, self->wsi, &request, ENGINEIO_BAD_REQUEST);
    return http_answer_text(self->wsi, &request, 200, "text/html", "ok", 2, self->server->allowed_origins);
}

static void on_post_closed(void *owner) {
    struct engineio_post *self = owner;
    struct engineio_session *session = self->session;
    if (session) { /* the body never became whole */
        session->post = NULL;
        engineio_end(session, "transport_closed", "1");
    }
    if (!self->is_too_large) bodies -= self->size;
    strbuf_release(&self->body);
    free(self->context.origin);
    free(self);
}

static const struct connection_handler post_handler = {
    .writeable = NULL, .closed = on_post_closed, .body = on_post_body, .body_complete = on_post_complete
};

static int begin_post(struct engineio_session *session, struct lws *wsi, const struct http_request *request,
    struct connection *connection) {
    struct server *server = session->server;
    if (session->post || request->is_bytes || request->content_length <= 0) {
        engineio_end(session, session->post ? "overlapping_posts" : "invalid_content", "1");
        return refuse(server, wsi, request, ENGINEIO_BAD_REQUEST);
    }
    size_t size = (size_t)request->content_length;
    bool is_too_large = size > ENGINEIO_PAYLOAD_MAX;
    if (size > DISCARDED_MAX) return http_answer_error(wsi, request, ERR_PAYLOAD_TOO_LARGE, server->allowed_origins);
    if (!is_too_large && bodies + size > BODIES_MAX)
        return http_answer_error(wsi, request, ERR_OVERLOADED, server->allowed_origins);
    struct engineio_post *self = xcalloc(1, sizeof *self);
    self->session = session;
    self->server = server;
    self->wsi = wsi;
    self->size = size;
    self->is_too_large = is_too_large;
    strbuf_init(&self->body);
    context_init(&self->context, request);
    session->post = self;
    if (!is_too_large) bodies += size;
    *connection = (struct connection){ &post_handler, self };
    lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, BODY_SECONDS);
    return 0;
}

/* ---- every request ---- */

static struct engineio_query query_of(const struct http_request *request) {
    return (struct engineio_query){ .revision = request->revision,
        .transport = request->transport,
        .sid = request->sid,
        .method = request->method,
        .is_upgrade = request->is_upgrade };
}

int engineio_http_request(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection) {
    if (strcmp(request->method, "OPTIONS") == 0) return http_answer(wsi, request, 204, NULL, server->allowed_origins);
    struct engineio_query query = query_of(request);
    enum engineio_error error = engineio_query_check(&query);
    if (error != ENGINEIO_FINE) return refuse(server, wsi, request, error);
    if (!request->sid[0]) return begin_session(server, wsi, request);
    struct engineio_session *session = engineio_find(server->engineio, request->sid);
    if (!session) return refuse(server, wsi, request, ENGINEIO_UNKNOWN_SID);
    if (session->state == ENGINEIO_WEBSOCKET) return refuse(server, wsi, request, ENGINEIO_BAD_REQUEST);
    return strcmp(request->method, "GET") == 0 ? begin_poll(session, wsi, request, connection)
                                               : begin_post(session, wsi, request, connection);
}

int engineio_http_upgrade(struct server *server, struct lws *wsi, const struct http_request *request) {
    struct engineio_query query = query_of(request);
    enum engineio_error error = engineio_query_check(&query);
    if (error != ENGINEIO_FINE) return refuse(server, wsi, request, error);
    if (request->origin[0] && !http_origin_is_host(request) &&
        !http_origin_allowed(server->allowed_origins, request->origin))
        return refuse(server, wsi, request, ENGINEIO_FORBIDDEN);
    if (!request->sid[0]) {
        if (server->stopping || !server->is_ready)
            return http_answer_error(wsi, request, ERR_UNAVAILABLE, server->allowed_origins);
        if (tally_count(server->addresses, request->address) >= server->options.most_an_address)
            return http_answer_error(wsi, request, ERR_TOO_MANY_REQUESTS, server->allowed_origins);
        return 0;
    }
    struct engineio_session *session = engineio_find(server->engineio, request->sid);
    if (!session) return refuse(server, wsi, request, ENGINEIO_UNKNOWN_SID);
    return session->websocket ? refuse(server, wsi, request, ENGINEIO_BAD_REQUEST) : 0;
}
