/*
 * main.c: metrics: the sums of what all processes count, as Prometheus scrapes them (ARCHITECTURE §7).
 *
 * Serves METRICS_TEXT, hears `counters.`. Reads the event log by SQL, a bounded piece of it at each storing, and counts
 * tunnels and status changes there: each row once. Settings: DB_*, BUS_*, LOG_*, BORE_INSTANCE.
 *
 * When things fail: a lost publication costs nothing, the next one has it all; a killed process loses what it counted
 * since its last publication, one second at most. A second metrics process by mistake, or a new one while the old one
 * still ends, waits and takes no requests. Without the database what was last stored is shown, after ten seconds what
 * is known.
 */
#include "services/metrics/summary.h"

enum { TICK_MS = 500 };

HANDLER(on_metrics_text, metrics_text, metrics_text_reply) {
    ret_reply->text = summary_text(context->state);
    return ret_reply->text != NULL ? 0 : service_fail(context, ERR_UNAVAILABLE, "The metrics are not there yet.", 2);
}

static void tick(struct service_context *context) {
    summary_tick(context->state, context);
}

static int init(struct service_context *context, void **ret_state) {
    service_hold(context, true);
    *ret_state = summary_new(context->bus);
    return 0;
}

static void release(void *state) {
    summary_free(state);
}

static const struct service_handler handlers[] = { { MSG_METRICS_TEXT, on_metrics_text }, { 0 } };

static const struct service_timer timers[] = {
    { .interval_ms = TICK_MS, .function = tick, .name = "store", .without_database = true },
    { 0 },
};

static const struct service_lane *lanes(void) {
    static const struct service_lane table[] = {
        { .name = "metrics", .threads = 1, .credits = 16, .without_database = true },
        { 0 },
    };
    return table;
}

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){
            .name = "metrics",
            .purpose = "Sums what all processes count, for Prometheus.",
            .process = METRICS,
            .database = true,
            .lanes = lanes,
            .handlers = handlers,
            .timers = timers,
            .init = init,
            .release = release,
        });
}
