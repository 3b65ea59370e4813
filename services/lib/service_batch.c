/*
 * service_batch.c: many requests of one lane answered by one SQL statement and one commit (struct service_batch).
 *
 * The statement gets parallel arrays in arrival order and answers rows that name their request by `ord`. It runs with
 * the latest deadline among the requests, so that one impatient caller does not spoil it for the others; a caller
 * that gave up meanwhile gets a late answer, which the bus drops. When the statement fails for another reason than the
 * connection it has changed nothing, and the requests are run one by one. What the statement leaves without a row is
 * run by the batch's `rest`, in a transaction of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

/* The requests of one run; the arrays are parallel. */
struct batch {
    size_t count;
    struct job **jobs;
    void **requests;
    const struct message_descriptor **descriptors;
    int *methods;
    bool *answered;
};

static void batch_init(struct batch *self, size_t capacity) {
    self->count = 0;
    self->jobs = xcalloc(capacity, sizeof(struct job *));
    self->requests = xcalloc(capacity, sizeof(void *));
    self->descriptors = xcalloc(capacity, sizeof(struct message_descriptor *));
    self->methods = xcalloc(capacity, sizeof(int));
    self->answered = xcalloc(capacity, sizeof(bool));
}

static void batch_free_requests(struct batch *self) {
    for (size_t i = 0; i < self->count; i++) {
        message_release(self->descriptors[i], self->requests[i]);
        free(self->requests[i]);
    }
}

static void batch_release(struct batch *self) {
    free(self->jobs);
    free(self->requests);
    free(self->descriptors);
    free(self->methods);
    free(self->answered);
}

static void batch_add(struct batch *self, struct job *job, void *request) {
    self->jobs[self->count] = job;
    self->requests[self->count] = request;
    self->descriptors[self->count] = job->route->method->request;
    self->methods[self->count] = job->route->method->request_id;
    self->count++;
}

/* --- reading rows ------------------------------------------------------------------------------------------------ */

/* The mapping of a reply's fields, made once for each kind of reply in the result. */
enum { REPLY_KINDS_MAX = 16 };
struct mappings {
    size_t count;
    struct row_mapping items[REPLY_KINDS_MAX];
};

static const struct row_mapping *find_mapping(
    struct mappings *self, const struct db_result *result, const struct message_descriptor *descriptor) {
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].descriptor == descriptor) return &self->items[i];
    size_t index = self->count < REPLY_KINDS_MAX ? self->count++ : REPLY_KINDS_MAX - 1;
    row_mapping_init(&self->items[index], result, descriptor, NULL);
    return &self->items[index];
}

static const char *column_text(const struct db_result *result, size_t row, const char *name) {
    int column = db_result_column(result, name);
    return column < 0 ? NULL : db_result_text(result, row, (size_t)column);
}

static void answer_from_row(
    struct worker *self, struct job *job, const struct db_result *result, size_t row, struct mappings *mappings) {
    const struct message_descriptor *descriptor = job->route->method->reply;
    const char *error = column_text(result, row, "error");
    if (error) {
        int code = error_from_name(error);
        if (code == ERR_INTERNAL)
            log_error("%s: its statement answers error %s", job->route->method->request->name, error);
        const char *sentence = column_text(result, row, "error_message");
        const char *field = column_text(result, row, "error_field");
        if (field) service_fail_field(&self->context, field, sentence ? sentence : "is not valid");
        service_fail(&self->context, code, sentence, 0);
        worker_answer(self, job, code, NULL);
        return;
    }
    _cleanup_free_ void *reply = xcalloc(1, descriptor->size);
    int code = 0;
    if (row_mapping_apply(find_mapping(mappings, result, descriptor), row, reply) < 0) {
        log_error("%s: a column of its result does not fit the reply", job->route->method->request->name);
        code = ERR_INTERNAL;
    }
    worker_answer(self, job, code, reply);
    message_release(descriptor, reply);
}

static void answer_from_result(struct worker *self, struct batch *batch, const struct db_result *result) {
    int column = db_result_column(result, "ord");
    _cleanup_free_ struct mappings *mappings = xcalloc(1, sizeof *mappings);
    for (size_t row = 0; column >= 0 && row < db_result_rows(result); row++) {
        int64_t ord = db_result_int(result, row, (size_t)column, 0);
        if (ord < 1 || (size_t)ord > batch->count || batch->answered[ord - 1]) continue;
        log_set_request_id(batch->jobs[ord - 1]->request_id);
        answer_from_row(self, batch->jobs[ord - 1], result, row, mappings);
        batch->answered[ord - 1] = true;
    }
    log_set_request_id(NULL);
}

static void answer_without_row(struct worker *self, const struct batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->answered[i]) continue;
        log_set_request_id(batch->jobs[i]->request_id);
        log_error("%s: its statement answered no row for it", batch->jobs[i]->route->method->request->name);
        worker_answer(self, batch->jobs[i], ERR_INTERNAL, NULL);
    }
    log_set_request_id(NULL);
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static void answer_all(struct worker *self, const struct batch *batch, int code, int64_t retry_after) {
    for (size_t i = 0; i < batch->count; i++) {
        service_fail(&self->context, code, NULL, retry_after);
        worker_answer(self, batch->jobs[i], code, NULL);
    }
}

/* A failure that has nothing to do with what was asked, so that asking again in parts would not help. */
static bool is_of_connection(int error) {
    return error == -ENOTCONN || error == -ECONNRESET || error == -ETIMEDOUT || error == -ENOSPC;
}

static int64_t latest_deadline(const struct batch *batch) {
    int64_t latest = 0;
    for (size_t i = 0; i < batch->count; i++)
        if (batch->jobs[i]->deadline_ms > latest) latest = batch->jobs[i]->deadline_ms;
    return latest;
}

/* 0 when all that got a row are answered; else the error of the statement, with nothing answered. */
static int run_statement(struct worker *self, const struct query *query, struct batch *batch) {
    _cleanup_db_result_ struct db_result *result = NULL;
    db_set_deadline(self->context.db, latest_deadline(batch));
    int error = query_run_batch(query, self->context.db, batch->descriptors, batch->methods,
        (const void *const *)batch->requests, batch->count, &result);
    if (error) return error;
    publish_events(&self->context, result);
    answer_from_result(self, batch, result);
    return 0;
}

static void run_query(
    struct worker *self, const struct batch_plan *plan, const struct query *query, struct batch *batch);

static void run_one(struct worker *self, const struct batch_plan *plan, const struct query *query,
    const struct batch *batch, size_t index) {
    bool answered = false;
    struct batch single = { .count = 1,
        .jobs = batch->jobs + index,
        .requests = batch->requests + index,
        .descriptors = batch->descriptors + index,
        .methods = batch->methods + index,
        .answered = &answered };
    log_set_request_id(batch->jobs[index]->request_id);
    run_query(self, plan, query, &single);
    log_set_request_id(NULL);
}

static void run_rest(struct worker *self, const struct batch_plan *plan, const struct batch *batch) {
    struct batch rest;
    batch_init(&rest, batch->count);
    for (size_t i = 0; i < batch->count; i++)
        if (!batch->answered[i]) batch_add(&rest, batch->jobs[i], batch->requests[i]);
    if (rest.count) run_query(self, plan, plan->rest, &rest);
    batch_release(&rest);
}

static void fail_batch(struct worker *self, const struct batch_plan *plan, const struct query *query,
    const struct batch *batch, int error) {
    if (batch->count == 1) {
        worker_answer(self, batch->jobs[0], service_fail_database(&self->context, error), NULL);
    } else if (is_of_connection(error)) {
        int code = service_fail_database(&self->context, error);
        int64_t retry_after = self->context.error.has_retry_after ? self->context.error.retry_after : 0;
        answer_all(self, batch, code, retry_after);
    } else {
        log_warning(
            "%s: running %zu requests one by one: %s", plan->name, batch->count, db_error_message(self->context.db));
        for (size_t i = 0; i < batch->count; i++)
            run_one(self, plan, query, batch, i);
    }
}

/* Answers all of them. */
static void run_query(
    struct worker *self, const struct batch_plan *plan, const struct query *query, struct batch *batch) {
    int error = run_statement(self, query, batch);
    if (error) {
        fail_batch(self, plan, query, batch, error);
    } else if (plan->rest && query != plan->rest) {
        run_rest(self, plan, batch);
    } else {
        answer_without_row(self, batch);
    }
}

static void run_batch(struct worker *self, const struct batch_plan *plan, struct batch *batch) {
    self->context.deadline_ms = latest_deadline(batch);
    int code = worker_ensure_database(self, self->context.deadline_ms);
    if (code) {
        answer_all(self, batch, code, 1);
        return;
    }
    run_query(self, plan, plan->query, batch);
}

static void count_done(const struct batch_plan *plan, const struct batch *batch) {
    int64_t done = 0;
    for (size_t i = 0; i < batch->count; i++)
        if (!batch->jobs[i]->code) done++;
    if (plan->counter && done) counter_add(plan->counter, done);
}

void worker_run_batch(
    struct worker *self, const struct batch_plan *plan, struct job_list *jobs, struct job_list *answered) {
    struct batch batch;
    batch_init(&batch, jobs->count);
    for (struct job *job = job_list_take(jobs); job; job = job_list_take(jobs)) {
        void *request;
        log_set_request_id(job->request_id);
        int code = job_decode(job, &request);
        if (code) {
            job_refuse(job, code, 0);
        } else {
            batch_add(&batch, job, request);
        }
        job_list_append(answered, job);
    }
    log_set_request_id(NULL);
    if (batch.count) run_batch(self, plan, &batch);
    count_done(plan, &batch);
    worker_count_database(self);
    batch_free_requests(&batch);
    batch_release(&batch);
}
