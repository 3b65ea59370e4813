/*
 * bus_worker.c: see bus_worker.h.
 */
#include "tests/unit/bus_worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "common/clock.h"
#include "common/memory.h"
#include "proto/protocol.h"
#include "services/lib/bus_socket.h"

enum { HELLO_MS = 500, UNCONNECTED_MS = 10, BODY_MAX = 256 };

struct held {
    struct held *next;
    unsigned char number[8];
    int64_t due_ms;
    struct request_batch batch;
};

struct bus_worker {
    struct bus_worker_options options;
    pthread_t thread;
    void *context;
    void *socket;
    struct held *first, *last;
    uint64_t held_now;
    atomic_int mode;
    atomic_bool mute, leaving, stopping, refused;
    _Atomic uint64_t requests, batches, most_held;
    _Atomic int64_t least_budget;
    bool said_leaving;
};

void sleep_ms(int64_t milliseconds) {
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        continue;
}

/* --- worker ---------------------------------------------------------------------------------------------------------
 */

static int send_pair(
    void *socket, const void *head, size_t size, const struct message_descriptor *descriptor, const void *message) {
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    int error = message_encode_frame(descriptor, message, &frame);
    assert(error == 0);
    if (zmq_send(socket, head, size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return -1;
    return zmq_send(socket, frame.data, frame.size, ZMQ_DONTWAIT) < 0 ? -1 : error;
}

/* Returns in how many milliseconds to say it again. */
static int64_t say_hello(struct bus_worker *self) {
    bool leaving = atomic_load(&self->leaving);
    struct worker_hello hello = {
        .lane = (char *)(uintptr_t)self->options.lane,
        .process = (char *)(uintptr_t) "double",
        .instance = self->options.instance,
        .version = self->options.version != 0 ? self->options.version : PROTOCOL_VERSION,
        .credits = self->options.credits,
        .leaving = leaving,
    };
    self->said_leaving = leaving;
    return send_pair(self->socket, "", 0, &worker_hello_descriptor, &hello) == 0 ? HELLO_MS : UNCONNECTED_MS;
}

static void answer(struct bus_worker *self, struct held *held, enum bus_worker_mode mode) {
    static unsigned char refusal_body[64];
    struct bus_reply replies[BUS_BATCH_MAX];
    struct error_reply refusal = { .message = (char *)(uintptr_t) "not for you" };
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    (void)refusal_body;
    message_encode(&error_reply_descriptor, &refusal, &body);
    for (size_t i = 0; i < held->batch.requests_count; i++) {
        const struct bus_request *request = &held->batch.requests[i];
        replies[i] = (struct bus_reply){
            .correlation = request->correlation, .body = request->body, .body_size = request->body_size
        };
        if (mode == WORKER_REFUSE) {
            replies[i].code = -ERR_FORBIDDEN - 1000;
            replies[i].body = (unsigned char *)body.data;
            replies[i].body_size = body.size;
        } else if (mode == WORKER_UNAVAILABLE) {
            replies[i].code = -ERR_UNAVAILABLE - 1000;
            replies[i].body_size = 0;
        }
    }
    struct reply_batch batch = { .replies = replies, .replies_count = held->batch.requests_count };
    send_pair(self->socket, held->number, sizeof(held->number), &reply_batch_descriptor, &batch);
}

static void free_held(struct bus_worker *self, struct held *held) {
    self->held_now -= held->batch.requests_count;
    message_release(&request_batch_descriptor, &held->batch);
    free(held);
}

static void answer_due(struct bus_worker *self) {
    int64_t now_ms = clock_monotonic_ms();
    enum bus_worker_mode mode = (enum bus_worker_mode)atomic_load(&self->mode);
    while (self->first != NULL && mode != WORKER_HOLD && self->first->due_ms <= now_ms) {
        struct held *held = self->first;
        self->first = held->next;
        if (self->first == NULL) self->last = NULL;
        answer(self, held, mode);
        free_held(self, held);
    }
}

static void keep(struct bus_worker *self, zmq_msg_t *head, zmq_msg_t *frame) {
    struct held *held = xcalloc(1, sizeof(*held));
    memcpy(held->number, zmq_msg_data(head), sizeof(held->number));
    int error = message_decode_frame(&request_batch_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &held->batch);
    assert(error == 0);
    (void)error;
    held->due_ms = clock_monotonic_ms() + self->options.delay_ms;
    for (size_t i = 0; i < held->batch.requests_count; i++) {
        if (held->batch.requests[i].budget_ms < atomic_load(&self->least_budget))
            atomic_store(&self->least_budget, held->batch.requests[i].budget_ms);
    }
    if (self->last != NULL) {
        self->last->next = held;
    } else {
        self->first = held;
    }
    self->last = held;
    self->held_now += held->batch.requests_count;
    if (self->held_now > atomic_load(&self->most_held)) atomic_store(&self->most_held, self->held_now);
    atomic_fetch_add(&self->requests, held->batch.requests_count);
    atomic_fetch_add(&self->batches, 1);
}

static bool receive(struct bus_worker *self) {
    zmq_msg_t head, frame;
    zmq_msg_init(&head);
    zmq_msg_init(&frame);
    bool received = zmq_msg_recv(&head, self->socket, ZMQ_DONTWAIT) >= 0;
    if (received && zmq_msg_more(&head)) zmq_msg_recv(&frame, self->socket, ZMQ_DONTWAIT);
    if (received && zmq_msg_size(&head) == 8) {
        keep(self, &head, &frame);
    } else if (received && message_frame_id(zmq_msg_data(&frame), zmq_msg_size(&frame)) == MSG_WORKER_REFUSED) {
        atomic_store(&self->refused, true);
    }
    zmq_msg_close(&head);
    zmq_msg_close(&frame);
    return received;
}

static void *run(void *argument) {
    struct bus_worker *self = argument;
    int64_t next_hello_ms = 0;
    while (!atomic_load(&self->stopping)) {
        int64_t now_ms = clock_monotonic_ms();
        if (atomic_load(&self->leaving) != self->said_leaving) next_hello_ms = now_ms;
        if (now_ms >= next_hello_ms && !atomic_load(&self->mute)) next_hello_ms = now_ms + say_hello(self);
        while (receive(self))
            continue;
        answer_due(self);
        zmq_pollitem_t item = { .socket = self->socket, .events = ZMQ_POLLIN };
        zmq_poll(&item, 1, self->first != NULL ? 1 : UNCONNECTED_MS);
    }
    return NULL;
}

struct bus_worker *bus_worker_new(const struct bus_worker_options *options) {
    struct bus_worker *self = xcalloc(1, sizeof(*self));
    char endpoint[300];
    int linger = 0;
    self->options = *options;
    atomic_store(&self->least_budget, INT64_MAX);
    int error = bus_endpoint_url(options->url, BUS_WORKERS, endpoint, sizeof(endpoint));
    assert(error == 0);
    (void)error;
    struct bus_keys *keys = bus_keys_load(options->curve_directory, false);
    self->context = zmq_ctx_new();
    self->socket = bus_socket_new(self->context, ZMQ_DEALER, endpoint, false, keys);
    assert(self->socket != NULL);
    zmq_setsockopt(self->socket, ZMQ_LINGER, &linger, sizeof(linger));
    bus_keys_free(keys);
    pthread_create(&self->thread, NULL, run, self);
    return self;
}

void bus_worker_free(struct bus_worker *self) {
    if (self == NULL) return;
    atomic_store(&self->stopping, true);
    pthread_join(self->thread, NULL);
    while (self->first != NULL) {
        struct held *held = self->first;
        self->first = held->next;
        free_held(self, held);
    }
    zmq_close(self->socket);
    zmq_ctx_term(self->context);
    free(self);
}

void bus_worker_set_mode(struct bus_worker *self, enum bus_worker_mode mode) {
    atomic_store(&self->mode, (int)mode);
}

void bus_worker_set_mute(struct bus_worker *self, bool mute) {
    atomic_store(&self->mute, mute);
}

void bus_worker_set_leaving(struct bus_worker *self, bool leaving) {
    atomic_store(&self->leaving, leaving);
}

uint64_t bus_worker_requests(struct bus_worker *self) {
    return atomic_load(&self->requests);
}

uint64_t bus_worker_batches(struct bus_worker *self) {
    return atomic_load(&self->batches);
}

uint64_t bus_worker_most_held(struct bus_worker *self) {
    return atomic_load(&self->most_held);
}

int64_t bus_worker_least_budget(struct bus_worker *self) {
    return atomic_load(&self->least_budget);
}

bool bus_worker_was_refused(struct bus_worker *self) {
    return atomic_load(&self->refused);
}

/* --- an address --------------------------------------------------------------------------------------------------- */

char *bus_url_new(void) {
    char directory[] = "/tmp/bore-bus-XXXXXX";
    char *made = mkdtemp(directory);
    assert(made != NULL);
    return xasprintf("ipc://%s/bus", made);
}

void bus_url_free(char *url) {
    static const char *const names[] = { "callers", "workers", "publish", "subscribe", "lock" };
    const char *path = url + strlen("ipc://");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char *name = xasprintf("%s.%s", path, names[i]);
        unlink(name);
        free(name);
    }
    char *slash = strrchr(url, '/');
    *slash = '\0';
    rmdir(path);
    free(url);
}
