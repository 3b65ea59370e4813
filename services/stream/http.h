/*
 * http.h: the little of HTTP that stream needs on libwebsockets: who asks, and short answers.
 *
 * Errors have the form of API.md "Conventions". Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_HTTP_H
#define BORE_SERVICES_STREAM_HTTP_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a request carries, copied out of lws's header storage. */
struct http_request {
    char path[128];
    char method[8];         /* GET, POST, … ; "" when lws has no name for it */
    char request_id[65];    /* taken if sane, else made */
    char token[4097];       /* of Authorization: Bearer, else of the cookie; "" when none */
    bool is_cookie;         /* the token is the cookie's */
    char last_event_id[80]; /* header, else query; "" when none */
    char origin[256];       /* "" when none; one that is too long is "null" */
    char host[256];
    char address[46];     /* the client's, as the edge says, else the peer's */
    char edge_server[33]; /* by which name the edge knows this process; "" when it did not say */
    bool scope_all;
    bool is_upgrade;                          /* asks for a WebSocket */
    bool is_bytes;                            /* the body is application/octet-stream */
    int64_t content_length;                   /* -1 when not said, or not readable */
    char revision[8], transport[16], sid[80]; /* Engine.IO's query; "" when absent */
};

/* edge_secret: only with it are the edge's headers believed; may be "". */
void http_request_read(struct lws *wsi, const char *path, const char *edge_secret, struct http_request *ret_request);

/* Whether ALLOWED_ORIGINS names the origin, by its name or as `*`. */
bool http_origin_allowed(const char *allowed, const char *origin);
/* Whether it is named itself: only then a cookie counts. */
bool http_origin_trusted(const char *allowed, const char *origin);
/* Whether the origin is a page of the host that was asked. */
bool http_origin_is_host(const struct http_request *request);

/* Answers an error and ends the connection's transaction. code: ERR_…; extra: a further header line's name and value or
 * NULL. Returns what the lws callback returns. */
int http_answer_error(struct lws *wsi, const struct http_request *request, int code, const char *allowed_origins);
/* A short answer; body may be NULL for 204. */
int http_answer(struct lws *wsi, const struct http_request *request, unsigned status, const char *body,
    const char *allowed_origins);
/* The same with a body of any type and size. */
int http_answer_text(struct lws *wsi, const struct http_request *request, unsigned status, const char *content_type,
    const char *body, size_t size, const char *allowed_origins);
/* The head of an event stream; the body follows. 0 or -1. */
int http_begin_events(struct lws *wsi, const struct http_request *request, const char *allowed_origins);

#endif
