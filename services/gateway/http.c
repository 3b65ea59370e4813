/*
 * http.c: between civetweb 1.15 and struct exchange.
 *
 * civetweb reads the head of a request into its thread's buffer and calls us; we read the body, decide, and write head
 * and body of the answer with one call. Everything it would answer by itself goes through on_error, so that every error
 * has API.md's form. What it does that one would not expect, all tested:
 *   - It keeps 64 headers and ignores the rest, Content-Length too: what follows would then be read as a second
 * request. So 64 headers are one too many, and the connection ends.
 *   - A target that is "*" or names another host or port reaches no callback: the connection ends without an answer.
 *     on_close answers those.
 *   - An unknown method is "Bad request"; it is known by then, so it can be 405 or 404 like any other.
 *   - Too large a head, an unprintable byte in it and a timeout are one and the same error. The buffer is therefore
 *     larger than our limit, which is checked here, and the clock tells a timeout.
 *   - mg_read waits for all bytes asked for or request_timeout_ms; "5abc" passes as Content-Length 5.
 *   - mg_stop drops what is still unsent and what arrives on idle connections, for up to 2 s: hence sockets.h, and
 *     main.c lets requests end before.
 *   - It listens on addresses only, but serves whatever socket it accepts from: a unix socket takes the place of an
 *     address that is never told to anybody. What connects there has no address.
 */
#include "services/gateway/http.h"

#include <civetweb.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/gateway/exchange.h"
#include "services/gateway/sockets.h"

enum {
    HEAD_MAX = 17 * 1024, /* a client's 16 KiB of headers and what the edge adds to them */
    BUFFER_SIZE = 32 * 1024,
    REQUEST_TIMEOUT_MS = 5000,
    KEEP_ALIVE_MS = 75000, /* longer than the edge keeps a connection that it does not use */
    CONNECTION_QUEUE = 128,
};
static const char unix_prefix[] = "unix:", placeholder[] = "127.0.0.1:0", no_address[] = "local";

/* One thread of the server. */
struct worker {
    struct exchange exchange;
    struct strbuf out;
    bool is_answered;      /* the request at hand */
    int64_t waiting_since; /* clock_monotonic_ms: for a request's head */
};

struct http_server {
    struct mg_context *context;
    char *endpoint; /* as sockets.h has it */
    int port;       /* 0: none */
    int wake;       /* in place of the listening socket; -1 while that is there */
};

static void *on_thread_start(const struct mg_context *context, int type) {
    if (type != 1) return NULL;
    struct worker *worker = xcalloc(1, sizeof(*worker));
    exchange_init(&worker->exchange, mg_get_user_data(context));
    strbuf_init(&worker->out);
    return worker;
}

static void on_thread_end(const struct mg_context *context, int type, void *pointer) {
    (void)context;
    struct worker *worker = pointer;
    if (type != 1 || worker == NULL) return;
    exchange_release(&worker->exchange);
    strbuf_release(&worker->out);
    free(worker);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* A refusal after which nobody can tell where the next request would begin. */
static bool refuse_and_close(struct exchange *exchange, int code, const char *sentence) {
    exchange_fail(exchange, code, sentence);
    exchange->answer.closes = true;
    return false;
}

static bool check_head(struct exchange *exchange, const struct mg_request_info *info) {
    const struct headers *headers = &exchange->request.headers;
    if (info->num_headers >= MG_MAX_HEADERS || headers->bytes + strlen(info->request_uri) > HEAD_MAX)
        return refuse_and_close(exchange, ERR_HEADERS_TOO_LARGE, NULL);
    if (headers->is_framing_ambiguous)
        return refuse_and_close(exchange, ERR_VALIDATION, "Content-Length, Transfer-Encoding or Host is ambiguous.");
    if (info->content_length > BODY_MAX) return refuse_and_close(exchange, ERR_PAYLOAD_TOO_LARGE, NULL);
    return true;
}

static bool refuse_broken_body(struct exchange *exchange) {
    bool is_late = clock_monotonic_ms() - exchange->request.started_us / 1000 >= REQUEST_TIMEOUT_MS - 10;
    return refuse_and_close(exchange, is_late ? ERR_REQUEST_TIMEOUT : ERR_VALIDATION,
        is_late ? NULL : "The body is shorter than announced, or its chunks make no sense.");
}

static bool read_body(struct mg_connection *connection, struct exchange *exchange, const struct mg_request_info *info) {
    struct strbuf *body = &exchange->request.body;
    bool is_chunked = exchange->request.headers.transfer_encoding != NULL;
    size_t wanted = is_chunked ? BODY_MAX + 1 : info->content_length > 0 ? (size_t)info->content_length : 0;
    const char *expect = exchange->request.headers.expect;
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (wanted > 0 && expect != NULL && strcasecmp(expect, "100-continue") == 0)
        mg_write(connection, go_on, sizeof(go_on) - 1);
    while (body->size < wanted) {
        int got = mg_read(connection, strbuf_reserve(body, wanted - body->size), wanted - body->size);
        if (got > 0) strbuf_add_size(body, (size_t)got);
        if (got == 0 && is_chunked) break;
        if (got <= 0 || (!is_chunked && body->size < wanted)) return refuse_broken_body(exchange);
    }
    if (body->size > BODY_MAX) return refuse_and_close(exchange, ERR_PAYLOAD_TOO_LARGE, NULL);
    return true;
}

static bool read_target(struct exchange *exchange, const char *uri, const char *query) {
    struct target target;
    if (!target_parse(uri, &target) || path_parse(target.path, target.path_size, &exchange->request.path) != 0) {
        exchange_fail(exchange, ERR_NOT_FOUND, NULL);
        return false;
    }
    exchange->request.query = query != NULL ? query : target.query;
    return true;
}

static void begin(struct worker *worker, const struct mg_request_info *info) {
    struct exchange *exchange = &worker->exchange;
    worker->is_answered = true;
    exchange_begin(exchange);
    exchange->request.peer = *info->remote_addr != '\0' ? info->remote_addr : no_address;
    if (info->request_method != NULL) {
        exchange->request.method_name = info->request_method;
        exchange->request.method = http_method_find(info->request_method, &exchange->request.is_head);
    }
    headers_parse(info->http_headers, info->num_headers, &exchange->request.headers);
    exchange_set_request_id(exchange, exchange->request.headers.request_id);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* civetweb's own rule for keeping a connection, told to the client. */
static bool wants_close(const struct exchange *exchange, const struct mg_request_info *info) {
    const struct headers *headers = &exchange->request.headers;
    if (exchange->answer.closes || headers->upgrade != NULL || atomic_load(&exchange->gateway->is_stopping))
        return true;
    if (headers->connection != NULL) return !header_has_member(headers->connection, "keep-alive");
    return info->http_version == NULL || strcmp(info->http_version, "1.1") != 0;
}

static void write_answer(struct mg_connection *connection, struct worker *worker, const struct mg_request_info *info) {
    struct exchange *exchange = &worker->exchange;
    exchange->answer.closes = wants_close(exchange, info);
    if (exchange->answer.closes) mg_disable_connection_keep_alive(connection);
    const struct answer_context context = {
        .request_id = exchange->request.id,
        .cors = cors_lines(exchange->gateway->cors, exchange->request.headers.origin),
        .is_https = exchange->caller.is_https,
        .is_head = exchange->request.is_head,
        .is_http10 = info->http_version != NULL && strcmp(info->http_version, "1.0") == 0,
    };
    strbuf_clear(&worker->out);
    size_t rest_size;
    const void *rest = answer_write(&exchange->answer, &context, &worker->out, &rest_size);
    int written = mg_write(connection, worker->out.data, worker->out.size);
    if (rest_size > 0 && written == (int)worker->out.size) mg_write(connection, rest, rest_size);
    exchange_end(exchange);
}

/* --- civetweb's callbacks ----------------------------------------------------------------------------------------- */

static void serve(struct mg_connection *connection, const char *query, bool is_last) {
    struct worker *worker = mg_get_thread_pointer(connection);
    struct exchange *exchange = &worker->exchange;
    const struct mg_request_info *info = mg_get_request_info(connection);
    begin(worker, info);
    if (check_head(exchange, info) && read_body(connection, exchange, info) &&
        read_target(exchange, info->request_uri, query))
        exchange_serve(exchange);
    if (is_last) exchange->answer.closes = true;
    write_answer(connection, worker, info);
}

static int on_request(struct mg_connection *connection) {
    serve(connection, mg_get_request_info(connection)->query_string, false);
    return ((struct worker *)mg_get_thread_pointer(connection))->exchange.answer.status;
}

static void on_request_end(const struct mg_connection *connection, int status) {
    (void)status;
    struct worker *worker = mg_get_thread_pointer(connection);
    worker->is_answered = false;
    worker->waiting_since = clock_monotonic_ms();
}

static int on_connection(const struct mg_connection *connection, void **ret_data) {
    (void)ret_data;
    on_request_end(connection, 0);
    return 0;
}

/* What civetweb could parse but will not serve. The socket is still open. */
static void on_close(const struct mg_connection *connection) {
    const struct worker *worker = mg_get_thread_pointer(connection);
    const struct mg_request_info *info = mg_get_request_info(connection);
    bool is_left = worker != NULL && !worker->is_answered && info != NULL && info->request_method != NULL &&
                   info->request_uri != NULL && info->local_uri == NULL;
    if (!is_left) return;
    serve((struct mg_connection *)connection, NULL, true);
}

static void fail_unread(struct worker *worker, int status) {
    struct exchange *exchange = &worker->exchange;
    switch (status) {
    case 411:
        exchange_fail(exchange, ERR_VALIDATION, "Content-Length is not a number.");
        break;
    case 413:
        exchange_fail(exchange, ERR_HEADERS_TOO_LARGE, NULL);
        break;
    case 500:
        exchange_fail(exchange, ERR_INTERNAL, NULL);
        break;
    case 505:
        exchange_fail(exchange, ERR_VALIDATION, "Speak HTTP/1.1 or HTTP/1.0.");
        break;
    default:
        exchange_fail(exchange, ERR_VALIDATION, "The request is not valid HTTP, or its head is far too large.");
        break;
    }
}

static int on_error(struct mg_connection *connection, int status, const char *message) {
    (void)message;
    struct worker *worker = mg_get_thread_pointer(connection);
    struct exchange *exchange = &worker->exchange;
    const struct mg_request_info *info = mg_get_request_info(connection);
    bool is_unread = info->request_method == NULL;
    begin(worker, info);
    bool is_late = is_unread && clock_monotonic_ms() - worker->waiting_since >= REQUEST_TIMEOUT_MS - 10;
    bool is_other_method = status == 400 && !is_unread && info->http_version != NULL && info->num_headers == 0 &&
                           exchange->request.method == HTTP_OTHER;
    if (is_late) {
        exchange_fail(exchange, ERR_REQUEST_TIMEOUT, NULL);
    } else if (!is_other_method) {
        fail_unread(worker, status);
    } else if (read_target(exchange, info->request_uri, NULL)) {
        exchange_serve(exchange);
    }
    exchange->answer.closes = true;
    write_answer(connection, worker, info);
    return 0;
}

static int on_message(const struct mg_connection *connection, const char *message) {
    (void)connection;
    log_debug("civetweb: %s", message);
    return 1;
}

/* --- start and stop ----------------------------------------------------------------------------------------------- */

static struct mg_context *start_civetweb(
    struct gateway *gateway, const char *listen, int threads, char *ret_complaint, size_t complaint_size) {
    char thread_count[16], queue[16], buffer[16], timeout[16], keep_alive[16];
    snprintf(thread_count, sizeof(thread_count), "%d", threads);
    snprintf(queue, sizeof(queue), "%d", CONNECTION_QUEUE);
    snprintf(buffer, sizeof(buffer), "%d", BUFFER_SIZE);
    snprintf(timeout, sizeof(timeout), "%d", REQUEST_TIMEOUT_MS);
    snprintf(keep_alive, sizeof(keep_alive), "%d", KEEP_ALIVE_MS);
    const char *options[] = { "listening_ports", listen, "num_threads", thread_count, "connection_queue", queue,
        "max_request_size", buffer, "request_timeout_ms", timeout, "enable_keep_alive", "yes", "keep_alive_timeout_ms",
        keep_alive, "tcp_nodelay", "1", "decode_url", "no", "enable_auth_domain_check", "no",
        "enable_directory_listing", "no", NULL };
    const struct mg_callbacks callbacks = {
        .begin_request = on_request,
        .end_request = on_request_end,
        .init_connection = on_connection,
        .connection_close = on_close,
        .http_error = on_error,
        .log_message = on_message,
        .init_thread = on_thread_start,
        .exit_thread = on_thread_end,
    };
    struct mg_init_data setup = { &callbacks, gateway, options };
    struct mg_error_data error = { .code = NULL, .text = ret_complaint, .text_buffer_size = complaint_size };
    mg_init_library(MG_FEATURES_DEFAULT);
    struct mg_context *context = mg_start2(&setup, &error);
    if (context == NULL && *ret_complaint == '\0') snprintf(ret_complaint, complaint_size, "%s", strerror(errno));
    if (context == NULL) mg_exit_library();
    return context;
}

/* Has it listen at the descriptor instead. */
static void move_to(struct http_server *self, int descriptor, const char *endpoint) {
    sockets_replace_listening(self->endpoint, descriptor);
    close(descriptor);
    free(self->endpoint);
    self->endpoint = xstrdup(endpoint);
    self->port = 0;
}

struct http_server *http_start(struct gateway *gateway, const char *listen, int threads, char **ret_complaint) {
    char complaint[256] = "";
    bool is_unix = strncmp(listen, unix_prefix, sizeof(unix_prefix) - 1) == 0;
    int descriptor = is_unix ? sockets_listen_unix(listen + sizeof(unix_prefix) - 1) : -1;
    if (is_unix && descriptor < 0) {
        *ret_complaint = xasprintf("cannot listen on %s: %s", listen, strerror(-descriptor));
        return NULL;
    }
    struct mg_context *context =
        start_civetweb(gateway, is_unix ? placeholder : listen, threads, complaint, sizeof(complaint));
    if (context == NULL) {
        *ret_complaint = xasprintf(
            "cannot listen on %s: %s (is the port in use, or the address not this machine's?)", listen, complaint);
        if (is_unix) close(descriptor);
        return NULL;
    }
    struct mg_server_port port = { .port = 0 };
    mg_get_server_ports(context, 1, &port);
    struct http_server *self = xcalloc(1, sizeof(*self));
    *self = (struct http_server){
        .context = context, .endpoint = xasprintf(":%d", port.port), .port = port.port, .wake = -1
    };
    if (is_unix) move_to(self, descriptor, listen);
    return self;
}

int http_port(const struct http_server *self) {
    return self->port;
}

void http_stop_listening(struct http_server *self) {
    if (self->wake < 0) self->wake = sockets_stop_listening(self->endpoint);
}

void http_stop(struct http_server *self) {
    if (self == NULL) return;
    http_stop_listening(self);
    sockets_end_reading(self->endpoint);
    if (self->wake >= 0) eventfd_write(self->wake, 1);
    mg_stop(self->context);
    mg_exit_library();
    if (self->wake >= 0) close(self->wake);
    free(self->endpoint);
    free(self);
}
