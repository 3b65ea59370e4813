/*
 * main.c: the gateway: REST over HTTP in front of the bus, pages, documentation.
 *
 * Serves every route of routes.def, the pages of WEB_DIR, /health, /livez. Sends requests to auth and registry over the
 * bus; follows revoked sessions and what other processes count; publishes counters.gateway once a second.
 * Settings: GATEWAY_*, WEB_DIR, EDGE_SECRET, ALLOWED_ORIGINS, JWT_SECRET, INTERNAL_API_KEY, BUS_*, LOG_*,
 * BORE_INSTANCE.
 *
 * When things fail: without the bus, or a service behind it, requests end as 503 or 504 within 2.5 s and the process
 * goes on. SIGTERM: connections are refused (so the edge asks another replica, or again in a moment), /livez says 503,
 * every answer closes its connection; when nothing has been asked for a moment, or DRAIN_MAX_MS later, the server stops
 * and the process ends with 0.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"
#include "services/gateway/http.h"
#include "services/gateway/openapi.h"
#include "services/lib/config.h"
#include "services/lib/counters_publisher.h"

enum {
    MEMORY_ARENAS = 4, /* of malloc: one for each thread would keep what large lists once took, as many times */
    TOKENS_CACHED = 20000,
    PUBLISH_INTERVAL_MS = 1000,
    DRAIN_QUIET_MS = 150,
    DRAIN_STEP_MS = 10,
    DRAIN_MAX_MS = BUS_CALL_BUDGET_MS + 300,
};

/* Signals that end the process are waited for here; threads started later inherit the mask. */
static void block_signals(sigset_t *ret_signals) {
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void publish_counters(struct gateway *gateway, struct counter *in_flight) {
    gauge_set(in_flight, atomic_load(&gateway->in_flight));
    counters_publish(gateway->bus, "gateway", (int)config.instance);
}

static int fail(const char *sentence) {
    log_error("%s", sentence);
    return -1;
}

static int start_bus(struct gateway *self) {
    self->bus = bus_client_new(config.bus_url, config.bus_curve_dir);
    if (self->bus == NULL) {
        log_error("cannot use BUS_URL %s: %s", config.bus_url, strerror(errno));
        return -1;
    }
    self->others = counters_view_new();
    bus_subscribe(self->bus, TOPIC_COUNTERS, counters_view_on_message, self->others);
    self->revocations = revocations_new(self->bus, NULL, NULL);
    return 0;
}

static int gateway_start(struct gateway *self) {
    self->started_ms = clock_monotonic_ms();
    self->edge_secret = config.edge_secret;
    self->internal_api_key = config.internal_api_key;
    self->internal_api_key_previous = config.internal_api_key_previous;
    canary_key(config.edge_secret, self->canary_key);
    self->metrics_token = config.metrics_token;
    self->threads = (int)config.gateway_threads;
    _cleanup_free_ char *complaint = NULL;
    self->router = router_new(routes, &complaint);
    if (self->router == NULL) return fail(complaint);
    const char *bad_origin;
    self->cors = cors_new(config.allowed_origins, &bad_origin);
    if (bad_origin != NULL) log_warning("ALLOWED_ORIGINS: \"%s\" is no origin; it is ignored", bad_origin);
    self->openapi = openapi_new(self->router);
    self->health = health_new();
    self->pages = pages_new(config.web_dir);
    if (pages_count(self->pages) == 0) log_warning("WEB_DIR %s has no pages", config.web_dir);
    self->tokens = token_cache_new(config.jwt_secret, TOKENS_CACHED);
    token_cache_accept(self->tokens, config.jwt_secret_previous);
    return start_bus(self);
}

static void gateway_release(struct gateway *self) {
    revocations_free(self->revocations);
    bus_client_free(self->bus);
    counters_view_free(self->others);
    token_cache_free(self->tokens);
    pages_free(self->pages);
    health_free(self->health);
    openapi_free(self->openapi);
    cors_free(self->cors);
    router_free(self->router);
}

/* Nobody connects any more, every answer ends its connection: waits until the requests on those that are open are done.
 */
static void drain(struct gateway *self, struct http_server *server) {
    atomic_store(&self->is_stopping, true);
    http_stop_listening(server);
    int64_t since = clock_monotonic_ms();
    for (int64_t now = since; now - since < DRAIN_MAX_MS; now = clock_monotonic_ms()) {
        int64_t last = atomic_load(&self->last_end_ms);
        int64_t quiet_since = last > since ? last : since;
        if (atomic_load(&self->in_flight) == 0 && now - quiet_since >= DRAIN_QUIET_MS) return;
        nanosleep(&(struct timespec){ .tv_nsec = DRAIN_STEP_MS * 1000000L }, NULL);
    }
    log_warning("stopping with %d requests unfinished", atomic_load(&self->in_flight));
}

static int run(struct gateway *gateway, const sigset_t *signals) {
    _cleanup_free_ char *complaint = NULL;
    struct http_server *server = http_start(gateway, config.gateway_listen, gateway->threads, &complaint);
    if (server == NULL) return fail(complaint);
    log_info("serving on %s, %zu routes, %zu pages", config.gateway_listen, router_size(gateway->router),
        pages_count(gateway->pages));
    struct counter *in_flight = counter_get(GAUGE, "bore_api_requests_in_flight", "");
    const struct timespec interval = { .tv_sec = PUBLISH_INTERVAL_MS / 1000 };
    while (sigtimedwait(signals, NULL, &interval) < 0)
        publish_counters(gateway, in_flight);
    log_info("stopping: requests in flight may end");
    drain(gateway, server);
    http_stop(server);
    counters_publish_last(gateway->bus, "gateway", (int)config.instance);
    log_info("stopped");
    return 0;
}

int main(int argc, char **argv) {
    int loaded =
        config_load(GATEWAY, "gateway", "REST over HTTP in front of the bus, pages, documentation", argc, argv);
    if (loaded != 0) return loaded > 0 ? EXIT_SUCCESS : 2;
    mallopt(M_ARENA_MAX, MEMORY_ARENAS);
    sigset_t signals;
    block_signals(&signals);
    struct gateway gateway = { .bus = NULL };
    int error = gateway_start(&gateway);
    if (error == 0) error = run(&gateway, &signals);
    gateway_release(&gateway);
    config_release();
    return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
