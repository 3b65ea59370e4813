/*
 * health.c: see health.h.
 *
 * One thread at a time asks; others take what is known meanwhile, or wait when nothing recent is. Asking is bounded by
 * CHECK_BUDGET_MS in all. A further part of the system is one line in `parts`.
 */
#include "services/gateway/health.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "gen/version.h"
#include "proto/message_json.h"
#include "services/gateway/exchange.h"

enum { FRESH_MS = 250, USABLE_MS = 3000, CHECK_BUDGET_MS = 1500 };

struct health_part {
    const char *name;  /* of the process; its lanes on the bus begin with it */
    bool is_essential; /* without it /health is 503 */
    bool is_on_bus;    /* it serves lanes; otherwise it is seen by what it counts */
    int ping;          /* MSG_PING_…, or 0 */
};

static const struct health_part parts[] = {
    { "auth", true, true, MSG_PING_AUTH },
    { "registry", true, true, MSG_PING_REGISTRY },
    { "monitor", true, true, MSG_PING_MONITOR },
    { "alerter", false, true, MSG_PING_ALERTER },
    { "stream", false, false, 0 },
    { "metrics", false, true, 0 },
};

/* What is known; the body lacks its closing brace. */
struct health {
    pthread_mutex_t lock;  /* over the members below */
    pthread_mutex_t check; /* held by the thread that asks */
    int64_t checked_ms;    /* 0: never */
    bool is_serving;       /* all essential parts work */
    char *body;
};

struct findings {
    struct strbuf checks; /* members of "checks" */
    bool is_serving;
    bool is_complete; /* the others too */
    int databases;    /* parts that reached their database */
    char *database_message;
};

struct health *health_new(void) {
    struct health *self = xcalloc(1, sizeof(*self));
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->check, NULL);
    return self;
}

void health_free(struct health *self) {
    if (self == NULL) return;
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->check);
    free(self->body);
    free(self);
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* message NULL means healthy. */
static void add_check(struct findings *findings, const char *name, bool is_essential, const char *message) {
    struct strbuf *checks = &findings->checks;
    if (checks->size > 0) strbuf_append_char(checks, ',');
    json_append_string(checks, name);
    strbuf_append_text(
        checks, message == NULL ? ":{\"status\":\"healthy\"" : ":{\"status\":\"unhealthy\",\"message\":");
    if (message != NULL) {
        json_append_string(checks, message);
        findings->is_complete = false;
        if (is_essential) findings->is_serving = false;
    }
    strbuf_append_char(checks, '}');
}

static bool lane_has_worker(const struct bus_status_reply *status, const char *lane) {
    for (size_t i = 0; i < status->lanes_count; i++) {
        if (strcmp(status->lanes[i].lane, lane) == 0) return status->lanes[i].workers > 0;
    }
    return false;
}

/* Whether "registry.reports" is a lane of "registry". */
static bool is_lane_of(const char *lane, const char *part) {
    size_t size = strlen(part);
    return strncmp(lane, part, size) == 0 && (lane[size] == '\0' || lane[size] == '.');
}

/* The first lane of the part that no worker serves, or NULL. */
static const char *find_dead_lane(const struct bus_status_reply *status, const char *part) {
    for (const struct method *method = methods; method->request_id != 0; method++) {
        if (is_lane_of(method->lane, part) && !lane_has_worker(status, method->lane)) return method->lane;
    }
    return NULL;
}

/* NULL when the part itself answers; fills what it says about its database. */
static const char *ping(struct exchange *exchange, struct findings *findings, int method, int64_t deadline_ms) {
    const struct bus_call call = { .deadline_ms = deadline_ms, .request_id = exchange->request.id };
    const struct ping_auth request = {};
    struct ping_reply reply;
    int error = bus_call(exchange->gateway->bus, method, &request, &call, &reply, NULL);
    if (error != 0) return error_info(error)->sentence;
    if (reply.database) {
        findings->databases++;
    } else if (findings->database_message == NULL) {
        findings->database_message =
            xstrdup(reply.database_message != NULL ? reply.database_message : "The database does not answer.");
    }
    message_release(&ping_reply_descriptor, &reply);
    return NULL;
}

/* Why a part that serves lanes does not work; NULL when it does. Heap. status is NULL when the bus does not answer. */
static char *find_fault(struct exchange *exchange, struct findings *findings, const struct health_part *part,
    const struct bus_status_reply *status, int64_t deadline_ms) {
    if (status == NULL) return xstrdup("Not known: the bus does not answer.");
    const char *lane = find_dead_lane(status, part->name);
    if (lane != NULL) return xasprintf("No process serves %s.", lane);
    return part->ping != 0 ? xstrdup_or_null(ping(exchange, findings, part->ping, deadline_ms)) : NULL;
}

static void check_part(struct exchange *exchange, struct findings *findings, const struct health_part *part,
    const struct bus_status_reply *status, int64_t deadline_ms) {
    if (part->is_on_bus) {
        _cleanup_free_ char *fault = find_fault(exchange, findings, part, status, deadline_ms);
        add_check(findings, part->name, part->is_essential, fault);
        return;
    }
    int processes = counters_view_processes(exchange->gateway->others, part->name);
    add_check(findings, part->name, part->is_essential, processes > 0 ? NULL : "No process of it was heard of.");
}

static void ask(struct exchange *exchange, struct findings *findings) {
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_BUDGET_MS;
    const struct bus_call call = { .deadline_ms = deadline_ms, .request_id = exchange->request.id };
    const struct bus_status request = {};
    struct bus_status_reply status = { .lanes_count = 0 };
    int error = bus_call(exchange->gateway->bus, MSG_BUS_STATUS, &request, &call, &status, NULL);
    add_check(findings, "bus", true, error != 0 ? error_info(error)->sentence : NULL);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        check_part(exchange, findings, &parts[i], error == 0 ? &status : NULL, deadline_ms);
    if (error == 0) message_release(&bus_status_reply_descriptor, &status);
    const char *message = findings->database_message;
    if (message == NULL && findings->databases == 0) message = "No process could be asked about it.";
    add_check(findings, "database", true, message);
}

static char *compose(const struct gateway *gateway, const struct findings *findings) {
    struct strbuf text = STRBUF_INIT;
    int64_t uptime = (clock_monotonic_ms() - gateway->started_ms) / 1000;
    strbuf_append_format(&text, "{\"status\":\"%s\",\"uptime\":%lld,\"timestamp\":%lld,\"version\":",
        findings->is_complete ? "healthy" : "degraded", (long long)uptime, (long long)clock_wall_ms());
    json_append_string(&text, BORE_VERSION);
    strbuf_append_text(&text, ",\"checks\":{");
    strbuf_append(&text, findings->checks.data, findings->checks.size);
    strbuf_append_char(&text, '}');
    return strbuf_detach(&text);
}

static void refresh(struct exchange *exchange) {
    struct health *self = exchange->gateway->health;
    struct findings findings = { .checks = STRBUF_INIT, .is_serving = true, .is_complete = true };
    ask(exchange, &findings);
    char *body = compose(exchange->gateway, &findings);
    pthread_mutex_lock(&self->lock);
    free(self->body);
    self->body = body;
    self->is_serving = findings.is_serving;
    self->checked_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&self->lock);
    strbuf_release(&findings.checks);
    free(findings.database_message);
}

/* Appends what is known to text, when it is not older than age_ms. */
static bool take(struct health *self, int64_t age_ms, struct strbuf *text, bool *ret_is_serving) {
    pthread_mutex_lock(&self->lock);
    bool is_known = self->checked_ms != 0 && clock_monotonic_ms() - self->checked_ms <= age_ms;
    if (is_known) strbuf_append_text(text, self->body);
    *ret_is_serving = self->is_serving;
    pthread_mutex_unlock(&self->lock);
    return is_known;
}

/* --- serving ------------------------------------------------------------------------------------------------------ */

static void close_body(struct exchange *exchange, bool is_serving) {
    struct strbuf *body = &exchange->answer.body;
    if (!is_serving) {
        exchange->answer.status = 503;
        answer_header(&exchange->answer, "Retry-After", "1");
        strbuf_append_text(body, ",\"error\":\"unavailable\",\"message\":");
        json_append_string(body, error_info(ERR_UNAVAILABLE)->sentence);
        strbuf_append_text(body, ",\"request_id\":");
        json_append_string(body, exchange->request.id);
    }
    strbuf_append_text(body, "}\n");
}

void health_serve(struct exchange *exchange) {
    struct health *self = exchange->gateway->health;
    struct strbuf *body = &exchange->answer.body;
    bool is_serving = false;
    answer_json(&exchange->answer, 200);
    bool is_known = take(self, FRESH_MS, body, &is_serving);
    if (!is_known && pthread_mutex_trylock(&self->check) != 0) {
        is_known = take(self, USABLE_MS, body, &is_serving);
        if (!is_known) pthread_mutex_lock(&self->check);
    }
    if (!is_known) {
        if (!take(self, FRESH_MS, body, &is_serving)) {
            refresh(exchange);
            take(self, USABLE_MS, body, &is_serving);
        }
        pthread_mutex_unlock(&self->check);
    }
    close_body(exchange, is_serving);
}

void livez_serve(struct exchange *exchange) {
    bool is_stopping = atomic_load(&exchange->gateway->is_stopping);
    answer_json(&exchange->answer, is_stopping ? 503 : 200);
    strbuf_append_text(
        &exchange->answer.body, is_stopping ? "{\"status\":\"stopping\"}\n" : "{\"status\":\"alive\"}\n");
    if (is_stopping) answer_header(&exchange->answer, "Retry-After", "1");
}
