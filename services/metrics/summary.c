/* summary.c: see summary.h. */
#include "services/metrics/summary.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "proto/topics.h"
#include "services/metrics/exposition.h"
#include "services/metrics/ledger.h"
#include "services/metrics/store.h"

enum {
    STORE_MS = 2000,
    FIRST_TEXT_MS = 1500, /* by then every living process has been heard */
    STORE_BUDGET_MS = 1800,
    UNSTORED_MS = 10000, /* without the database for longer, what is not stored is shown */
    TEXT_MAX = 4000000,
};

struct summary {
    struct bus_client *bus;
    pthread_mutex_t lock; /* over ledger and text */
    struct ledger *ledger;
    char *text;
    /* The timer's: */
    char writer[25];
    int64_t started_ms;
    int64_t next_ms;
    int64_t stored_ms;
    double stored_at; /* Unix time */
    bool is_active;
    bool is_failing;
    bool is_waiting;
    struct series_list events; /* as last stored */
};

static void on_counters(void *user_data, const char *topic, const void *frame, size_t size) {
    struct summary *self = user_data;
    struct counters told;
    (void)topic;
    if (message_decode_frame(&counters_descriptor, frame, size, &told) != 0) return;
    pthread_mutex_lock(&self->lock);
    ledger_hear(self->ledger, &told, clock_monotonic_ms());
    pthread_mutex_unlock(&self->lock);
    message_release(&counters_descriptor, &told);
}

char *summary_text(struct summary *self) {
    pthread_mutex_lock(&self->lock);
    char *text = xstrdup_or_null(self->text);
    pthread_mutex_unlock(&self->lock);
    return text;
}

/* --- storing ------------------------------------------------------------------------------------------------------ */

/* Takes text, which may be NULL: nothing is shown. */
static void show(struct summary *self, char *text) {
    pthread_mutex_lock(&self->lock);
    char *before = self->text;
    self->text = text;
    pthread_mutex_unlock(&self->lock);
    free(before);
}

/* Adds to the sums what is known besides, and shows them. */
static void show_sums(struct summary *self, struct series_list *sums) {
    struct strbuf text = STRBUF_INIT;
    for (size_t i = 0; i < self->events.count; i++)
        series_list_add(sums, &self->events.items[i]);
    series_list_add_value(sums, "bore_metrics_stored_timestamp_seconds", "", self->stored_at);
    series_list_sum(sums);
    if (!exposition_write(sums, TEXT_MAX, &text)) log_warning("not all metrics fit into %d bytes", TEXT_MAX);
    show(self, strbuf_detach(&text));
}

/* What is to be stored and, once it is, to be shown: of one moment. */
static void look(struct summary *self, struct metrics_state *ret_state, struct series_list *ret_sums) {
    pthread_mutex_lock(&self->lock);
    ledger_settle(self->ledger);
    ledger_keep(self->ledger, ret_state);
    ledger_sum(self->ledger, ret_sums);
    pthread_mutex_unlock(&self->lock);
}

static void become_active(struct summary *self, struct metrics_state *state) {
    pthread_mutex_lock(&self->lock);
    ledger_adopt(self->ledger, state);
    pthread_mutex_unlock(&self->lock);
    message_release(&metrics_state_descriptor, state);
    log_info("active: goes on from what is stored");
    self->is_active = true;
    self->is_waiting = false;
    self->next_ms = 0;
}

static void become_passive(struct summary *self, struct service_context *context) {
    if (!self->is_waiting) log_warning("another metrics process is active: this one waits until that ends");
    self->is_waiting = true;
    self->is_active = false;
    service_hold(context, true);
    show(self, NULL);
}

static void note_failure(struct summary *self, struct service_context *context, struct series_list *sums) {
    if (!self->is_failing) log_warning("the counters cannot be stored: %s", db_error_message(context->db));
    self->is_failing = true;
    if (self->is_active && clock_monotonic_ms() - self->stored_ms > UNSTORED_MS) show_sums(self, sums);
}

static void note_stored(struct summary *self, struct service_context *context, struct series_list *sums) {
    if (self->is_failing) log_info("the counters are stored again");
    self->is_failing = false;
    self->stored_ms = clock_monotonic_ms();
    self->stored_at = (double)clock_wall_ms() / 1000;
    if (self->stored_ms - self->started_ms < FIRST_TEXT_MS) return;
    show_sums(self, sums);
    service_hold(context, false);
}

/* Takes the events counted by the call that succeeded. */
static void take_events(struct summary *self, struct series_list *events) {
    series_list_release(&self->events);
    self->events = *events;
    *events = (struct series_list){ .count = 0 };
}

static void store(struct summary *self, struct service_context *context) {
    struct metrics_state state, kept;
    struct series_list sums, events = { .count = 0 };
    look(self, &state, &sums);
    db_set_deadline(context->db, clock_monotonic_ms() + STORE_BUDGET_MS);
    int outcome = store_save(context->db, self->writer, self->is_active ? &state : NULL, &kept, &events);
    if (outcome == STORE_STORED || outcome == STORE_ADOPTED) take_events(self, &events);
    if (outcome == STORE_STORED) {
        note_stored(self, context, &sums);
    } else if (outcome == STORE_ADOPTED) {
        become_active(self, &kept);
    } else if (outcome == STORE_WAITING) {
        become_passive(self, context);
    } else {
        note_failure(self, context, &sums);
    }
    series_list_release(&events);
    series_list_release(&sums);
    message_release(&metrics_state_descriptor, &state);
}

void summary_tick(struct summary *self, struct service_context *context) {
    int64_t now = clock_monotonic_ms();
    if (now < self->next_ms) return;
    bool is_beginning = !self->is_active || now - self->started_ms < FIRST_TEXT_MS;
    self->next_ms = is_beginning ? 0 : now + STORE_MS;
    store(self, context);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct summary *summary_new(struct bus_client *bus) {
    struct summary *self = xcalloc(1, sizeof(*self));
    pthread_mutex_init(&self->lock, NULL);
    self->ledger = ledger_new();
    self->bus = bus;
    self->started_ms = clock_monotonic_ms();
    random_hex(12, self->writer);
    bus_subscribe(bus, TOPIC_COUNTERS, on_counters, self);
    return self;
}

/* With a connection of its own: the timer's is closed already, and with it the lock; the writer tells whether another
 * one was active since. */
static void store_last(struct summary *self) {
    struct db_options options;
    struct metrics_state state, kept;
    struct series_list events = { .count = 0 };
    service_database_options("metrics", &options);
    struct db *db = db_new(&options);
    ledger_keep(self->ledger, &state);
    db_set_deadline(db, clock_monotonic_ms() + STORE_BUDGET_MS);
    if (store_save(db, self->writer, &state, &kept, &events) == STORE_ADOPTED)
        message_release(&metrics_state_descriptor, &kept);
    series_list_release(&events);
    message_release(&metrics_state_descriptor, &state);
    db_free(db);
}

void summary_free(struct summary *self) {
    if (self == NULL) return;
    bus_unsubscribe(self->bus, on_counters, self);
    if (self->is_active) store_last(self);
    pthread_mutex_destroy(&self->lock);
    ledger_free(self->ledger);
    series_list_release(&self->events);
    free(self->text);
    free(self);
}
