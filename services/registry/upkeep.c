/*
 * upkeep.c: registry's timers: see bore.tunnel_doubts (sql/024) and bore.registry_sweep (sql/019).
 *
 * Settings: EVENT_RETENTION, IDLE_TIMEOUT_SECONDS. Of several replicas that sweep, one finds work, the others nothing.
 * Each transaction touches a bounded number of rows, and a run makes a bounded number of them, so a backlog is worked
 * off over several runs without holding anybody up. When one fails, the next run tries again.
 */
#include "services/registry/upkeep.h"

#include "common/clock.h"
#include "common/log.h"
#include "services/lib/event_log.h"

enum { DOUBTS_AT_ONCE = 200, SWEEP_ROWS = 5000, SWEEP_ROUNDS = 40 };

void registry_settle_doubts(struct service_context *context) {
    static const struct db_statement statement = { "tunnel_doubts",
        "SELECT bore.tunnel_doubts($1, bore.duration($2))" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, DOUBTS_AT_ONCE);
    db_params_add_int(&params, config.idle_timeout_ms);
    if (db_run(context->db, &statement, &params, &result) < 0) {
        log_warning(
            "doubtful tunnels were not looked at, the next second tries again: %s", db_error_message(context->db));
        return;
    }
    const char *events = db_result_text(result, 0, 0);
    if (events) event_log_publish(context->bus, events);
}

/* Rows removed, or negative. */
static int64_t sweep_once(struct service_context *context) {
    static const struct db_statement statement = { "registry_sweep", "SELECT bore.registry_sweep($1, $2)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, config.event_retention_ms);
    db_params_add_int(&params, SWEEP_ROWS);
    int error = db_run(context->db, &statement, &params, &result);
    return error ? error : db_result_int(result, 0, 0, 0);
}

void registry_sweep(struct service_context *context) {
    int64_t total = 0;
    for (int round = 0; round < SWEEP_ROUNDS && clock_monotonic_ms() < context->deadline_ms; round++) {
        int64_t removed = sweep_once(context);
        if (removed < 0) {
            log_warning("old rows were not removed, the next minute tries again: %s", db_error_message(context->db));
            return;
        }
        total += removed;
        if (removed < SWEEP_ROWS) break;
    }
    if (total > 0) log_info("%lld old rows removed", (long long)total);
}
