/*
 * store.h: the only place with SQL: keeping the state, and who of several is the active one (sql/060_metrics.sql).
 *
 * Thread rule: that of the connection.
 */
#ifndef BORE_METRICS_STORE_H
#define BORE_METRICS_STORE_H

#include "common/db.h"
#include "services/metrics/series.h"

enum store_outcome {
    STORE_WAITING, /* another process is active */
    STORE_STORED,
    STORE_ADOPTED, /* active from now on; go on from ret_state */
};

/* state NULL: not active yet. Returns a store_outcome, or a negative error of db.h (nothing may have changed then, or
 * everything; calling again is harmless). On ADOPTED *ret_state is what was kept (release it). On STORED and ADOPTED
 * what the event log tells, each row once, is added to events. */
int store_save(struct db *db, const char *writer, const struct metrics_state *state, struct metrics_state *ret_state,
    struct series_list *events);

#endif
