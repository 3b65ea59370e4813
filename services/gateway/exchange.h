/*
 * exchange.h: one request and its answer, from the parsed head to the finished answer, without any socket.
 *
 * Each thread of the server owns one and uses it again for every request. http.c fills `request`, exchange_serve
 * decides everything else, http.c writes `answer`. What all requests share is struct gateway, read-only after the start
 * but for its atomic counts.
 */
#ifndef BORE_GATEWAY_EXCHANGE_H
#define BORE_GATEWAY_EXCHANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "services/gateway/answer.h"
#include "services/gateway/caller.h"
#include "services/gateway/cors.h"
#include "services/gateway/headers.h"
#include "services/gateway/pages.h"
#include "services/gateway/route.h"
#include "services/gateway/target.h"
#include "services/lib/bus_client.h"
#include "services/lib/canary_key.h"
#include "services/lib/counters.h"

enum { BODY_MAX = 64 * 1024, REQUEST_ID_MAX = 64 };

struct health;
struct openapi;

struct gateway {
    struct bus_client *bus;
    struct token_cache *tokens;
    struct revocation_set *revocations;
    struct counters_view *others; /* what other processes count */
    struct router *router;
    struct pages *pages;
    struct cors *cors;
    struct health *health;
    struct openapi *openapi;
    const char *edge_secret;
    const char *internal_api_key;
    const char *internal_api_key_previous; /* accepted as well; "" or NULL: none */
    char canary_key[CANARY_KEY_SIZE];
    const char *metrics_token; /* "" when none is asked for */
    int threads;
    int64_t started_ms; /* clock_monotonic_ms */
    atomic_bool is_stopping;
    atomic_int in_flight;        /* requests being served */
    _Atomic int64_t last_end_ms; /* when the last of them ended, UNCOUNTED ones left out */
    atomic_int held[LIMIT_CLASSES];
};

struct request {
    enum http_method method;
    bool is_head;
    const char *method_name; /* as it was sent; borrowed */
    const char *peer;        /* address of the connection; borrowed */
    struct headers headers;
    struct path path;
    const char *query;  /* borrowed, may be NULL */
    struct strbuf body; /* complete */
    char id[REQUEST_ID_MAX + 1];
    int64_t started_us; /* clock_monotonic_us */
};

struct exchange {
    struct gateway *gateway;
    struct request request;
    struct answer answer;
    struct caller caller;
    struct route_match match;
    int64_t deadline_ms;
    void *message; /* room for any route's request and reply */
    void *reply;
};

void exchange_init(struct exchange *self, struct gateway *gateway);
void exchange_release(struct exchange *self);
/* Ready for the next request. */
void exchange_begin(struct exchange *self);
/* Takes the request's X-Request-Id if it is sane, else makes one; also for the log lines of this thread. */
void exchange_set_request_id(struct exchange *self, const char *proposed);
/* Fills the answer to the request, whatever it is. */
void exchange_serve(struct exchange *self);
/* Counts it and lets go of what it held. */
void exchange_end(struct exchange *self);

/* The answer becomes this error (sentence may be NULL). */
void exchange_fail(struct exchange *self, int code, const char *sentence);
/* Sets the session cookie for max_age seconds; 0 deletes it. */
void exchange_set_cookie(struct exchange *self, const char *token, int64_t max_age);
/* The endpoint of match.route through the bus (api.c). The caller is known. */
void api_serve(struct exchange *self);
/* The answer to OPTIONS (preflight.c): a preflight, or what may be done with this path. */
void preflight_serve(struct exchange *self);
/* "GET, HEAD, OPTIONS" for a set of 1 << method. */
void methods_text(unsigned allowed, char *buffer, size_t size);

#endif
