/*
 * bus_client_calls.c: calls in the client thread: lanes, batches, correlations, replies, deadlines, the one retry.
 *
 * What waits in a lane goes out at once, unless CLIENT_FLIGHTS batches of it are under way of which nothing is answered
 * yet: then it waits for the first answer, CLIENT_FLIGHT_US at most. Under load this makes few large batches, each of
 * which wakes a dozen threads on its way, instead of many small ones; a lane whose answers take long is not slowed.
 * A batch is an eighth of what waits, but at least 8 requests: few enough that a single process spreads its calls over
 * all workers of a lane, enough that the work for a batch is shared. In a lane that batches it is all that waits, and
 * one (BATCHED_FLIGHTS) is under way.
 * A correlation is a slot's number and a running number above it, so a late reply can never meet a later call.
 */
#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_client_internal.h"

static_assert((BUS_CLIENT_PENDING_MAX & (BUS_CLIENT_PENDING_MAX - 1)) == 0, "slots are the low bits of a correlation");

void calls_init(struct bus_client *self) {
    random_bytes(&self->sequence, sizeof(self->sequence));
    timer_wheel_init(&self->wheel, clock_monotonic_ms());
    self->ended_end = &self->ended;
    for (size_t i = 0; i < BUS_CLIENT_PENDING_MAX; i++)
        self->free_slots[self->free_count++] = (uint16_t)(BUS_CLIENT_PENDING_MAX - 1 - i);
}

/* --- one call -------------------------------------------------------------------------------------------------------
 */

/* Gives the correlation back. */
static void forget_correlation(struct bus_client *self, struct call *call) {
    if (call->correlation == 0) return;
    size_t slot = (size_t)call->correlation % BUS_CLIENT_PENDING_MAX;
    self->slots[slot] = NULL;
    self->free_slots[self->free_count++] = (uint16_t)slot;
    call->correlation = 0;
}

static void take_correlation(struct bus_client *self, struct call *call) {
    size_t slot = self->free_slots[--self->free_count];
    uint64_t sequence = ++self->sequence % (UINT64_C(1) << 49) + 1;
    self->slots[slot] = call;
    call->correlation = (int64_t)(sequence * BUS_CLIENT_PENDING_MAX + slot);
}

static void lane_append(struct bus_client *self, struct call *call) {
    struct client_lane *lane = call->lane;
    call->next = NULL;
    call->previous = lane->last;
    if (lane->last != NULL) {
        lane->last->next = call;
    } else {
        lane->first = call;
    }
    lane->last = call;
    lane->count++;
    self->waiting++;
}

static void lane_remove(struct bus_client *self, struct call *call) {
    struct client_lane *lane = call->lane;
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        lane->first = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    } else {
        lane->last = call->previous;
    }
    lane->count--;
    self->waiting--;
}

/* The call must be in no lane and have no correlation. */
void call_end(struct bus_client *self, struct call *call, int result) {
    timer_entry_remove(&call->timer);
    if (result == ERR_TIMEOUT) CLIENT_COUNT(self, timeouts, 1);
    if (result == ERR_UNAVAILABLE) CLIENT_COUNT(self, unavailable, 1);
    call->result = result;
    atomic_fetch_sub_explicit(&self->pending, 1, memory_order_relaxed);
    call->item.next = NULL;
    *self->ended_end = &call->item;
    self->ended_end = &call->item.next;
}

void calls_tell(struct bus_client *self) {
    struct item *next = self->ended;
    self->ended = NULL;
    self->ended_end = &self->ended;
    while (next != NULL) {
        struct call *call = (struct call *)next;
        next = next->next;
        /* After `done` it may be gone: only its address is used. */
        if (atomic_exchange_explicit(&call->done, CALL_DONE, memory_order_acq_rel) == CALL_SLEEPING)
            syscall(SYS_futex, &call->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/* Whether it was put back to be sent a second time. */
static bool retry(struct bus_client *self, struct call *call) {
    if (!call->method->idempotent || call->retried || call->deadline_ms <= self->now_ms) return false;
    call->retried = true;
    CLIENT_COUNT(self, retries, 1);
    lane_append(self, call);
    return true;
}

static struct client_lane *find_lane(struct bus_client *self, const char *name) {
    for (size_t i = 0; i < self->lane_count; i++) {
        if (self->lanes[i].name == name || strcmp(self->lanes[i].name, name) == 0) return &self->lanes[i];
    }
    if (self->lane_count == CLIENT_LANES_MAX) return NULL;
    self->lanes[self->lane_count].name = name;
    self->lanes[self->lane_count].is_batched = lane_is_batched(name);
    return &self->lanes[self->lane_count++];
}

void calls_add(struct bus_client *self, struct call *call) {
    call->lane = find_lane(self, call->method->lane);
    if (call->lane == NULL || (!self->connected && self->now_ms - self->lost_ms >= CLIENT_HOLD_MS)) {
        call_end(self, call, call->lane == NULL ? ERR_INTERNAL : ERR_UNAVAILABLE);
        return;
    }
    timer_wheel_add(&self->wheel, &call->timer, call->deadline_ms);
    lane_append(self, call);
}

/* What was never sent was never done: that is not a timeout but an absent bus. */
void calls_on_timer(void *client, struct timer_entry *entry) {
    struct bus_client *self = client;
    struct call *call = (struct call *)(void *)((char *)entry - offsetof(struct call, timer));
    bool was_sent = call->correlation != 0;
    if (was_sent) {
        forget_correlation(self, call);
    } else {
        lane_remove(self, call);
    }
    call_end(self, call, was_sent || self->connected ? ERR_TIMEOUT : ERR_UNAVAILABLE);
}

/* --- sending --------------------------------------------------------------------------------------------------------
 */

/* When it no longer is held back; INT64_MIN when it is not. */
static int64_t held_until_us(const struct client_lane *lane) {
    int64_t oldest_us = INT64_MAX;
    size_t flights = lane->is_batched ? BATCHED_FLIGHTS : CLIENT_FLIGHTS;
    for (size_t i = 0; i < flights; i++) {
        const struct flight *flight = &lane->flights[i];
        if (flight->batch == 0) return INT64_MIN;
        if (flight->sent_us < oldest_us) oldest_us = flight->sent_us;
    }
    return oldest_us + (lane->is_batched ? BATCHED_FLIGHT_US : CLIENT_FLIGHT_US);
}

uint64_t calls_held(struct bus_client *self, int64_t *ret_until_us) {
    uint64_t held = 0;
    *ret_until_us = INT64_MAX;
    for (size_t i = 0; i < self->lane_count; i++) {
        int64_t until_us = held_until_us(&self->lanes[i]);
        if (until_us <= self->now_us) continue;
        held |= lane_bit(self->lanes[i].name);
        if (until_us < *ret_until_us) *ret_until_us = until_us;
    }
    return held;
}

/* The newest batch takes the oldest one's place. */
static void flight_begin(struct bus_client *self, struct client_lane *lane) {
    struct flight *place = &lane->flights[0];
    size_t flights = lane->is_batched ? BATCHED_FLIGHTS : CLIENT_FLIGHTS;
    for (size_t i = 1; i < flights; i++) {
        if (lane->flights[i].batch < place->batch) place = &lane->flights[i];
    }
    *place = (struct flight){ self->batches, self->now_us };
}

static void flight_end(struct client_lane *lane, uint64_t batch) {
    for (size_t i = 0; i < CLIENT_FLIGHTS; i++) {
        if (lane->flights[i].batch == batch) lane->flights[i].batch = 0;
    }
}

static size_t batch_limit(const struct client_lane *lane) {
    if (lane->is_batched) return BUS_BATCH_MAX;
    size_t limit = lane->count / CLIENT_BATCH_SHARES;
    if (limit < CLIENT_BATCH_MIN) return CLIENT_BATCH_MIN;
    return limit < BUS_BATCH_MAX ? limit : BUS_BATCH_MAX;
}

static void free_frame(void *data, void *hint) {
    (void)hint;
    free(data);
}

/* Puts the first calls of the lane into one frame; they stay in the lane. Returns how many. */
static size_t encode_batch(struct bus_client *self, struct client_lane *lane, struct strbuf *frame) {
    struct bus_request requests[BUS_BATCH_MAX];
    size_t limit = batch_limit(lane), count = 0, bytes = 0;
    self->batches++;
    for (struct call *call = lane->first; call != NULL && count < limit; call = call->next) {
        if (count > 0 && bytes + call->body_size > CLIENT_BATCH_BYTES_MAX) break;
        bytes += call->body_size;
        int64_t budget_ms = call->deadline_ms - self->now_ms;
        take_correlation(self, call);
        call->batch = self->batches;
        requests[count++] = (struct bus_request){
            .correlation = call->correlation,
            .method = call->method->request_id,
            .budget_ms = budget_ms < 1        ? 1
                         : budget_ms > 600000 ? 600000
                                              : budget_ms,
            .request_id = (char *)(uintptr_t)call->request_id,
            .body = (unsigned char *)(uintptr_t)call->body,
            .body_size = call->body_size,
        };
    }
    struct request_batch batch = {
        .lane = (char *)(uintptr_t)lane->name, .requests = requests, .requests_count = count
    };
    if (message_encode_frame(&request_batch_descriptor, &batch, frame) != 0) strbuf_clear(frame);
    return count;
}

/* The batch's calls leave the lane (sent, or ended with an error), or lose their correlations again and stay. */
static void settle_batch(struct bus_client *self, struct client_lane *lane, size_t count, bool sent, int error) {
    struct call *next = lane->first;
    for (size_t i = 0; i < count; i++) {
        struct call *call = next;
        next = call->next;
        if (!sent) forget_correlation(self, call);
        if (sent || error != 0) lane_remove(self, call);
        if (error != 0) call_end(self, call, error);
    }
}

/* False when the bus takes nothing more for now. */
static bool send_batch(struct bus_client *self, struct client_lane *lane) {
    struct strbuf text = STRBUF_INIT;
    zmq_msg_t frame;
    size_t count = encode_batch(self, lane, &text);
    if (text.size == 0) {
        log_error("a batch for %s cannot be encoded", lane->name);
        settle_batch(self, lane, count, false, ERR_VALIDATION);
        strbuf_release(&text);
        return true;
    }
    size_t size = text.size;
    zmq_msg_init_data(&frame, strbuf_detach(&text), size, free_frame, NULL);
    bool sent = zmq_msg_send(&frame, self->requests, ZMQ_DONTWAIT) >= 0;
    if (!sent) zmq_msg_close(&frame);
    if (sent) flight_begin(self, lane);
    settle_batch(self, lane, count, sent, 0);
    return sent;
}

void calls_flush(struct bus_client *self) {
    if (self->waiting == 0 || !self->connected) return;
    self->blocked = false;
    for (size_t i = 0; i < self->lane_count && !self->blocked; i++) {
        struct client_lane *lane = &self->lanes[i];
        if (held_until_us(lane) > self->now_us) continue;
        while (lane->count > 0 && !self->blocked)
            self->blocked = !send_batch(self, lane);
    }
}

/* --- endings --------------------------------------------------------------------------------------------------------
 */

static void on_answer(struct bus_client *self, const struct envelope_reply *reply, zmq_msg_t *frame) {
    struct call *call = self->slots[(uint64_t)reply->correlation % BUS_CLIENT_PENDING_MAX];
    if (call == NULL || call->correlation != reply->correlation) {
        CLIENT_COUNT(self, late_replies, 1);
        return;
    }
    int result = reply->code == 0 ? 0 : -1000 - reply->code;
    flight_end(call->lane, call->batch);
    forget_correlation(self, call);
    if (result == ERR_UNAVAILABLE && retry(self, call)) return;
    zmq_msg_copy(&call->reply, frame);
    /* A small message is copied, so the body is found again by its place. */
    size_t offset = (size_t)(reply->body - (const unsigned char *)zmq_msg_data(frame));
    call->reply_body = (const unsigned char *)zmq_msg_data(&call->reply) + offset;
    call->reply_size = reply->body_size;
    call_end(self, call, result);
}

void calls_on_reply(struct bus_client *self, zmq_msg_t *frame) {
    if (reply_envelope_scan(zmq_msg_data(frame), zmq_msg_size(frame), &self->envelope) != 0) {
        log_debug("the bus sent %zu bytes that are no replies", zmq_msg_size(frame));
        return;
    }
    for (size_t i = 0; i < self->envelope.count; i++)
        on_answer(self, &self->envelope.replies[i], frame);
}

void calls_on_lost(struct bus_client *self) {
    for (size_t slot = 0; slot < BUS_CLIENT_PENDING_MAX; slot++) {
        struct call *call = self->slots[slot];
        if (call == NULL) continue;
        forget_correlation(self, call);
        if (!retry(self, call)) call_end(self, call, ERR_UNAVAILABLE);
    }
}

void calls_give_up(struct bus_client *self) {
    for (size_t i = 0; i < self->lane_count; i++) {
        while (self->lanes[i].first != NULL) {
            struct call *call = self->lanes[i].first;
            lane_remove(self, call);
            call_end(self, call, ERR_UNAVAILABLE);
        }
    }
}

void calls_fail_all(struct bus_client *self) {
    calls_give_up(self);
    for (size_t slot = 0; slot < BUS_CLIENT_PENDING_MAX; slot++) {
        struct call *call = self->slots[slot];
        if (call == NULL) continue;
        forget_correlation(self, call);
        call_end(self, call, ERR_UNAVAILABLE);
    }
}
