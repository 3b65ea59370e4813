/*
 * sse_stream.c: see sse_stream.h.
 *
 * States: ADMITTING (admission holds a job), OPEN (in the hub), ENDING (out of the hub, what is queued is still
 * written), CLOSED (no socket; freed when admission's job is back). A resumed stream first says `connected` with the
 * cursor it continues from, then what was missed, then what happens: a client that breaks off anywhere asks again from
 * the right place.
 */
#include "services/stream/sse_stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/stream/client_watch.h"
#include "services/stream/resume.h"
#include "services/stream/sse.h"

enum { ADMITTING_SECONDS = 5, WRITE_MAX = 32768, RETRY_SPREAD_MS = 4000 };

enum state { STATE_ADMITTING, STATE_OPEN, STATE_ENDING };

struct sse_stream {
    struct subscriber subscriber; /* first */
    struct server *server;
    struct lws *wsi; /* NULL: closed */
    struct client_watch watch;
    struct tally_entry *address;
    enum state state;
    bool is_counted; /* among the open ones */
    bool job_is_out;
    unsigned char seconds_quiet;
    int64_t told_cursor; /* the id that the client has */
    char request_id[65];
    char origin[]; /* for the answer that comes later */
};

static void wake(struct subscriber *subscriber);
static void end(struct subscriber *subscriber, const char *reason);

static const struct transport sse_transport = {
    .name = "sse", .append_event = sse_append_event, .wake = wake, .end = end
};

static struct sse_stream *stream_of(struct subscriber *subscriber) {
    return (struct sse_stream *)subscriber;
}

/* The head of an answer that is given after the request's headers are gone. */
static void request_of(const struct sse_stream *self, struct http_request *ret_request) {
    memset(ret_request, 0, sizeof *ret_request);
    memcpy(ret_request->request_id, self->request_id, sizeof ret_request->request_id);
    snprintf(ret_request->origin, sizeof ret_request->origin, "%s", self->origin);
}

/* ---- writing ---- */

/* Writes what fits into one buffer; less system calls than one write an event. */
static int write_some(struct sse_stream *self) {
    static unsigned char buffer[LWS_PRE + WRITE_MAX]; /* the loop is one thread */
    struct outgoing_queue *queue = &self->subscriber.queue;
    struct outgoing *item = outgoing_queue_peek(queue);
    self->seconds_quiet = 0;
    self->told_cursor = self->subscriber.cursor;
    if (queue->count == 1 || outgoing_size(item) > WRITE_MAX) {
        int written = lws_write(self->wsi, outgoing_text(item), outgoing_size(item), LWS_WRITE_HTTP);
        outgoing_queue_pop(queue);
        return written < 0 ? -1 : 0;
    }
    size_t size = 0;
    while ((item = outgoing_queue_peek(queue)) != NULL && size + outgoing_size(item) <= WRITE_MAX) {
        memcpy(buffer + LWS_PRE + size, outgoing_text(item), outgoing_size(item));
        size += outgoing_size(item);
        outgoing_queue_pop(queue);
    }
    return lws_write(self->wsi, buffer + LWS_PRE, size, LWS_WRITE_HTTP) < 0 ? -1 : 0;
}

/* A kill must not come from inside a walk over the hub: lws does it at its next turn. */
static void kill_soon(struct sse_stream *self) {
    hub_remove(self->server->hub, &self->subscriber);
    self->state = STATE_ENDING;
    lws_set_timeout(self->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void wake(struct subscriber *subscriber) {
    struct sse_stream *self = stream_of(subscriber);
    /* what the socket does not take lws keeps, once; until it has left we queue */
    if (lws_partial_buffered(self->wsi))
        lws_callback_on_writable(self->wsi);
    else if (write_some(self) < 0)
        kill_soon(self);
    else if (!outgoing_queue_empty(&subscriber->queue))
        lws_callback_on_writable(self->wsi);
}

static int on_writeable(void *owner) {
    struct sse_stream *self = owner;
    if (!outgoing_queue_empty(&self->subscriber.queue) && write_some(self) < 0) return -1;
    if (!outgoing_queue_empty(&self->subscriber.queue)) {
        lws_callback_on_writable(self->wsi);
        return 0;
    }
    return self->state == STATE_ENDING ? -1 : 0;
}

static void end(struct subscriber *subscriber, const char *reason) {
    struct sse_stream *self = stream_of(subscriber);
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    if (strcmp(reason, "server_shutdown") == 0) { /* not all at once at whoever is left */
        unsigned char random[2];
        random_bytes(random, sizeof random);
        strbuf_append_format(&text, "retry: %d\n", SSE_RETRY_MS / 2 + (random[0] * 256 + random[1]) % RETRY_SPREAD_MS);
    }
    strbuf_append_format(&text, ": closed: %s\n\n", reason);
    if (!lws_send_pipe_choked(self->wsi)) {
        struct outgoing *last = outgoing_new(text.data, text.size);
        lws_write(self->wsi, outgoing_text(last), outgoing_size(last), LWS_WRITE_HTTP);
        outgoing_unref(last);
    }
    kill_soon(self);
}

/* ---- opening ---- */

static void queue_text(struct sse_stream *self, const struct strbuf *text) {
    struct outgoing *item = outgoing_new(text->data, text->size);
    outgoing_queue_push(&self->subscriber.queue, item, false);
    outgoing_unref(item);
}

struct telling {
    struct strbuf *text;
    const char *epoch;
};

static void tell(const struct event *event, void *user_data) {
    struct telling *telling = user_data;
    sse_append_event(telling->text, telling->epoch, event);
}

static void count(struct sse_stream *self, bool is_open) {
    struct server *server = self->server;
    self->is_counted = is_open;
    server->sse_open += is_open ? 1 : -1U;
    gauge_set(server->active_sse, server->sse_open);
    if (is_open) counter_add(server->opened_sse, 1);
}

static int open_stream(struct sse_stream *self, const char *user_id, const struct resume *resume) {
    struct server *server = self->server;
    struct http_request request;
    request_of(self, &request);
    int error = hub_add(server->hub, &self->subscriber, user_id);
    if (error) return http_answer_error(self->wsi, &request, error, server->allowed_origins);
    self->state = STATE_OPEN;
    count(self, true);
    if (http_begin_events(self->wsi, &request, server->allowed_origins) != 0) return -1;
    lws_set_timeout(self->wsi, NO_PENDING_TIMEOUT, 0);
    lws_http_headers_detach(self->wsi); /* the headers' storage goes back to the pool */

    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    int64_t now = clock_wall_ms();
    sse_append_connected(&text, server->epoch, resume->cursor, now);
    if (resume->reset) sse_append_reset(&text, server->epoch, resume->cursor, now);
    resume_tell(server, &self->subscriber, user_id, resume, tell, &(struct telling){ &text, server->epoch });
    queue_text(self, &text);
    lws_callback_on_writable(self->wsi);
    return 0;
}

static void on_admitted(struct server *server, struct admission_job *job) {
    struct sse_stream *self = job->connection;
    self->job_is_out = false;
    if (!self->wsi) {
        free(self);
    } else {
        struct http_request request;
        struct resume resume;
        request_of(self, &request);
        int error = resume_from_job(server, job, &resume);
        int result = error ? http_answer_error(self->wsi, &request, error, server->allowed_origins)
                           : open_stream(self, job->claims.user_id, &resume);
        if (result != 0) kill_soon(self);
    }
    admission_job_free(job);
}

/* Gives the job to admission, or answers that it cannot. */
static int submit(struct sse_stream *self, struct admission_job *job, const struct http_request *request) {
    job->connection = self;
    job->on_answer = on_admitted;
    int error = resume_submit(self->server, job, request->request_id);
    if (error) {
        admission_job_free(job);
        return http_answer_error(self->wsi, request, error, self->server->allowed_origins);
    }
    self->state = STATE_ADMITTING;
    self->job_is_out = true;
    lws_set_timeout(self->wsi, PENDING_TIMEOUT_HTTP_CONTENT, ADMITTING_SECONDS);
    return 0;
}

static void on_closed(void *owner) {
    struct sse_stream *self = owner;
    struct server *server = self->server;
    hub_remove(server->hub, &self->subscriber);
    if (self->is_counted) count(self, false);
    tally_drop(server->addresses, self->address);
    client_watch_stop(&self->watch, server->loop);
    self->wsi = NULL;
    if (!self->job_is_out) free(self);
}

static const struct connection_handler handler = { .writeable = on_writeable, .closed = on_closed };

static struct sse_stream *stream_new(
    struct server *server, struct lws *wsi, const struct http_request *request, const struct token_claims *claims) {
    size_t origin_size = strlen(request->origin) + 1;
    struct sse_stream *self = xcalloc(1, sizeof *self + origin_size);
    self->server = server;
    self->wsi = wsi;
    self->subscriber.transport = &sse_transport;
    self->subscriber.expires_at = claims->expires_at;
    self->subscriber.everything = request->scope_all;
    snprintf(self->subscriber.session_id, sizeof self->subscriber.session_id, "%.40s", claims->session_id);
    memcpy(self->request_id, request->request_id, sizeof self->request_id);
    memcpy(self->origin, request->origin, origin_size);
    server_bound_socket(wsi);
    client_watch_start(&self->watch, server->loop, wsi);
    return self;
}

int sse_stream_begin(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection) {
    struct token_claims claims;
    if (!request->token[0] || token_cache_verify(server->tokens, request->token, &claims) != 0)
        return http_answer_error(wsi, request, ERR_UNAUTHORIZED, server->allowed_origins);
    int known = revocations_check_cached(server->revocations, &claims);
    if (known == ERR_UNAUTHORIZED) return http_answer_error(wsi, request, ERR_UNAUTHORIZED, server->allowed_origins);
    struct tally_entry *address = tally_take(server->addresses, request->address);
    if (!address) return http_answer_error(wsi, request, ERR_TOO_MANY_REQUESTS, server->allowed_origins);

    struct sse_stream *self = stream_new(server, wsi, request, &claims);
    self->address = address;
    *connection = (struct connection){ &handler, self };
    struct resume resume;
    struct admission_job *job = xcalloc(1, sizeof *job);
    job->claims = claims;
    job->everything = request->scope_all;
    resume_plan(server, request->last_event_id, job, &resume);
    if (known != 0 || job->everything || job->replay) return submit(self, job, request);
    admission_job_free(job);
    return open_stream(self, claims.user_id, &resume);
}

void sse_stream_tick(struct subscriber *subscriber, void *server_pointer) {
    struct server *server = server_pointer;
    struct sse_stream *self = stream_of(subscriber);
    if (subscriber->transport != &sse_transport || ++self->seconds_quiet < SSE_COMMENT_SECONDS) return;
    /* every event up to the newest was considered for every stream: an idle client's cursor must not grow old */
    if (recent_head(server->recent) > subscriber->cursor) subscriber->cursor = recent_head(server->recent);
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    sse_append_keep_alive(&text, server->epoch, subscriber->cursor > self->told_cursor ? subscriber->cursor : -1);
    struct outgoing *item = outgoing_new(text.data, text.size);
    hub_send(server->hub, subscriber, item, true);
    outgoing_unref(item);
}
