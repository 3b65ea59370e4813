/*
 * admission.c: see admission.h.
 *
 * The rows of a replay and the log's head come from one pipelined round trip, head first: what is committed later than
 * the head reaches the stream through the reader. A replay longer than ADMISSION_REPLAY_MAX is a reset: the client
 * reloads, it is never given a part. A failed read is ERR_UNAVAILABLE: the client tries again.
 */
#include "services/stream/admission.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/database_meter.h"

struct waiting {
    struct admission_job *job;
    struct waiting *next;
};

struct admission {
    struct admission_options options;
    struct db *db;
    struct database_meter meter;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    struct waiting *first, **last;
    unsigned count;
    bool stopping;
};

static const struct db_statement head_statement = { "stream_head",
    "SELECT epoch, head, oldest FROM bore.event_head()" };
static const struct db_statement own_statement = { "stream_replay_own",
    "SELECT id, bore.ms(at), kind, user_id, instance_id, payload::text FROM bore.events "
    "WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3" };
static const struct db_statement all_statement = { "stream_replay_all",
    "SELECT id, bore.ms(at), kind, user_id, instance_id, payload::text FROM bore.events "
    "WHERE $1::text IS NOT NULL AND id > $2 ORDER BY id LIMIT $3" };

void admission_job_free(struct admission_job *job) {
    if (!job) return;
    for (size_t i = 0; i < job->event_count; i++)
        message_release(&event_descriptor, &job->events[i]);
    free(job->events);
    free(job->details);
    free(job);
}

static void take_rows(struct admission_job *job, const struct db_result *rows) {
    size_t count = db_result_rows(rows);
    job->events = xcalloc(count ? count : 1, sizeof *job->events);
    for (size_t row = 0; row < count; row++) {
        int64_t id = db_result_int(rows, row, 0, 0);
        if (id > job->head) break; /* newer than the head we answer for: the reader brings it */
        struct event *event = &job->events[job->event_count++];
        event->id = id;
        event->at = db_result_int(rows, row, 1, 0);
        event->kind = xstrdup(db_result_text(rows, row, 2));
        event->user_id = xstrdup_or_null(db_result_text(rows, row, 3));
        event->instance_id = xstrdup_or_null(db_result_text(rows, row, 4));
        event->payload = xstrdup(db_result_text(rows, row, 5));
    }
}

/* Whether the client's cursor lies in the log as it is: same epoch, not beyond the head, its successor not yet trimmed.
 */
static bool is_served(const struct admission_job *job, const char *epoch, int64_t oldest) {
    return strcmp(job->epoch, epoch) == 0 && job->cursor <= job->head &&
           (job->cursor == job->head || job->cursor + 1 >= oldest);
}

static int replay(struct admission *self, struct admission_job *job) {
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, job->claims.user_id);
    db_params_add_int(&params, job->cursor);
    db_params_add_int(&params, ADMISSION_REPLAY_MAX + 1);
    const struct db_call calls[] = { { &head_statement, NULL },
        { job->everything ? &all_statement : &own_statement, &params }, { &head_statement, NULL } };
    struct db_result *results[ARRAY_SIZE(calls)] = { NULL };
    db_set_deadline(self->db, job->deadline_ms);
    int error = db_run_many(self->db, calls, ARRAY_SIZE(calls), results);
    database_meter_read(&self->meter, self->db);
    if (error) {
        log_warning("a stream cannot resume: the log cannot be read: %s; the client will try again",
            db_error_message(self->db));
        return error == -ETIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE;
    }
    job->head = db_result_int(results[0], 0, 1, 0);
    /* the lowest id is taken after the rows: what was trimmed meanwhile must not be missed in silence */
    if (!is_served(job, db_result_text(results[0], 0, 0), db_result_int(results[2], 0, 2, 0)) ||
        db_result_rows(results[1]) > ADMISSION_REPLAY_MAX)
        job->reset = true;
    else
        take_rows(job, results[1]);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        db_result_free(results[i]);
    return 0;
}

/* Admin rights as they are now, not as they were when the token was made. */
static int check_admin(struct admission *self, const struct admission_job *job) {
    struct token_check request = { .user_id = (char *)job->claims.user_id,
        .token_session = (char *)job->claims.session_id };
    struct token_check_reply reply;
    struct bus_call call = { .deadline_ms = job->deadline_ms, .request_id = job->request_id };
    int error = bus_call(self->options.bus, MSG_TOKEN_CHECK, &request, &call, &reply, NULL);
    if (error) return error;
    bool valid = reply.valid, is_admin = reply.is_admin;
    message_release(&token_check_reply_descriptor, &reply);
    if (!valid) return ERR_UNAUTHORIZED;
    return is_admin ? 0 : ERR_FORBIDDEN;
}

/* Somebody else's instance is, for all but admins, as if it did not exist. */
static int check_owner(struct admission *self, struct admission_job *job) {
    struct instance_owner request = { .instance_id = job->instance_id };
    struct instance_owner_reply reply;
    struct bus_call call = { .deadline_ms = job->deadline_ms, .request_id = job->request_id };
    int error = bus_call(self->options.bus, MSG_INSTANCE_OWNER, &request, &call, &reply, NULL);
    if (error) return error;
    job->is_own = strcmp(reply.user_id, job->claims.user_id) == 0;
    message_release(&instance_owner_reply_descriptor, &reply);
    if (job->is_own) return 0;
    error = check_admin(self, job);
    return error == ERR_FORBIDDEN ? ERR_INSTANCE_NOT_FOUND : error;
}

static void serve(struct admission *self, struct admission_job *job) {
    log_set_request_id(job->request_id);
    if (clock_monotonic_ms() >= job->deadline_ms) {
        job->error = ERR_TIMEOUT;
        return;
    }
    if (job->kind != ADMISSION_OPEN) {
        job->error = job->kind == ADMISSION_RECHECK ? check_admin(self, job) : check_owner(self, job);
        return;
    }
    job->error = revocations_check(self->options.revocations, &job->claims, job->deadline_ms);
    if (!job->error && job->everything) job->error = check_admin(self, job);
    if (!job->error && job->replay) job->error = replay(self, job);
}

static struct admission_job *take(struct admission *self) {
    pthread_mutex_lock(&self->mutex);
    while (!self->first && !self->stopping)
        pthread_cond_wait(&self->arrived, &self->mutex);
    struct waiting *waiting = self->stopping ? NULL : self->first;
    if (waiting) {
        self->first = waiting->next;
        if (!self->first) self->last = &self->first;
        self->count--;
    }
    pthread_mutex_unlock(&self->mutex);
    struct admission_job *job = waiting ? waiting->job : NULL;
    free(waiting);
    return job;
}

static void *run(void *argument) {
    struct admission *self = argument;
    pthread_setname_np(pthread_self(), "admission");
    struct admission_job *job;
    while ((job = take(self)) != NULL) {
        serve(self, job);
        log_set_request_id(NULL);
        self->options.on_done(self->options.user_data, job);
    }
    return NULL;
}

struct admission *admission_new(const struct admission_options *options) {
    struct admission *self = xcalloc(1, sizeof *self);
    self->options = *options;
    self->options.database = NULL;
    self->db = db_new(options->database);
    database_meter_init(&self->meter);
    self->last = &self->first;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->arrived, NULL);
    pthread_create(&self->thread, NULL, run, self);
    return self;
}

bool admission_submit(struct admission *self, struct admission_job *job) {
    struct waiting *waiting = xcalloc(1, sizeof *waiting);
    waiting->job = job;
    pthread_mutex_lock(&self->mutex);
    bool accepted = self->count < ADMISSION_QUEUE_MAX && !self->stopping;
    if (accepted) {
        *self->last = waiting;
        self->last = &waiting->next;
        self->count++;
        pthread_cond_signal(&self->arrived);
    }
    pthread_mutex_unlock(&self->mutex);
    if (!accepted) free(waiting);
    return accepted;
}

void admission_free(struct admission *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    pthread_cond_signal(&self->arrived);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    while (self->first) {
        struct waiting *waiting = self->first;
        self->first = waiting->next;
        admission_job_free(waiting->job);
        free(waiting);
    }
    db_free(self->db);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->arrived);
    free(self);
}
