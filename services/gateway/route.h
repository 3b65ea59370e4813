/*
 * route.h: the table of all routes, and how a path finds its line in it.
 *
 * A plain endpoint is one line in routes.c: its JSON body, query, path and caller become the request message by the
 * message's descriptor, and the reply comes back the same way. Patterns are relative to /api (and /api/v1) unless
 * flagged ROOT; a part in braces fills the PATH field of that name. Thread rule: read-only after router_new.
 */
#ifndef BORE_GATEWAY_ROUTE_H
#define BORE_GATEWAY_ROUTE_H

#include <stdbool.h>

#include "proto/protocol.h"
#include "services/gateway/caller.h"
#include "services/gateway/target.h"
#include "services/lib/counters.h"

enum http_method {
    HTTP_GET, /* HEAD too */
    HTTP_POST,
    HTTP_PATCH,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER,
};
/* "GET"; "OTHER" for HTTP_OTHER. */
const char *http_method_name(enum http_method method);
enum http_method http_method_find(const char *name, bool *ret_is_head);
static inline bool http_method_has_body(enum http_method method) {
    return method == HTTP_POST || method == HTTP_PATCH || method == HTTP_PUT;
}

enum access {
    PUBLIC,
    USER,
    ADMIN,    /* a user; that he is an admin now is checked where the data are, in SQL */
    INTERNAL, /* bore-servers, by X-Internal-API-Key */
    SYSTEM,   /* monitor's canary, by a key of its own in the same header */
    SCRAPER,  /* Prometheus, by METRICS_TOKEN; everybody while that is not set */
};

enum route_flag {
    ROOT = 1u << 0,          /* the pattern stands at the root instead of under /api */
    SETS_COOKIE = 1u << 1,   /* the reply's token becomes the session cookie */
    RENEWS_COOKIE = 1u << 2, /* the same when the request came with a session cookie */
    CLEARS_COOKIE = 1u << 3,
    UNWRAP = 1u << 4,    /* the reply's one OBJECT is the whole answer */
    UNCOUNTED = 1u << 5, /* health checks of the edge: no part of the counters or of draining */
    UNLISTED = 1u << 6,  /* nobody outside has a use for it: not in the documentation */
};

/* How many requests of a kind may hold a thread at once; the table of limits is in serve.c. */
enum limit_class { LIMIT_NONE, LIMIT_PASSWORD, LIMIT_CLASSES };

struct exchange;

struct route {
    enum http_method method;
    const char *pattern;
    enum access access;
    int message; /* MSG_… of the request; 0: serve */
    int status;  /* of success */
    unsigned flags;
    enum limit_class limit;
    const char *summary;     /* one sentence for the documentation */
    const char *fixed_field; /* a PATH field that the route itself fills, and with what */
    const char *fixed_value;
    void (*serve)(struct exchange *exchange);                 /* instead of a message */
    void (*complete)(struct exchange *exchange, void *reply); /* adds to the reply what the gateway knows */
    const char *answer_schema;                                /* of serve, for the documentation: JSON */
    const char *answer_type;                                  /* of serve, when it is not JSON */
};

extern const struct route routes[]; /* ends with a NULL pattern */

enum { ROUTE_PARTS_MAX = PATH_SEGMENTS_MAX, ROUTE_FIELDS_MAX = 8, ROUTE_STATUSES_MAX = 24 };

struct route_part {
    char *literal;             /* NULL: a parameter */
    const struct field *field; /* of a parameter */
};

struct route_caller_field {
    const struct field *field;
    enum caller_value value;
};

/* A route with everything looked up that a request needs. */
struct compiled_route {
    struct compiled_route *next; /* with as many parts */
    const struct route *route;
    const struct method *method; /* NULL with serve */
    size_t parts_count;
    struct route_part parts[ROUTE_PARTS_MAX];
    size_t caller_count;
    struct route_caller_field caller_fields[ROUTE_FIELDS_MAX];
    const struct field *fixed_field;
    const struct field *unwrapped;
    char *path; /* "/api/instances/{instance_id}", as counted and documented */
    struct counter *seconds;
    struct counter *by_status[ROUTE_STATUSES_MAX]; /* of this method; see status_slot in serve.c */
};

struct router;

/* Compiles the table. NULL after writing one line to *ret_complaint (heap) when a line of it makes no sense. */
struct router *router_new(const struct route *table, char **ret_complaint);
void router_free(struct router *self);

/* The bytes that a request or reply message of any route needs. */
size_t router_message_size(const struct router *self);
size_t router_size(const struct router *self);
struct compiled_route *router_route(struct router *self, size_t index);

struct route_match {
    struct compiled_route *route;
    const char *const *segments; /* of the path, those that the pattern's parts stand for */
    unsigned methods;            /* 1 << method, of all routes with this path */
};

/* 0; ERR_NOT_FOUND; ERR_METHOD_NOT_ALLOWED with ret_match->methods set. The path is read in place and may be changed.
 */
int router_find(struct router *self, struct path *path, enum http_method method, struct route_match *ret_match);

/* Whether a path is under /api: an unknown one is then no page. */
bool path_is_api(const struct path *path);

#endif
