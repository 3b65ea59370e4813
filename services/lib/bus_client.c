/*
 * bus_client.c: see bus_client.h; the caller's side of it.
 *
 * A call is encoded and its answer decoded in the caller's own thread. In between the call waits on a futex of its own,
 * so an answer wakes exactly one thread. The inbox is a list that threads push to without a lock.
 */
#include "services/lib/bus_client.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/lib/bus_client_internal.h"

enum { REQUEST_ID_MAX = 64 };

/* --- beginning and end ----------------------------------------------------------------------------------------------
 */

static void find_counters(struct bus_client *self) {
    self->counters.calls = counter_get(COUNTER, "bore_bus_client_calls_total", "");
    self->counters.timeouts = counter_get(COUNTER, "bore_bus_client_timeouts_total", "");
    self->counters.unavailable = counter_get(COUNTER, "bore_bus_client_unavailable_total", "");
    self->counters.retries = counter_get(COUNTER, "bore_bus_client_retries_total", "");
    self->counters.late_replies = counter_get(COUNTER, "bore_bus_client_late_replies_total", "");
    self->counters.publish_drops = counter_get(COUNTER, "bore_bus_client_publish_drops_total", "");
}

/* Signals are for the process's main thread. */
static int start_thread(struct bus_client *self) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&self->thread, NULL, bus_client_thread, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) pthread_setname_np(self->thread, "bus-client");
    return -error;
}

static void release(struct bus_client *self) {
    bus_client_close(self);
    bus_keys_free(self->keys);
    if (self->wake_fd >= 0) close(self->wake_fd);
    for (size_t i = 0; i < self->subscribed; i++)
        free(self->subscriptions[i]);
    free(self->url);
    free(self);
}

struct bus_client *bus_client_new(const char *url, const char *curve_directory) {
    struct bus_client *self = xcalloc(1, sizeof(*self));
    find_counters(self);
    calls_init(self);
    self->url = xstrdup(url);
    self->now_us = clock_monotonic_us();
    self->now_ms = self->lost_ms = self->now_us / 1000;
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->keys = bus_keys_load(curve_directory, false);
    int error = self->keys == NULL && errno != 0 ? -errno : 0;
    if (error == 0 && self->wake_fd < 0) error = -errno;
    if (error == 0) {
        self->context = zmq_ctx_new();
        error = bus_client_open(self);
    }
    if (error == 0) error = start_thread(self);
    if (error == 0) return self;
    release(self);
    errno = -error;
    return NULL;
}

void bus_client_free(struct bus_client *self) {
    if (self == NULL) return;
    atomic_store(&self->stopping, true);
    (void)!eventfd_write(self->wake_fd, 1);
    pthread_join(self->thread, NULL);
    bus_client_clear_inbox(self); /* calls that came while the thread ended */
    release(self);
}

/* A call of a lane that is held back would wake the thread for nothing. */
static void put(struct bus_client *self, struct item *item) {
    bool is_call = item->kind == ITEM_CALL;
    uint64_t lane = is_call ? lane_bit(((const struct call *)item)->method->lane) : 0;
    struct item *head = atomic_load_explicit(&self->inbox, memory_order_relaxed);
    do {
        item->next = head;
    } while (!atomic_compare_exchange_weak(&self->inbox, &head, item));
    if (atomic_load(&self->sleeping) && (atomic_load(&self->held) & lane) == 0) (void)!eventfd_write(self->wake_fd, 1);
}

/* --- calls ----------------------------------------------------------------------------------------------------------
 */

/* A request id that the wire would refuse must not spoil the batch it travels in. */
static const char *sane_request_id(const char *request_id) {
    if (request_id == NULL) return "";
    size_t size = 0;
    for (; request_id[size] != '\0'; size++) {
        if (size >= REQUEST_ID_MAX || request_id[size] < 0x20 || request_id[size] > 0x7e) return "";
    }
    return request_id;
}

static void sleep_on(struct call *call) {
    uint32_t expected = CALL_PENDING;
    if (!atomic_compare_exchange_strong(&call->done, &expected, CALL_SLEEPING)) return;
    while (atomic_load_explicit(&call->done, memory_order_acquire) != CALL_DONE)
        syscall(SYS_futex, &call->done, FUTEX_WAIT_PRIVATE, CALL_SLEEPING, NULL, NULL, 0);
}

/* Returns call->result. The call's reply message is initialised, and the caller's to close, whatever the result. */
static int run(struct bus_client *self, struct call *call) {
    zmq_msg_init(&call->reply);
    int64_t now_ms = clock_monotonic_ms();
    if (call->deadline_ms == 0) call->deadline_ms = now_ms + BUS_CALL_BUDGET_MS;
    CLIENT_COUNT(self, calls, 1);
    if (call->deadline_ms <= now_ms) {
        CLIENT_COUNT(self, timeouts, 1);
        return ERR_TIMEOUT;
    }
    if (atomic_load(&self->stopping)) return ERR_UNAVAILABLE;
    if (atomic_fetch_add_explicit(&self->pending, 1, memory_order_relaxed) >= BUS_CLIENT_PENDING_MAX) {
        atomic_fetch_sub_explicit(&self->pending, 1, memory_order_relaxed);
        return ERR_OVERLOADED;
    }
    put(self, &call->item);
    sleep_on(call);
    return call->result;
}

/* What a worker said beside its error; nothing when the error is the bus's own or cannot be read. */
static void read_error(const struct call *call, struct error_reply *ret_error) {
    if (ret_error == NULL) return;
    *ret_error = (struct error_reply){ 0 };
    if (call->reply_size > 0)
        (void)message_decode(&error_reply_descriptor, call->reply_body, call->reply_size, ret_error);
}

static void init_call(
    struct call *self, const struct method *method, const void *body, size_t size, const struct bus_call *options) {
    *self = (struct call){
        .item = { .kind = ITEM_CALL },
        .method = method,
        .body = body,
        .body_size = size,
        .request_id = sane_request_id(options != NULL ? options->request_id : NULL),
        .deadline_ms = options != NULL ? options->deadline_ms : 0,
    };
}

int bus_call(struct bus_client *self, int request_id_of_message, const void *request, const struct bus_call *call,
    void *ret_reply, struct error_reply *ret_error) {
    const struct method *method = method_find(request_id_of_message);
    assert(method != NULL);
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    struct call state;
    if (ret_error != NULL) *ret_error = (struct error_reply){ 0 };
    if (message_encode(method->request, request, &body) != 0 || body.size > BUS_BODY_MAX) return ERR_VALIDATION;
    init_call(&state, method, body.data, body.size, call);
    int result = run(self, &state);
    if (result != 0) {
        read_error(&state, ret_error);
    } else if (message_decode(method->reply, state.reply_body, state.reply_size, ret_reply) != 0) {
        result = ERR_MALFORMED;
    }
    zmq_msg_close(&state.reply);
    return result;
}

int bus_call_raw(struct bus_client *self, const struct method *method, const void *body, size_t body_size,
    const struct bus_call *call, unsigned char **ret_body, size_t *ret_size, struct error_reply *ret_error) {
    struct call state;
    if (ret_error != NULL) *ret_error = (struct error_reply){ 0 };
    if (body_size > BUS_BODY_MAX) return ERR_VALIDATION;
    init_call(&state, method, body, body_size, call);
    int result = run(self, &state);
    if (result != 0) {
        read_error(&state, ret_error);
    } else {
        *ret_body = xmalloc(state.reply_size + 1);
        memcpy(*ret_body, state.reply_body, state.reply_size);
        *ret_size = state.reply_size;
    }
    zmq_msg_close(&state.reply);
    return result;
}

/* --- publications and subscriptions ---------------------------------------------------------------------------------
 */

void bus_publish(struct bus_client *self, const char *topic, const void *frame, size_t size) {
    size_t topic_size = strlen(topic);
    assert(topic_size <= TOPIC_MAX);
    uint64_t count = atomic_fetch_add_explicit(&self->publications, 1, memory_order_relaxed);
    uint64_t bytes = atomic_fetch_add_explicit(&self->publication_bytes, topic_size + size, memory_order_relaxed);
    if (count >= CLIENT_PUBLICATIONS_MAX || bytes + size > CLIENT_PUBLICATION_BYTES_MAX || size > BUS_MESSAGE_MAX ||
        atomic_load(&self->stopping)) {
        atomic_fetch_sub_explicit(&self->publications, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&self->publication_bytes, topic_size + size, memory_order_relaxed);
        CLIENT_COUNT(self, publish_drops, 1);
        return;
    }
    struct publication *publication = xmalloc(sizeof(*publication) + topic_size + size);
    *publication = (struct publication){ .item = { .kind = ITEM_PUBLICATION }, .topic_size = topic_size, .size = size };
    memcpy(publication->data, topic, topic_size);
    memcpy(publication->data + topic_size, frame, size);
    put(self, &publication->item);
}

int bus_subscribe(struct bus_client *self, const char *topic_prefix, bus_subscriber_fn *subscriber, void *user_data) {
    if (strlen(topic_prefix) > TOPIC_MAX) return -EINVAL;
    if (atomic_fetch_add(&self->subscription_count, 1) >= CLIENT_SUBSCRIPTIONS_MAX) {
        atomic_fetch_sub(&self->subscription_count, 1);
        return -ENOSPC;
    }
    struct subscription *subscription = xcalloc(1, sizeof(*subscription));
    subscription->item.kind = ITEM_SUBSCRIPTION;
    memcpy(subscription->prefix, topic_prefix, strlen(topic_prefix));
    subscription->subscriber = subscriber;
    subscription->user_data = user_data;
    put(self, &subscription->item);
    return 0;
}

void bus_unsubscribe(struct bus_client *self, bus_subscriber_fn *subscriber, void *user_data) {
    struct unsubscription ended = {
        .item = { .kind = ITEM_UNSUBSCRIPTION }, .subscriber = subscriber, .user_data = user_data
    };
    sem_init(&ended.done, 0, 0);
    put(self, &ended.item);
    while (sem_wait(&ended.done) != 0)
        ; /* a signal */
    sem_destroy(&ended.done);
}

void bus_client_statistics(struct bus_client *self, struct bus_client_statistics *ret_statistics) {
    *ret_statistics = (struct bus_client_statistics){
        .calls = atomic_load(&self->statistics.calls),
        .timeouts = atomic_load(&self->statistics.timeouts),
        .unavailable = atomic_load(&self->statistics.unavailable),
        .retries = atomic_load(&self->statistics.retries),
        .late_replies = atomic_load(&self->statistics.late_replies),
        .publish_drops = atomic_load(&self->statistics.publish_drops),
        .pending = atomic_load(&self->pending),
    };
}
