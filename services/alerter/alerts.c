/*
 * alerts.c: see alerts.h.
 *
 * Rules are SQL (bore.alerter_step): every alerter tries, when an event is published and once a second, and one at a
 * time takes the step. Then whoever has room claims deliveries that are due, and tries them, up to DELIVERIES_MAX at
 * once, outside of any transaction. A claim outlasts an attempt, so nobody else takes a delivery that is under way; the
 * claim of a process that died ends by itself, and that delivery may arrive twice. An answer that cannot be recorded,
 * because the database is away, is kept and recorded later. When the database is away nothing is lost: the cursor and
 * the deliveries are there when it is back.
 */
#include "services/alerter/alerts.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "gen/version.h"
#include "services/alerter/store.h"
#include "services/lib/counters.h"
#include "services/lib/database_meter.h"
#include "services/lib/event_log.h"

enum {
    DELIVERIES_MAX = 8,
    PERIOD_MS = 1000,
    LEAST_PAUSE_MS = 50, /* between steps: what happens meanwhile is one step's work */
    CLAIM_MARGIN_MS = 5000,
    CALL_MS = 5000,
    SWEEP_MS = 60000,
    SWEEP_ROWS = 5000,
    FAREWELL_MS = 4000,
    COUNTER_LABELS = 80,
};

struct delivery {
    struct delivery *next;
    struct alerts *owner;
    struct notice notice;
    struct notice_verdict verdict;
    int64_t elapsed_us;
};

struct alerts {
    struct bus_client *bus;
    struct db *db;
    struct database_meter meter;
    struct http_client *http;
    struct channels channels;
    pthread_t thread;
    pthread_mutex_t lock; /* over the members below */
    pthread_cond_t news;
    struct delivery *finished;
    bool is_stopping;
    bool has_events; /* something was published since the last step */
    /* of the thread; clock_monotonic_ms */
    size_t under_way; /* claimed and not recorded */
    bool is_database_away;
    int64_t next_step_ms;
    int64_t next_claim_ms;
    int64_t next_sweep_ms;
};

/* --- what others tell --------------------------------------------------------------------------------------------- */

static void on_published(void *user_data, const char *topic, const void *frame, size_t size) {
    struct alerts *self = user_data;
    (void)topic;
    (void)frame;
    (void)size;
    pthread_mutex_lock(&self->lock);
    self->has_events = true;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->lock);
}

static void push_finished(struct alerts *self, struct delivery *delivery) {
    pthread_mutex_lock(&self->lock);
    delivery->next = self->finished;
    self->finished = delivery;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->lock);
}

static void on_answer(void *user_data, const struct http_answer *answer) {
    struct delivery *delivery = user_data;
    notice_judge(delivery->notice.channel, answer, &delivery->verdict);
    delivery->elapsed_us = answer->elapsed_us;
    push_finished(delivery->owner, delivery);
}

static struct delivery *pop_finished(struct alerts *self) {
    pthread_mutex_lock(&self->lock);
    struct delivery *delivery = self->finished;
    if (delivery) self->finished = delivery->next;
    pthread_mutex_unlock(&self->lock);
    return delivery;
}

/* --- helpers ------------------------------------------------------------------------------------------------------ */

static void count(const char *name, const char *label, const char *value, const char *further, int64_t amount) {
    char labels[COUNTER_LABELS];
    snprintf(labels, sizeof labels, "%s=\"%s\"%s", label, value, further);
    counter_add(counter_get(COUNTER, name, labels), amount);
}

/* Says once that the database is away, and once that it is back. True when the call succeeded. */
static bool note_database(struct alerts *self, int error) {
    if (error && !self->is_database_away)
        log_warning("alerts wait, they are tried again every second: %s", db_error_message(self->db));
    if (!error && self->is_database_away) log_info("alerts go on");
    self->is_database_away = error != 0;
    return !error;
}

static void begin_call(struct alerts *self) {
    db_set_deadline(self->db, clock_monotonic_ms() + CALL_MS);
}

/* --- rules -------------------------------------------------------------------------------------------------------- */

static void count_alerts(const char *types) {
    json_t *object = types ? json_loads(types, 0, NULL) : NULL;
    const char *type;
    json_t *amount;
    json_object_foreach(object, type, amount) {
        count("bore_alerts_total", "type", type, "", json_integer_value(amount));
    }
    json_decref(object);
}

static void take_step(struct alerts *self) {
    struct store_step step = { .wait_ms = PERIOD_MS };
    pthread_mutex_lock(&self->lock);
    self->has_events = false;
    pthread_mutex_unlock(&self->lock);
    begin_call(self);
    bool done = note_database(self, store_step(self->db, &self->channels, &step));
    int64_t wait_ms = !done ? PERIOD_MS : step.more ? 0 : step.wait_ms;
    self->next_step_ms = clock_monotonic_ms() + (wait_ms > PERIOD_MS ? PERIOD_MS : wait_ms);
    if (step.has_gap)
        log_warning("the event log does not go on where the alerts had come to (it was trimmed, or the database "
                    "restored): going on from what each instance is now");
    if (step.alerts > 0) {
        log_info("%" PRId64 " alerts recorded: %s", step.alerts, step.types ? step.types : "");
        count_alerts(step.types);
        if (step.events) event_log_publish(self->bus, step.events);
        self->next_claim_ms = 0;
    }
    store_step_release(&step);
}

/* --- deliveries --------------------------------------------------------------------------------------------------- */

static void free_delivery(struct delivery *delivery) {
    notice_release(&delivery->notice);
    free(delivery);
}

static double random_share(void) {
    uint32_t number = 0;
    random_bytes(&number, sizeof number);
    return (double)number / (double)UINT32_MAX;
}

/* Records how an attempt ended. Negative when the database did not take it. */
static int record(struct alerts *self, const struct delivery *delivery) {
    const struct notice *notice = &delivery->notice;
    const char *channel = channel_name(notice->channel);
    char state[STORE_STATE_SIZE] = "";
    int64_t wait_ms = 0;
    begin_call(self);
    if (delivery->verdict.is_delivered) {
        int error = store_delivered(self->db, notice);
        if (error) return error;
        log_debug("%s to %s: delivered", notice->alert_id, channel);
        count("bore_alert_deliveries_total", "channel", channel, ",result=\"delivered\"", 1);
        return 0;
    }
    int error = store_failed(self->db, notice, &delivery->verdict, random_share(), state, &wait_ms);
    if (error) return error;
    bool is_over = strcmp(state, "failed") == 0;
    count("bore_alert_deliveries_total", "channel", channel, is_over ? ",result=\"failed\"" : ",result=\"retried\"", 1);
    if (is_over)
        log_warning("%s to %s is given up after attempt %d: %s", notice->alert_id, channel, notice->attempt,
            delivery->verdict.problem);
    else
        log_info("%s to %s: attempt %d failed (%s), the next one in %.1f s", notice->alert_id, channel, notice->attempt,
            delivery->verdict.problem, (double)wait_ms / 1000);
    return 0;
}

static void record_finished(struct alerts *self) {
    struct delivery *delivery;
    while ((delivery = pop_finished(self))) {
        if (!note_database(self, record(self, delivery))) {
            push_finished(self, delivery);
            return;
        }
        char labels[COUNTER_LABELS];
        snprintf(labels, sizeof labels, "channel=\"%s\"", channel_name(delivery->notice.channel));
        histogram_observe(
            counter_get(HISTOGRAM, "bore_alert_delivery_seconds", labels), (double)delivery->elapsed_us / 1e6);
        free_delivery(delivery);
        self->under_way--;
        self->next_claim_ms = 0; /* there is room, and what waited for this one may go */
    }
}

/* Takes the notice over. */
static void try_delivery(struct alerts *self, struct notice *notice) {
    struct delivery *delivery = xcalloc(1, sizeof *delivery);
    struct http_request request;
    const char *headers[3];
    _cleanup_free_ char *body = NULL;
    delivery->owner = self;
    delivery->notice = *notice;
    *notice = (struct notice){ 0 };
    self->under_way++;
    int error = channels_request(&self->channels, &delivery->notice, &request, headers, &body) ? 0 : -ENOENT;
    if (!error) {
        request.done = on_answer;
        request.user_data = delivery;
        error = http_client_submit(self->http, &request);
    }
    if (!error) return;
    snprintf(delivery->verdict.problem, NOTICE_PROBLEM_SIZE, "not tried: %s", strerror(-error));
    push_finished(self, delivery);
}

static void claim(struct alerts *self) {
    struct notice notices[DELIVERIES_MAX];
    size_t claimed = 0, room = DELIVERIES_MAX - self->under_way;
    begin_call(self);
    int error =
        store_claim(self->db, &self->channels, room, config.alert_timeout_ms + CLAIM_MARGIN_MS, notices, &claimed);
    self->next_claim_ms = clock_monotonic_ms() + PERIOD_MS;
    if (!note_database(self, error)) return;
    for (size_t i = 0; i < claimed; i++)
        try_delivery(self, &notices[i]);
}

/* --- upkeep ------------------------------------------------------------------------------------------------------- */

static void sweep(struct alerts *self) {
    int64_t deleted = 0;
    begin_call(self);
    bool done = note_database(self, store_sweep(self->db, SWEEP_ROWS, &deleted));
    self->next_sweep_ms = clock_monotonic_ms() + (done && deleted >= SWEEP_ROWS ? PERIOD_MS : SWEEP_MS);
    if (deleted > 0) log_info("%" PRId64 " old alerts removed", deleted);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static int64_t earlier(int64_t left, int64_t right) {
    return left < right ? left : right;
}

static bool is_full(const struct alerts *self) {
    return self->under_way >= DELIVERIES_MAX || self->channels.count == 0;
}

/* Sleeps until there is something to do; false when the thread shall end. */
static bool wait_for_work(struct alerts *self, int64_t begun_ms) {
    pthread_mutex_lock(&self->lock);
    for (;;) {
        int64_t until = earlier(self->next_step_ms, self->next_sweep_ms);
        if (!is_full(self)) until = earlier(until, self->next_claim_ms);
        if (self->has_events) until = earlier(until, begun_ms + LEAST_PAUSE_MS);
        bool has_answers = self->finished && !self->is_database_away;
        if (self->is_stopping || has_answers || clock_monotonic_ms() >= until) break;
        struct timespec time = { .tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000 };
        pthread_cond_timedwait(&self->news, &self->lock, &time);
    }
    bool goes_on = !self->is_stopping;
    if (goes_on && self->has_events) self->next_step_ms = earlier(self->next_step_ms, begun_ms + LEAST_PAUSE_MS);
    pthread_mutex_unlock(&self->lock);
    return goes_on;
}

/* At the end: attempts that are under way may end and be recorded. */
static void take_leave(struct alerts *self) {
    int64_t until = clock_monotonic_ms() + FAREWELL_MS;
    record_finished(self);
    while (self->under_way > 0 && clock_monotonic_ms() < until) {
        struct timespec time = { .tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000 };
        pthread_mutex_lock(&self->lock);
        if (!self->finished) pthread_cond_timedwait(&self->news, &self->lock, &time);
        pthread_mutex_unlock(&self->lock);
        record_finished(self);
        if (self->is_database_away) return;
    }
}

static void *run_thread(void *argument) {
    struct alerts *self = argument;
    int64_t begun_ms = 0;
    self->next_sweep_ms = clock_monotonic_ms() + SWEEP_MS;
    while (wait_for_work(self, begun_ms)) {
        begun_ms = clock_monotonic_ms();
        record_finished(self);
        if (begun_ms >= self->next_step_ms) take_step(self);
        if (!is_full(self) && clock_monotonic_ms() >= self->next_claim_ms) claim(self);
        if (begun_ms >= self->next_sweep_ms) sweep(self);
        database_meter_read(&self->meter, self->db);
    }
    take_leave(self);
    return NULL;
}

/* --- for the service ---------------------------------------------------------------------------------------------- */

static void release(struct alerts *self) {
    http_client_free(self->http); /* what is still under way becomes finished */
    for (struct delivery *delivery; (delivery = pop_finished(self));)
        free_delivery(delivery);
    channels_release(&self->channels);
    db_free(self->db);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->news);
    free(self);
}

static int start_thread(struct alerts *self) {
    if (bus_subscribe(self->bus, "event.status", on_published, self) != 0)
        log_warning("events cannot be subscribed to; the log is read once a second");
    int error = pthread_create(&self->thread, NULL, run_thread, self);
    if (!error) {
        pthread_setname_np(self->thread, "alerts");
        return 0;
    }
    log_error("the thread of the alerts cannot be started: %s", strerror(error));
    bus_unsubscribe(self->bus, on_published, self);
    return -error;
}

/* From the beginning, so that the first one is seen as an increase. */
static void begin_counting(const struct channels *channels) {
    for (size_t i = 0; i < channels->count; i++) {
        count("bore_alert_deliveries_total", "channel", channels->names[i], ",result=\"delivered\"", 0);
        count("bore_alert_deliveries_total", "channel", channels->names[i], ",result=\"retried\"", 0);
        count("bore_alert_deliveries_total", "channel", channels->names[i], ",result=\"failed\"", 0);
    }
}

int alerts_start(struct service_context *context, void **ret_state) {
    struct alerts *self = xcalloc(1, sizeof *self);
    struct db_options database;
    pthread_condattr_t attributes;
    self->bus = context->bus;
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->news, &attributes);
    pthread_condattr_destroy(&attributes);
    service_database_options(context->service->name, &database);
    self->db = db_new(&database);
    database_meter_init(&self->meter);
    int error = channels_init(&self->channels);
    if (!error) {
        begin_counting(&self->channels);
        self->http = http_client_new(&(struct http_client_options){
            .user_agent = "bore-backend/" BORE_VERSION, .ca_file = config.alert_ca_file, .most = DELIVERIES_MAX });
        error = self->http ? start_thread(self) : -errno;
    }
    if (error) {
        release(self);
        return error;
    }
    *ret_state = self;
    return 0;
}

void alerts_stop(void *state) {
    struct alerts *self = state;
    bus_unsubscribe(self->bus, on_published, self);
    pthread_mutex_lock(&self->lock);
    self->is_stopping = true;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    release(self);
}
