/*
 * service_timer.c: a service's timers, one after another in one thread with a connection of its own.
 *
 * A timer is due `interval_ms` after it last began; one that takes longer than its interval begins again at once, and
 * never twice at a time. Without a database a tick is left out, unless the timer says otherwise: the next one finds
 * what this one would have done.
 */
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

enum { TIMER_BUDGET_MS = 10000 };

static size_t count_timers(const struct service *service) {
    size_t count = 0;
    while (service->timers && service->timers[count].interval_ms)
        count++;
    return count;
}

static size_t find_next(const int64_t *due, size_t count) {
    size_t next = 0;
    for (size_t i = 1; i < count; i++)
        if (due[i] < due[next]) next = i;
    return next;
}

/* Waits until the time; false when the timers shall end. */
static bool wait_until(struct service_run *run, int64_t due_ms) {
    pthread_mutex_lock(&run->timer_mutex);
    while (!run->timers_stopping && clock_monotonic_ms() < due_ms)
        monotonic_condition_wait(&run->timer_wake, &run->timer_mutex, due_ms);
    bool stopping = run->timers_stopping;
    pthread_mutex_unlock(&run->timer_mutex);
    return !stopping;
}

static void run_timer(struct worker *worker, const struct service_timer *timer) {
    worker->context.deadline_ms = clock_monotonic_ms() + TIMER_BUDGET_MS;
    if (timer->without_database || worker_ensure_database(worker, worker->context.deadline_ms) == 0) {
        if (worker->context.db) db_set_deadline(worker->context.db, worker->context.deadline_ms);
        timer->function(&worker->context);
        worker_count_database(worker);
    } else {
        log_debug("timer %s left out: no database", timer->name);
    }
    context_clear_error(&worker->context);
}

static void *run_thread(void *argument) {
    struct service_run *run = argument;
    const struct service_timer *timers = run->service->timers;
    size_t count = count_timers(run->service);
    struct worker worker;
    worker_init(&worker, run);
    _cleanup_free_ int64_t *due = xcalloc(count, sizeof *due);
    for (size_t i = 0; i < count; i++)
        due[i] = clock_monotonic_ms() + timers[i].interval_ms;
    for (;;) {
        size_t next = find_next(due, count);
        if (!wait_until(run, due[next])) break;
        due[next] = clock_monotonic_ms() + timers[next].interval_ms;
        run_timer(&worker, &timers[next]);
    }
    worker_release(&worker);
    return NULL;
}

int timers_start(struct service_run *run) {
    pthread_mutex_init(&run->timer_mutex, NULL);
    monotonic_condition_init(&run->timer_wake);
    if (count_timers(run->service) == 0) return 0;
    int error = thread_start(&run->timer_thread, "timers", run_thread, run);
    run->has_timer_thread = !error;
    return error;
}

bool timers_stop(struct service_run *run) {
    if (!run->has_timer_thread) return true;
    pthread_mutex_lock(&run->timer_mutex);
    run->timers_stopping = true;
    pthread_cond_broadcast(&run->timer_wake);
    pthread_mutex_unlock(&run->timer_mutex);
    run->has_timer_thread = false;
    return thread_join(run->timer_thread, JOIN_MS);
}
