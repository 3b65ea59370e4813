/*
 * service_job.c: a request from its decoding to its answer, lists of them, and the outbox that takes answers back to
 * the bus thread. An answer that cannot be encoded is a bug of the handler: logged, and the caller gets
 * `internal_error`.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

/* --- one job ----------------------------------------------------------------------------------------------------- */

void job_free(struct job *self) {
    if (!self) return;
    free(self->request_id);
    if (self->body) memory_wipe(self->body, self->body_size); /* it may hold a password */
    free(self->body);
    strbuf_release(&self->answer);
    free(self);
}

int job_decode(const struct job *self, void **ret_request) {
    *ret_request = NULL;
    if (clock_monotonic_ms() >= self->deadline_ms) return ERR_TIMEOUT;
    const struct message_descriptor *descriptor = self->route->method->request;
    void *request = xcalloc(1, descriptor->size);
    if (message_decode(descriptor, self->body, self->body_size, request) == 0) {
        *ret_request = request;
        return 0;
    }
    free(request);
    log_error("a request %s could not be read", descriptor->name);
    return ERR_MALFORMED;
}

static int encode(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    strbuf_clear(out);
    int error = message_encode(descriptor, message, out);
    if (!error && out->size > BUS_BODY_MAX) error = -EMSGSIZE;
    if (error) strbuf_clear(out);
    return error;
}

static void count(const struct job *self) {
    if (self->route) route_count(self->route, self->code, clock_monotonic_us() - self->arrived_us);
}

void job_answer(struct job *self, int code, const void *reply, const struct error_reply *error) {
    static const struct error_reply nothing;
    const char *name = self->route ? self->route->method->request->name : "a request of no method of ours";
    assert(code || self->route);
    self->code = code ? error_info(code)->code : 0;
    if (!code) {
        int failure = encode(self->route->method->reply, reply, &self->answer);
        if (failure) {
            log_error("%s: its reply %s", name, failure == -EMSGSIZE ? "is too large" : "breaks the declared bounds");
            self->code = ERR_INTERNAL;
        }
    }
    if (self->code && encode(&error_reply_descriptor, error ? error : &nothing, &self->answer) < 0)
        (void)encode(&error_reply_descriptor, &nothing, &self->answer);
    count(self);
    if (log_enabled(LOG_DEBUG_LEVEL))
        log_debug("%s: %s in %lld us", name, self->code ? error_info(self->code)->name : "ok",
            (long long)(clock_monotonic_us() - self->arrived_us));
}

void job_refuse(struct job *self, int code, int64_t retry_after) {
    struct error_reply error = { .has_retry_after = retry_after > 0, .retry_after = retry_after };
    job_answer(self, code, NULL, &error);
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

void job_list_append(struct job_list *self, struct job *job) {
    job->next = NULL;
    if (self->last) {
        self->last->next = job;
    } else {
        self->first = job;
    }
    self->last = job;
    self->count++;
}

struct job *job_list_take(struct job_list *self) {
    struct job *job = self->first;
    if (!job) return NULL;
    self->first = job->next;
    if (!self->first) self->last = NULL;
    self->count--;
    job->next = NULL;
    return job;
}

void job_list_free(struct job_list *self) {
    for (struct job *job = job_list_take(self); job; job = job_list_take(self))
        job_free(job);
}

static void job_list_move(struct job_list *from, struct job_list *to) {
    if (!from->first) return;
    if (to->last) {
        to->last->next = from->first;
    } else {
        to->first = from->first;
    }
    to->last = from->last;
    to->count += from->count;
    *from = (struct job_list){ 0 };
}

/* --- outbox ------------------------------------------------------------------------------------------------------ */

int outbox_init(struct outbox *self) {
    *self = (struct outbox){ .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (self->event_fd < 0) return -errno;
    pthread_mutex_init(&self->mutex, NULL);
    return 0;
}

void outbox_release(struct outbox *self) {
    job_list_free(&self->jobs);
    pthread_mutex_destroy(&self->mutex);
    close(self->event_fd);
}

void outbox_wake(struct outbox *self) {
    (void)!eventfd_write(self->event_fd, 1); /* fails only when the counter is full, and then it is awake */
}

void outbox_put(struct outbox *self, struct job_list *jobs) {
    if (!jobs->first) return;
    pthread_mutex_lock(&self->mutex);
    bool was_empty = !self->jobs.first;
    job_list_move(jobs, &self->jobs);
    pthread_mutex_unlock(&self->mutex);
    if (was_empty) outbox_wake(self);
}

void outbox_take(struct outbox *self, struct job_list *ret_jobs) {
    eventfd_t ignored;
    (void)!eventfd_read(self->event_fd, &ignored);
    pthread_mutex_lock(&self->mutex);
    job_list_move(&self->jobs, ret_jobs);
    pthread_mutex_unlock(&self->mutex);
}
