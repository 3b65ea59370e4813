/* database_meter.c: see database_meter.h. */
#include "services/lib/database_meter.h"

void database_meter_init(struct database_meter *self) {
    *self = (struct database_meter){ .seconds = counter_get(HISTOGRAM, "bore_database_seconds", ""),
        .errors = counter_get(COUNTER, "bore_database_errors_total", ""),
        .connections = counter_get(COUNTER, "bore_database_connections_total", "") };
}

void database_meter_read(struct database_meter *self, const struct db *db) {
    struct db_statistics now;
    db_statistics(db, &now);
    if (now.calls > self->seen.calls)
        histogram_observe(self->seconds, (double)(now.microseconds - self->seen.microseconds) / 1e6);
    counter_add(self->errors, (int64_t)(now.errors - self->seen.errors));
    counter_add(self->connections, (int64_t)(now.connects - self->seen.connects));
    self->seen = now;
}
