/*
 * database_meter.h: what one connection costs, as metrics: bore_database_seconds, bore_database_errors_total,
 * bore_database_connections_total. Embedded. Thread rule: that of the connection.
 */
#ifndef BORE_SERVICES_LIB_DATABASE_METER_H
#define BORE_SERVICES_LIB_DATABASE_METER_H

#include "common/db.h"
#include "services/lib/counters.h"

struct database_meter {
    struct counter *seconds;
    struct counter *errors;
    struct counter *connections;
    struct db_statistics seen;
};

void database_meter_init(struct database_meter *self);
/* Counts what happened on the connection since the last reading, its statements as one observation. */
void database_meter_read(struct database_meter *self, const struct db *db);

#endif
