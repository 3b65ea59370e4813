/*
 * router.c: requests of callers, the bus's own answers, and time. See router.h for the rules.
 *
 * Serves REQUEST_BATCH (and BUS_STATUS on its own lane "bus"), emits REPLY_BATCH. What cannot be read is dropped and
 * counted; a peer can make the bus neither allocate without bound nor end.
 */
#include "services/bus/router.h"

#include <string.h>

#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/bus/router_internal.h"

enum { CHECK_MS = 500, FROZEN_MS = 1500 };

struct router *router_new(size_t queue_max, const struct router_output *output, int64_t now_ms) {
    struct router *self = xcalloc(1, sizeof(*self));
    self->output = *output;
    self->queue_max = queue_max;
    self->now_ms = self->started_ms = now_ms;
    self->next_check_ms = now_ms + CHECK_MS;
    random_bytes(&self->next_number, sizeof(self->next_number));
    timer_wheel_init(&self->wheel, now_ms);
    return self;
}

static void free_list(struct router *self, struct batch_list *list) {
    while (list->first != NULL) {
        struct batch *batch = list->first;
        batch_list_remove(list, batch);
        batch_free(self, batch);
    }
}

void router_free(struct router *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->lane_count; i++) {
        struct lane *lane = self->lanes[i];
        free_list(self, &lane->queue);
        for (struct worker *worker = lane->workers; worker != NULL; worker = worker->lane_next)
            free_list(self, &worker->inflight);
        lane_free(lane);
    }
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        while (self->peers[i] != NULL) {
            struct peer *peer = self->peers[i];
            self->peers[i] = peer->bucket_next;
            peer_free(peer);
        }
    }
    free(self);
}

/* --- time -----------------------------------------------------------------------------------------------------------
 */

void router_set_time(struct router *self, int64_t now_ms) {
    bool was_frozen = now_ms - self->now_ms > FROZEN_MS; /* it is never idle for so long */
    int64_t gap_ms = now_ms - self->now_ms;
    self->now_ms = now_ms;
    if (!was_frozen) return;
    log_warning("the bus did not run for %lld ms", (long long)gap_ms);
    workers_forgive_silence(self);
}

void router_tick(struct router *self) {
    timer_wheel_expire(&self->wheel, self->now_ms, batch_on_timer, self);
    if (self->now_ms < self->next_check_ms) return;
    self->next_check_ms = self->now_ms + CHECK_MS;
    workers_check_silence(self);
    for (size_t i = 0; i < self->lane_count; i++)
        lane_check_held(self, self->lanes[i]);
}

int64_t router_next_ms(struct router *self) {
    int64_t next_ms = timer_wheel_next_ms(&self->wheel);
    return next_ms < self->next_check_ms ? next_ms : self->next_check_ms;
}

/* --- answers of the bus's own ---------------------------------------------------------------------------------------
 */

static void send_replies(struct router *self, zmq_msg_t *caller, const struct reply_batch *batch) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    zmq_msg_t frame;
    if (message_encode_frame(&reply_batch_descriptor, batch, &text) != 0) {
        log_error("an answer of the bus's own cannot be encoded");
        return;
    }
    zmq_msg_init_size(&frame, text.size);
    memcpy(zmq_msg_data(&frame), text.data, text.size);
    self->output.to_caller(self->output.user_data, caller, &frame);
}

void router_answer(struct router *self, zmq_msg_t *caller, const int64_t *correlations, size_t count, int error) {
    struct bus_reply replies[BUS_BATCH_MAX];
    for (size_t i = 0; i < count; i++)
        replies[i] = (struct bus_reply){ .correlation = correlations[i], .code = -error - 1000 };
    send_replies(self, caller, &(struct reply_batch){ .replies = replies, .replies_count = count });
}

static void answer_all(struct router *self, zmq_msg_t *caller, int error) {
    int64_t correlations[BUS_BATCH_MAX];
    const struct request_envelope *envelope = &self->request_envelope;
    for (size_t i = 0; i < envelope->count; i++)
        correlations[i] = envelope->requests[i].correlation;
    router_answer(self, caller, correlations, envelope->count, error);
}

static void answer_status(struct router *self, zmq_msg_t *caller, int64_t correlation) {
    struct bus_status_reply status;
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    struct bus_reply reply = { .correlation = correlation };
    router_status(self, &status);
    if (message_encode(&bus_status_reply_descriptor, &status, &body) != 0) reply.code = -ERR_INTERNAL - 1000;
    message_release(&bus_status_reply_descriptor, &status);
    reply.body = (unsigned char *)body.data;
    reply.body_size = body.size;
    send_replies(self, caller, &(struct reply_batch){ .replies = &reply, .replies_count = 1 });
}

static void serve_own_lane(struct router *self, zmq_msg_t *caller) {
    const struct request_envelope *envelope = &self->request_envelope;
    for (size_t i = 0; i < envelope->count; i++) {
        const struct envelope_request *request = &envelope->requests[i];
        if (request->method == MSG_BUS_STATUS) {
            answer_status(self, caller, request->correlation);
        } else {
            router_answer(self, caller, &request->correlation, 1, ERR_MALFORMED);
        }
    }
}

/* --- requests -------------------------------------------------------------------------------------------------------
 */

/* A lane that nobody serves is remembered only while the bus is young: its workers may not have come back yet. */
static struct lane *lane_of_request(struct router *self, const char *name) {
    struct lane *lane = lane_find(self, name);
    bool young = self->now_ms - self->started_ms <= ROUTER_REMEMBER_MS;
    return lane == NULL && young ? lane_new(self, name) : lane;
}

static void accept_batch(struct router *self, struct lane *lane, zmq_msg_t *caller, zmq_msg_t *frame) {
    size_t count = self->request_envelope.count;
    counter_add(lane->requests, (int64_t)count);
    counter_add(lane->batches, 1);
    if (!lane_accepts(self, lane)) {
        counter_add(lane->unavailable, (int64_t)count);
        answer_all(self, caller, ERR_UNAVAILABLE);
    } else if (lane->queued + count > self->queue_max ||
               self->queued_bytes + zmq_msg_size(frame) > ROUTER_QUEUE_BYTES_MAX) {
        counter_add(lane->overloaded, (int64_t)count);
        answer_all(self, caller, ERR_OVERLOADED);
    } else {
        lane_enqueue(self, lane, batch_new(self, lane, caller, frame, &self->request_envelope));
        lane_dispatch(self, lane);
    }
}

void router_on_request(struct router *self, zmq_msg_t *caller, zmq_msg_t *frame) {
    if (request_envelope_scan(zmq_msg_data(frame), zmq_msg_size(frame), &self->request_envelope) != 0) {
        drop_count(DROP_MALFORMED_REQUEST);
        return;
    }
    if (strcmp(self->request_envelope.lane, "bus") == 0) {
        serve_own_lane(self, caller);
        return;
    }
    struct lane *lane = lane_of_request(self, self->request_envelope.lane);
    if (lane == NULL) {
        counter_add(counter_get(COUNTER, "bore_bus_unavailable_total", "lane=\"unknown\""),
            (int64_t)self->request_envelope.count);
        answer_all(self, caller, ERR_UNAVAILABLE);
        return;
    }
    accept_batch(self, lane, caller, frame);
}

void router_on_worker(struct router *self, zmq_msg_t *worker, zmq_msg_t *head, zmq_msg_t *frame, int descriptor) {
    const unsigned char *bytes = zmq_msg_data(head);
    uint64_t number = 0;
    if (zmq_msg_size(head) == 0) {
        workers_on_hello(self, worker, frame, descriptor);
    } else if (zmq_msg_size(head) == sizeof(number)) {
        for (size_t i = 0; i < sizeof(number); i++)
            number = number << 8 | bytes[i];
        batch_on_reply(self, worker, number, frame);
    } else {
        drop_count(DROP_MALFORMED_WORKER);
    }
}

size_t router_open_requests(const struct router *self) {
    return self->open;
}

void router_refuse_waiting(struct router *self) {
    for (size_t i = 0; i < self->lane_count; i++) {
        while (self->lanes[i]->queue.first != NULL)
            batch_fail(self, self->lanes[i]->queue.first, ERR_UNAVAILABLE);
    }
}
