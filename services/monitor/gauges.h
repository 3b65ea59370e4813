/*
 * gauges.h: what the database counts: instances by status, tunnels. One replica tells them for all: whoever sends the
 * canaries. One thread.
 */
#ifndef BORE_MONITOR_GAUGES_H
#define BORE_MONITOR_GAUGES_H

#include "common/db.h"

struct gauges;

struct gauges *gauges_new(void);
void gauges_free(struct gauges *self);

/* Counts anew, unless counting would take more than a hundredth of the time. */
void gauges_tell(struct gauges *self, struct db *db);
/* The covered time, in milliseconds; told from the next gauges_tell on. */
void gauges_set_covered(struct gauges *self, int64_t covered_ms);
/* Another replica tells them. */
void gauges_withdraw(struct gauges *self);

#endif
