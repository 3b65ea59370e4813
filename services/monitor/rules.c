/*
 * rules.c: see rules.h.
 *
 * Of several monitors one sends canaries; the others watch its trace in the database and replace it when that has not
 * moved for as long as a step may take. Whoever sends them also tells the gauges. The rules are tried by all, and one
 * wins; a sweep that reached its bound is followed by the next one at once, for a bounded time. When the database is
 * gone nothing happens, and no time is covered. A canary that fails is told once, and once that it came back.
 */
#include "services/monitor/rules.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/canary_key.h"
#include "services/lib/counters.h"
#include "services/lib/event_log.h"
#include "services/monitor/canary.h"
#include "services/monitor/gauges.h"

enum {
    SWEEP_ROWS = 200, /* a sweep is short; the next one follows at once */
    SWEEP_TIME_MS = 500,
    STATEMENT_MS = 3000,
    STILL_MS = 2500, /* as bore.longest_step */
    TOLD_AFTER = 2,  /* failures: the processes do not all start at the same moment */
};

struct rules {
    struct canary_post *post;
    struct gauges *gauges;
    struct counter *failed; /* canaries */
    char name[64];          /* whose canaries ours are */
    int64_t through_ms;     /* our last one that came through; 0: none */
    char sender[64];        /* as the database had it last, and since when */
    int64_t sent;
    int64_t since_ms; /* 0: nothing seen yet */
    int failures;     /* in a row */
    int64_t failing_ms;
};

int rules_init(struct service_context *context, void **ret_rules) {
    (void)context;
    char key[CANARY_KEY_SIZE], random[17];
    canary_key(config.edge_secret, key);
    struct canary_post *post = canary_post_new(config.canary_url, key);
    if (!post) {
        log_error("CANARY_URL is no http or https URL");
        return ERR_VALIDATION;
    }
    struct rules *self = xcalloc(1, sizeof *self);
    random_hex(8, random);
    snprintf(self->name, sizeof self->name, "monitor-%d-%s", (int)config.instance, random);
    self->post = post;
    self->gauges = gauges_new();
    self->failed = counter_get(COUNTER, "bore_canary_failures_total", "");
    *ret_rules = self;
    return 0;
}

void rules_release(void *rules) {
    struct rules *self = rules;
    canary_post_free(self->post);
    gauges_free(self->gauges);
    free(self);
}

/* --- the canary -------------------------------------------------------------------------------------------------- */

static void see(struct rules *self, const char *sender, int64_t sent) {
    if (self->since_ms && self->sent == sent && strcmp(self->sender, sender) == 0) return;
    snprintf(self->sender, sizeof self->sender, "%s", sender);
    self->sent = sent;
    self->since_ms = clock_monotonic_ms();
}

static bool is_sender(const struct rules *self) {
    return strcmp(self->sender, self->name) == 0;
}

/* Whether it is for us to send: we do already, nobody ever did, or whoever did has fallen silent. */
static bool shall_send(const struct rules *self) {
    if (!self->since_ms) return false;
    return is_sender(self) || !*self->sender || clock_monotonic_ms() - self->since_ms >= STILL_MS;
}

static void note_failure(struct rules *self, const char *reason) {
    counter_add(self->failed, 1);
    if (++self->failures == 1) self->failing_ms = clock_monotonic_ms();
    if (self->failures == TOLD_AFTER)
        log_warning(
            "the canary does not come through %s (%s): until it does, no timeout goes on", config.canary_url, reason);
}

static void note_success(struct rules *self) {
    if (self->failures >= TOLD_AFTER)
        log_info("the canary comes through again after %lld ms: timeouts go on",
            (long long)(clock_monotonic_ms() - self->failing_ms));
    self->failures = 0;
}

static void send_canary(struct rules *self) {
    bool again = is_sender(self) && self->through_ms;
    struct canary canary = { .sender = self->name,
        .sent = clock_monotonic_ms(),
        .after_sender = again ? self->name : self->sender,
        .after_sent = again ? self->through_ms : self->sent };
    struct canary_reply reply;
    const char *reason;
    if (canary_post_send(self->post, &canary, &reply, &reason) < 0) {
        note_failure(self, reason);
        return;
    }
    note_success(self);
    if (reply.success) self->through_ms = canary.sent;
    message_release(&canary_reply_descriptor, &reply);
}

/* --- the rules --------------------------------------------------------------------------------------------------- */

/* Whether there is more to do at once. */
static bool sweep(struct service_context *context) {
    static const struct db_statement statement = { "time_rules", "SELECT * FROM bore.time_rules($1, $2, $3, $4)" };
    enum { WON, MORE, SENDER, SENT, COVERED, EVENTS };
    struct rules *self = context->state;
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, config.heartbeat_timeout_ms);
    db_params_add_int(&params, config.starting_timeout_ms);
    db_params_add_int(&params, config.idle_timeout_ms);
    db_params_add_int(&params, SWEEP_ROWS);
    db_set_deadline(context->db, clock_monotonic_ms() + STATEMENT_MS);
    if (db_run(context->db, &statement, &params, &result) < 0) {
        log_warning(
            "the rules of time were not applied, the next second tries again: %s", db_error_message(context->db));
        return false;
    }
    see(self, db_result_text(result, 0, SENDER), db_result_int(result, 0, SENT, 0));
    gauges_set_covered(self->gauges, db_result_int(result, 0, COVERED, 0));
    const char *events = db_result_text(result, 0, EVENTS);
    if (events) event_log_publish(context->bus, events);
    return db_result_bool(result, 0, WON, false) && db_result_bool(result, 0, MORE, false);
}

void rules_tick(struct service_context *context) {
    struct rules *self = context->state;
    if (shall_send(self)) send_canary(self);
    int64_t until_ms = clock_monotonic_ms() + SWEEP_TIME_MS;
    while (sweep(context) && clock_monotonic_ms() < until_ms)
        continue;
    if (is_sender(self)) {
        gauges_tell(self->gauges, context->db);
    } else {
        gauges_withdraw(self->gauges);
    }
}
