/*
 * service_worker.c: one thread's context, and how it serves one request: decode, database, handler or SQL, answer.
 *
 * Without a database a request waits DATABASE_PATIENCE_MS for a new connection; after that failed in one thread, all
 * threads that have none refuse at once for DATABASE_REST_MS, so that a dead database costs callers little and fills no
 * queue. The ping is answered without a database too: it says so.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

enum { PING_MS = 500 };

/* --- the context ------------------------------------------------------------------------------------------------- */

void worker_init(struct worker *self, struct service_run *run) {
    *self = (struct worker){ .run = run,
        .context = { .service = run->service, .bus = run->bus, .state = run->state, .request_id = "" } };
    database_meter_init(&self->meter);
    if (run->service->database) self->context.db = db_new(&run->database);
}

void worker_release(struct worker *self) {
    context_clear_error(&self->context);
    db_free(self->context.db);
    self->context.db = NULL;
}

void service_hold(struct service_context *self, bool is_held) {
    struct service_run *run = ((struct worker *)self)->run; /* a context is always a worker's */
    if (atomic_exchange(&run->held, is_held) != is_held) outbox_wake(&run->outbox);
}

static int64_t earlier(int64_t left, int64_t right) {
    return left < right ? left : right;
}

int worker_ensure_database(struct worker *self, int64_t deadline_ms) {
    struct db *db = self->context.db;
    atomic_int_fast64_t *rest_until_ms = &self->run->database_rest_until_ms;
    if (!db) return 0;
    int64_t now = clock_monotonic_ms();
    bool resting = now < atomic_load_explicit(rest_until_ms, memory_order_relaxed);
    /* With no time at all only a connection that is there will do. */
    if (db_connect(db, resting ? now : earlier(deadline_ms, now + DATABASE_PATIENCE_MS)) == 0) return 0;
    log_debug("database: %s", db_error_message(db));
    if (!resting) atomic_store_explicit(rest_until_ms, clock_monotonic_ms() + DATABASE_REST_MS, memory_order_relaxed);
    return service_fail(&self->context, ERR_UNAVAILABLE, NULL, 1);
}

void worker_count_database(struct worker *self) {
    if (self->context.db) database_meter_read(&self->meter, self->context.db);
}

void worker_answer(struct worker *self, struct job *job, int code, const void *reply) {
    job_answer(job, code, reply, &self->context.error);
    context_clear_error(&self->context);
}

/* --- one request ------------------------------------------------------------------------------------------------- */

static int answer_ping(struct worker *self, struct ping_reply *ret_reply) {
    static const struct db_statement ping = { .name = "ping", .sql = "SELECT 1" };
    struct db *db = self->context.db;
    int64_t deadline = earlier(self->context.deadline_ms, clock_monotonic_ms() + PING_MS);
    ret_reply->uptime_ms = clock_monotonic_ms() - self->run->started_ms;
    ret_reply->database = true;
    int error = worker_ensure_database(self, deadline);
    if (!error && db) {
        db_set_deadline(db, deadline);
        error = db_run(db, &ping, NULL, NULL);
    }
    if (!error) return 0;
    ret_reply->database = false;
    ret_reply->database_message = xstrdup(error == -ETIMEDOUT ? "no answer in time" : "no connection");
    return 0;
}

static int serve(struct worker *self, const struct route *route, const void *request, void *ret_reply) {
    if (route->is_ping) return answer_ping(self, ret_reply);
    int error = worker_ensure_database(self, self->context.deadline_ms);
    if (error) return error;
    if (self->context.db) db_set_deadline(self->context.db, self->context.deadline_ms);
    return route->handler ? route->handler(&self->context, request, ret_reply)
                          : worker_run_query(self, route, request, ret_reply);
}

void worker_run_job(struct worker *self, struct job *job) {
    const struct method *method = job->route->method;
    log_set_request_id(job->request_id);
    self->context.request_id = job->request_id ? job->request_id : "";
    self->context.deadline_ms = job->deadline_ms;
    void *request;
    int code = job_decode(job, &request);
    _cleanup_free_ void *reply = xcalloc(1, method->reply->size);
    if (!code) code = serve(self, job->route, request, reply);
    worker_answer(self, job, code, reply);
    worker_count_database(self);
    message_release(method->reply, reply);
    if (request) message_release(method->request, request);
    free(request);
    self->context.request_id = "";
    log_set_request_id(NULL);
}
