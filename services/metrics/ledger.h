/*
 * ledger.h: what all processes told, and what those that ended counted in all: the sums of GET /metrics.
 *
 * A process is known by its identity, new at each start. Its latest values stand in a list of their own until a later
 * process of the same name and replica has taken its place and it has been silent for a minute (or for a day without
 * one); then its counters and histograms are folded into the totals, once: what may still come from it is not taken
 * any more. Gauges count only while the process is heard. Silence is measured in time in which somebody was heard, so
 * a bus that was down makes nobody silent. All bounded: 256 processes, of 2000 values each, 20000 totals.
 * Thread rule: one thread at a time.
 */
#ifndef BORE_METRICS_LEDGER_H
#define BORE_METRICS_LEDGER_H

#include <stdint.h>

#include "services/metrics/series.h"

enum {
    LEDGER_PROCESSES_MAX = 256,
    LEDGER_TOTALS_MAX = 20000,
    LEDGER_FOLDED_MAX = 256, /* identities remembered as folded */
    LEDGER_SILENT_MS = 5000,
    LEDGER_REPLACED_MS = 60 * 1000,
    LEDGER_FORGET_MS = 24 * 3600 * 1000,
};

struct ledger;

struct ledger *ledger_new(void);
void ledger_free(struct ledger *self); /* takes NULL */

/* A publication; now_ms is clock_monotonic_ms. */
void ledger_hear(struct ledger *self, const struct counters *told, int64_t now_ms);
/* Folds who is to be folded. Before ledger_sum and ledger_keep. */
void ledger_settle(struct ledger *self);
/* All series there are now, summed and in order. Release it. */
void ledger_sum(const struct ledger *self, struct series_list *ret_sums);

/* What must not be lost, as a message. Release it. */
void ledger_keep(const struct ledger *self, struct metrics_state *ret_state);
/* Goes on from what was kept: totals and processes are those of the state, except that who was heard meanwhile has its
 * newer values. What this ledger had as totals is void. */
void ledger_adopt(struct ledger *self, const struct metrics_state *state);

#endif
