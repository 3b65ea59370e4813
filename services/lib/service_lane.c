/*
 * service_lane.c: a lane's bounded queue and the threads that empty it.
 *
 * A lane holds at most `credits` requests, queued and being served together: what comes beyond is answered `overloaded`
 * at once (the bus keeps to the credits; after its restart it may not know what is still held). A request leaves the
 * count before its answer leaves the process, so the bus never knows of a credit earlier than the lane does.
 * Requests of a batch plan that wait together are taken together, never across a request of another kind, so
 * arrival order holds within a lane of one thread.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

enum { JOIN_STEP_MS = 2 };

/* --- threads ----------------------------------------------------------------------------------------------------- */

int thread_start(pthread_t *ret_thread, const char *name, void *(*function)(void *), void *argument) {
    char short_name[16]; /* the kernel's limit, with the NUL */
    snprintf(short_name, sizeof short_name, "%.15s", name);
    int error = pthread_create(ret_thread, NULL, function, argument);
    if (error) return -error;
    pthread_setname_np(*ret_thread, short_name);
    return 0;
}

bool thread_join(pthread_t thread, int64_t milliseconds) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        if (clock_monotonic_ms() >= until) return false;
        poll(NULL, 0, JOIN_STEP_MS);
    }
    return true;
}

void monotonic_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

void monotonic_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ms) {
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = (deadline_ms % 1000) * 1000000 };
    pthread_cond_timedwait(condition, mutex, &until);
}

/* --- the queue --------------------------------------------------------------------------------------------------- */

void lane_put(struct lane *self, struct job_list *jobs) {
    struct job_list refused = { 0 };
    pthread_mutex_lock(&self->mutex);
    bool stopping = self->stopping;
    for (struct job *job = job_list_take(jobs); job; job = job_list_take(jobs)) {
        bool accepted = !stopping && self->held < (size_t)self->spec->credits;
        if (accepted) self->held++;
        job_list_append(accepted ? &self->queue : &refused, job);
    }
    if (self->queue.count > 1 && self->spec->threads > 1) {
        pthread_cond_broadcast(&self->ready);
    } else {
        pthread_cond_signal(&self->ready);
    }
    pthread_mutex_unlock(&self->mutex);
    for (struct job *job = refused.first; job; job = job->next)
        job_refuse(job, stopping ? ERR_UNAVAILABLE : ERR_OVERLOADED, 1);
    outbox_put(&self->run->outbox, &refused);
}

size_t lane_held(struct lane *self) {
    pthread_mutex_lock(&self->mutex);
    size_t held = self->held;
    pthread_mutex_unlock(&self->mutex);
    return held;
}

/* Waits for work: one request, or those of one batch plan that stand at the front. False when the lane stops. */
static bool take(struct lane *self, struct job_list *ret_jobs) {
    pthread_mutex_lock(&self->mutex);
    while (!self->queue.first && !self->stopping)
        pthread_cond_wait(&self->ready, &self->mutex);
    struct job *job = job_list_take(&self->queue);
    if (job) {
        const struct batch_plan *plan = job->route->batch;
        job_list_append(ret_jobs, job);
        while (plan && ret_jobs->count < (size_t)plan->spec->maximum && self->queue.first &&
               self->queue.first->route->batch == plan)
            job_list_append(ret_jobs, job_list_take(&self->queue));
    }
    pthread_mutex_unlock(&self->mutex);
    return job != NULL;
}

static void give_back(struct lane *self, struct job_list *answered) {
    pthread_mutex_lock(&self->mutex);
    self->held -= answered->count;
    pthread_mutex_unlock(&self->mutex);
    outbox_put(&self->run->outbox, answered);
}

static void *run_thread(void *argument) {
    struct lane *self = argument;
    if (self->spec->nice && setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), self->spec->nice) < 0)
        log_warning("lane %s: cannot set its niceness: %s", self->spec->name, strerror(errno));
    struct worker worker;
    worker_init(&worker, self->run);
    if (self->spec->without_database) worker_release(&worker);
    /* The database was there a moment ago: the first request finds the connection made. */
    if (worker.context.db) db_connect(worker.context.db, clock_monotonic_ms() + DATABASE_FIRST_MS);
    struct job_list jobs = { 0 }, answered = { 0 };
    while (take(self, &jobs)) {
        const struct batch_plan *plan = jobs.first->route->batch;
        if (plan) {
            worker_run_batch(&worker, plan, &jobs, &answered);
        } else {
            struct job *job = job_list_take(&jobs);
            worker_run_job(&worker, job);
            job_list_append(&answered, job);
        }
        give_back(self, &answered);
    }
    worker_release(&worker);
    return NULL;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int lane_start(struct lane *self, struct service_run *run, const struct service_lane *spec) {
    char labels[80], name[64];
    snprintf(labels, sizeof labels, "lane=\"%s\"", spec->name);
    *self = (struct lane){ .run = run,
        .spec = spec,
        .threads = xcalloc((size_t)spec->threads, sizeof(pthread_t)),
        .depth = counter_get(GAUGE, "bore_lane_requests", labels) };
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->ready, NULL);
    const char *dot = strchr(spec->name, '.');
    for (int i = 0; i < spec->threads; i++) {
        snprintf(name, sizeof name, "%.11s-%d", dot ? dot + 1 : spec->name, i + 1);
        int error = thread_start(&self->threads[i], name, run_thread, self);
        if (error) return error;
        self->thread_count++;
    }
    return 0;
}

void lane_stop(struct lane *self) {
    struct job_list left = { 0 };
    pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    for (struct job *job = job_list_take(&self->queue); job; job = job_list_take(&self->queue)) {
        job_refuse(job, ERR_UNAVAILABLE, 1);
        job_list_append(&left, job);
    }
    self->held -= left.count;
    pthread_cond_broadcast(&self->ready);
    pthread_mutex_unlock(&self->mutex);
    outbox_put(&self->run->outbox, &left);
}

bool lane_join(struct lane *self) {
    int64_t until = clock_monotonic_ms() + JOIN_MS;
    for (; self->thread_count > 0; self->thread_count--) {
        int64_t left = until - clock_monotonic_ms();
        if (!thread_join(self->threads[self->thread_count - 1], left > 0 ? left : 0)) return false;
    }
    return true;
}

void lane_release(struct lane *self) {
    job_list_free(&self->queue);
    free(self->threads);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->ready);
}
