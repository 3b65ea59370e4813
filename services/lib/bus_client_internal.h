/*
 * bus_client_internal.h: what the parts of the bus client share.
 *
 *   bus_client.c        what callers call; runs in their threads
 *   bus_client_calls.c  calls by lane, batches, replies, retries: the client thread, without sockets of its own
 *   bus_client_loop.c   the client thread: sockets, the bus's comings and goings, publications, subscriptions
 *
 * A call lives on its caller's stack. From the moment it is in the inbox until call->done is set it belongs to the
 * client thread; after that the client thread no longer touches it, nor does the caller touch the client.
 */
#ifndef BORE_SERVICES_LIB_BUS_CLIENT_INTERNAL_H
#define BORE_SERVICES_LIB_BUS_CLIENT_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <zmq.h>

#include "services/lib/bus_client.h"
#include "services/lib/bus_envelope.h"
#include "services/lib/bus_socket.h"
#include "services/lib/counters.h"
#include "services/lib/timer_wheel.h"

enum {
    CLIENT_LANES_MAX = 64,
    CLIENT_SUBSCRIPTIONS_MAX = 8,
    CLIENT_PUBLICATIONS_MAX = 10000,
    CLIENT_PUBLICATION_BYTES_MAX = 16 * 1024 * 1024,
    CLIENT_BATCH_BYTES_MAX = 1024 * 1024, /* bodies in one batch, unless it is a single one */
    CLIENT_BATCH_MIN = 8,
    CLIENT_BATCH_SHARES = 8,
    CLIENT_FLIGHTS = 2,      /* batches of one lane under way before the next one waits, */
    CLIENT_FLIGHT_US = 1000, /* but no longer than this: a slow answer delays nobody */
    BATCHED_FLIGHTS = 1,     /* the same for a lane that batches */
    BATCHED_FLIGHT_US = 3000,
    CLIENT_HOLD_MS = 3000, /* how long calls wait for a bus that is away */
};

enum item_kind { ITEM_CALL, ITEM_PUBLICATION, ITEM_SUBSCRIPTION, ITEM_UNSUBSCRIPTION };

/* What other threads hand to the client thread. */
struct item {
    struct item *next;
    enum item_kind kind;
};

enum { CALL_PENDING = 0, CALL_SLEEPING = 1, CALL_DONE = 2 };

struct call {
    struct item item;             /* first */
    struct call *next, *previous; /* in its lane's queue while waiting */
    struct client_lane *lane;
    const struct method *method;
    const void *body; /* of the request; the caller's */
    size_t body_size;
    const char *request_id;
    int64_t deadline_ms;
    struct timer_entry timer;
    int64_t correlation; /* while sent, else 0 */
    uint64_t batch;      /* the one it was last sent in */
    bool retried;
    /* the outcome: 0 or an ERR_ code, and the body inside the message that brought it */
    int result;
    zmq_msg_t reply;
    const unsigned char *reply_body;
    size_t reply_size;
    _Atomic uint32_t done; /* CALL_…; a futex */
};

struct publication {
    struct item item; /* first */
    size_t topic_size;
    size_t size;
    unsigned char data[]; /* topic, then frame */
};

struct subscription {
    struct item item; /* first */
    char prefix[84];
    bus_subscriber_fn *subscriber;
    void *user_data;
};

/* On the stack of the thread that waits in bus_unsubscribe. */
struct unsubscription {
    struct item item; /* first */
    bus_subscriber_fn *subscriber;
    void *user_data;
    sem_t done;
};

/* A batch that is under way and of which no call was answered yet. */
struct flight {
    uint64_t batch; /* 0: none */
    int64_t sent_us;
};

/* Calls of one lane that are not yet sent, and what holds them back. */
struct client_lane {
    const char *name;
    bool is_batched;
    struct call *first, *last;
    size_t count;
    struct flight flights[CLIENT_FLIGHTS];
};

struct bus_client {
    pthread_t thread;
    void *context;
    void *requests; /* DEALER */
    void *monitor;  /* PAIR: the DEALER's connection */
    void *publisher;
    void *subscriber; /* NULL until somebody subscribes */
    struct bus_keys *keys;
    char *url;
    int wake_fd; /* eventfd */

    /* shared with other threads */
    _Atomic(struct item *) inbox; /* newest first */
    atomic_bool sleeping;
    _Atomic uint64_t held; /* while sleeping: bits (lane_bit) of lanes whose calls need not wake the thread */
    atomic_bool stopping;
    _Atomic uint64_t pending;
    _Atomic uint64_t publications, publication_bytes; /* in the inbox */
    _Atomic uint32_t subscription_count;
    struct {
        _Atomic uint64_t calls, timeouts, unavailable, retries, late_replies, publish_drops;
    } statistics;
    struct {
        struct counter *calls, *timeouts, *unavailable, *retries, *late_replies, *publish_drops;
    } counters;

    /* the client thread's own */
    bool connected;
    bool blocked;    /* the DEALER takes nothing more for now */
    int64_t lost_ms; /* when the connection was lost, or the start */
    int64_t now_us, now_ms;
    int64_t refusal_logged_ms;
    int64_t reopen_ms;    /* when to try again, while there is no DEALER */
    uint64_t connections; /* so far begun */
    size_t lane_count;
    size_t waiting; /* calls in all lanes */
    struct client_lane lanes[CLIENT_LANES_MAX];
    struct item *ended, **ended_end; /* calls whose callers are not yet told, oldest first */
    struct timer_wheel wheel;
    uint64_t sequence; /* of correlations */
    uint64_t batches;  /* so far sent */
    size_t free_count;
    uint16_t free_slots[BUS_CLIENT_PENDING_MAX];
    struct call *slots[BUS_CLIENT_PENDING_MAX]; /* sent calls by the low bits of their correlation */
    struct subscription *subscriptions[CLIENT_SUBSCRIPTIONS_MAX];
    size_t subscribed;
    struct reply_envelope envelope; /* scratch */
};

/* A lane's bit by its name's address, which methods share: a collision costs at most a wake too few, which the end of
 * the holding makes good. */
static inline uint64_t lane_bit(const char *name) {
    return UINT64_C(1) << ((uintptr_t)name * UINT64_C(0x9e3779b97f4a7c15) >> 58);
}

/* Adds to a counter of the client and to the process's. */
#define CLIENT_COUNT(self, what, amount)                                                               \
    do {                                                                                               \
        atomic_fetch_add_explicit(&(self)->statistics.what, (uint64_t)(amount), memory_order_relaxed); \
        counter_add((self)->counters.what, (int64_t)(amount));                                         \
    } while (0)

/* bus_client_loop.c */
void *bus_client_thread(void *client);
/* Opens the sockets. 0 or a negative errno. */
int bus_client_open(struct bus_client *self);
void bus_client_close(struct bus_client *self);
/* Ends everything left in the inbox. */
void bus_client_clear_inbox(struct bus_client *self);

/* bus_client_calls.c: in the client thread */
void calls_init(struct bus_client *self);
/* A new call: into its lane, or ended at once. */
void calls_add(struct bus_client *self, struct call *call);
/* Sends what waits and is not held back. */
void calls_flush(struct bus_client *self);
/* The lanes that are held back now, and when the first of them no longer is (clock_monotonic_us; INT64_MAX for never).
 */
uint64_t calls_held(struct bus_client *self, int64_t *ret_until_us);
void calls_on_reply(struct bus_client *self, zmq_msg_t *frame);
/* The connection is lost: what was sent gets no answer. */
void calls_on_lost(struct bus_client *self);
/* Ends what waits for a bus that has been away for too long. */
void calls_give_up(struct bus_client *self);
/* Ends every call with ERR_UNAVAILABLE. */
void calls_fail_all(struct bus_client *self);
void calls_on_timer(void *client, struct timer_entry *entry);
/* The call is over; calls_tell wakes its caller. */
void call_end(struct bus_client *self, struct call *call, int result);
void calls_tell(struct bus_client *self);

#endif
