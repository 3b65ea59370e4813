/*
 * bus_client.h: calls to other processes over the bus (ARCHITECTURE §2), and published events.
 *
 * One client a process. It owns one thread with a DEALER socket (requests), a PUB and, once somebody subscribes, a SUB
 * socket; callers hand it their request and sleep on their own reply. The thread sends whatever waits, without a fixed
 * window: two batches of a lane are under way at once, the next one forms meanwhile and leaves with the first reply to
 * one of them, or 1 ms after it. A batch is an eighth of what waits but at least 8, so that one process's calls spread
 * over all workers. In a lane that batches (lane_is_batched) it is all that waits, one is under way, and 3 ms. A call
 * always ends by its deadline (within 10 ms after it): with the reply, a worker's error, the bus's
 * unavailable|overloaded|timeout, or the client's own ERR_TIMEOUT when the bus is silent. When the connection to the
 * bus breaks, what was under way ends as ERR_UNAVAILABLE at once; what was not yet sent, and new calls, wait up to 3 s
 * for the bus to come back, then end so too, at once while it stays away. Idempotent methods are sent a second time
 * after `unavailable` while time is left; nothing else is ever repeated. Everything is bounded: BUS_CLIENT_PENDING_MAX
 * calls wait at once (more: ERR_OVERLOADED at once), 10,000 publications of 16 MiB together (more are dropped and
 * counted). Thread rule: bus_call, bus_publish and bus_subscribe from any thread; new/free from one.
 */
#ifndef BORE_SERVICES_LIB_BUS_CLIENT_H
#define BORE_SERVICES_LIB_BUS_CLIENT_H

#include <stdint.h>

#include "proto/protocol.h"

enum { BUS_CLIENT_PENDING_MAX = 8192, BUS_CALL_BUDGET_MS = 2500 };

struct bus_client;

/* url and curve_directory ("" = none) as in config.def. Does not wait for the bus. NULL with errno on a bad url or bad
 * keys. */
struct bus_client *bus_client_new(const char *url, const char *curve_directory);
/* Calls under way end with ERR_UNAVAILABLE; no new ones may begin. Publications get 0.1 s to leave. NULL is fine. */
void bus_client_free(struct bus_client *self);

struct bus_call {
    int64_t deadline_ms;    /* clock_monotonic_ms; 0 = now + BUS_CALL_BUDGET_MS */
    const char *request_id; /* may be NULL */
};

/* Calls the method whose request message this is. On 0 *ret_reply holds the method's reply message (release it); on a
 * negative ERR_ code *ret_error (may be NULL) holds what the worker said beside it: release it with
 * error_reply_descriptor. A request that cannot be encoded is ERR_VALIDATION, a reply that cannot be read
 * ERR_MALFORMED. call may be NULL. */
int bus_call(struct bus_client *self, int request_id_of_message, const void *request, const struct bus_call *call,
    void *ret_reply, struct error_reply *ret_error);

/* The same without decoding: body of the request already encoded, body of the reply as it came (malloc, caller frees).
 * The method is borrowed for good. */
int bus_call_raw(struct bus_client *self, const struct method *method, const void *body, size_t body_size,
    const struct bus_call *call, unsigned char **ret_body, size_t *ret_size, struct error_reply *ret_error);

/* Publishes on the XSUB side; best effort (PUB may lose; drops are counted). Copies the data; a topic has at most
 * TOPIC_MAX bytes (proto/topics.h). */
void bus_publish(struct bus_client *self, const char *topic, const void *frame, size_t size);

/* Called in the client's thread for each message of a topic beginning with the prefix; must not block. */
typedef void bus_subscriber_fn(void *user_data, const char *topic, const void *frame, size_t size);
/* Before the first message is expected; topics of the prefix from now on. 0, -ENOSPC after 8 subscriptions, -EINVAL
 * when the prefix is longer than a topic. */
int bus_subscribe(struct bus_client *self, const char *topic_prefix, bus_subscriber_fn *subscriber, void *user_data);
/* Ends every subscription of this pair. On return the subscriber is not running and will not be called again; not to be
 * called from within it. */
void bus_unsubscribe(struct bus_client *self, bus_subscriber_fn *subscriber, void *user_data);

struct bus_client_statistics {
    uint64_t calls, timeouts, unavailable, retries, late_replies, publish_drops, pending;
};
void bus_client_statistics(struct bus_client *self, struct bus_client_statistics *ret_statistics);

#endif
