/*
 * serve.c: what happens to a request, in order: find its route, know the caller, keep to the limits, serve.
 *
 * Every request ends here with an answer. Each is counted by route, method and status (a bounded set: unknown paths are
 * one route, unknown methods one method).
 */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/gateway/exchange.h"
#include "services/gateway/scrape.h"

/* Of the server's threads, in eighths, how many a class may hold at once; LIMIT_NONE has all. Password hashing takes
 * its time in auth, so a storm of sign-ins would otherwise park every thread here. */
static const int limit_eighths[LIMIT_CLASSES] = { [LIMIT_NONE] = 8, [LIMIT_PASSWORD] = 3 };

/* --- counting ----------------------------------------------------------------------------------------------------- */

static const int statuses[] = { 200, 201, 204, 302, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 431, 500,
    503, 504 };
_Static_assert(ARRAY_SIZE(statuses) <= ROUTE_STATUSES_MAX, "a route has room for a counter of each status");

static struct counter *status_counter(const char *path, const char *method, int status) {
    char labels[256];
    snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\",status=\"%d\"", method, path, status);
    return counter_get(COUNTER, "bore_api_requests_total", labels);
}

static struct counter *seconds_histogram(const char *path) {
    char labels[256];
    snprintf(labels, sizeof(labels), "route=\"%s\"", path);
    return counter_get(HISTOGRAM, "bore_api_response_time_seconds", labels);
}

static void observe_heartbeat(double seconds) {
    static _Atomic(struct counter *) histogram;
    struct counter *found = atomic_load_explicit(&histogram, memory_order_acquire);
    if (found == NULL) {
        found = counter_get(HISTOGRAM, "bore_heartbeat_response_time_seconds", "");
        atomic_store_explicit(&histogram, found, memory_order_release);
    }
    histogram_observe(found, seconds);
}

/* Two threads may look a counter up at once; they find the same one. */
static void count_route(struct compiled_route *compiled, int status, double seconds) {
    const char *method = http_method_name(compiled->route->method);
    struct counter *total = __atomic_load_n(&compiled->seconds, __ATOMIC_ACQUIRE);
    if (total == NULL) {
        total = seconds_histogram(compiled->path);
        __atomic_store_n(&compiled->seconds, total, __ATOMIC_RELEASE);
    }
    histogram_observe(total, seconds);
    if (compiled->route->message == MSG_HEARTBEAT) observe_heartbeat(seconds);
    for (size_t slot = 0; slot < ARRAY_SIZE(statuses); slot++) {
        if (statuses[slot] != status) continue;
        struct counter *counter = __atomic_load_n(&compiled->by_status[slot], __ATOMIC_ACQUIRE);
        if (counter == NULL) {
            counter = status_counter(compiled->path, method, status);
            __atomic_store_n(&compiled->by_status[slot], counter, __ATOMIC_RELEASE);
        }
        counter_add(counter, 1);
        return;
    }
}

static bool is_uncounted(const struct exchange *self) {
    return self->match.route != NULL && (self->match.route->route->flags & UNCOUNTED) != 0;
}

static void count(struct exchange *self, int64_t now_us) {
    double seconds = (double)(now_us - self->request.started_us) / 1e6;
    if (self->match.route != NULL) {
        count_route(self->match.route, self->answer.status, seconds);
        return;
    }
    const char *path = self->answer.is_page ? "pages" : "unmatched";
    histogram_observe(seconds_histogram(path), seconds);
    counter_add(status_counter(path, http_method_name(self->request.method), self->answer.status), 1);
}

/* --- one exchange ------------------------------------------------------------------------------------------------- */

void exchange_init(struct exchange *self, struct gateway *gateway) {
    memset(self, 0, sizeof(*self));
    self->gateway = gateway;
    strbuf_init(&self->request.body);
    answer_init(&self->answer);
    self->message = xcalloc(1, router_message_size(gateway->router));
    self->reply = xcalloc(1, router_message_size(gateway->router));
}

void exchange_release(struct exchange *self) {
    strbuf_release(&self->request.body);
    answer_release(&self->answer);
    cleanup_free(&self->message);
    cleanup_free(&self->reply);
}

void exchange_begin(struct exchange *self) {
    struct request *request = &self->request;
    answer_clear(&self->answer);
    strbuf_clear(&request->body);
    self->match = (struct route_match){ .route = NULL };
    request->path.count = 0;
    request->query = NULL;
    request->headers = (struct headers){ .bytes = 0 };
    request->method = HTTP_OTHER;
    request->is_head = false;
    request->method_name = "";
    request->started_us = clock_monotonic_us();
    self->deadline_ms = request->started_us / 1000 + BUS_CALL_BUDGET_MS;
    self->caller.is_https = false;
    atomic_fetch_add(&self->gateway->in_flight, 1);
}

void exchange_set_request_id(struct exchange *self, const char *proposed) {
    if (request_id_is_sane(proposed)) {
        memcpy(self->request.id, proposed, strlen(proposed) + 1); /* sane: not too long */
    } else {
        random_hex(12, self->request.id);
    }
    log_set_request_id(self->request.id);
}

void exchange_end(struct exchange *self) {
    struct gateway *gateway = self->gateway;
    int64_t now_us = clock_monotonic_us();
    if (!is_uncounted(self)) {
        count(self, now_us);
        atomic_store(&gateway->last_end_ms, now_us / 1000);
    }
    answer_trim(&self->answer);
    atomic_fetch_sub(&gateway->in_flight, 1);
    log_debug("%s %s: %d in %lld us", self->request.method_name,
        self->match.route != NULL ? self->match.route->path : "(no route)", self->answer.status,
        (long long)(now_us - self->request.started_us));
    log_set_request_id(NULL);
}

void exchange_fail(struct exchange *self, int code, const char *sentence) {
    answer_error(&self->answer, self->request.id, code, sentence, 0);
}

/* --- access ------------------------------------------------------------------------------------------------------- */

static bool is_change(const struct exchange *self) {
    return self->request.method != HTTP_GET && self->request.method != HTTP_OPTIONS;
}

/* Both keys are always compared, so the time tells nothing. An empty former key is none. */
static bool is_internal(const struct gateway *gateway, const char *key) {
    const char *previous = gateway->internal_api_key_previous;
    bool is_current = constant_time_equal(key, gateway->internal_api_key);
    bool is_previous = previous != NULL && *previous != '\0' && constant_time_equal(key, previous);
    return is_current || is_previous;
}

static bool is_canary(const struct gateway *gateway, const char *key) {
    return *gateway->canary_key != '\0' && constant_time_equal(key, gateway->canary_key);
}

/* Whether the caller may go on; the answer says why not. */
static bool admit(struct exchange *self) {
    const struct headers *headers = &self->request.headers;
    struct gateway *gateway = self->gateway;
    const char *sentence = NULL;
    int error = 0;
    switch (self->match.route->route->access) {
    case PUBLIC:
        break;
    case INTERNAL:
        if (!is_internal(gateway, headers->internal_api_key)) {
            error = ERR_UNAUTHORIZED;
            sentence = "The header X-Internal-API-Key is missing or wrong.";
        }
        break;
    case SYSTEM:
        if (!is_canary(gateway, headers->internal_api_key)) error = ERR_UNAUTHORIZED;
        break;
    case SCRAPER:
        if (scrape_is_allowed(self)) break;
        error = ERR_UNAUTHORIZED;
        sentence = "The metrics are read with METRICS_TOKEN as bearer.";
        break;
    case USER:
    case ADMIN:
        error = caller_authenticate(&self->caller, headers, is_change(self), gateway->tokens, gateway->revocations,
            self->deadline_ms, &sentence);
        break;
    }
    if (error == 0) return true;
    exchange_fail(self, error, sentence);
    bool is_stale_cookie = error == ERR_UNAUTHORIZED && self->caller.is_cookie;
    if (is_stale_cookie) exchange_set_cookie(self, "", 0);
    return false;
}

/* A body of another type is refused; none at all, or one without a type, is not. */
static bool is_type_accepted(const struct exchange *self) {
    const struct headers *headers = &self->request.headers;
    if (self->request.body.size == 0 || !http_method_has_body(self->request.method)) return true;
    if (headers->content_encoding != NULL && strcasecmp(headers->content_encoding, "identity") != 0) return false;
    if (headers->content_type == NULL) return true;
    size_t size = strcspn(headers->content_type, "; \t");
    return size == strlen("application/json") && strncasecmp(headers->content_type, "application/json", size) == 0;
}

/* --- serving ------------------------------------------------------------------------------------------------------ */

static void serve_route(struct exchange *self) {
    const struct route *route = self->match.route->route;
    struct gateway *gateway = self->gateway;
    if (!admit(self)) return;
    if (!is_type_accepted(self)) {
        exchange_fail(self, ERR_UNSUPPORTED_MEDIA_TYPE, NULL);
        return;
    }
    int held = atomic_fetch_add(&gateway->held[route->limit], 1);
    if (held >= gateway->threads * limit_eighths[route->limit] / 8 && route->limit != LIMIT_NONE) {
        exchange_fail(self, ERR_OVERLOADED, NULL);
    } else if (route->serve != NULL) {
        route->serve(self);
    } else {
        api_serve(self);
    }
    atomic_fetch_sub(&gateway->held[route->limit], 1);
}

static void refuse_method(struct exchange *self, unsigned allowed) {
    char text[64];
    methods_text(allowed, text, sizeof(text));
    exchange_fail(self, ERR_METHOD_NOT_ALLOWED, NULL);
    answer_header(&self->answer, "Allow", text);
}

static void serve_page(struct exchange *self) {
    struct request *request = &self->request;
    const unsigned page_methods = 1u << HTTP_GET;
    if (path_is_api(&request->path) || !pages_find(self->gateway->pages, &request->path)) {
        exchange_fail(self, ERR_NOT_FOUND, NULL);
    } else if (request->method == HTTP_OPTIONS) {
        self->match.methods = page_methods;
        preflight_serve(self);
    } else if (request->method != HTTP_GET) {
        refuse_method(self, page_methods);
    } else {
        pages_serve(self->gateway->pages, &request->path, &request->headers, &self->answer);
    }
}

void exchange_serve(struct exchange *self) {
    struct request *request = &self->request;
    caller_locate(&self->caller, &request->headers, request->peer, self->gateway->edge_secret);
    int error = router_find(self->gateway->router, &request->path, request->method, &self->match);
    if (error == 0) {
        serve_route(self);
    } else if (error == ERR_NOT_FOUND) {
        serve_page(self);
    } else if (request->method == HTTP_OPTIONS) {
        preflight_serve(self);
    } else {
        refuse_method(self, self->match.methods);
    }
}
