/*
 * lanes.c: lanes, their queues, and the choice of a worker. See router.h for the rules.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/bus/router_internal.h"

struct lane *lane_find(struct router *router, const char *name) {
    for (size_t i = 0; i < router->lane_count; i++) {
        if (strcmp(router->lanes[i]->name, name) == 0) return router->lanes[i];
    }
    return NULL;
}

static bool forget_a_lane(struct router *router) {
    for (size_t i = 0; i < router->lane_count; i++) {
        struct lane *lane = router->lanes[i];
        if (lane->workers != NULL || lane->queue.first != NULL) continue;
        lane_free(lane);
        router->lanes[i] = router->lanes[--router->lane_count];
        return true;
    }
    return false;
}

struct lane *lane_new(struct router *router, const char *name) {
    if (router->lane_count == ROUTER_LANES_MAX && !forget_a_lane(router)) return NULL;
    struct lane *self = xcalloc(1, sizeof(*self));
    char labels[BUS_LANE_MAX + 16];
    snprintf(self->name, sizeof(self->name), "%s", name);
    snprintf(labels, sizeof(labels), "lane=\"%s\"", name);
    self->lost_ms = router->started_ms;
    self->requests = counter_get(COUNTER, "bore_bus_requests_total", labels);
    self->batches = counter_get(COUNTER, "bore_bus_batches_total", labels);
    self->timeouts = counter_get(COUNTER, "bore_bus_timeouts_total", labels);
    self->unavailable = counter_get(COUNTER, "bore_bus_unavailable_total", labels);
    self->overloaded = counter_get(COUNTER, "bore_bus_overloaded_total", labels);
    self->queue_gauge = counter_get(GAUGE, "bore_bus_queue_depth", labels);
    self->credits_gauge = counter_get(GAUGE, "bore_bus_credits_free", labels);
    self->outstanding_gauge = counter_get(GAUGE, "bore_bus_outstanding_requests", labels);
    self->workers_gauge = counter_get(GAUGE, "bore_bus_workers", labels);
    router->lanes[router->lane_count++] = self;
    return self;
}

void lane_free(struct lane *self) {
    free(self);
}

bool lane_accepts(const struct router *router, const struct lane *self) {
    return self->usable > 0 || router->now_ms - self->lost_ms <= ROUTER_REMEMBER_MS;
}

static void count_in(struct router *router, struct lane *self, const struct batch *batch) {
    self->queued += batch->open;
    router->queued_bytes += batch->frame_size;
    int64_t due_ms = router->now_ms + ROUTER_HOLD_MS;
    if (self->usable == 0 && router->next_check_ms > due_ms) router->next_check_ms = due_ms;
}

void lane_enqueue(struct router *router, struct lane *self, struct batch *batch) {
    batch_list_append(&self->queue, batch);
    count_in(router, self, batch);
}

void lane_remove(struct router *router, struct lane *self, struct batch *batch) {
    batch_list_remove(&self->queue, batch);
    self->queued -= batch->open;
    router->queued_bytes -= batch->frame_size;
}

/* Most free credits; among equals the one that waited longest. NULL when nobody has one. */
static struct worker *choose_worker(const struct lane *self) {
    struct worker *best = NULL;
    int64_t best_free = 0;
    for (struct worker *worker = self->workers; worker != NULL; worker = worker->lane_next) {
        int64_t free_credits = worker->credits - worker->outstanding;
        if (worker->leaving || worker->blocked || free_credits < 1 || free_credits < best_free) continue;
        if (best != NULL && free_credits == best_free && worker->chosen > best->chosen) continue;
        best = worker;
        best_free = free_credits;
    }
    return best;
}

void lane_dispatch(struct router *router, struct lane *self) {
    struct worker *worker;
    while (self->queue.first != NULL && (worker = choose_worker(self)) != NULL) {
        struct batch *batch = self->queue.first;
        lane_remove(router, self, batch);
        int error = batch_send(router, batch, worker);
        if (error == 0) continue;
        batch_list_prepend(&self->queue, batch);
        count_in(router, self, batch);
        worker->blocked = true;
        if (error == -EHOSTUNREACH) peer_is_gone(router, worker->peer, "its connection ended");
    }
}

void lane_check_held(struct router *router, struct lane *self) {
    if (self->usable > 0) return;
    while (self->queue.first != NULL) {
        struct batch *batch = self->queue.first;
        int64_t since_ms = batch->arrived_ms > self->lost_ms ? batch->arrived_ms : self->lost_ms;
        if (router->now_ms - since_ms < ROUTER_HOLD_MS) {
            int64_t due_ms = since_ms + ROUTER_HOLD_MS;
            if (router->next_check_ms > due_ms) router->next_check_ms = due_ms;
            return;
        }
        batch_fail(router, batch, ERR_UNAVAILABLE);
    }
}
