/*
 * db_connection.c: making, watching and dropping the connection.
 *
 * Nothing here waits inside libpq: connecting, sending and receiving all poll the socket with the deadline, so that a
 * server that is frozen, unplugged or full of work costs no more than that. (Resolving a host's name is the one call
 * that cannot be bounded here; on one machine there is none.) A connection whose deadline passed is dropped: asking the
 * server to cancel would wait for the same frozen server. Attempts to connect are spaced 50 ms, doubling to 1 s.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/db_internal.h"
#include "common/log.h"
#include "common/memory.h"

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 1000,
    IDLE_READS_MAX = 16, /* messages that an idle connection may have waiting before it is taken for broken */
    NAME_MAX_BYTES = 63, /* NAMEDATALEN - 1: longer names could collide */
};

int64_t db_deadline(const struct db *self, int64_t limit_ms) {
    return self->deadline_ms ? self->deadline_ms : clock_monotonic_ms() + limit_ms;
}

/* 1 when the socket is ready, 0 at the deadline. socket may be -1: then it only waits. */
static int wait_until(int socket, short events, int64_t deadline_ms) {
    for (;;) {
        int64_t left = deadline_ms - clock_monotonic_ms();
        if (left < 0) left = 0;
        struct pollfd descriptor = { .fd = socket, .events = events };
        int ready = poll(&descriptor, 1, left > 60000 ? 60000 : (int)left);
        if (ready > 0) return 1;
        if (clock_monotonic_ms() >= deadline_ms) return 0;
    }
}

/* --- names of prepared statements, sorted ------------------------------------------------------------------------ */

/* Where name is, or belongs. */
static size_t prepared_index(const struct db *self, const char *name, bool *ret_found) {
    size_t low = 0, high = self->prepared_count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, self->prepared[middle]);
        if (order == 0) *ret_found = true;
        if (order == 0) return middle;
        if (order < 0) high = middle;
        if (order > 0) low = middle + 1;
    }
    return low;
}

bool db_is_prepared(const struct db *self, const char *name) {
    bool found;
    prepared_index(self, name, &found);
    return found;
}

void db_remember_prepared(struct db *self, const char *name) {
    assert(strlen(name) <= NAME_MAX_BYTES);
    bool found;
    size_t index = prepared_index(self, name, &found);
    if (found) return;
    self->prepared = xreallocarray(self->prepared, self->prepared_count + 1, sizeof(*self->prepared));
    memmove(
        self->prepared + index + 1, self->prepared + index, (self->prepared_count - index) * sizeof(*self->prepared));
    self->prepared[index] = xstrdup(name);
    self->prepared_count++;
}

void db_forget_prepared(struct db *self) {
    for (size_t i = 0; i < self->prepared_count; i++)
        free(self->prepared[i]);
    free(self->prepared);
    self->prepared = NULL;
    self->prepared_count = 0;
}

/* --- connecting -------------------------------------------------------------------------------------------------- */

static void on_notice(void *context, const PGresult *notice) {
    struct db *self = context;
    const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
    if (sqlstate && strncmp(sqlstate, "57P", 3) == 0) self->doomed = true;
    log_debug("database notice: %s", message ? message : "");
}

static PGconn *start_connection(const struct db *self) {
    char port[16];
    snprintf(port, sizeof(port), "%d", self->options.port);
    const char *const parameters[][2] = {
        { "host", self->options.host }, { "port", port }, { "dbname", self->options.name },
        { "user", self->options.user }, { "application_name", self->options.application_name },
        { "options", self->session_options }, { "client_encoding", "UTF8" }, { "gssencmode", "disable" },
        { "keepalives", "1" }, { "keepalives_idle", "10" }, { "keepalives_interval", "3" }, { "keepalives_count", "3" },
        { "tcp_user_timeout", "10000" },
        { "password", self->options.password }, /* last: without one, libpq looks into its own places */
    };
    const char *keywords[ARRAY_SIZE(parameters) + 1] = { NULL };
    const char *values[ARRAY_SIZE(parameters) + 1] = { NULL };
    for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
        keywords[i] = parameters[i][0];
        values[i] = parameters[i][1];
    }
    return PQconnectStartParams(keywords, values, 0);
}

static int connect_once(struct db *self, int64_t deadline_ms) {
    self->connection = start_connection(self);
    if (!self->connection) return db_failure_set(self, -ENOTCONN, "cannot connect to the database: out of memory");
    PQsetNoticeReceiver(self->connection, on_notice, self);
    bool failed = PQstatus(self->connection) == CONNECTION_BAD;
    PostgresPollingStatusType wanted = PGRES_POLLING_WRITING;
    while (!failed && wanted != PGRES_POLLING_OK) {
        short events = wanted == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_until(PQsocket(self->connection), events, deadline_ms)) {
            db_connection_drop(self);
            return db_failure_set(self, -ENOTCONN, "cannot connect to the database: no answer in time");
        }
        wanted = PQconnectPoll(self->connection);
        failed = wanted == PGRES_POLLING_FAILED;
    }
    if (failed || PQsetnonblocking(self->connection, 1) != 0) {
        db_failure_set(self, 0, "cannot connect to the database: %.400s", PQerrorMessage(self->connection));
        db_connection_drop(self);
        return -ENOTCONN;
    }
    return 0;
}

static int connect_with_backoff(struct db *self, int64_t deadline_ms) {
    int error = db_failure_set(self, -ENOTCONN, "cannot connect to the database: no time left to try");
    while (clock_monotonic_ms() < deadline_ms) {
        bool last = self->next_attempt_ms >= deadline_ms;
        wait_until(-1, 0, last ? deadline_ms : self->next_attempt_ms);
        if (last) return error;
        error = connect_once(self, deadline_ms);
        if (error == 0) {
            self->backoff_ms = BACKOFF_FIRST_MS;
            self->statistics.connects++;
            db_failure_clear(self);
            log_debug("connected to the database");
            return 0;
        }
        if (self->backoff_ms < BACKOFF_FIRST_MS) self->backoff_ms = BACKOFF_FIRST_MS;
        self->next_attempt_ms = clock_monotonic_ms() + self->backoff_ms;
        self->backoff_ms = self->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : self->backoff_ms * 2;
    }
    return error;
}

/* An idle connection has nothing to say, unless it ended: learning that before a statement is sent, not after, is the
 * difference between "not done" and "nobody knows". */
static bool is_alive(struct db *self) {
    for (int i = 0; i < IDLE_READS_MAX; i++) {
        struct pollfd descriptor = { .fd = PQsocket(self->connection), .events = POLLIN };
        int ready = poll(&descriptor, 1, 0);
        if (ready == 0) return true;
        if (ready > 0 && !PQconsumeInput(self->connection)) return false;
        (void)PQisBusy(self->connection); /* reads the notices */
        if (self->doomed || PQstatus(self->connection) != CONNECTION_OK) return false;
    }
    return false;
}

bool db_in_transaction(const struct db *self) {
    return self->connection && PQtransactionStatus(self->connection) == PQTRANS_INTRANS;
}

int db_connection_ensure(struct db *self, int64_t deadline_ms) {
    bool in_transaction = db_in_transaction(self);
    if (self->connection && is_alive(self)) return 0;
    if (in_transaction) return db_connection_lost(self, -ECONNRESET);
    db_connection_drop(self);
    return connect_with_backoff(self, deadline_ms);
}

void db_connection_drop(struct db *self) {
    PQfinish(self->connection);
    self->connection = NULL;
    self->doomed = false;
    db_forget_prepared(self);
}

int db_connection_lost(struct db *self, int code) {
    if (code == -ETIMEDOUT) {
        db_failure_set(self, code, "no answer from the database by the deadline; connection dropped");
    } else {
        db_failure_set(self, code, "connection to the database lost: %.400s", PQerrorMessage(self->connection));
    }
    db_connection_drop(self);
    return code;
}

/* --- sending and receiving --------------------------------------------------------------------------------------- */

/* Sends what waits and reads what came, once. 0, -ETIMEDOUT or -ECONNRESET. */
static int exchange(struct db *self, int64_t deadline_ms) {
    int unsent = PQflush(self->connection);
    if (unsent < 0) return -ECONNRESET;
    short events = (short)(POLLIN | (unsent ? POLLOUT : 0));
    if (!wait_until(PQsocket(self->connection), events, deadline_ms)) return -ETIMEDOUT;
    return PQconsumeInput(self->connection) ? 0 : -ECONNRESET;
}

int db_connection_next(struct db *self, int64_t deadline_ms, PGresult **ret_result) {
    while (PQflush(self->connection) > 0 || PQisBusy(self->connection)) {
        int error = exchange(self, deadline_ms);
        if (error < 0) return db_connection_lost(self, error);
    }
    *ret_result = PQgetResult(self->connection);
    return 0;
}
