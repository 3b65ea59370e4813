/*
 * http_client.h: HTTP requests to other systems, several at once, by libcurl (https://curl.se/libcurl/c/).
 *
 * One thread owns a multi handle and reuses connections. TLS certificates are verified, redirects are not followed
 * (their status is the answer), only http and https are spoken, a proxy is taken from the environment as curl does
 * (https_proxy, no_proxy). Everything is bounded: transfers at once, the time to connect, the time in all (from the
 * moment it is submitted), the answer's headers and body. Nothing that is said of a failure contains an address,
 * a header or a body, so it may be logged.
 * Thread rule: submit from any thread; new and free from one. `done` runs in the client's thread and must not block;
 * it may submit.
 */
#ifndef BORE_COMMON_HTTP_CLIENT_H
#define BORE_COMMON_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_BODY_MAX = 16384, HTTP_HEADERS_MAX = 65536, HTTP_REQUEST_HEADERS_MAX = 16 };

struct http_client;

struct http_client_options {
    const char *user_agent; /* NULL: none is sent */
    const char *ca_file;    /* PEM; NULL or "": the system's certificates */
    int most;               /* transfers at once */
};

struct http_answer {
    /* 0: a status came, and the body up to its end or to HTTP_BODY_MAX. Else -ETIMEDOUT, -ECONNREFUSED (no connection),
     * -EPROTO (TLS: no trust or no agreement), -ECANCELED (the client ended), or -EIO. */
    int error;
    const char *problem;   /* of an error, for a person; static */
    int status;            /* 0 with an error */
    int64_t retry_after_s; /* of the header Retry-After, as seconds or as a date; 0: none */
    const char *body;      /* borrowed, not terminated */
    size_t body_size;
    bool is_cut; /* the body was longer; the rest was not read */
    int64_t elapsed_us;
};

typedef void http_done_fn(void *user_data, const struct http_answer *answer);

struct http_request {
    const char *url;
    const char *const *headers; /* "Name: value", up to a NULL; may be NULL */
    const void *body;           /* NULL: GET; otherwise POST */
    size_t body_size;
    int64_t connect_timeout_ms;
    int64_t timeout_ms; /* in all */
    http_done_fn *done; /* called exactly once if submit answers 0 */
    void *user_data;
};

/* Starts the thread. Strings are copied. NULL with errno when it cannot. */
struct http_client *http_client_new(const struct http_client_options *options);
/* What is under way ends with -ECANCELED before this returns. NULL is fine. */
void http_client_free(struct http_client *self);

/* Copies all it needs. 0, -EAGAIN when `most` transfers are under way, -EINVAL for what is no http(s) address or has
 * too many headers, -ESHUTDOWN while the client ends. */
int http_client_submit(struct http_client *self, const struct http_request *request);

/* Whether the text is an http or https address with a host. */
bool http_is_url(const char *text);

#endif
