/*
 * http.c: see http.h.
 *
 * Every answer that is not a stream closes its connection: streams are what this process is for, HAProxy opens a new
 * connection to it in microseconds, and a body that nobody read can then do no harm.
 */
#include "services/stream/http.h"

#include <ctype.h>
#include <stdio.h>
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

static void read_token(struct lws *wsi, char *ret_token, size_t size) {
    char value[4200];
    ret_token[0] = '\0';
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_AUTHORIZATION) <= 0) {
        read_cookie_token(wsi, ret_token, size);
        return;
    }
    if (lws_hdr_copy(wsi, value, sizeof value, WSI_TOKEN_HTTP_AUTHORIZATION) > 0 &&
        strncasecmp(value, "Bearer ", 7) == 0)
        snprintf(ret_token, size, "%s", value + 7 + strspn(value + 7, " "));
}

static void read_query(struct lws *wsi, const char *name_and_equals, char *ret_value, size_t size) {
    ret_value[0] = '\0';
    char buffer[256];
    const char *value = lws_get_urlarg_by_name(wsi, name_and_equals, buffer, sizeof buffer);
    if (value) snprintf(ret_value, size, "%s", value);
}

void http_request_read(struct lws *wsi, const char *path, struct http_request *ret_request) {
    memset(ret_request, 0, sizeof *ret_request);
    snprintf(ret_request->path, sizeof ret_request->path, "%s", path);
    read_method(wsi, ret_request->method, sizeof ret_request->method);
    read_custom(wsi, "x-request-id:", ret_request->request_id, sizeof ret_request->request_id);
    if (!is_sane_request_id(ret_request->request_id)) random_hex(12, ret_request->request_id);
    if (lws_hdr_copy(wsi, ret_request->origin, sizeof ret_request->origin, WSI_TOKEN_ORIGIN) < 0)
        ret_request->origin[0] = '\0';
    read_token(wsi, ret_request->token, sizeof ret_request->token);
    read_custom(wsi, "last-event-id:", ret_request->last_event_id, sizeof ret_request->last_event_id);
    if (!ret_request->last_event_id[0])
        read_query(wsi, "last_event_id=", ret_request->last_event_id, sizeof ret_request->last_event_id);
    char scope[16];
    read_query(wsi, "scope=", scope, sizeof scope);
    ret_request->scope_all = strcmp(scope, "all") == 0;
}

bool http_origin_allowed(const char *allowed, const char *origin) {
    size_t length = strlen(origin);
    if (length == 0) return false;
    for (const char *entry = allowed; *entry;) {
        entry += strspn(entry, ", ");
        size_t size = strcspn(entry, ", ");
        if (size == length && strncasecmp(entry, origin, size) == 0) return true;
        entry += size;
    }
    return false;
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
        failed = add_header(wsi, "access-control-allow-methods:", "GET", position, end) ||
                 add_header(wsi, "access-control-allow-headers:", "Authorization, Last-Event-ID, X-Request-Id",
                     position, end) ||
                 add_header(wsi, "access-control-max-age:", "600", position, end);
    return failed ? -1 : 0;
}

int http_answer(struct lws *wsi, const struct http_request *request, unsigned status, const char *body,
    const char *allowed_origins) {
    unsigned char buffer[LWS_PRE + ANSWER_MAX];
    unsigned char *start = buffer + LWS_PRE, *position = start, *end = buffer + sizeof buffer - 1;
    size_t size = body ? strlen(body) : 0;
    if (lws_add_http_header_status(wsi, status, &position, end) ||
        (body && add_header(wsi, "content-type:", "application/json; charset=utf-8", &position, end)) ||
        lws_add_http_header_content_length(wsi, size, &position, end) ||
        add_common(wsi, request, allowed_origins, &position, end) || add_for_status(wsi, status, &position, end) ||
        add_header(wsi, "connection:", "close", &position, end) || lws_finalize_http_header(wsi, &position, end))
        return -1;
    if (size && (size_t)(end - position) > size) {
        memcpy(position, body, size);
        position += size;
    }
    /* head and body in one write: the connection closes behind it */
    lws_write(wsi, start, (size_t)(position - start), LWS_WRITE_HTTP_HEADERS);
    return -1;
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
