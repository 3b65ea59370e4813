/*
 * service_bus.c: the one thread that owns the worker socket (DEALER): signs of life out, batches in, answers out.
 *
 * Serves REQUEST_BATCH, emits WORKER_HELLO (each lane, every 500 ms and at once at start and at the end) and
 * REPLY_BATCH; WORKER_REFUSED ends the process. It never touches a database, so a worker waiting in PostgreSQL never
 * looks dead. Worker threads hand answers over through the outbox, whose eventfd is polled with the socket. When the
 * bus takes nothing (it is away), answers wait until their deadline, then they are dropped and counted: nobody waits
 * for them any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <zmq.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_socket.h"
#include "services/lib/service_internal.h"

enum {
    HELLO_MS = 500,
    RETRY_SEND_MS = 50,                    /* while the bus is away */
    RECEIVE_MOST = 64,                     /* batches taken before answers get their turn */
    REPLY_BYTES_MAX = BUS_MESSAGE_MAX / 2, /* one more answer always fits: BUS_BODY_MAX */
};

/* What the thread alone knows. */
struct bus_side {
    struct service_run *run;
    struct job_list waiting; /* answers not yet sent */
    int64_t next_hello_ms;
    bool was_leaving;
    struct counter *drops;
};

/* --- sending ----------------------------------------------------------------------------------------------------- */

/* Two frames, both or none. 0, or -EAGAIN when the bus takes nothing now. */
static int send_frames(void *socket, const void *head, size_t head_size, const struct strbuf *frame) {
    if (zmq_send(socket, head, head_size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return -errno;
    return zmq_send(socket, frame->data, frame->size, ZMQ_DONTWAIT) < 0 ? -errno : 0;
}

/* False when the bus takes nothing now. */
static bool send_lane_hello(struct service_run *run, const struct service_lane *lane, bool leaving) {
    struct worker_hello hello = { .lane = (char *)(uintptr_t)lane->name,
        .process = (char *)(uintptr_t)run->service->name,
        .instance = config.instance,
        .version = PROTOCOL_VERSION,
        .credits = lane->credits,
        .leaving = leaving };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    if (message_encode_frame(&worker_hello_descriptor, &hello, &frame) == 0)
        return send_frames(run->socket, "", 0, &frame) == 0;
    log_error("lane %s: its sign of life cannot be encoded", lane->name);
    return true;
}

static bool takes_none(struct service_run *run) {
    return atomic_load(&run->leaving) || atomic_load(&run->held);
}

static void send_hello(struct bus_side *self) {
    bool leaving = takes_none(self->run);
    bool sent = true;
    for (size_t i = 0; i < self->run->lane_count; i++)
        sent = send_lane_hello(self->run, self->run->lanes[i].spec, leaving) && sent;
    self->was_leaving = leaving;
    self->next_hello_ms = clock_monotonic_ms() + (sent ? HELLO_MS : RETRY_SEND_MS);
}

static void drop_expired(struct bus_side *self) {
    struct job_list kept = { 0 };
    int64_t now = clock_monotonic_ms();
    for (struct job *job = job_list_take(&self->waiting); job; job = job_list_take(&self->waiting)) {
        if (job->deadline_ms > now) {
            job_list_append(&kept, job);
            continue;
        }
        counter_add(self->drops, 1);
        job_free(job);
    }
    self->waiting = kept;
}

/* Moves the answers that belong into the first one's batch from waiting to ret_group, up to the limits of one frame. */
static void take_group(struct job_list *waiting, struct job_list *ret_group) {
    struct job_list rest = { 0 };
    unsigned char batch[BATCH_NUMBER_SIZE];
    size_t bytes = 0;
    memcpy(batch, waiting->first->batch, sizeof batch);
    for (struct job *job = job_list_take(waiting); job; job = job_list_take(waiting)) {
        bool fits = ret_group->count < BUS_BATCH_MAX && bytes <= REPLY_BYTES_MAX - job->answer.size;
        if (ret_group->count == 0) fits = true;
        if (fits && memcmp(job->batch, batch, sizeof batch) == 0) {
            bytes += job->answer.size + 32;
            job_list_append(ret_group, job);
        } else {
            job_list_append(&rest, job);
        }
    }
    *waiting = rest;
}

static int send_group(void *socket, const struct job_list *group) {
    struct bus_reply replies[BUS_BATCH_MAX];
    struct reply_batch batch = { .replies = replies };
    for (const struct job *job = group->first; job; job = job->next)
        replies[batch.replies_count++] = (struct bus_reply){ .correlation = job->correlation,
            .code = job->code ? -job->code - 1000 : 0,
            .body = (unsigned char *)job->answer.data,
            .body_size = job->answer.size };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    int error = message_encode_frame(&reply_batch_descriptor, &batch, &frame);
    if (!error) return send_frames(socket, group->first->batch, BATCH_NUMBER_SIZE, &frame);
    log_error("a batch of %zu answers cannot be encoded", group->count);
    return 0;
}

/* Sends what waits; what the bus does not take now stays. */
static void send_answers(struct bus_side *self) {
    while (self->waiting.first) {
        struct job_list group = { 0 };
        take_group(&self->waiting, &group);
        if (send_group(self->run->socket, &group) == 0) {
            job_list_free(&group);
            continue;
        }
        for (struct job *job = job_list_take(&self->waiting); job; job = job_list_take(&self->waiting))
            job_list_append(&group, job);
        self->waiting = group;
        drop_expired(self);
        return;
    }
}

/* --- receiving --------------------------------------------------------------------------------------------------- */

static struct lane *find_lane(struct service_run *run, const char *name) {
    for (size_t i = 0; i < run->lane_count; i++)
        if (strcmp(run->lanes[i].spec->name, name) == 0) return &run->lanes[i];
    return NULL;
}

/* Takes the request's memory over. */
static struct job *new_job(struct service_run *run, const void *number, struct bus_request *request) {
    struct job *job = xcalloc(1, sizeof *job);
    strbuf_init(&job->answer);
    memcpy(job->batch, number, BATCH_NUMBER_SIZE);
    job->correlation = request->correlation;
    job->route = routes_find(&run->routes, (int)request->method);
    job->arrived_us = clock_monotonic_us();
    job->deadline_ms = job->arrived_us / 1000 + request->budget_ms;
    job->request_id = TAKE_PTR(request->request_id);
    job->body = TAKE_PTR(request->body);
    job->body_size = request->body_size;
    request->body_size = 0;
    return job;
}

static void on_batch(struct service_run *run, const void *number, const void *data, size_t size) {
    struct request_batch batch;
    if (message_decode_frame(&request_batch_descriptor, data, size, &batch) < 0) {
        log_warning("the bus sent %zu bytes that are no batch", size);
        return;
    }
    struct job_list accepted = { 0 }, refused = { 0 };
    struct lane *lane = find_lane(run, batch.lane);
    for (size_t i = 0; i < batch.requests_count; i++) {
        struct job *job = new_job(run, number, &batch.requests[i]);
        bool served = lane && job->route;
        if (!served)
            log_warning("refused a request of method %lld: not served here", (long long)batch.requests[i].method);
        if (!served) job_refuse(job, ERR_UNAVAILABLE, 1);
        job_list_append(served ? &accepted : &refused, job);
    }
    if (lane) lane_put(lane, &accepted);
    outbox_put(&run->outbox, &refused);
    message_release(&request_batch_descriptor, &batch);
}

static void on_refused(struct service_run *run, const void *data, size_t size) {
    struct worker_refused refused;
    if (message_decode_frame(&worker_refused_descriptor, data, size, &refused) < 0) {
        log_warning("the bus sent %zu bytes that cannot be read", size);
        return;
    }
    if (!atomic_exchange(&run->refused, true)) {
        log_error("the bus does not take this process: %s", refused.message);
        (void)!eventfd_write(run->wake_main_fd, 1);
    }
    message_release(&worker_refused_descriptor, &refused);
}

/* Receives one frame. 0, or a negative errno; *ret_more tells whether another one belongs to it. */
static int receive_frame(void *socket, zmq_msg_t *ret_frame, bool *ret_more) {
    zmq_msg_init(ret_frame);
    if (zmq_msg_recv(ret_frame, socket, ZMQ_DONTWAIT) < 0) {
        int error = errno;
        zmq_msg_close(ret_frame);
        return -error;
    }
    *ret_more = zmq_msg_more(ret_frame);
    return 0;
}

static void skip_frames(void *socket, bool more) {
    while (more) {
        zmq_msg_t frame;
        if (receive_frame(socket, &frame, &more) < 0) return;
        zmq_msg_close(&frame);
    }
}

/* One message of the bus. False when there is none. */
static bool receive(struct service_run *run) {
    zmq_msg_t head, frame;
    bool more = false;
    if (receive_frame(run->socket, &head, &more) < 0) return false;
    if (more && receive_frame(run->socket, &frame, &more) == 0) {
        const void *data = zmq_msg_data(&frame);
        size_t size = zmq_msg_size(&frame);
        if (zmq_msg_size(&head) == BATCH_NUMBER_SIZE) {
            on_batch(run, zmq_msg_data(&head), data, size);
        } else if (zmq_msg_size(&head) == 0) {
            on_refused(run, data, size);
        } else {
            log_warning("the bus sent a message of an unknown form");
        }
        zmq_msg_close(&frame);
        skip_frames(run->socket, more);
    }
    zmq_msg_close(&head);
    return true;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static void turn(struct bus_side *self) {
    struct service_run *run = self->run;
    int64_t now = clock_monotonic_ms();
    int64_t wait = self->next_hello_ms - now;
    if (self->waiting.first && wait > RETRY_SEND_MS) wait = RETRY_SEND_MS;
    zmq_pollitem_t items[] = { { .socket = run->socket, .events = ZMQ_POLLIN },
        { .fd = run->outbox.event_fd, .events = ZMQ_POLLIN } };
    zmq_poll(items, 2, wait > 0 ? (long)wait : 0);
    for (int i = 0; i < RECEIVE_MOST && receive(run); i++)
        continue;
    outbox_take(&run->outbox, &self->waiting);
    send_answers(self);
    if (clock_monotonic_ms() >= self->next_hello_ms || takes_none(run) != self->was_leaving) send_hello(self);
}

static void *run_thread(void *argument) {
    struct bus_side self = { .run = argument, .drops = counter_get(COUNTER, "bore_service_answers_dropped_total", "") };
    while (!atomic_load(&self.run->closing))
        turn(&self);
    outbox_take(&self.run->outbox, &self.waiting);
    send_answers(&self);
    job_list_free(&self.waiting);
    return NULL;
}

static int open_socket(struct service_run *run) {
    char endpoint[256];
    if (bus_endpoint_url(config.bus_url, BUS_WORKERS, endpoint, sizeof endpoint) < 0) {
        log_error("BUS_URL is neither ipc:///directory/name nor tcp://host:port");
        return -EINVAL;
    }
    errno = 0;
    struct bus_keys *keys = bus_keys_load(config.bus_curve_dir, false);
    if (!keys && errno) {
        log_error("cannot read the keys in BUS_CURVE_DIR: %s", strerror(errno));
        return -EINVAL;
    }
    run->zmq_context = zmq_ctx_new();
    run->socket = bus_socket_new(run->zmq_context, ZMQ_DEALER, endpoint, false, keys);
    int error = run->socket ? 0 : errno ? -errno : -EIO;
    bus_keys_free(keys);
    if (error) log_error("cannot connect to the bus at %s: %s", endpoint, strerror(-error));
    return error;
}

int bus_thread_start(struct service_run *run) {
    int error = open_socket(run);
    if (!error) error = thread_start(&run->bus_thread, "bus", run_thread, run);
    run->has_bus_thread = !error;
    return error;
}

void bus_thread_stop(struct service_run *run) {
    atomic_store(&run->closing, true);
    outbox_wake(&run->outbox);
    if (run->has_bus_thread) pthread_join(run->bus_thread, NULL);
    run->has_bus_thread = false;
    if (run->socket) zmq_close(run->socket);
    if (run->zmq_context) zmq_ctx_term(run->zmq_context);
    run->socket = run->zmq_context = NULL;
}
