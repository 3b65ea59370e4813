/*
 * drops.c: see drops.h.
 */
#include "services/bus/drops.h"

#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/log.h"
#include "services/lib/counters.h"

enum { LOG_INTERVAL_MS = 1000 };

struct drop {
    const char *labels;
    const char *sentence;
    struct counter *counter;
    int64_t logged_ms;
    int64_t unlogged;
};

static struct drop drops[] = {
#define DROP_REASON(NAME, label, sentence) { "reason=\"" label "\"", sentence, NULL, 0, 0 },
    DROP_REASONS(DROP_REASON)
#undef DROP_REASON
};

void drops_begin(void) {
    for (int reason = 0; reason < DROP_REASON_COUNT; reason++)
        drops[reason].counter = counter_get(COUNTER, "bore_bus_dropped_total", drops[reason].labels);
}

void drop_count(enum drop_reason reason) {
    struct drop *drop = &drops[reason];
    if (drop->counter != NULL) counter_add(drop->counter, 1);
    if (drop->sentence == NULL) return;
    drop->unlogged++;
    int64_t now_ms = clock_monotonic_ms();
    if (drop->logged_ms != 0 && now_ms - drop->logged_ms < LOG_INTERVAL_MS) return;
    log_warning("%s: dropped count=%lld", drop->sentence, (long long)drop->unlogged);
    drop->logged_ms = now_ms;
    drop->unlogged = 0;
}
