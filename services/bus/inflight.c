/*
 * inflight.c: batches: waiting, under way at a worker, answered. See router.h for the rules.
 *
 * A batch's slots tell which of its requests still need an answer (open) and which still occupy their worker (held);
 * both counts only fall. Batch numbers begin at random, so that a reply meant for an earlier life of the bus meets no
 * batch of this one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/bus/router_internal.h"

void batch_list_append(struct batch_list *self, struct batch *batch) {
    batch->next = NULL;
    batch->previous = self->last;
    if (self->last != NULL) {
        self->last->next = batch;
    } else {
        self->first = batch;
    }
    self->last = batch;
}

void batch_list_prepend(struct batch_list *self, struct batch *batch) {
    batch->previous = NULL;
    batch->next = self->first;
    if (self->first != NULL) {
        self->first->previous = batch;
    } else {
        self->last = batch;
    }
    self->first = batch;
}

void batch_list_remove(struct batch_list *self, struct batch *batch) {
    if (batch->previous != NULL) {
        batch->previous->next = batch->next;
    } else {
        self->first = batch->next;
    }
    if (batch->next != NULL) {
        batch->next->previous = batch->previous;
    } else {
        self->last = batch->previous;
    }
    batch->next = batch->previous = NULL;
}

static struct batch **bucket_of(struct router *router, uint64_t number) {
    return &router->batches[number % BATCH_BUCKETS];
}

static struct batch *find_batch(struct router *router, uint64_t number) {
    struct batch *batch = *bucket_of(router, number);
    while (batch != NULL && batch->number != number)
        batch = batch->bucket_next;
    return batch;
}

/* The first deadline of an open request. */
static int64_t first_deadline(const struct batch *self) {
    int64_t first_ms = INT64_MAX;
    for (size_t i = 0; i < self->count; i++) {
        const struct slot *slot = &self->slots[i];
        if (slot->state == SLOT_OPEN && slot->deadline_ms < first_ms) first_ms = slot->deadline_ms;
    }
    return first_ms;
}

struct batch *batch_new(struct router *router, struct lane *lane, zmq_msg_t *caller, zmq_msg_t *frame,
    const struct request_envelope *envelope) {
    struct batch *self = xmalloc(sizeof(*self) + envelope->count * sizeof(struct slot));
    *self = (struct batch){
        .lane = lane,
        .arrived_ms = router->now_ms,
        .frame_size = zmq_msg_size(frame),
        .count = envelope->count,
        .open = envelope->count,
        .held = envelope->count,
    };
    for (size_t i = 0; i < envelope->count; i++) {
        const struct envelope_request *request = &envelope->requests[i];
        self->slots[i] = (struct slot){ request->correlation, router->now_ms + request->budget_ms,
            request->budget_offset, SLOT_OPEN };
    }
    zmq_msg_init(&self->caller);
    zmq_msg_move(&self->caller, caller);
    zmq_msg_init(&self->frame);
    zmq_msg_move(&self->frame, frame);
    router->open += self->open;
    timer_wheel_add(&router->wheel, &self->timer, first_deadline(self));
    return self;
}

void batch_free(struct router *router, struct batch *self) {
    router->open -= self->open;
    timer_entry_remove(&self->timer);
    zmq_msg_close(&self->caller);
    zmq_msg_close(&self->frame);
    free(self);
}

/* What waited has less time left than its frame says. */
static void reduce_budgets(const struct router *router, struct batch *self) {
    if (router->now_ms == self->arrived_ms) return;
    unsigned char *frame = zmq_msg_data(&self->frame);
    for (size_t i = 0; i < self->count; i++) {
        struct slot *slot = &self->slots[i];
        bus_budget_set(frame + slot->budget_offset, slot->state == SLOT_OPEN ? slot->deadline_ms - router->now_ms : 0);
    }
}

int batch_send(struct router *router, struct batch *self, struct worker *worker) {
    uint64_t number = router->next_number + (router->next_number == 0);
    reduce_budgets(router, self);
    int error = router->output.to_worker(router->output.user_data, &worker->peer->identity, number, &self->frame);
    if (error != 0) return error;
    router->next_number = number + 1;
    self->number = number;
    self->worker = worker;
    self->bucket_next = *bucket_of(router, number);
    *bucket_of(router, number) = self;
    batch_list_append(&worker->inflight, self);
    worker->outstanding += (int64_t)self->held;
    worker->chosen = ++router->choices;
    return 0;
}

/* Takes it out of the queue, or out of the worker's hands. */
static void detach(struct router *router, struct batch *self) {
    if (self->worker == NULL) {
        lane_remove(router, self->lane, self);
        return;
    }
    struct batch **link = bucket_of(router, self->number);
    while (*link != self)
        link = &(*link)->bucket_next;
    *link = self->bucket_next;
    batch_list_remove(&self->worker->inflight, self);
    self->worker->outstanding -= (int64_t)self->held;
}

/* Answers the open requests whose deadline is not after until_ms; they become `state`. */
static size_t answer_open(
    struct router *router, struct batch *self, int64_t until_ms, enum slot_state state, int error) {
    int64_t correlations[BUS_BATCH_MAX];
    size_t count = 0;
    for (size_t i = 0; i < self->count; i++) {
        struct slot *slot = &self->slots[i];
        if (slot->state != SLOT_OPEN || slot->deadline_ms > until_ms) continue;
        slot->state = state;
        correlations[count++] = slot->correlation;
    }
    if (count == 0) return 0;
    self->open -= count;
    router->open -= count;
    if (self->worker == NULL) self->lane->queued -= count;
    counter_add(error == ERR_TIMEOUT ? self->lane->timeouts : self->lane->unavailable, (int64_t)count);
    router_answer(router, &self->caller, correlations, count, error);
    return count;
}

void batch_fail(struct router *router, struct batch *self, int error) {
    answer_open(router, self, INT64_MAX, SLOT_EXPIRED, error);
    detach(router, self);
    batch_free(router, self);
}

/* The caller's copy goes first: what is done here later cannot delay it. Replies to expired requests in the same frame
 * go along, the caller's stub drops them. */
static void forward_reply(struct router *router, struct batch *self, zmq_msg_t *frame) {
    zmq_msg_t taken;
    zmq_msg_init(&taken);
    zmq_msg_move(&taken, frame);
    router->output.to_caller(router->output.user_data, &self->caller, &taken);
}

/* The slot of a correlation, or NULL. Replies mostly come in the requests' order: the search begins after the last one.
 */
static struct slot *find_slot(struct batch *self, int64_t correlation, size_t *start) {
    for (size_t i = 0; i < self->count; i++) {
        size_t index = *start + i < self->count ? *start + i : *start + i - self->count;
        if (self->slots[index].correlation != correlation) continue;
        *start = index + 1;
        return &self->slots[index];
    }
    return NULL;
}

static bool answers_this(struct batch *self, const struct reply_envelope *envelope) {
    size_t start = 0;
    for (size_t i = 0; i < envelope->count; i++) {
        if (find_slot(self, envelope->replies[i].correlation, &start) == NULL) return false;
    }
    return true;
}

/* Marks the slots that the frame answers. Returns how many of them were open. */
static size_t close_slots(struct router *router, struct batch *self, const struct reply_envelope *envelope) {
    size_t start = 0, open = 0, held = 0;
    for (size_t i = 0; i < envelope->count; i++) {
        struct slot *slot = find_slot(self, envelope->replies[i].correlation, &start);
        if (slot->state == SLOT_DONE) continue;
        open += slot->state == SLOT_OPEN;
        held++;
        slot->state = SLOT_DONE;
    }
    self->open -= open;
    router->open -= open;
    self->held -= held;
    self->worker->outstanding -= (int64_t)held;
    return open;
}

static bool sent_by_its_worker(const struct batch *self, zmq_msg_t *identity) {
    zmq_msg_t *expected = &self->worker->peer->identity;
    size_t size = zmq_msg_size(expected);
    return size == zmq_msg_size(identity) && memcmp(zmq_msg_data(expected), zmq_msg_data(identity), size) == 0;
}

void batch_on_reply(struct router *router, zmq_msg_t *identity, uint64_t number, zmq_msg_t *frame) {
    struct reply_envelope *envelope = &router->reply_envelope;
    if (reply_envelope_scan(zmq_msg_data(frame), zmq_msg_size(frame), envelope) != 0) {
        drop_count(DROP_MALFORMED_WORKER);
        return;
    }
    struct batch *batch = find_batch(router, number);
    if (batch == NULL || !sent_by_its_worker(batch, identity)) {
        drop_count(DROP_LATE_REPLY);
        return;
    }
    if (!answers_this(batch, envelope)) {
        drop_count(DROP_MALFORMED_WORKER);
        return;
    }
    struct lane *lane = batch->lane;
    batch->worker->blocked = batch->worker->peer->ended;
    if (close_slots(router, batch, envelope) > 0) {
        forward_reply(router, batch, frame);
    } else {
        drop_count(DROP_LATE_REPLY);
    }
    if (batch->held == 0) {
        detach(router, batch);
        batch_free(router, batch);
    }
    lane_dispatch(router, lane);
}

void batch_on_timer(void *user_data, struct timer_entry *entry) {
    struct router *router = user_data;
    struct batch *self = (struct batch *)(void *)((char *)entry - offsetof(struct batch, timer));
    answer_open(router, self, router->now_ms, SLOT_EXPIRED, ERR_TIMEOUT);
    if (self->open > 0) {
        timer_wheel_add(&router->wheel, &self->timer, first_deadline(self));
        return;
    }
    if (self->worker != NULL && !self->late) { /* its credits come back with its replies, or later */
        self->late = true;
        timer_wheel_add(&router->wheel, &self->timer, router->now_ms + ROUTER_LATE_MS);
        return;
    }
    struct lane *lane = self->lane;
    if (self->late) drop_count(DROP_ABANDONED);
    detach(router, self);
    batch_free(router, self);
    lane_dispatch(router, lane);
}
