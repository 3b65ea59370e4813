/*
 * http.c: see http.h.
 *
 * Every answer that is not a stream closes its connection: streams are what this process is for, HAProxy opens a new
 * connection to it in microseconds, and a body that nobody read can then do no harm.
 */
#include "services/stream/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "proto/message_json.h"
#include "proto/protocol.h"

enum { ANSWER_MAX = 2048 };

static void read_method(struct lws *wsi, char *ret_method, size_t size) {
    static const struct {
        enum lws_token_indexes token;
        const char *name;
    } methods_known[] = {
        { WSI_TOKEN_GET_URI, "GET" },
        { WSI_TOKEN_POST_URI, "POST" },
        { WSI_TOKEN_OPTIONS_URI, "OPTIONS" },
        { WSI_TOKEN_PUT_URI, "PUT" },
        { WSI_TOKEN_PATCH_URI, "PATCH" },
        { WSI_TOKEN_DELETE_URI, "DELETE" },
        { WSI_TOKEN_HEAD_URI, "HEAD" },
    };
    snprintf(ret_method, size, "%s", "");
    for (size_t i = 0; i < ARRAY_SIZE(methods_known); i++) {
        if (lws_hdr_total_length(wsi, methods_known[i].token) > 0)
            snprintf(ret_method, size, "%s", methods_known[i].name);
    }
}

/* A header that lws has no token for; "" when absent or too long. */
static void read_custom(struct lws *wsi, const char *name_and_colon, char *ret_value, size_t size) {
    ret_value[0] = '\0';
    if (lws_hdr_custom_copy(wsi, ret_value, (int)size, name_and_colon, (int)strlen(name_and_colon)) < 0)
        ret_value[0] = '\0';
}

static bool is_sane_request_id(const char *text) {
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length <= 64 && text[length] == '\0';
}

static void read_cookie_token(struct lws *wsi, char *ret_token, size_t size) {
    char cookies[8192];
    if (lws_hdr_copy(wsi, cookies, sizeof cookies, WSI_TOKEN_HTTP_COOKIE) <= 0) return;
    char *rest = cookies, *pair;
    while ((pair = strsep(&rest, ";")) != NULL) {
        while (*pair == ' ')
            pair++;
        if (strncmp(pair, "bore_session=", 13) == 0 && strlen(pair + 13) < size) {
            snprintf(ret_token, size, "%s", pair + 13);
            return;
        }
    }
}

static void read_token(struct lws *wsi, struct http_request *request) {
    char value[4200];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_AUTHORIZATION) <= 0) {
        read_cookie_token(wsi, request->token, sizeof request->token);
        request->is_cookie = request->token[0] != '\0';
        return;
    }
    if (lws_hdr_copy(wsi, value, sizeof value, WSI_TOKEN_HTTP_AUTHORIZATION) > 0 &&
        strncasecmp(value, "Bearer ", 7) == 0)
        snprintf(request->token, sizeof request->token, "%s", value + 7 + strspn(value + 7, " "));
}

/* A header that lws knows; "" when absent or too long. */
static void read_known(struct lws *wsi, enum lws_token_indexes token, char *ret_value, size_t size) {
    if (lws_hdr_copy(wsi, ret_value, (int)size, token) < 0) ret_value[0] = '\0';
}

static bool is_address(const char *text) {
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static bool is_server_name(const char *text) {
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && text[length] == '\0';
}

/* Who asks, and by which name the edge came here. */
static void read_edge(struct lws *wsi, const char *edge_secret, struct http_request *request) {
    char value[256];
    lws_get_peer_simple(wsi, request->address, sizeof request->address);
    read_custom(wsi, "x-bore-edge:", value, sizeof value);
    if (!edge_secret[0] || !constant_time_equal(value, edge_secret)) return;
    read_known(wsi, WSI_TOKEN_X_FORWARDED_FOR, value, sizeof value);
    if (is_address(value)) snprintf(request->address, sizeof request->address, "%.45s", value);
    read_custom(wsi, "x-bore-server:", request->edge_server, sizeof request->edge_server);
    if (!is_server_name(request->edge_server)) request->edge_server[0] = '\0';
}

static void read_body_headers(struct lws *wsi, struct http_request *request) {
    char value[64];
    read_known(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, value, sizeof value);
    request->is_bytes = strncasecmp(value, "application/octet-stream", 24) == 0;
    request->content_length = -1;
    read_known(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, value, sizeof value);
    size_t digits = strspn(value, "0123456789");
    if (digits > 0 && digits <= 15 && value[digits] == '\0') request->content_length = strtoll(value, NULL, 10);
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) request->content_length = -1;
}

static void read_query(struct lws *wsi, const char *name_and_equals, char *ret_value, size_t size) {
    ret_value[0] = '\0';
    char buffer[256];
    const char *value = lws_get_urlarg_by_name(wsi, name_and_equals, buffer, sizeof buffer);
    if (value) snprintf(ret_value, size, "%s", value);
}

void http_request_read(struct lws *wsi, const char *path, const char *edge_secret, struct http_request *ret_request) {
    memset(ret_request, 0, sizeof *ret_request);
    snprintf(ret_request->path, sizeof ret_request->path, "%s", path);
    read_method(wsi, ret_request->method, sizeof ret_request->method);
    read_custom(wsi, "x-request-id:", ret_request->request_id, sizeof ret_request->request_id);
    if (!is_sane_request_id(ret_request->request_id)) random_hex(12, ret_request->request_id);
    if (lws_hdr_copy(wsi, ret_request->origin, sizeof ret_request->origin, WSI_TOKEN_ORIGIN) < 0)
        snprintf(ret_request->origin, sizeof ret_request->origin, "null");
    read_known(wsi, WSI_TOKEN_HOST, ret_request->host, sizeof ret_request->host);
    read_edge(wsi, edge_secret, ret_request);
    read_body_headers(wsi, ret_request);
    read_token(wsi, ret_request);
    ret_request->is_upgrade = lws_hdr_total_length(wsi, WSI_TOKEN_UPGRADE) > 0;
    read_query(wsi, "EIO=", ret_request->revision, sizeof ret_request->revision);
    read_query(wsi, "transport=", ret_request->transport, sizeof ret_request->transport);
    read_query(wsi, "sid=", ret_request->sid, sizeof ret_request->sid);
    read_custom(wsi, "last-event-id:", ret_request->last_event_id, sizeof ret_request->last_event_id);
    if (!ret_request->last_event_id[0])
        read_query(wsi, "last_event_id=", ret_request->last_event_id, sizeof ret_request->last_event_id);
    char scope[16];
    read_query(wsi, "scope=", scope, sizeof scope);
    ret_request->scope_all = strcmp(scope, "all") == 0;
}

bool http_origin_trusted(const char *allowed, const char *origin) {
    size_t length = strlen(origin);
    if (length == 0 || strcmp(origin, "*") == 0) return false;
    for (const char *entry = allowed; *entry;) {
        entry += strspn(entry, ", ");
        size_t size = strcspn(entry, ", ");
        if (size == length && strncasecmp(entry, origin, size) == 0) return true;
        entry += size;
    }
    return false;
}

static bool allows_all(const char *allowed) {
    const char *star = strchr(allowed, '*');
    return star && (star == allowed || strchr(", ", star[-1])) && strchr(", ", star[1]);
}

bool http_origin_allowed(const char *allowed, const char *origin) {
    return origin[0] && (http_origin_trusted(allowed, origin) || allows_all(allowed));
}

bool http_origin_is_host(const struct http_request *request) {
    const char *authority = strstr(request->origin, "://");
    return authority && request->host[0] && strcasecmp(authority + 3, request->host) == 0;
}

static int add_header(
    struct lws *wsi, const char *name_and_colon, const char *value, unsigned char **position, unsigned char *end) {
    return lws_add_http_header_by_name(
        wsi, (const unsigned char *)name_and_colon, (const unsigned char *)value, (int)strlen(value), position, end);
}

static int add_common(struct lws *wsi, const struct http_request *request, const char *allowed_origins,
    unsigned char **position, unsigned char *end) {
    static const char *const fixed[][2] = {
        { "cache-control:", "no-store" },
        { "x-content-type-options:", "nosniff" },
        { "content-security-policy:", "default-src 'none'; frame-ancestors 'none'" },
        { "referrer-policy:", "no-referrer" },
        { "vary:", "Origin" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        if (add_header(wsi, fixed[i][0], fixed[i][1], position, end)) return -1;
    }
    if (add_header(wsi, "x-request-id:", request->request_id, position, end)) return -1;
    if (!http_origin_allowed(allowed_origins, request->origin)) return 0;
    if (!http_origin_trusted(allowed_origins, request->origin))
        return add_header(wsi, "access-control-allow-origin:", "*", position, end) ? -1 : 0;
    return add_header(wsi, "access-control-allow-origin:", request->origin, position, end) ||
                   add_header(wsi, "access-control-allow-credentials:", "true", position, end) ||
                   add_header(wsi, "access-control-expose-headers:", "X-Request-Id", position, end)
               ? -1
               : 0;
}

/* Headers that belong to one status. */
static int add_for_status(struct lws *wsi, unsigned status, unsigned char **position, unsigned char *end) {
    int failed = 0;
    if (status == 401)
        failed = add_header(wsi, "www-authenticate:", "Bearer", position, end);
    else if (status == 405)
        failed = add_header(wsi, "allow:", "GET, OPTIONS", position, end);
    else if (status == 429 || status == 503)
        failed = add_header(wsi, "retry-after:", "1", position, end);
    else if (status == 204)
        failed =
            add_header(wsi, "access-control-allow-methods:", "GET, POST", position, end) ||
            add_header(wsi, "access-control-allow-headers:", "Authorization, Content-Type, Last-Event-ID, X-Request-Id",
                position, end) ||
            add_header(wsi, "access-control-max-age:", "600", position, end);
    return failed ? -1 : 0;
}

int http_answer_text(struct lws *wsi, const struct http_request *request, unsigned status, const char *content_type,
    const char *body, size_t size, const char *allowed_origins) {
    _cleanup_free_ unsigned char *buffer = xmalloc(LWS_PRE + ANSWER_MAX + size);
    unsigned char *start = buffer + LWS_PRE, *position = start, *end = start + ANSWER_MAX - 1;
    if (lws_add_http_header_status(wsi, status, &position, end) ||
        (content_type && add_header(wsi, "content-type:", content_type, &position, end)) ||
        lws_add_http_header_content_length(wsi, size, &position, end) ||
        add_common(wsi, request, allowed_origins, &position, end) || add_for_status(wsi, status, &position, end) ||
        add_header(wsi, "connection:", "close", &position, end) || lws_finalize_http_header(wsi, &position, end))
        return -1;
    if (size) memcpy(position, body, size);
    position += size;
    /* head and body in one write: the connection closes behind it, and what does not fit now leaves before */
    lws_write(wsi, start, (size_t)(position - start), LWS_WRITE_HTTP_HEADERS);
    return -1;
}

int http_answer(struct lws *wsi, const struct http_request *request, unsigned status, const char *body,
    const char *allowed_origins) {
    return http_answer_text(wsi, request, status, body ? "application/json; charset=utf-8" : NULL, body,
        body ? strlen(body) : 0, allowed_origins);
}

int http_answer_error(struct lws *wsi, const struct http_request *request, int code, const char *allowed_origins) {
    const struct error_info *info = error_info(code);
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    strbuf_append_format(&body, "{\"error\":\"%s\",\"message\":", info->name);
    json_append_string(&body, info->sentence);
    strbuf_append_format(&body, ",\"request_id\":\"%s\"}", request->request_id);
    return http_answer(wsi, request, (unsigned)info->http_status, body.data, allowed_origins);
}

int http_begin_events(struct lws *wsi, const struct http_request *request, const char *allowed_origins) {
    unsigned char buffer[LWS_PRE + ANSWER_MAX];
    unsigned char *start = buffer + LWS_PRE, *position = start, *end = buffer + sizeof buffer - 1;
    if (lws_add_http_common_headers(
            wsi, 200, "text/event-stream; charset=utf-8", LWS_ILLEGAL_HTTP_CONTENT_LEN, &position, end) ||
        add_common(wsi, request, allowed_origins, &position, end) ||
        add_header(wsi, "x-accel-buffering:", "no", &position, end) ||
        lws_finalize_write_http_header(wsi, start, &position, end))
        return -1;
    return 0;
}
