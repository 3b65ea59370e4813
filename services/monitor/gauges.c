/*
 * gauges.c: see gauges.h.
 *
 * `bore_instances_by_status{status}` (every status, those without instances too), `bore_active_tunnels` (instances
 * whose tunnel is connected), `bore_active_instances` (those that work: active, online, degraded or idle) and
 * `bore_covered_seconds`. When counting fails, the old values stand.
 */
#include "services/monitor/gauges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/counters.h"

enum { STATEMENT_MS = 3000, INTERVAL_MS = 900, SHARE = 100 };

static const char *const statuses[] = { "inactive", "starting", "active", "online", "degraded", "idle", "offline",
    "error" };

struct gauges {
    struct counter *by_status[ARRAY_SIZE(statuses)];
    struct counter *tunnels;
    struct counter *instances;
    struct counter *covered;
    int64_t covered_ms;
    int64_t next_ms;
};

struct gauges *gauges_new(void) {
    struct gauges *self = xcalloc(1, sizeof *self);
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        char labels[40];
        snprintf(labels, sizeof labels, "status=\"%s\"", statuses[i]);
        self->by_status[i] = counter_get(GAUGE, "bore_instances_by_status", labels);
    }
    self->tunnels = counter_get(GAUGE, "bore_active_tunnels", "");
    self->instances = counter_get(GAUGE, "bore_active_instances", "");
    self->covered = counter_get(GAUGE, "bore_covered_seconds", "");
    gauges_withdraw(self);
    return self;
}

void gauges_free(struct gauges *self) {
    free(self);
}

void gauges_withdraw(struct gauges *self) {
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        gauge_clear(self->by_status[i]);
    gauge_clear(self->tunnels);
    gauge_clear(self->instances);
    gauge_clear(self->covered);
    self->next_ms = 0;
}

void gauges_set_covered(struct gauges *self, int64_t covered_ms) {
    self->covered_ms = covered_ms;
}

static void tell(struct gauges *self, const struct db_result *result) {
    enum { STATUS, COUNT, CONNECTED, WORKING };
    int64_t by_status[ARRAY_SIZE(statuses)] = { 0 }, tunnels = 0, instances = 0;
    for (size_t row = 0; row < db_result_rows(result); row++) {
        tunnels += db_result_int(result, row, CONNECTED, 0);
        instances += db_result_int(result, row, WORKING, 0);
        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
            if (strcmp(db_result_text(result, row, STATUS), statuses[i]) == 0)
                by_status[i] = db_result_int(result, row, COUNT, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        gauge_set(self->by_status[i], (double)by_status[i]);
    gauge_set(self->tunnels, (double)tunnels);
    gauge_set(self->instances, (double)instances);
}

void gauges_tell(struct gauges *self, struct db *db) {
    static const struct db_statement statement = { "instance_gauges",
        "SELECT status, count(*), count(*) FILTER (WHERE phase = 'connected'), "
        "count(*) FILTER (WHERE status IN ('active', 'online', 'degraded', 'idle')) "
        "FROM bore.instances GROUP BY status" };
    gauge_set(self->covered, (double)self->covered_ms / 1000);
    int64_t began_ms = clock_monotonic_ms();
    if (began_ms < self->next_ms) return;
    _cleanup_db_result_ struct db_result *result = NULL;
    db_set_deadline(db, began_ms + STATEMENT_MS);
    if (db_run(db, &statement, NULL, &result) == 0) {
        tell(self, result);
    } else {
        log_debug("instances were not counted: %s", db_error_message(db));
    }
    int64_t pause_ms = (clock_monotonic_ms() - began_ms) * SHARE;
    self->next_ms = began_ms + (pause_ms > INTERVAL_MS ? pause_ms : INTERVAL_MS);
}
