/*
 * bus_client_loop.c: the client thread: the only one that touches the client's sockets.
 *
 * It sleeps in poll on the sockets' descriptors and an eventfd, which other threads write only while it sleeps. A
 * descriptor of libzmq tells of a change once, so after waking each socket is read until it is empty, and again after
 * anything was sent on it. The DEALER's monitor tells when the bus goes and comes back: what was under way then ends
 * at once (or is sent again, where that is allowed), what waits goes out on the new connection.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/lib/bus_client_internal.h"

enum { RECEIVE_MOST = 64, BLOCKED_RETRY_MS = 20, CLOSE_LINGER_MS = 100, REFUSAL_LOG_MS = 10000, REOPEN_MS = 500 };

/* --- sockets --------------------------------------------------------------------------------------------------------
 */

static void *open_socket(struct bus_client *self, int type, enum bus_endpoint endpoint) {
    char text[300];
    if (bus_endpoint_url(self->url, endpoint, text, sizeof(text)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    return bus_socket_new(self->context, type, text, false, self->keys);
}

/* One socket lives as long as one connection, so nothing is left in it that a later bus could get. Until the connection
 * stands nothing is sent on it. ZMQ_IMMEDIATE would drop answers that arrived just before a connection's end. */
static int open_requests(struct bus_client *self) {
    static const int off = 0;
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    char text[300], monitor[60];
    if (bus_endpoint_url(self->url, BUS_CALLERS, text, sizeof(text)) != 0) return -EINVAL;
    snprintf(monitor, sizeof(monitor), "inproc://bus.client.monitor.%llu", (unsigned long long)++self->connections);
    self->requests = bus_socket_new_idle(self->context, ZMQ_DEALER, text, self->keys);
    if (self->requests == NULL) return -errno;
    zmq_setsockopt(self->requests, ZMQ_LINGER, &off, sizeof(off));
    zmq_setsockopt(self->requests, ZMQ_IMMEDIATE, &off, sizeof(off));
    if (zmq_socket_monitor(self->requests, monitor, events) != 0) return -errno;
    self->monitor = zmq_socket(self->context, ZMQ_PAIR);
    if (self->monitor == NULL || zmq_connect(self->monitor, monitor) != 0) return -errno;
    return zmq_connect(self->requests, text) == 0 ? 0 : -errno;
}

static void close_requests(struct bus_client *self) {
    if (self->requests != NULL) zmq_socket_monitor(self->requests, NULL, 0);
    if (self->monitor != NULL) zmq_close(self->monitor);
    if (self->requests != NULL) zmq_close(self->requests);
    self->monitor = self->requests = NULL;
}

int bus_client_open(struct bus_client *self) {
    int error = open_requests(self);
    if (error != 0) return error;
    self->publisher = open_socket(self, ZMQ_PUB, BUS_PUBLISH);
    if (self->publisher == NULL) return -errno;
    int refuse_when_full = 1;
    zmq_setsockopt(self->publisher, ZMQ_XPUB_NODROP, &refuse_when_full, sizeof(refuse_when_full));
    return 0;
}

void bus_client_close(struct bus_client *self) {
    int linger = CLOSE_LINGER_MS;
    close_requests(self);
    if (self->publisher != NULL) zmq_setsockopt(self->publisher, ZMQ_LINGER, &linger, sizeof(linger));
    if (self->publisher != NULL) zmq_close(self->publisher);
    if (self->subscriber != NULL) zmq_close(self->subscriber);
    if (self->context != NULL) zmq_ctx_term(self->context);
}

/* --- publications and subscriptions ---------------------------------------------------------------------------------
 */

static void publish(struct bus_client *self, struct publication *publication) {
    size_t bytes = publication->topic_size + publication->size;
    int sent = zmq_send(self->publisher, publication->data, publication->topic_size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (sent >= 0) {
        const unsigned char *frame = publication->data + publication->topic_size;
        sent = zmq_send(self->publisher, frame, publication->size, ZMQ_DONTWAIT);
    }
    if (sent < 0) CLIENT_COUNT(self, publish_drops, 1);
    atomic_fetch_sub_explicit(&self->publications, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&self->publication_bytes, bytes, memory_order_relaxed);
    free(publication);
}

static void subscribe(struct bus_client *self, struct subscription *subscription) {
    if (self->subscriber == NULL) self->subscriber = open_socket(self, ZMQ_SUB, BUS_SUBSCRIBE);
    if (self->subscriber == NULL) {
        log_error("cannot subscribe to %s: %s", subscription->prefix, zmq_strerror(errno));
        free(subscription);
        return;
    }
    self->subscriptions[self->subscribed++] = subscription;
    zmq_setsockopt(self->subscriber, ZMQ_SUBSCRIBE, subscription->prefix, strlen(subscription->prefix));
}

static void unsubscribe(struct bus_client *self, struct unsubscription *ended) {
    for (size_t i = 0; i < self->subscribed;) {
        struct subscription *subscription = self->subscriptions[i];
        if (subscription->subscriber != ended->subscriber || subscription->user_data != ended->user_data) {
            i++;
            continue;
        }
        zmq_setsockopt(self->subscriber, ZMQ_UNSUBSCRIBE, subscription->prefix, strlen(subscription->prefix));
        free(subscription);
        self->subscriptions[i] = self->subscriptions[--self->subscribed];
        atomic_fetch_sub(&self->subscription_count, 1);
    }
    sem_post(&ended->done);
}

static void deliver(struct bus_client *self, zmq_msg_t *topic_frame, zmq_msg_t *frame) {
    char topic[TOPIC_MAX + 1];
    size_t size = zmq_msg_size(topic_frame);
    if (size > TOPIC_MAX) return;
    memcpy(topic, zmq_msg_data(topic_frame), size);
    topic[size] = '\0';
    for (size_t i = 0; i < self->subscribed; i++) {
        const struct subscription *subscription = self->subscriptions[i];
        if (strncmp(topic, subscription->prefix, strlen(subscription->prefix)) != 0) continue;
        subscription->subscriber(subscription->user_data, topic, zmq_msg_data(frame), zmq_msg_size(frame));
    }
}

/* --- receiving ------------------------------------------------------------------------------------------------------
 */

/* One message of one or two frames; others are thrown away. Returns the number of frames, 0 when there is no message.
 */
static int receive(void *socket, zmq_msg_t frames[2]) {
    int count = 0;
    bool more = true;
    zmq_msg_init(&frames[0]);
    zmq_msg_init(&frames[1]);
    while (more) {
        zmq_msg_t *frame = &frames[count == 0 ? 0 : 1];
        if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(frame) != 0;
        count++;
    }
    return count;
}

static bool receive_reply(struct bus_client *self) {
    zmq_msg_t frames[2];
    int count = receive(self->requests, frames);
    if (count == 1) calls_on_reply(self, &frames[0]);
    zmq_msg_close(&frames[0]);
    zmq_msg_close(&frames[1]);
    return count != 0;
}

static bool receive_event(struct bus_client *self) {
    zmq_msg_t frames[2];
    int count = receive(self->subscriber, frames);
    if (count == 2) deliver(self, &frames[0], &frames[1]);
    zmq_msg_close(&frames[0]);
    zmq_msg_close(&frames[1]);
    return count != 0;
}

/* Fails only when the process has no descriptor or memory left; then it is tried again. */
static void reopen_requests(struct bus_client *self) {
    close_requests(self);
    int error = open_requests(self);
    if (error == 0) return;
    log_error("cannot connect to the bus at %s: %s", self->url, zmq_strerror(-error));
    close_requests(self);
    self->reopen_ms = self->now_ms + REOPEN_MS;
}

/* What came before the end still counts; what was under way gets no answer any more. */
static void on_disconnected(struct bus_client *self) {
    while (receive_reply(self))
        continue;
    self->connected = false;
    self->lost_ms = self->now_ms;
    reopen_requests(self);
    calls_on_lost(self);
}

static void on_refused(struct bus_client *self) {
    if (self->refusal_logged_ms != 0 && self->now_ms - self->refusal_logged_ms < REFUSAL_LOG_MS) return;
    self->refusal_logged_ms = self->now_ms;
    log_error("the bus at %s refuses this process's key (BUS_CURVE_DIR)", self->url);
}

static bool receive_monitor(struct bus_client *self) {
    zmq_msg_t frames[2];
    uint16_t event = 0;
    int count = receive(self->monitor, frames);
    if (count > 0 && zmq_msg_size(&frames[0]) >= sizeof(event)) memcpy(&event, zmq_msg_data(&frames[0]), sizeof(event));
    zmq_msg_close(&frames[0]);
    zmq_msg_close(&frames[1]);
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) self->connected = true;
    if (event == ZMQ_EVENT_DISCONNECTED && self->connected) on_disconnected(self);
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) on_refused(self);
    return count != 0;
}

/* --- inbox ----------------------------------------------------------------------------------------------------------
 */

/* Everything in it, oldest first. */
static struct item *take_inbox(struct bus_client *self) {
    struct item *newest = atomic_exchange_explicit(&self->inbox, NULL, memory_order_acquire);
    struct item *oldest = NULL;
    while (newest != NULL) {
        struct item *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void serve_inbox(struct bus_client *self) {
    struct item *next;
    for (struct item *item = take_inbox(self); item != NULL; item = next) {
        next = item->next;
        switch (item->kind) {
        case ITEM_CALL:
            calls_add(self, (struct call *)item);
            break;
        case ITEM_PUBLICATION:
            publish(self, (struct publication *)item);
            break;
        case ITEM_SUBSCRIPTION:
            subscribe(self, (struct subscription *)item);
            break;
        case ITEM_UNSUBSCRIPTION:
            unsubscribe(self, (struct unsubscription *)item);
            break;
        }
    }
}

void bus_client_clear_inbox(struct bus_client *self) {
    struct item *next;
    for (struct item *item = take_inbox(self); item != NULL; item = next) {
        next = item->next;
        if (item->kind == ITEM_CALL) {
            call_end(self, (struct call *)item, ERR_UNAVAILABLE);
        } else if (item->kind == ITEM_UNSUBSCRIPTION) {
            sem_post(&((struct unsubscription *)item)->done);
        } else {
            free(item);
        }
    }
    calls_tell(self);
}

/* --- the loop -------------------------------------------------------------------------------------------------------
 */

static int descriptor_of(void *socket) {
    int descriptor = -1;
    size_t size = sizeof(descriptor);
    if (socket != NULL) zmq_getsockopt(socket, ZMQ_FD, &descriptor, &size);
    return descriptor;
}

/* When something is due, clock_monotonic_ms; INT64_MAX for never. */
static int64_t due_ms(struct bus_client *self) {
    int64_t until_ms = timer_wheel_next_ms(&self->wheel);
    if (self->waiting > 0 && !self->connected && self->lost_ms + CLIENT_HOLD_MS < until_ms)
        until_ms = self->lost_ms + CLIENT_HOLD_MS;
    if (self->waiting > 0 && self->blocked && self->now_ms + BLOCKED_RETRY_MS < until_ms)
        until_ms = self->now_ms + BLOCKED_RETRY_MS;
    if (self->requests == NULL && self->reopen_ms < until_ms) until_ms = self->reopen_ms;
    return until_ms;
}

/* When to wake, and which lanes' calls will not do it. */
static int64_t plan_sleep(struct bus_client *self) {
    int64_t until_us, until_ms = due_ms(self);
    atomic_store(&self->held, calls_held(self, &until_us));
    return until_ms < until_us / 1000 ? until_ms * 1000 : until_us;
}

static void sleep_until_work(struct bus_client *self) {
    struct pollfd items[] = {
        { .fd = self->wake_fd, .events = POLLIN },
        { .fd = descriptor_of(self->requests), .events = POLLIN },
        { .fd = descriptor_of(self->monitor), .events = POLLIN },
        { .fd = descriptor_of(self->subscriber), .events = POLLIN },
    };
    int64_t until_us = plan_sleep(self);
    int64_t wait_us = until_us > self->now_us ? until_us - self->now_us : 0;
    struct timespec wait = { .tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000 };
    atomic_store(&self->sleeping, true);
    bool nothing_new = atomic_load(&self->inbox) == NULL && !atomic_load(&self->stopping);
    if (nothing_new) ppoll(items, ARRAY_SIZE(items), until_us == INT64_MAX ? NULL : &wait, NULL);
    atomic_store(&self->sleeping, false);
    eventfd_t count;
    if (items[0].revents != 0) (void)!eventfd_read(self->wake_fd, &count);
}

static bool repeat(struct bus_client *self, bool (*receive_one)(struct bus_client *)) {
    bool any = false;
    for (int i = 0; i < RECEIVE_MOST && receive_one(self); i++)
        any = true;
    return any;
}

/* One pass over everything. False when nothing was there to do. Receiving comes last, because libzmq may notice an
 * arrival while it sends, and then the descriptor tells nothing any more. */
static bool turn(struct bus_client *self) {
    self->now_us = clock_monotonic_us();
    self->now_ms = self->now_us / 1000;
    bool any = atomic_load_explicit(&self->inbox, memory_order_relaxed) != NULL;
    if (self->requests == NULL && self->now_ms >= self->reopen_ms) reopen_requests(self);
    serve_inbox(self);
    timer_wheel_expire(&self->wheel, self->now_ms, calls_on_timer, self);
    if (!self->connected && self->now_ms - self->lost_ms >= CLIENT_HOLD_MS) calls_give_up(self);
    calls_flush(self);
    if (self->requests != NULL) any |= repeat(self, receive_monitor);
    if (self->requests != NULL) any |= repeat(self, receive_reply);
    if (self->subscriber != NULL) any |= repeat(self, receive_event);
    /* What an answer lets go is sent before its caller wakes, who would only be in the way. */
    if (self->ended != NULL) {
        serve_inbox(self);
        calls_flush(self);
        calls_tell(self);
    }
    return any;
}

void *bus_client_thread(void *client) {
    struct bus_client *self = client;
    while (!atomic_load(&self->stopping)) {
        if (!turn(self)) sleep_until_work(self);
    }
    serve_inbox(self); /* the last publications leave */
    calls_fail_all(self);
    calls_tell(self);
    return NULL;
}
