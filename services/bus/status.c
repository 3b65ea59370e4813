/*
 * status.c: what the router tells about itself: BUS_STATUS for a caller, gauges for the counters.
 */
#include "common/memory.h"
#include "gen/version.h"
#include "services/bus/router_internal.h"

static struct lane_status status_of(const struct lane *lane) {
    struct lane_status status = { .queued = (int64_t)lane->queued };
    for (const struct worker *worker = lane->workers; worker != NULL; worker = worker->lane_next) {
        int64_t free_credits = worker->credits - worker->outstanding;
        status.workers++;
        status.outstanding += worker->outstanding;
        if (!worker->leaving && !worker->blocked && free_credits > 0) status.credits += free_credits;
    }
    return status;
}

void router_status(struct router *self, struct bus_status_reply *ret_reply) {
    *ret_reply = (struct bus_status_reply){
        .version = xstrdup(BORE_VERSION),
        .uptime_ms = self->now_ms - self->started_ms,
        .lanes = xcalloc(self->lane_count + 1, sizeof(struct lane_status)),
        .lanes_count = self->lane_count,
    };
    for (size_t i = 0; i < self->lane_count; i++) {
        ret_reply->lanes[i] = status_of(self->lanes[i]);
        ret_reply->lanes[i].lane = xstrdup(self->lanes[i]->name);
    }
}

void router_set_gauges(struct router *self) {
    for (size_t i = 0; i < self->lane_count; i++) {
        const struct lane *lane = self->lanes[i];
        struct lane_status status = status_of(lane);
        gauge_set(lane->queue_gauge, (double)status.queued);
        gauge_set(lane->credits_gauge, (double)status.credits);
        gauge_set(lane->outstanding_gauge, (double)status.outstanding);
        gauge_set(lane->workers_gauge, (double)status.workers);
    }
}
