/*
 * router_internal.h: what the parts of the router share. See router.h for what they do together.
 *
 *   router.c    requests of callers, answers from here, time
 *   lanes.c     lanes, their queues, choice of a worker
 *   workers.c   worker processes: signs of life, death
 *   inflight.c  batches under way: replies, deadlines
 *   status.c    BUS_STATUS and gauges
 */
#ifndef BORE_SERVICES_BUS_ROUTER_INTERNAL_H
#define BORE_SERVICES_BUS_ROUTER_INTERNAL_H

#include "services/bus/drops.h"
#include "services/bus/router.h"
#include "services/lib/bus_envelope.h"
#include "services/lib/counters.h"
#include "services/lib/timer_wheel.h"

enum { BATCH_BUCKETS = 8192, PEER_BUCKETS = 256 };

enum slot_state {
    SLOT_OPEN = 0, /* the caller waits for it */
    SLOT_EXPIRED,  /* answered `timeout`; its worker may still hold it */
    SLOT_DONE,     /* nobody has anything to do with it any more */
};

/* One request of a batch. */
struct slot {
    int64_t correlation;
    int64_t deadline_ms;
    uint32_t budget_offset; /* in the frame */
    enum slot_state state;
};

struct batch_list {
    struct batch *first, *last;
};

/* One message of a caller: in its lane's queue (worker NULL), or under way at a worker. */
struct batch {
    struct batch *next, *previous; /* in the lane's queue or the worker's list */
    struct batch *bucket_next;     /* under way: in the table by number */
    uint64_t number;
    struct lane *lane;
    struct worker *worker;
    struct timer_entry timer; /* the first deadline of an open request; afterwards when its credits come back */
    int64_t arrived_ms;
    zmq_msg_t caller; /* identity */
    zmq_msg_t frame;  /* while waiting */
    size_t frame_size;
    size_t count;
    size_t open; /* slots in SLOT_OPEN */
    size_t held; /* slots not in SLOT_DONE: credits of the worker */
    bool late;   /* under way, all answered; waits for its worker's late replies */
    struct slot slots[];
};

struct lane {
    char name[BUS_LANE_MAX + 1];
    struct worker *workers;
    int usable;      /* workers that are not leaving */
    int64_t lost_ms; /* when `usable` became 0 */
    struct batch_list queue;
    size_t queued; /* open requests in the queue */
    struct counter *requests, *batches, *timeouts, *unavailable, *overloaded;
    struct counter *queue_gauge, *credits_gauge, *outstanding_gauge, *workers_gauge;
};

/* One lane of one worker process. */
struct worker {
    struct worker *lane_next; /* in lane->workers */
    struct worker *peer_next; /* in peer->workers */
    struct peer *peer;
    struct lane *lane;
    int64_t heard_ms;
    int64_t credits;
    int64_t outstanding; /* requests it holds */
    uint64_t chosen;     /* when it last got a batch, as a running number */
    bool leaving;
    bool blocked; /* its connection takes nothing more until it speaks again */
    struct batch_list inflight;
};

/* One worker process. */
struct peer {
    struct peer *bucket_next;
    zmq_msg_t identity;
    int descriptor;
    int64_t heard_ms;
    bool refused;
    bool ended;    /* its connection is gone; what it sent before may still have to be read */
    char name[64]; /* "registry-2" */
    struct worker *workers;
};

struct router {
    struct router_output output;
    int64_t now_ms;
    int64_t started_ms;
    int64_t next_check_ms; /* of silent workers and held requests */
    size_t queue_max;
    size_t queued_bytes;
    size_t open;
    uint64_t next_number;
    uint64_t choices;
    struct timer_wheel wheel;
    size_t lane_count;
    struct lane *lanes[ROUTER_LANES_MAX];
    size_t peer_count;
    bool some_ended;
    struct peer *peers[PEER_BUCKETS];
    struct batch *batches[BATCH_BUCKETS];
    struct request_envelope request_envelope; /* scratch */
    struct reply_envelope reply_envelope;     /* scratch */
};

/* router.c */
/* Answers these requests of a caller with an error of the bus's own. The caller's identity is copied. */
void router_answer(struct router *self, zmq_msg_t *caller, const int64_t *correlations, size_t count, int error);

/* lanes.c */
struct lane *lane_find(struct router *router, const char *name);
/* Makes room by forgetting a lane without worker and queue; NULL when there is none. */
struct lane *lane_new(struct router *router, const char *name);
void lane_free(struct lane *self);
/* Whether a request may wait here. */
bool lane_accepts(const struct router *router, const struct lane *self);
void lane_enqueue(struct router *router, struct lane *self, struct batch *batch);
void lane_remove(struct router *router, struct lane *self, struct batch *batch);
/* Gives waiting batches to workers with free credits. */
void lane_dispatch(struct router *router, struct lane *self);
void lane_check_held(struct router *router, struct lane *self);

/* workers.c */
void workers_on_hello(struct router *router, zmq_msg_t *identity, zmq_msg_t *frame, int descriptor);
void workers_check_silence(struct router *router);
/* After the bus itself did not run for a while. */
void workers_forgive_silence(struct router *router);
void peer_is_gone(struct router *router, struct peer *peer, const char *reason);
void peer_free(struct peer *self);

/* inflight.c */
void batch_list_append(struct batch_list *self, struct batch *batch);
void batch_list_prepend(struct batch_list *self, struct batch *batch);
void batch_list_remove(struct batch_list *self, struct batch *batch);
struct batch *batch_new(struct router *router, struct lane *lane, zmq_msg_t *caller, zmq_msg_t *frame,
    const struct request_envelope *envelope);
/* Of a batch that is in no list. */
void batch_free(struct router *router, struct batch *self);
/* Hands a batch that is in no list to the worker. 0, or what to_worker said. */
int batch_send(struct router *router, struct batch *self, struct worker *worker);
/* Answers what is open, gives credits back, takes the batch out of where it is and frees it. */
void batch_fail(struct router *router, struct batch *self, int error);
void batch_on_reply(struct router *router, zmq_msg_t *identity, uint64_t number, zmq_msg_t *frame);
void batch_on_timer(void *user_data, struct timer_entry *entry);

#endif
