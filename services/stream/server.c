/*
 * server.c: the lws context, its one HTTP protocol, the letters from other threads and the tick of a second. See
 * server.h.
 *
 * Paths: /api/events/status and /api/v1/events/status (sse_stream.c), /socket.io/ (engineio_http.c), /livez. Everything
 * else is 404 here.
 */
#include "services/stream/server.h"

#include <czmq.h>
#include <ev.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/stream/engineio.h"
#include "services/stream/engineio_http.h"
#include "services/stream/sse_stream.h"

enum {
    TICK_US = 1000000,
    ENDING_US = 100000, /* what is written last has this long to leave */
    STOP_MS = 2500,
    STOP_SPREAD_MS = 1500, /* the streams are ended over this time, so that they do not come back all at once */
    RECENT_BYTES = 16 * 1024 * 1024,
    TOKENS_CACHED = 20000,
    HEADER_BYTES = 16384,
    SOCKET_BYTES = 65536, /* the kernel doubles it, for its own needs */
    RECEIVE_BYTES = 512,  /* lws keeps a buffer of this size for each WebSocket; longer messages come in parts */
    REPLAYS_PER_USER = 200,
};

int64_t server_now_seconds(void) {
    return (int64_t)time(NULL);
}

void server_bound_socket(struct lws *wsi) {
    int size = SOCKET_BYTES;
    (void)setsockopt(lws_get_socket_fd(wsi), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static struct server *server_of(struct lws *wsi) {
    return lws_context_user(lws_get_context(wsi));
}

static bool is_status_path(const char *path) {
    return strcmp(path, "/api/events/status") == 0 || strcmp(path, "/api/v1/events/status") == 0;
}

static bool is_socketio_path(const char *path) {
    return strcmp(path, "/socket.io/") == 0 || strcmp(path, "/socket.io") == 0;
}

static int on_request(struct server *self, struct lws *wsi, const char *path, struct connection *connection) {
    struct http_request request;
    http_request_read(wsi, path, self->options.edge_secret, &request);
    if (is_socketio_path(path)) return engineio_http_request(self, wsi, &request, connection);
    bool is_get = strcmp(request.method, "GET") == 0;
    if (strcmp(path, "/livez") == 0 && is_get)
        return self->stopping ? http_answer_error(wsi, &request, ERR_UNAVAILABLE, self->allowed_origins)
                              : http_answer(wsi, &request, 200, "{\"status\":\"alive\"}", self->allowed_origins);
    if (!is_status_path(path)) return http_answer_error(wsi, &request, ERR_NOT_FOUND, self->allowed_origins);
    if (strcmp(request.method, "OPTIONS") == 0) return http_answer(wsi, &request, 204, NULL, self->allowed_origins);
    if (!is_get) return http_answer_error(wsi, &request, ERR_METHOD_NOT_ALLOWED, self->allowed_origins);
    if (self->stopping || !self->is_ready)
        return http_answer_error(wsi, &request, ERR_UNAVAILABLE, self->allowed_origins);
    return sse_stream_begin(self, wsi, &request, connection);
}

/* Before the answer to the request for a WebSocket: 0 goes on, -1 was refused. */
static int on_upgrade(struct server *self, struct lws *wsi) {
    char path[128];
    struct http_request request;
    if (lws_hdr_copy(wsi, path, sizeof path, WSI_TOKEN_GET_URI) < 0) path[0] = '\0';
    http_request_read(wsi, path, self->options.edge_secret, &request);
    if (!is_socketio_path(path)) return http_answer_error(wsi, &request, ERR_NOT_FOUND, self->allowed_origins);
    return engineio_http_upgrade(self, wsi, &request);
}

static int on_websocket(struct server *self, struct lws *wsi, struct connection *connection) {
    struct http_request request;
    http_request_read(wsi, "/socket.io/", self->options.edge_secret, &request);
    return engineio_websocket_begin(self, wsi, &request, connection);
}

static void refuse_admission(struct admission_job *job) {
    job->error = ERR_UNAUTHORIZED;
}

/* The answer to a recheck: streams of one who is no admin any more end. A session that ended is revocation's affair. */
static void on_recheck(struct server *self, struct admission_job *job) {
    if (job->error == ERR_FORBIDDEN) hub_end_privileged_of(self->hub, job->claims.user_id, "forbidden");
    admission_job_free(job);
}

/* While ending: leaves the loop as soon as the streams are gone, or when their time is over. */
static void on_ending(lws_sorted_usec_list_t *ending) {
    struct server *self = lws_container_of(ending, struct server, ending);
    int64_t left = (self->stop_deadline_ms - clock_monotonic_ms() - (STOP_MS - STOP_SPREAD_MS)) * 1000 / ENDING_US;
    hub_end_some(self->hub, left > 0 ? hub_count(self->hub) / (unsigned)(left + 1) + 1 : UINT_MAX, "server_shutdown");
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
    case LETTER_CAUGHT_UP:
        self->is_ready = true;
        break;
    case LETTER_REVOKED:
        hub_end_session(self->hub, letter->session_id, "token_revoked");
        break;
    case LETTER_ADMITTED: {
        struct admission_job *job = TAKE_PTR(letter->job);
        tally_drop(self->replays, TAKE_PTR(job->replays_of_user));
        if (revocations_check_cached(self->revocations, &job->claims) == ERR_UNAUTHORIZED)
            refuse_admission(job); /* revoked while it waited */
        job->on_answer(self, job);
        break;
    }
    case LETTER_STOP:
        self->stopping = true;
        self->stop_deadline_ms = clock_monotonic_ms() + STOP_MS;
        engineio_announce_shutdown(self->engineio);
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

/* Asks anew whether those who see what is not theirs may. One job an admin and second; admins are few. */
static void recheck(struct subscriber *subscriber, void *user_data) {
    struct server *self = user_data;
    if (!hub_is_privileged(subscriber) || zhashx_lookup(self->rechecked, hub_user_id(subscriber))) return;
    struct admission_job *job = xcalloc(1, sizeof *job);
    job->kind = ADMISSION_RECHECK;
    job->on_answer = on_recheck;
    job->deadline_ms = clock_monotonic_ms() + 1000;
    snprintf(job->claims.user_id, sizeof job->claims.user_id, "%s", hub_user_id(subscriber));
    snprintf(job->claims.session_id, sizeof job->claims.session_id, "%s", subscriber->session_id);
    zhashx_insert(self->rechecked, hub_user_id(subscriber), self);
    if (!admission_submit(self->admission, job)) admission_job_free(job);
}

static void on_tick(lws_sorted_usec_list_t *tick) {
    struct server *self = lws_container_of(tick, struct server, tick);
    hub_end_expired(self->hub, server_now_seconds());
    hub_each(self->hub, sse_stream_tick, self);
    if (hub_privileged_count(self->hub) > 0) {
        zhashx_purge(self->rechecked);
        hub_each(self->hub, recheck, self);
    }
    lws_sul_schedule(self->context, 0, &self->tick, on_tick, TICK_US);
}

static int on_writeable(struct connection *connection) {
    return connection && connection->handler ? connection->handler->writeable(connection->owner) : 0;
}

static int on_closed(struct connection *connection) {
    if (!connection || !connection->handler) return 0;
    const struct connection_handler *handler = connection->handler;
    connection->handler = NULL;
    handler->closed(connection->owner);
    return 0;
}

static int on_body(struct connection *connection, const void *data, size_t size) {
    if (!connection || !connection->handler || !connection->handler->body) return -1;
    return size ? connection->handler->body(connection->owner, data, size) : 0;
}

static int on_body_complete(struct connection *connection) {
    if (!connection || !connection->handler || !connection->handler->body_complete) return -1;
    return connection->handler->body_complete(connection->owner);
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    struct connection *connection = user;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return on_request(server_of(wsi), wsi, in, connection);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(server_of(wsi), wsi);
    case LWS_CALLBACK_ESTABLISHED:
        return on_websocket(server_of(wsi), wsi, connection);
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_RECEIVE:
        return on_body(connection, in, size);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return on_body_complete(connection);
    case LWS_CALLBACK_HTTP_WRITEABLE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writeable(connection);
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_CLOSED:
        return on_closed(connection);
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
    { .name = "http",
        .callback = on_http,
        .per_session_data_size = sizeof(struct connection),
        .rx_buffer_size = RECEIVE_BYTES },
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
        .fd_limit_per_thread = 2 * options->hub.most + 100, /* a Socket.IO session can have a GET and a POST */
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
    self->options = *options;
    self->options.address = NULL;
    self->allowed_origins = options->allowed_origins;
    self->addresses = tally_new(options->most_an_address);
    self->replays = tally_new(REPLAYS_PER_USER);
    self->rechecked = zhashx_new();
    self->hub = hub_new(&options->hub);
    self->recent = recent_new(SERVER_RECENT_EVENTS, RECENT_BYTES);
    self->tokens = token_cache_new(options->jwt_secret, TOKENS_CACHED);
    token_cache_accept(self->tokens, options->jwt_secret_previous);
    self->inbox = inbox_new(server_wake, self);
    self->active_sse = counter_get(GAUGE, "bore_active_sse_connections", "");
    self->opened_sse = counter_get(COUNTER, "bore_sse_connections_total", "");
    self->active_socketio = counter_get(GAUGE, "bore_active_socketio_connections", "");
    self->opened_socketio = counter_get(COUNTER, "bore_socketio_connections_total", "");
    self->loop = ev_loop_new(EVFLAG_AUTO);
    self->context = context_new(self, options);
    if (!self->context) {
        server_free(self);
        return NULL;
    }
    self->engineio = engineio_new(self);
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
        engineio_stop(self->engineio);
        lws_sul_cancel(&self->tick);
        lws_sul_cancel(&self->ending);
        lws_context_destroy(self->context);
        self->context = NULL;
    }
    if (self->loop) ev_loop_destroy(self->loop);
    engineio_free(self->engineio);
    inbox_free(self->inbox);
    tally_free(self->addresses);
    tally_free(self->replays);
    zhashx_destroy(&self->rechecked);
    token_cache_free(self->tokens);
    recent_free(self->recent);
    hub_free(self->hub);
    free(self);
}
