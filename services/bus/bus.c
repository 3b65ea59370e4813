/*
 * bus.c: the sockets and the loop.
 *
 * A socket's descriptor in libzmq says only that something may have changed, and only once; so a channel is looked at
 * when its descriptor was readable or something was sent on it, and until it is empty. The loop asks the kernel and
 * sleeps when no channel is to be looked at, until the router's next deadline. Nothing in it waits for a peer.
 * Emits COUNTERS on `counters.bus` once a second.
 */
#include "services/bus/bus.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/bus/drops.h"
#include "services/bus/fanout.h"
#include "services/bus/listen.h"
#include "services/bus/router.h"
#include "services/bus/zap.h"
#include "services/lib/bus_socket.h"
#include "services/lib/counters.h"

enum { CALLERS, WORKERS, PUBLISH, SUBSCRIBE, MONITOR, ZAP, CHANNELS };
enum { RECEIVE_MOST = 64, UNPOLLED_MOST = 16, COUNTERS_MS = 1000, DRAIN_MS = 2000 };

struct channel {
    void *socket; /* NULL: not used */
    int descriptor;
    bool look; /* may have something to receive */
};

struct bus {
    void *context;
    struct bus_keys *keys;
    struct router *router;
    struct channel channels[CHANNELS];
    int lock;
    int instance;
    int64_t next_counters_ms;
    int unpolled;    /* turns since the kernel was asked */
    int64_t stop_ms; /* 0: serving; else when to end at the latest */
};

/* --- sending --------------------------------------------------------------------------------------------------------
 */

/* The identity of a ROUTER's peer, as the first frame. 0, -EAGAIN or -EHOSTUNREACH. */
static int send_identity(struct channel *channel, zmq_msg_t *identity) {
    zmq_msg_t copy;
    zmq_msg_init(&copy);
    zmq_msg_copy(&copy, identity);
    channel->look = true;
    if (zmq_msg_send(&copy, channel->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0) return 0;
    int error = errno;
    zmq_msg_close(&copy);
    return error == EAGAIN ? -EAGAIN : -EHOSTUNREACH;
}

static int send_to_worker(void *user_data, zmq_msg_t *worker, uint64_t number, zmq_msg_t *frame) {
    struct bus *self = user_data;
    struct channel *channel = &self->channels[WORKERS];
    unsigned char head[sizeof(number)];
    int error = send_identity(channel, worker);
    if (error != 0) return error;
    for (size_t i = 0; i < sizeof(head); i++)
        head[i] = (unsigned char)(number >> (8 * (sizeof(head) - 1 - i)));
    if (zmq_send(channel->socket, head, number != 0 ? sizeof(head) : 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return -EHOSTUNREACH;
    return zmq_msg_send(frame, channel->socket, ZMQ_DONTWAIT) < 0 ? -EHOSTUNREACH : 0;
}

static void send_to_caller(void *user_data, zmq_msg_t *caller, zmq_msg_t *frame) {
    struct bus *self = user_data;
    struct channel *channel = &self->channels[CALLERS];
    int error = send_identity(channel, caller);
    if (error == 0 && zmq_msg_send(frame, channel->socket, ZMQ_DONTWAIT) < 0) error = -EHOSTUNREACH;
    if (error == 0) return;
    drop_count(error == -EAGAIN ? DROP_CALLER_FULL : DROP_CALLER_GONE);
    zmq_msg_close(frame);
}

/* --- receiving ------------------------------------------------------------------------------------------------------
 */

/* Reads one message of at most `most` frames; further ones are thrown away. Returns how many frames it had, 0 when
 * there is none. All of frames[] are initialised and to be closed. */
static size_t receive(void *socket, zmq_msg_t *frames, size_t most) {
    size_t count = 0;
    bool more = true;
    for (size_t i = 0; i < most; i++)
        zmq_msg_init(&frames[i]);
    while (more) {
        zmq_msg_t rest;
        zmq_msg_t *frame = count < most ? &frames[count] : &rest;
        if (frame == &rest) zmq_msg_init(&rest);
        if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(frame) != 0;
        if (frame == &rest) zmq_msg_close(&rest);
        count++;
    }
    return count;
}

static void close_frames(zmq_msg_t *frames, size_t count) {
    for (size_t i = 0; i < count; i++)
        zmq_msg_close(&frames[i]);
}

static bool receive_caller(struct bus *self) {
    zmq_msg_t frames[2];
    size_t count = receive(self->channels[CALLERS].socket, frames, ARRAY_SIZE(frames));
    if (count == 2) {
        router_on_request(self->router, &frames[0], &frames[1]);
    } else if (count != 0) {
        drop_count(DROP_MALFORMED_REQUEST);
    }
    close_frames(frames, ARRAY_SIZE(frames));
    return count != 0;
}

/* One event of the worker socket's monitor: a connection that ended. What came over it before is still to be read. */
static bool receive_monitor(struct bus *self) {
    zmq_msg_t frames[2];
    size_t count = receive(self->channels[MONITOR].socket, frames, ARRAY_SIZE(frames));
    if (count == 2 && zmq_msg_size(&frames[0]) == 6) {
        int32_t descriptor;
        memcpy(&descriptor, (const char *)zmq_msg_data(&frames[0]) + 2, sizeof(descriptor));
        router_on_disconnect(self->router, descriptor);
        self->channels[WORKERS].look = true;
    }
    close_frames(frames, ARRAY_SIZE(frames));
    return count != 0;
}

/* What came over a connection came before its end, and after the end of an earlier one of the same descriptor: so
 * before a sign of life is believed, the ends that are known already are dealt with. */
static bool receive_worker(struct bus *self) {
    zmq_msg_t frames[3];
    size_t count = receive(self->channels[WORKERS].socket, frames, ARRAY_SIZE(frames));
    if (count == 3) {
        bool is_hello = zmq_msg_size(&frames[1]) == 0;
        while (is_hello && receive_monitor(self))
            continue;
        router_on_worker(self->router, &frames[0], &frames[1], &frames[2], zmq_msg_get(&frames[2], ZMQ_SRCFD));
    } else if (count != 0) {
        drop_count(DROP_MALFORMED_WORKER);
    }
    close_frames(frames, ARRAY_SIZE(frames));
    return count != 0;
}

static bool repeat(struct bus *self, bool (*receive_one)(struct bus *)) {
    for (int i = 0; i < RECEIVE_MOST; i++) {
        if (!receive_one(self)) return false;
    }
    return true;
}

static void look_at(struct bus *self, int index) {
    struct channel *channel = &self->channels[index];
    void *xsub = self->channels[PUBLISH].socket, *xpub = self->channels[SUBSCRIBE].socket;
    channel->look = false; /* before: what is done here may set it again */
    bool more = false;
    switch (index) {
    case CALLERS:
        if (self->stop_ms == 0) more = repeat(self, receive_caller);
        break;
    case WORKERS:
        more = repeat(self, receive_worker);
        if (!more) router_end_disconnected(self->router);
        break;
    case PUBLISH:
        more = fanout_publications(xsub, xpub, RECEIVE_MOST, &self->channels[SUBSCRIBE].look);
        break;
    case SUBSCRIBE:
        more = fanout_subscriptions(xpub, xsub, RECEIVE_MOST, &self->channels[PUBLISH].look);
        break;
    case MONITOR:
        more = repeat(self, receive_monitor);
        break;
    case ZAP:
        more = zap_answer(channel->socket, self->keys);
        break;
    }
    if (more) channel->look = true;
}

/* --- the loop -------------------------------------------------------------------------------------------------------
 */

static void publish_counters(struct bus *self, int64_t now_ms) {
    struct counters counters;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    if (now_ms < self->next_counters_ms) return;
    self->next_counters_ms = now_ms + COUNTERS_MS;
    router_set_gauges(self->router);
    counters_snapshot("bus", self->instance, &counters);
    int error = message_encode_frame(&counters_descriptor, &counters, &frame);
    message_release(&counters_descriptor, &counters);
    if (error != 0) return;
    fanout_publish(self->channels[SUBSCRIBE].socket, TOPIC_COUNTERS "bus", frame.data, frame.size);
    self->channels[SUBSCRIBE].look = true;
}

static bool has_work(const struct bus *self) {
    for (int i = 0; i < CHANNELS; i++) {
        if (self->channels[i].look) return true;
    }
    return false;
}

/* Waits until a channel may have something, or it is time for something. While there is work anyway, it does not ask
 * every time. */
static void wait_for_work(struct bus *self, int stop_fd, int64_t now_ms) {
    struct pollfd items[CHANNELS + 1];
    bool is_busy = has_work(self);
    if (is_busy && ++self->unpolled < UNPOLLED_MOST) return;
    self->unpolled = 0;
    int64_t until_ms = router_next_ms(self->router);
    if (self->next_counters_ms < until_ms) until_ms = self->next_counters_ms;
    int64_t wait_ms = until_ms > now_ms && !is_busy ? until_ms - now_ms : 0;
    for (int i = 0; i < CHANNELS; i++) {
        const struct channel *channel = &self->channels[i];
        bool is_used = channel->socket != NULL && !(i == CALLERS && self->stop_ms != 0);
        items[i] = (struct pollfd){ .fd = is_used ? channel->descriptor : -1, .events = POLLIN };
    }
    items[CHANNELS] = (struct pollfd){ .fd = self->stop_ms == 0 ? stop_fd : -1, .events = POLLIN };
    if (poll(items, CHANNELS + 1, (int)wait_ms) <= 0) return;
    for (int i = 0; i < CHANNELS; i++) {
        if (items[i].revents != 0) self->channels[i].look = true;
    }
    if (items[CHANNELS].revents == 0) return;
    log_info("stopping: %zu requests under way", router_open_requests(self->router));
    self->stop_ms = clock_monotonic_ms() + DRAIN_MS;
}

void bus_run(struct bus *self, int stop_fd) {
    for (;;) {
        int64_t now_ms = clock_monotonic_ms();
        router_set_time(self->router, now_ms);
        for (int i = 0; i < CHANNELS; i++) {
            if (self->channels[i].look) look_at(self, i);
        }
        router_tick(self->router);
        publish_counters(self, now_ms);
        if (self->stop_ms != 0 && (router_open_requests(self->router) == 0 || now_ms >= self->stop_ms)) break;
        wait_for_work(self, stop_fd, now_ms);
    }
    router_refuse_waiting(self->router);
}

/* --- beginning and end ----------------------------------------------------------------------------------------------
 */

/* 0 or a negative errno. */
static int open_channel(struct bus *self, int index, int type, const char *url) {
    char endpoint[300];
    struct channel *channel = &self->channels[index];
    size_t size = sizeof(channel->descriptor);
    if (bus_endpoint_url(url, (enum bus_endpoint)index, endpoint, sizeof(endpoint)) != 0) return -EINVAL;
    channel->socket = bus_socket_new(self->context, type, endpoint, true, self->keys);
    if (channel->socket == NULL) {
        int error = errno;
        log_error("cannot listen on %s: %s", endpoint, zmq_strerror(error));
        return -error;
    }
    channel->look = true;
    return zmq_getsockopt(channel->socket, ZMQ_FD, &channel->descriptor, &size) == 0 ? 0 : -errno;
}

/* The same for a socket inside the process. */
static int adopt_channel(struct bus *self, int index, void *socket) {
    struct channel *channel = &self->channels[index];
    size_t size = sizeof(channel->descriptor);
    if (socket == NULL) {
        int error = errno;
        log_error("cannot open a socket: %s", zmq_strerror(error));
        return -error;
    }
    *channel = (struct channel){ .socket = socket, .look = true };
    return zmq_getsockopt(socket, ZMQ_FD, &channel->descriptor, &size) == 0 ? 0 : -errno;
}

/* Tells of worker connections that end, so that their requests are answered at once. */
static int open_monitor(struct bus *self) {
    static const char endpoint[] = "inproc://bus.workers.monitor";
    if (zmq_socket_monitor(self->channels[WORKERS].socket, endpoint, ZMQ_EVENT_DISCONNECTED) != 0) return -errno;
    int error = adopt_channel(self, MONITOR, zmq_socket(self->context, ZMQ_PAIR));
    if (error != 0) return error;
    return zmq_connect(self->channels[MONITOR].socket, endpoint) == 0 ? 0 : -errno;
}

static int open_channels(struct bus *self, const char *url) {
    static const int types[] = { ZMQ_ROUTER, ZMQ_ROUTER, ZMQ_XSUB, ZMQ_XPUB };
    int error = self->keys != NULL ? adopt_channel(self, ZAP, zap_socket_new(self->context)) : 0;
    for (int i = CALLERS; i <= SUBSCRIBE && error == 0; i++) {
        error = open_channel(self, i, types[i], url);
        if (i == WORKERS && error == 0) error = open_monitor(self);
    }
    return error;
}

struct bus *bus_new(const struct bus_options *options) {
    struct bus *self = xcalloc(1, sizeof(*self));
    struct router_output output = { self, send_to_worker, send_to_caller };
    self->lock = -1;
    self->instance = options->instance;
    drops_begin();
    self->keys = bus_keys_load(options->curve_directory, true);
    if (self->keys == NULL && errno != 0) {
        log_error("the keys in BUS_CURVE_DIR (bus.key_secret, client.key) cannot be used: %s", strerror(errno));
        bus_free(self);
        return NULL;
    }
    int error = bus_listen_prepare(options->url, self->keys != NULL, options->allow_plaintext, &self->lock);
    if (error == 0) {
        self->router = router_new(options->queue_max, &output, clock_monotonic_ms());
        self->context = zmq_ctx_new();
        error = open_channels(self, options->url);
    }
    if (error == 0) return self;
    bus_free(self);
    return NULL;
}

void bus_free(struct bus *self) {
    if (self == NULL) return;
    for (int i = 0; i < CHANNELS; i++) {
        if (i == WORKERS && self->channels[i].socket != NULL) zmq_socket_monitor(self->channels[i].socket, NULL, 0);
        if (self->channels[i].socket != NULL) zmq_close(self->channels[i].socket);
    }
    if (self->context != NULL) zmq_ctx_term(self->context);
    router_free(self->router);
    bus_keys_free(self->keys);
    if (self->lock >= 0) close(self->lock);
    free(self);
}
