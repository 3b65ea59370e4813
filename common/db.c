/*
 * db.c: running statements.
 *
 * A statement is prepared at its first use on a connection, under its name, and run from then on with one round trip.
 * Several run as a pipeline, each followed by its own Sync, which makes each its own transaction. Every result is read
 * up to ReadyForQuery before success is reported, because COMMIT happens after CommandComplete.
 *
 * What goes wrong: serialization failures, deadlocks, and what was lost before it was sent, are run again; a prepared
 * statement that the server no longer knows, or whose result type a migration changed, is prepared again, once. Both
 * are safe, because the transaction was rolled back. Everything else is reported, and a connection of which nobody
 * knows in which state it is gets dropped.
 */
#include "common/db.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/db_internal.h"
#include "common/log.h"
#include "common/memory.h"

enum {
    CONNECT_LIMIT_MS = 5000, /* these three hold when the caller set no deadline */
    STATEMENT_LIMIT_MS = 600000,
    STATEMENT_GRACE_MS = 1000, /* what the server gets beyond its own statement_timeout */
    IDLE_IN_TRANSACTION_MS = 10000,
    RERUNS_MAX = 3,
    PIPELINE_MAX = 16,
};

struct db *db_new(const struct db_options *options) {
    struct db *self = xcalloc(1, sizeof(*self));
    self->options = (struct db_options){
        .host = xstrdup_or_null(options->host),
        .port = options->port,
        .name = xstrdup_or_null(options->name),
        .user = xstrdup_or_null(options->user),
        .password = xstrdup_or_null(options->password),
        .application_name = xstrdup_or_null(options->application_name),
        .statement_timeout_ms = options->statement_timeout_ms,
    };
    /* Without jit: statements here are small and many, and compiling one takes longer than running it. */
    self->session_options = xasprintf("-c statement_timeout=%d -c idle_in_transaction_session_timeout=%d"
                                      " -c search_path=pg_catalog -c client_min_messages=warning -c jit=off"
                                      " -c TimeZone=UTC -c DateStyle=ISO",
        options->statement_timeout_ms, IDLE_IN_TRANSACTION_MS);
    return self;
}

void db_free(struct db *self) {
    if (!self) return;
    db_connection_drop(self);
    if (self->options.password) memory_wipe((char *)self->options.password, strlen(self->options.password));
    free((char *)self->options.host);
    free((char *)self->options.name);
    free((char *)self->options.user);
    free((char *)self->options.password);
    free((char *)self->options.application_name);
    free(self->session_options);
    free(self);
}

int db_connect(struct db *self, int64_t deadline_ms) {
    db_failure_clear(self);
    return db_connection_ensure(self, deadline_ms);
}

bool db_is_connected(const struct db *self) {
    return self->connection && PQstatus(self->connection) == CONNECTION_OK;
}

void db_set_deadline(struct db *self, int64_t deadline_ms) {
    self->deadline_ms = deadline_ms;
}

void db_statistics(const struct db *self, struct db_statistics *ret_statistics) {
    *ret_statistics = self->statistics;
}

static int64_t statement_deadline(const struct db *self) {
    int timeout = self->options.statement_timeout_ms;
    return db_deadline(self, timeout > 0 ? timeout + STATEMENT_GRACE_MS : STATEMENT_LIMIT_MS);
}

/* --- one statement's results ------------------------------------------------------------------------------------- */

static bool is_error(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY;
}

static bool is_copy(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Reads to the end of a statement's results; gives the first error, or else the last result. 0 means that all was read,
 * not that it went well; NULL that there was nothing. */
static int collect(struct db *self, int64_t deadline_ms, PGresult **ret_result) {
    PGresult *kept = NULL;
    for (;;) {
        PGresult *next = NULL;
        int error = db_connection_next(self, deadline_ms, &next);
        if (error == 0 && next && is_copy(next)) {
            PQclear(next);
            db_connection_drop(self);
            error = db_failure_set(self, -EIO, "COPY is not possible here");
        }
        if (error < 0) {
            PQclear(kept);
            return error;
        }
        if (!next) break;
        if (kept && is_error(kept)) {
            PQclear(next);
        } else {
            PQclear(kept);
            kept = next;
        }
    }
    *ret_result = kept;
    return 0;
}

/* Nothing was sent, or nothing that the server could have carried out. */
static int sending_failed(struct db *self) {
    bool lost = PQstatus(self->connection) != CONNECTION_OK;
    return db_connection_lost(self, lost ? -ENOTCONN : -EIO);
}

/* What an error result means. A connection that ended, or is left inside a failed transaction, goes. */
static int failed_by(struct db *self, const PGresult *result) {
    if (!result) return db_connection_lost(self, -EIO);
    int error = db_failure_from_result(self, result);
    PGTransactionStatusType status = PQtransactionStatus(self->connection);
    bool gone = error == -ECONNRESET || error == -ENOTCONN || PQstatus(self->connection) != CONNECTION_OK;
    if (gone || status == PQTRANS_INERROR || status == PQTRANS_ACTIVE) db_connection_drop(self);
    return error;
}

/* Sends nothing itself: reads the answer of what was just sent, and wants it good. ret_result may be NULL. */
static int receive(struct db *self, int64_t deadline_ms, PGresult **ret_result) {
    PGresult *result = NULL;
    int error = collect(self, deadline_ms, &result);
    if (error < 0) return error;
    if (!result || is_error(result)) error = failed_by(self, result);
    if (error == 0 && ret_result) {
        *ret_result = result;
    } else {
        PQclear(result);
    }
    return error;
}

/* --- attempts ---------------------------------------------------------------------------------------------------- */

static int prepare(struct db *self, const struct db_statement *statement, int64_t deadline_ms) {
    if (db_is_prepared(self, statement->name)) return 0;
    if (!PQsendPrepare(self->connection, statement->name, statement->sql, 0, NULL)) return sending_failed(self);
    int error = receive(self, deadline_ms, NULL);
    if (error == 0) db_remember_prepared(self, statement->name);
    /* It was only prepared: whatever happened, the statement itself was not run. */
    return error == -ECONNRESET ? -ENOTCONN : error;
}

static bool send_call(struct db *self, const struct db_call *call) {
    int count = call->params ? call->params->count : 0;
    const char *const *values = call->params ? call->params->values : NULL;
    return PQsendQueryPrepared(self->connection, call->statement->name, count, values, NULL, NULL, 0) == 1;
}

static int run_one(struct db *self, const struct db_call *call, int64_t deadline_ms, PGresult **ret_result) {
    if (!send_call(self, call)) return sending_failed(self);
    return receive(self, deadline_ms, ret_result);
}

static int expect_sync(struct db *self, int64_t deadline_ms) {
    PGresult *sync = NULL;
    int error = db_connection_next(self, deadline_ms, &sync);
    bool good = sync && PQresultStatus(sync) == PGRES_PIPELINE_SYNC;
    PQclear(sync);
    if (error < 0 || good) return error;
    return db_connection_lost(self, -EIO);
}

static int run_pipeline(
    struct db *self, const struct db_call *calls, size_t count, int64_t deadline_ms, PGresult **ret_results) {
    if (!PQenterPipelineMode(self->connection)) return sending_failed(self);
    for (size_t i = 0; i < count; i++) {
        if (!send_call(self, &calls[i]) || !PQpipelineSync(self->connection)) return sending_failed(self);
    }
    for (size_t i = 0; i < count; i++) {
        int error = collect(self, deadline_ms, &ret_results[i]);
        if (error == 0) error = expect_sync(self, deadline_ms);
        if (error < 0) return error;
    }
    if (!PQexitPipelineMode(self->connection)) return db_connection_lost(self, -EIO);
    for (size_t i = 0; i < count; i++) {
        if (!ret_results[i] || is_error(ret_results[i])) return failed_by(self, ret_results[i]);
    }
    return 0;
}

static int attempt(
    struct db *self, const struct db_call *calls, size_t count, int64_t connect_deadline_ms, PGresult **ret_results) {
    int error = db_connection_ensure(self, connect_deadline_ms);
    if (error < 0) return error;
    int64_t deadline_ms = statement_deadline(self);
    if (clock_monotonic_ms() >= deadline_ms)
        return db_failure_set(self, -ETIMEDOUT, "no time left to ask the database");
    for (size_t i = 0; i < count; i++) {
        error = prepare(self, calls[i].statement, deadline_ms);
        if (error < 0) return error;
    }
    if (count == 1) return run_one(self, calls, deadline_ms, ret_results);
    return run_pipeline(self, calls, count, deadline_ms, ret_results);
}

static void clear_results(PGresult **results, size_t count) {
    for (size_t i = 0; i < count; i++) {
        PQclear(results[i]);
        results[i] = NULL;
    }
}

static bool failed_with(const struct db *self, const char *sqlstate) {
    return strcmp(self->failure.sqlstate, sqlstate) == 0;
}

/* Whether what failed is prepared anew: the server does not know it (26000), or its result type changed (0A000). */
static bool prepare_again(struct db *self) {
    if (!self->connection || (!failed_with(self, "26000") && !failed_with(self, "0A000"))) return false;
    struct db_failure failure = self->failure;
    bool done = PQsendQuery(self->connection, "DEALLOCATE ALL") == 1;
    if (done) done = receive(self, statement_deadline(self), NULL) == 0;
    db_forget_prepared(self);
    self->failure = failure;
    return done;
}

static void count_call(struct db *self, size_t calls, int error, int64_t start_us) {
    self->statistics.calls += calls;
    if (error < 0 && error != -EPERM) self->statistics.errors++;
    self->statistics.microseconds += (uint64_t)(clock_monotonic_us() - start_us);
}

/* Whether what failed was not carried out, and may well go better now. */
static bool worth_another_attempt(const struct db *self, int error, int64_t connect_deadline_ms) {
    if (failed_with(self, "40001") || failed_with(self, "40P01")) return true;
    return error == -ENOTCONN && clock_monotonic_ms() < connect_deadline_ms;
}

/* Results are written on success alone. */
static int run_calls(struct db *self, const struct db_call *calls, size_t count, PGresult **ret_results) {
    int64_t start_us = clock_monotonic_us();
    int64_t connect_deadline_ms = db_deadline(self, CONNECT_LIMIT_MS);
    int reruns = db_in_transaction(self) ? RERUNS_MAX : 0;
    bool prepared_again = false;
    int error;
    for (;;) {
        db_failure_clear(self);
        error = attempt(self, calls, count, connect_deadline_ms, ret_results);
        if (error == 0) break;
        clear_results(ret_results, count);
        if (reruns < RERUNS_MAX && worth_another_attempt(self, error, connect_deadline_ms)) {
            reruns++;
            log_debug("%s is run again (%d): %s", calls[0].statement->name, reruns, self->failure.message);
            poll(NULL, 0, reruns); /* lets the one that won finish */
            continue;
        }
        if (prepared_again || !prepare_again(self)) break;
        prepared_again = true;
    }
    count_call(self, count, error, start_us);
    return error;
}

/* --- for the callers --------------------------------------------------------------------------------------------- */

int db_run(struct db *self, const struct db_statement *statement, const struct db_params *params,
    struct db_result **ret_result) {
    struct db_call call = { .statement = statement, .params = params };
    PGresult *result = NULL;
    int error = run_calls(self, &call, 1, &result);
    if (error < 0) return error;
    if (ret_result) {
        *ret_result = db_result_new(result);
    } else {
        PQclear(result);
    }
    return 0;
}

int db_run_many(struct db *self, const struct db_call *calls, size_t count, struct db_result **ret_results) {
    assert(count <= PIPELINE_MAX);
    PGresult *results[PIPELINE_MAX] = { NULL };
    if (count == 0) return 0;
    int error = run_calls(self, calls, count, results);
    if (error < 0) return error;
    for (size_t i = 0; i < count; i++)
        ret_results[i] = db_result_new(results[i]);
    return 0;
}

int db_run_script(struct db *self, const char *sql) {
    int64_t start_us = clock_monotonic_us();
    db_failure_clear(self);
    int error = db_connection_ensure(self, db_deadline(self, CONNECT_LIMIT_MS));
    if (error == 0) {
        error = PQsendQuery(self->connection, sql) ? receive(self, db_deadline(self, STATEMENT_LIMIT_MS), NULL)
                                                   : sending_failed(self);
    }
    count_call(self, 1, error, start_us);
    return error;
}
