/*
 * router.h: who gets which request, and what becomes of it. Apart from sockets, so that it is tested without them.
 *
 * A batch goes whole to the live worker of its lane that has the most free credits, at least one; it may so exceed them
 * by its own size. While no worker has a free credit, batches wait in their lane, in order of arrival. Every request
 * ends in exactly one answer to its caller: the worker's reply, or from here
 *   timeout      at its deadline, waiting or under way
 *   unavailable  its worker died; or its lane has no worker: at once when none was there for 10 s, otherwise after 1 s
 *                of waiting, since a killed process is usually back before that (the bus's own start counts as a sight)
 *   overloaded   the lane's queue is full (BUS_QUEUE_MAX requests), or 64 MiB wait in all lanes together
 * A worker is dead when its connection ends, when it takes nothing more (EHOSTUNREACH) or after 2.5 s of silence. One
 * that is leaving gets nothing new. A request that timed out under way keeps its worker's credit until the late reply
 * comes, or for 3 s, so that a stuck worker is not given more than it said it can hold. Time that the bus itself did
 * not run does not count as a worker's silence. Thread rule: one thread.
 */
#ifndef BORE_SERVICES_BUS_ROUTER_H
#define BORE_SERVICES_BUS_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

#include "proto/protocol.h"

enum {
    ROUTER_LANES_MAX = 200,
    ROUTER_PEERS_MAX = 1000, /* worker processes */
    ROUTER_HOLD_MS = 1000,
    ROUTER_REMEMBER_MS = 10000,
    ROUTER_SILENCE_MS = 2500,
    ROUTER_LATE_MS = 3000,
    ROUTER_QUEUE_BYTES_MAX = 64 * 1024 * 1024,
};

struct router;

/* How the router speaks. Identities are ROUTER identities; frames are whole messages. */
struct router_output {
    void *user_data;
    /* A batch with its number, or with number 0 a message of the bus's own. Takes the frame's content on 0;
     * on -EAGAIN (takes nothing now) and -EHOSTUNREACH (gone) the frame stays the router's. */
    int (*to_worker)(void *user_data, zmq_msg_t *worker, uint64_t number, zmq_msg_t *frame);
    /* Takes the frame's content; drops it when the caller is gone. */
    void (*to_caller)(void *user_data, zmq_msg_t *caller, zmq_msg_t *frame);
};

struct router *router_new(size_t queue_max, const struct router_output *output, int64_t now_ms);
/* Answers nobody. */
void router_free(struct router *self);

/* The time of all that follows; clock_monotonic_ms. */
void router_set_time(struct router *self, int64_t now_ms);
/* Deadlines, silent workers, held requests. To be called when router_next_ms is reached, or earlier. */
void router_tick(struct router *self);
int64_t router_next_ms(struct router *self);

/* One message of a caller. Takes the content of both. */
void router_on_request(struct router *self, zmq_msg_t *caller, zmq_msg_t *frame);
/* One message of a worker: `head` is empty or a batch number. descriptor: of its connection, -1 = unknown. Takes the
 * content of frame, not of the others. */
void router_on_worker(struct router *self, zmq_msg_t *worker, zmq_msg_t *head, zmq_msg_t *frame, int descriptor);
/* The connection with this descriptor has ended: its worker gets nothing more. */
void router_on_disconnect(struct router *self, int descriptor);
/* Everything that those workers sent before their end has been handed over: they are dead now. */
void router_end_disconnected(struct router *self);

/* Requests waiting or under way that have no answer yet. */
size_t router_open_requests(const struct router *self);
/* Answers everything that still waits in lanes with `unavailable`: the bus is stopping. */
void router_refuse_waiting(struct router *self);
void router_status(struct router *self, struct bus_status_reply *ret_reply);
/* Sets the gauges (queue, credits, workers) before a snapshot. */
void router_set_gauges(struct router *self);

#endif
