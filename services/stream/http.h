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

/* What a request carries, copied out of lws's header storage. */
struct http_request {
    char path[128];
    char method[8];         /* GET, POST, … ; "" when lws has no name for it */
    char request_id[65];    /* taken if sane, else made */
    char token[4097];       /* of Authorization: Bearer, else of the cookie; "" when none */
    char last_event_id[80]; /* header, else query; "" when none */
    char origin[256];
    bool scope_all;
};

void http_request_read(struct lws *wsi, const char *path, struct http_request *ret_request);

/* Whether CORS allows the origin; allowed is ALLOWED_ORIGINS. */
bool http_origin_allowed(const char *allowed, const char *origin);

/* Answers an error and ends the connection's transaction. code: ERR_…; extra: a further header line's name and value or
 * NULL. Returns what the lws callback returns. */
int http_answer_error(struct lws *wsi, const struct http_request *request, int code, const char *allowed_origins);
/* A short answer; body may be NULL for 204. */
int http_answer(struct lws *wsi, const struct http_request *request, unsigned status, const char *body,
    const char *allowed_origins);
/* The head of an event stream; the body follows. 0 or -1. */
int http_begin_events(struct lws *wsi, const struct http_request *request, const char *allowed_origins);

#endif
