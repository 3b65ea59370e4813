/*
 * sweep.c: registry's housekeeping, once a minute: see bore.registry_sweep in sql/019_registry_admin.sql.
 *
 * Setting: EVENT_RETENTION. Several replicas may run it at once: one of them finds work, the others nothing. Each
 * transaction removes a bounded number of rows, and a run makes a bounded number of them, so a backlog is worked off
 * over several minutes without holding anybody up. When it fails, the next minute tries again.
 */
#include "services/registry/sweep.h"

#include "common/clock.h"
#include "common/log.h"

enum { SWEEP_ROWS = 5000, SWEEP_ROUNDS = 40 };

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
