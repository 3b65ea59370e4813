/*
 * server.c: the lws context, its one HTTP protocol, the letters from other threads and the tick of a second. See
 * server.h.
 *
 * Paths: /api/events/status and /api/v1/events/status (sse_stream.c), /livez. Everything else is 404 here; the edge
 * sends only these and /socket.io/.
 */
#include "services/stream/server.h"

#include <ev.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/stream/sse_stream.h"

enum {
    TICK_US = 1000000,
    ENDING_US = 100000, /* what is written last has this long to leave */
    STOP_MS = 2000,
    RECENT_EVENTS = 20000,
    RECENT_BYTES = 16 * 1024 * 1024,
    TOKENS_CACHED = 20000,
    HEADER_BYTES = 16384,
};

/* lws keeps one of these for each HTTP connection. */
struct per_connection {
    struct sse_stream *stream;
};

int64_t server_now_seconds(void) {
    return (int64_t)time(NULL);
}

static struct server *server_of(struct lws *wsi) {
    return lws_context_user(lws_get_context(wsi));
}

static bool is_status_path(const char *path) {
    return strcmp(path, "/api/events/status") == 0 || strcmp(path, "/api/v1/events/status") == 0;
}

static int on_request(struct server *self, struct lws *wsi, const char *path, struct per_connection *connection) {
    struct http_request request;
    http_request_read(wsi, path, &request);
    bool is_get = strcmp(request.method, "GET") == 0;
    if (strcmp(path, "/livez") == 0 && is_get)
        return self->stopping ? http_answer_error(wsi, &request, ERR_UNAVAILABLE, self->allowed_origins)
                              : http_answer(wsi, &request, 200, "{\"status\":\"alive\"}", self->allowed_origins);
    if (!is_status_path(path)) return http_answer_error(wsi, &request, ERR_NOT_FOUND, self->allowed_origins);
    if (strcmp(request.method, "OPTIONS") == 0) return http_answer(wsi, &request, 204, NULL, self->allowed_origins);
    if (!is_get) return http_answer_error(wsi, &request, ERR_METHOD_NOT_ALLOWED, self->allowed_origins);
    if (self->stopping) return http_answer_error(wsi, &request, ERR_UNAVAILABLE, self->allowed_origins);
    return sse_stream_begin(self, wsi, &request, &connection->stream);
}

static void refuse_admission(struct admission_job *job) {
    job->error = ERR_UNAUTHORIZED;
}

/* The answer to a recheck: streams of one who is no admin any more end. */
static void on_recheck(struct server *self, struct admission_job *job) {
    if (job->error == ERR_FORBIDDEN || job->error == ERR_UNAUTHORIZED)
        hub_end_everything_of(self->hub, job->claims.user_id, "forbidden");
    admission_job_free(job);
}

/* While ending: leaves the loop as soon as the streams are gone, or when their time is over. */
static void on_ending(lws_sorted_usec_list_t *ending) {
    struct server *self = lws_container_of(ending, struct server, ending);
    if (hub_count(self->hub) == 0 || clock_monotonic_ms() >= self->stop_deadline_ms)
        ev_break(self->loop, EVBREAK_ALL);
    else
        lws_sul_schedule(self->context, 0, &self->ending, on_ending, ENDING_US);
}

static void on_letter(struct server *self, struct letter *letter) {
    switch (letter->kind) {
    case LETTER_EVENT:
        recent_add(self->recent, &letter->event);
        hub_publish(self->hub, self->epoch, &letter->event);
        break;
    case LETTER_RESET:
        self->read_epoch(self->epoch, sizeof self->epoch);
        recent_reset(self->recent, letter->head);
        hub_end_all(self->hub, "log_reset"); /* they come back with their cursor and are told to reload */
        break;
    case LETTER_REVOKED:
        hub_end_session(self->hub, letter->session_id, "token_revoked");
        break;
    case LETTER_ADMITTED: {
        struct admission_job *job = TAKE_PTR(letter->job);
        if (job->recheck) {
            on_recheck(self, job);
            break;
        }
        if (revocations_check_cached(self->revocations, &job->claims) == ERR_UNAUTHORIZED)
            refuse_admission(job); /* revoked while it waited */
        sse_stream_admitted(self, job);
        break;
    }
    case LETTER_STOP:
        self->stopping = true;
        self->stop_deadline_ms = clock_monotonic_ms() + STOP_MS;
        hub_end_all(self->hub, "server_shutdown");
        lws_sul_schedule(self->context, 0, &self->ending, on_ending, ENDING_US);
        break;
    }
}

static void read_letters(struct server *self) {
    struct letter *next;
    for (struct letter *letter = inbox_take(self->inbox); letter; letter = next) {
        next = letter->next;
        on_letter(self, letter);
        letter_free(letter);
    }
}

/* Asks anew whether those who listen to everything may. One job an admin stream and second; admins are few. */
static void recheck(struct subscriber *subscriber, void *server) {
    struct server *self = server;
    if (!subscriber->everything) return;
    struct admission_job *job = xcalloc(1, sizeof *job);
    job->recheck = true;
    job->deadline_ms = clock_monotonic_ms() + 1000;
    snprintf(job->claims.user_id, sizeof job->claims.user_id, "%s", hub_user_id(subscriber));
    snprintf(job->claims.session_id, sizeof job->claims.session_id, "%s", subscriber->session_id);
    if (!admission_submit(self->admission, job)) admission_job_free(job);
}

static void on_tick(lws_sorted_usec_list_t *tick) {
    struct server *self = lws_container_of(tick, struct server, tick);
    hub_end_expired(self->hub, server_now_seconds());
    hub_each(self->hub, sse_stream_tick, self);
    hub_each(self->hub, recheck, self);
    gauge_set(self->active_sse, hub_count(self->hub));
    lws_sul_schedule(self->context, 0, &self->tick, on_tick, TICK_US);
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    struct per_connection *connection = user;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return on_request(server_of(wsi), wsi, in, connection);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return connection && connection->stream ? sse_stream_writeable(connection->stream) : 0;
    case LWS_CALLBACK_CLOSED_HTTP:
        if (connection && connection->stream) sse_stream_closed(TAKE_PTR(connection->stream));
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED: {
        struct server *self = server_of(wsi);
        if (self->context) /* not before lws_create_context has returned */
            read_letters(self);
        return 0;
    }
    default:
        return lws_callback_http_dummy(wsi, reason, user, in, size);
    }
}

static const struct lws_protocols protocols[] = {
    { .name = "http", .callback = on_http, .per_session_data_size = sizeof(struct per_connection) },
    { 0 },
};

static void on_lws_log(int level, const char *line) {
    size_t length = strcspn(line, "\n");
    if (level & (LLL_ERR | LLL_WARN))
        log_warning("libwebsockets: %.*s", (int)length, line);
    else
        log_debug("libwebsockets: %.*s", (int)length, line);
}

void server_wake(void *server) {
    struct server *self = server;
    if (self->context) lws_cancel_service(self->context);
}

static struct lws_context *context_new(struct server *self, const struct server_options *options) {
    struct lws_context_creation_info info = {
        .port = options->port,
        .iface = options->address,
        .protocols = protocols,
        .user = self,
        .foreign_loops = (void *[]){ self->loop },
        .gid = -1,
        .uid = -1,
        .options = LWS_SERVER_OPTION_LIBEV | LWS_SERVER_OPTION_DISABLE_IPV6 |
                   LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .max_http_header_data = HEADER_BYTES,
        .max_http_header_pool2 = options->hub.most,
        .fd_limit_per_thread = options->hub.most + 100,
        .timeout_secs = 10,
        .timeout_secs_ah_idle = 10,
        .pt_serv_buf_size = 4096,
        .server_string = "bore",
        .vhost_name = "stream",
        .ka_time = 60,
        .ka_interval = 10,
        .ka_probes = 3,
    };
    return lws_create_context(&info);
}

struct server *server_new(const struct server_options *options) {
    lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);
    struct server *self = xcalloc(1, sizeof *self);
    self->allowed_origins = options->allowed_origins;
    self->hub = hub_new(&options->hub);
    self->recent = recent_new(RECENT_EVENTS, RECENT_BYTES);
    self->tokens = token_cache_new(options->jwt_secret, TOKENS_CACHED);
    token_cache_accept(self->tokens, options->jwt_secret_previous);
    self->inbox = inbox_new(server_wake, self);
    self->active_sse = counter_get(GAUGE, "bore_active_sse_connections", "");
    self->opened_sse = counter_get(COUNTER, "bore_sse_connections_total", "");
    self->loop = ev_loop_new(EVFLAG_AUTO);
    self->context = context_new(self, options);
    if (!self->context) {
        server_free(self);
        return NULL;
    }
    return self;
}

void server_run(struct server *self) {
    lws_sul_schedule(self->context, 0, &self->tick, on_tick, 1);
    read_letters(self); /* posted before the loop could be woken */
    ev_run(self->loop, 0);
    inbox_close(self->inbox);
}

void server_free(struct server *self) {
    if (!self) return;
    if (self->context) {
        lws_sul_cancel(&self->tick);
        lws_sul_cancel(&self->ending);
        lws_context_destroy(self->context);
        self->context = NULL;
    }
    if (self->loop) ev_loop_destroy(self->loop);
    inbox_free(self->inbox);
    token_cache_free(self->tokens);
    recent_free(self->recent);
    hub_free(self->hub);
    free(self);
}
