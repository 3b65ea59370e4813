/*
 * answer.c: see answer.h.
 *
 * The head is composed in the order in which a person reads it. Headers that never change are one constant.
 */
#include "services/gateway/answer.h"

#include <assert.h>
#include <inttypes.h>
#include <malloc.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/memory.h"
#include "proto/message_json.h"

enum {
    COPY_MAX = 32 * 1024,  /* bodies up to this go out with the head in one write */
    KEEP_MAX = 256 * 1024, /* memory that an answer keeps for the next one */
    RETRY_SOON = 1,
    RETRY_LATER = 5,
};

static const char security_headers[] =
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n";
static const char data_headers[] = "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
                                   "Cache-Control: no-store\r\n";
static const char page_headers[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n";
static const char revalidated[] = "Cache-Control: no-cache\r\n";
static const char immutable[] = "Cache-Control: public, max-age=31536000, immutable\r\n";
static const char https_headers[] = "Strict-Transport-Security: max-age=31536000\r\n";

static const char *status_text(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 302:
        return "Found";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Answer";
    }
}

void answer_init(struct answer *self) {
    *self = (struct answer){ .status = 0 };
    strbuf_init(&self->body);
    strbuf_init(&self->headers);
}

void answer_release(struct answer *self) {
    strbuf_release(&self->body);
    strbuf_release(&self->headers);
}

void answer_clear(struct answer *self) {
    strbuf_clear(&self->body);
    strbuf_clear(&self->headers);
    self->status = 0;
    self->content_type = NULL;
    self->content = NULL;
    self->content_size = 0;
    self->is_page = false;
    self->is_immutable = false;
    self->closes = false;
}

void answer_trim(struct answer *self) {
    if (self->body.capacity <= KEEP_MAX) return;
    strbuf_release(&self->body);
    malloc_trim(0);
}

void answer_header(struct answer *self, const char *name, const char *value) {
    assert(strpbrk(value, "\r\n") == NULL);
    strbuf_append_format(&self->headers, "%s: %s\r\n", name, value);
}

void answer_json(struct answer *self, int status) {
    strbuf_clear(&self->body);
    self->content = NULL;
    self->status = status;
    self->content_type = "application/json";
}

/* Begins an error: everything but details and the closing. */
static void begin_error(struct answer *self, const struct error_info *info, const char *sentence, int64_t retry_after) {
    bool closes = self->closes;
    answer_clear(self);
    self->closes = closes;
    answer_json(self, info->http_status);
    if (info->http_status == 401) answer_header(self, "WWW-Authenticate", "Bearer");
    if (info->http_status == 429 || info->http_status == 503) {
        int64_t usual = info->http_status == 503 ? RETRY_SOON : RETRY_LATER;
        strbuf_append_format(&self->headers, "Retry-After: %" PRId64 "\r\n", retry_after > 0 ? retry_after : usual);
    }
    strbuf_append_text(&self->body, "{\"error\":");
    json_append_string(&self->body, info->name);
    strbuf_append_text(&self->body, ",\"message\":");
    json_append_string(&self->body, sentence != NULL && *sentence != '\0' ? sentence : info->sentence);
}

static void add_detail(struct answer *self, size_t index, const char *field, const char *message) {
    strbuf_append_text(&self->body, index == 0 ? ",\"details\":[" : ",");
    strbuf_append_text(&self->body, "{\"field\":");
    json_append_string(&self->body, field);
    strbuf_append_text(&self->body, ",\"message\":");
    json_append_string(&self->body, message);
    strbuf_append_char(&self->body, '}');
}

static void end_error(struct answer *self, size_t details, const char *request_id) {
    if (details > 0) strbuf_append_char(&self->body, ']');
    strbuf_append_text(&self->body, ",\"request_id\":");
    json_append_string(&self->body, request_id);
    strbuf_append_text(&self->body, "}\n");
}

void answer_error(struct answer *self, const char *request_id, int code, const char *sentence, int64_t retry_after) {
    begin_error(self, error_info(code), sentence, retry_after);
    end_error(self, 0, request_id);
}

void answer_error_fields(struct answer *self, const char *request_id, const struct field_errors *errors) {
    begin_error(self, error_info(ERR_VALIDATION), NULL, 0);
    for (size_t i = 0; i < errors->count; i++)
        add_detail(self, i, errors->items[i].field, errors->items[i].message);
    end_error(self, errors->count, request_id);
}

void answer_error_reply(struct answer *self, const char *request_id, int code, const struct error_reply *reply) {
    begin_error(self, error_info(code), reply->message, reply->has_retry_after ? reply->retry_after : 0);
    size_t details = code == ERR_VALIDATION ? reply->details_count : 0;
    for (size_t i = 0; i < details; i++)
        add_detail(self, i, reply->details[i].field, reply->details[i].message);
    end_error(self, details, request_id);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT"; made once a second and thread. */
static const char *date_now(void) {
    static _Thread_local char text[32];
    static _Thread_local time_t made;
    time_t now = (time_t)(clock_wall_ms() / 1000);
    if (now != made) {
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        made = now;
    }
    return text;
}

static void append_line(struct strbuf *out, const char *text) {
    strbuf_append_text(out, text);
    strbuf_append(out, "\r\n", 2);
}

static void append_header(struct strbuf *out, const char *name_and_colon, const char *value) {
    strbuf_append_text(out, name_and_colon);
    append_line(out, value);
}

static bool has_length(int status) {
    return status != 204 && status != 304;
}

const void *answer_write(
    const struct answer *self, const struct answer_context *context, struct strbuf *out, size_t *ret_size) {
    const void *body = self->content != NULL ? self->content : self->body.data;
    size_t size = self->content != NULL ? self->content_size : self->body.size;
    strbuf_append_text(out, "HTTP/1.1 ");
    strbuf_append_int(out, self->status);
    strbuf_append_char(out, ' ');
    append_line(out, status_text(self->status));
    append_header(out, "Date: ", date_now());
    if (self->content_type != NULL) append_header(out, "Content-Type: ", self->content_type);
    if (has_length(self->status)) {
        strbuf_append_text(out, "Content-Length: ");
        strbuf_append_int(out, (int64_t)size);
        append_line(out, "");
    }
    append_header(out, "X-Request-Id: ", context->request_id);
    strbuf_append(out, self->headers.data, self->headers.size);
    if (context->cors != NULL) strbuf_append_text(out, context->cors);
    strbuf_append(out, security_headers, sizeof(security_headers) - 1);
    if (self->is_page) {
        strbuf_append(out, page_headers, sizeof(page_headers) - 1);
        strbuf_append_text(out, self->is_immutable ? immutable : revalidated);
    } else {
        strbuf_append(out, data_headers, sizeof(data_headers) - 1);
    }
    if (context->is_https) strbuf_append(out, https_headers, sizeof(https_headers) - 1);
    if (self->closes) {
        strbuf_append_text(out, "Connection: close\r\n");
    } else if (context->is_http10) {
        strbuf_append_text(out, "Connection: keep-alive\r\n");
    }
    strbuf_append(out, "\r\n", 2);
    *ret_size = 0;
    if (context->is_head || !has_length(self->status)) return NULL;
    if (size <= COPY_MAX) {
        strbuf_append(out, body, size);
        return NULL;
    }
    *ret_size = size;
    return body;
}
