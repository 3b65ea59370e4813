/*
 * event_reader.c: follows the event log: every row once, in order of id (ARCHITECTURE §3).
 *
 * Two sources: PUB messages, which arrive at once and may be lost, in a bounded inbox filled by the bus client's
 * thread; and the log itself, read by this module's thread when the inbox shows a hole, when there was no news for a
 * second, and every few seconds in any case, because only the log tells that a restore began a new epoch. Rows of PUB
 * are committed facts, so those that continue the cursor are used even while the database cannot be reached. A log that
 * no longer has the cursor's successor, or another epoch: on_reset, and the reader goes on from the head.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/lib/database_meter.h"
#include "services/lib/event_log.h"

enum {
    INBOX_MAX = 4096,
    QUIET_MS = 1000,   /* no news for so long: look into the log */
    CONFIRM_MS = 5000, /* look into the log at least so often */
    RETRY_MS = 250,    /* after the log could not be read */
    CONNECT_MS = 300,  /* what comes by PUB must not wait longer for a dead database */
    QUERY_MS = 1000,   /* deadline of one look */
    EPOCH_SIZE = 40,
};

#define ROWS_MAX      500
#define ROWS_MAX_TEXT "500"

static const struct db_statement head_statement = { .name = "event head",
    .sql = "SELECT epoch, head, oldest FROM bore.event_head()" };
static const struct db_statement rows_statement = { .name = "event rows",
    .sql = "SELECT id, bore.ms(at), kind, user_id, instance_id, payload::text FROM bore.events "
           "WHERE id > $1::bigint ORDER BY id LIMIT " ROWS_MAX_TEXT };

struct event_reader {
    struct bus_client *bus;
    struct db *db;
    struct database_meter meter;
    event_reader_fn *on_event;
    void (*on_reset)(void *user_data, int64_t head);
    void (*on_caught_up)(void *user_data); /* NULL once it was called */
    void *user_data;
    int64_t history;
    pthread_t thread;

    pthread_mutex_t mutex; /* of what follows, up to epoch */
    pthread_cond_t news;
    struct event *inbox; /* of INBOX_MAX */
    size_t inbox_count;
    bool overflowed; /* a message found the inbox full: surely a hole */
    bool stopping;
    char epoch[EPOCH_SIZE];

    atomic_int_fast64_t cursor;
    atomic_int_fast64_t complete_ms; /* 0 = never */

    /* of the thread alone */
    bool placed; /* the cursor is known */
    int64_t next_query_ms;
    int64_t latest_query_ms; /* never later than this, news or not */
};

/* --- the inbox --------------------------------------------------------------------------------------------------- */

static void on_message(void *user_data, const char *topic __attribute__((unused)), const void *frame, size_t size) {
    struct event_reader *self = user_data;
    struct event event;
    if (message_decode_frame(&event_descriptor, frame, size, &event) < 0) {
        log_debug("a published event of %zu bytes cannot be read", size);
        return;
    }
    pthread_mutex_lock(&self->mutex);
    if (self->inbox_count < INBOX_MAX) {
        self->inbox[self->inbox_count++] = event;
        event = (struct event){ 0 };
    } else {
        self->overflowed = true;
    }
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->mutex);
    message_release(&event_descriptor, &event);
}

/* Waits until there is something to do; takes the inbox over (ret_events, of INBOX_MAX). False when the thread shall
 * end. */
static bool wait_for_news(struct event_reader *self, struct event *ret_events, size_t *ret_count) {
    pthread_mutex_lock(&self->mutex);
    while (!self->stopping && !self->inbox_count && !self->overflowed && clock_monotonic_ms() < self->next_query_ms) {
        struct timespec until = { .tv_sec = self->next_query_ms / 1000,
            .tv_nsec = (self->next_query_ms % 1000) * 1000000 };
        pthread_cond_timedwait(&self->news, &self->mutex, &until);
    }
    memcpy(ret_events, self->inbox, self->inbox_count * sizeof *ret_events);
    *ret_count = self->inbox_count;
    self->inbox_count = 0;
    if (self->overflowed) self->next_query_ms = 0;
    self->overflowed = false;
    bool stopping = self->stopping;
    pthread_mutex_unlock(&self->mutex);
    return !stopping;
}

/* --- handing out ------------------------------------------------------------------------------------------------- */

static int64_t cursor_of(const struct event_reader *self) {
    return (int64_t)atomic_load_explicit(&self->cursor, memory_order_relaxed);
}

static void note_complete(struct event_reader *self, int64_t at_ms) {
    atomic_store_explicit(&self->complete_ms, at_ms, memory_order_release);
}

/* The cursor moves after the event was handed out: who asks for it never hears of an event still to come. */
static void hand_out(struct event_reader *self, const struct event *event) {
    self->on_event(self->user_data, event);
    atomic_store_explicit(&self->cursor, event->id, memory_order_release);
}

static void start_over(struct event_reader *self, int64_t head) {
    atomic_store_explicit(&self->cursor, head, memory_order_release);
    if (self->on_reset) self->on_reset(self->user_data, head);
}

/* What the inbox had, in order of arrival. */
static void use_inbox(struct event_reader *self, struct event *events, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int64_t now = clock_monotonic_ms();
        int64_t cursor = cursor_of(self);
        if (self->placed && events[i].id == cursor + 1) {
            hand_out(self, &events[i]);
            note_complete(self, now);
            self->next_query_ms = now + QUIET_MS;
        } else if (!self->placed || events[i].id > cursor) {
            self->next_query_ms = 0; /* a hole */
        }
        message_release(&event_descriptor, &events[i]);
    }
    if (self->next_query_ms > self->latest_query_ms) self->next_query_ms = self->latest_query_ms;
}

/* --- the log ----------------------------------------------------------------------------------------------------- */

static char *cell(const struct db_result *result, size_t row, size_t column) {
    return (char *)(uintptr_t)db_result_text(result, row, column);
}

/* Takes note of the epoch; true when it is another one than before. */
static bool is_foreign_epoch(struct event_reader *self, const char *epoch) {
    pthread_mutex_lock(&self->mutex);
    bool foreign = *self->epoch && strcmp(self->epoch, epoch) != 0;
    snprintf(self->epoch, sizeof self->epoch, "%s", epoch);
    pthread_mutex_unlock(&self->mutex);
    return foreign;
}

/* Compares the cursor with where the log stands. False when the rows that were read with it are of no use. */
static bool place_cursor(struct event_reader *self, const struct db_result *state) {
    const char *epoch = db_result_text(state, 0, 0);
    int64_t head = db_result_int(state, 0, 1, 0), oldest = db_result_int(state, 0, 2, 0);
    bool foreign = is_foreign_epoch(self, epoch ? epoch : "");
    int64_t cursor = cursor_of(self);
    if (cursor < 0) {
        int64_t start = head - self->history > oldest - 1 ? head - self->history : oldest - 1;
        self->placed = true;
        start_over(self, start < 0 ? 0 : start > head ? head : start);
        return false;
    }
    self->placed = true;
    if (!foreign && cursor <= head && (cursor == head || oldest <= cursor + 1)) return true;
    log_warning("the event log is not what it was (cursor %lld, oldest %lld, head %lld%s): starting over",
        (long long)cursor, (long long)oldest, (long long)head, foreign ? ", another epoch" : "");
    start_over(self, head);
    return false;
}

static void use_rows(struct event_reader *self, const struct db_result *rows) {
    for (size_t row = 0; row < db_result_rows(rows); row++) {
        struct event event = { .id = db_result_int(rows, row, 0, 0),
            .at = db_result_int(rows, row, 1, 0),
            .kind = cell(rows, row, 2),
            .user_id = cell(rows, row, 3),
            .instance_id = cell(rows, row, 4),
            .payload = cell(rows, row, 5) };
        if (event.id != cursor_of(self) + 1) return; /* trimmed meanwhile: the next look decides */
        hand_out(self, &event);
    }
}

static int query(struct event_reader *self, struct db_result **ret_results) {
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, cursor_of(self));
    const struct db_call calls[] = { { .statement = &head_statement },
        { .statement = &rows_statement, .params = &params } };
    int error = db_connect(self->db, clock_monotonic_ms() + CONNECT_MS);
    if (error) return error;
    db_set_deadline(self->db, clock_monotonic_ms() + QUERY_MS);
    error = db_run_many(self->db, calls, ARRAY_SIZE(calls), ret_results);
    database_meter_read(&self->meter, self->db);
    return error;
}

/* Returns whether there is more to read. */
static bool use_results(struct event_reader *self, const struct db_result *state, const struct db_result *rows) {
    if (db_result_rows(state) != 1) return false;
    bool was_placed = self->placed;
    if (!place_cursor(self, state)) return !was_placed && self->history > 0;
    use_rows(self, rows);
    return db_result_rows(rows) == ROWS_MAX;
}

/* One look into the log; says when the next one is due. */
static void read_log(struct event_reader *self) {
    struct db_result *results[2] = { NULL, NULL };
    int64_t start = clock_monotonic_ms();
    if (query(self, results) < 0) {
        log_debug("the event log cannot be read: %s", db_error_message(self->db));
        self->next_query_ms = self->latest_query_ms = clock_monotonic_ms() + RETRY_MS;
        return;
    }
    bool more = use_results(self, results[0], results[1]);
    db_result_free(results[0]);
    db_result_free(results[1]);
    if (!more) {
        note_complete(self, start);
        if (self->on_caught_up) self->on_caught_up(self->user_data);
        self->on_caught_up = NULL;
    }
    self->next_query_ms = more ? 0 : clock_monotonic_ms() + QUIET_MS;
    self->latest_query_ms = clock_monotonic_ms() + CONFIRM_MS;
}

static void *run_thread(void *argument) {
    struct event_reader *self = argument;
    _cleanup_free_ struct event *events = xcalloc(INBOX_MAX, sizeof *events);
    size_t count;
    while (wait_for_news(self, events, &count)) {
        if (!self->placed) read_log(self);
        use_inbox(self, events, count);
        if (clock_monotonic_ms() >= self->next_query_ms) read_log(self);
    }
    for (size_t i = 0; i < count; i++)
        message_release(&event_descriptor, &events[i]);
    return NULL;
}

/* --- for the callers --------------------------------------------------------------------------------------------- */

struct event_reader *event_reader_new(const struct event_reader_options *options) {
    struct event_reader *self = xcalloc(1, sizeof *self);
    self->bus = options->bus;
    self->db = db_new(options->database);
    database_meter_init(&self->meter);
    self->on_event = options->on_event;
    self->on_reset = options->on_reset;
    self->on_caught_up = options->on_caught_up;
    self->history = options->history;
    self->user_data = options->user_data;
    self->inbox = xcalloc(INBOX_MAX, sizeof *self->inbox);
    snprintf(self->epoch, sizeof self->epoch, "%s", options->epoch ? options->epoch : "");
    atomic_init(&self->cursor, options->start);
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->news, &attributes);
    pthread_condattr_destroy(&attributes);
    bool subscribed = !self->bus || bus_subscribe(self->bus, TOPIC_EVENTS, on_message, self) == 0;
    if (!subscribed) log_error("events cannot be subscribed to; the log is read once a second");
    int error = pthread_create(&self->thread, NULL, run_thread, self);
    if (error) {
        log_error("the event reader's thread cannot be started: %s", strerror(error));
        abort();
    }
    pthread_setname_np(self->thread, "events");
    return self;
}

void event_reader_free(struct event_reader *self) {
    if (!self) return;
    if (self->bus) bus_unsubscribe(self->bus, on_message, self);
    pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    for (size_t i = 0; i < self->inbox_count; i++)
        message_release(&event_descriptor, &self->inbox[i]);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->news);
    db_free(self->db);
    free(self->inbox);
    free(self);
}

int64_t event_reader_cursor(const struct event_reader *self) {
    int64_t cursor = (int64_t)atomic_load_explicit(&self->cursor, memory_order_acquire);
    return cursor < 0 ? 0 : cursor;
}

void event_reader_epoch(struct event_reader *self, char *ret_epoch, size_t size) {
    pthread_mutex_lock(&self->mutex);
    snprintf(ret_epoch, size, "%s", self->epoch);
    pthread_mutex_unlock(&self->mutex);
}

int64_t event_reader_age_ms(const struct event_reader *self) {
    int64_t complete = (int64_t)atomic_load_explicit(&self->complete_ms, memory_order_acquire);
    return complete ? clock_monotonic_ms() - complete : INT64_MAX;
}
