/*
 * revocations.c: which sessions are revoked, as auth tells it every 500 ms (ARCHITECTURE §3 "Revocation").
 *
 * Sends REVOCATIONS with a cursor, and now and then from the beginning, so that sessions whose tokens are long expired
 * leave the set; TOKEN_CHECK when the set is stale. Fails closed: without an answer younger than a second, or with more
 * revoked sessions than the set may hold, the set vouches for nobody.
 */
#include "services/lib/revocations.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"

enum {
    POLL_MS = 500,
    CALL_MS = 900,
    FRESH_MS = 1000,
    REBUILD_MS = 3600000,
    SESSIONS_MAX = 2000000,
    FIRST_CAPACITY = 256, /* a power of two */
};

/* Open addressing, never more than half full. */
struct session_set {
    char **items;
    size_t capacity;
    size_t count;
};

struct revocation_set {
    struct bus_client *bus;
    void (*on_revoked)(void *user_data, const char *session_id);
    void *user_data;
    pthread_t thread;

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t stop;
    bool stopping;
    struct session_set sessions;
    bool complete; /* the set has everything up to fresh_ms */
    int64_t created_ms;
    int64_t fresh_ms;

    /* of the thread alone */
    int64_t cursor;
    int64_t next_rebuild_ms;
    struct session_set rebuilt; /* grows while a rebuild from cursor 0 goes on */
    bool rebuilding;
};

/* --- the set ----------------------------------------------------------------------------------------------------- */

static size_t hash_of(const char *text) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32);
}

/* Where the session is, or belongs. The set has room. */
static char **place_of(const struct session_set *self, const char *session) {
    size_t index = hash_of(session) & (self->capacity - 1);
    while (self->items[index] && strcmp(self->items[index], session) != 0)
        index = (index + 1) & (self->capacity - 1);
    return &self->items[index];
}

static bool set_has(const struct session_set *self, const char *session) {
    return self->capacity && *place_of(self, session);
}

static void set_grow(struct session_set *self) {
    struct session_set bigger = { .capacity = self->capacity ? self->capacity * 2 : FIRST_CAPACITY };
    bigger.items = xcalloc(bigger.capacity, sizeof(char *));
    bigger.count = self->count;
    for (size_t i = 0; i < self->capacity; i++)
        if (self->items[i]) *place_of(&bigger, self->items[i]) = self->items[i];
    free(self->items);
    *self = bigger;
}

/* True when it was not there. */
static bool set_add(struct session_set *self, const char *session) {
    if (self->count * 2 >= self->capacity) set_grow(self);
    char **place = place_of(self, session);
    if (*place) return false;
    *place = xstrdup(session);
    self->count++;
    return true;
}

static void set_release(struct session_set *self) {
    for (size_t i = 0; i < self->capacity; i++)
        free(self->items[i]);
    free(self->items);
    *self = (struct session_set){ 0 };
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

static void add_session(struct revocation_set *self, const char *session) {
    if (self->rebuilding && self->rebuilt.count < SESSIONS_MAX) set_add(&self->rebuilt, session);
    pthread_mutex_lock(&self->mutex);
    bool fresh = self->sessions.count < SESSIONS_MAX && set_add(&self->sessions, session);
    pthread_mutex_unlock(&self->mutex);
    if (fresh && self->on_revoked) self->on_revoked(self->user_data, session);
}

/* All that was revoked when the question was asked is known. */
static void note_complete(struct revocation_set *self, int64_t asked_ms) {
    struct session_set old = { 0 };
    pthread_mutex_lock(&self->mutex);
    if (self->rebuilding) {
        old = self->sessions;
        self->sessions = self->rebuilt;
        self->rebuilt = (struct session_set){ 0 };
        self->rebuilding = false;
    }
    self->complete = self->sessions.count < SESSIONS_MAX;
    self->fresh_ms = asked_ms;
    pthread_mutex_unlock(&self->mutex);
    set_release(&old);
}

static void begin_rebuild(struct revocation_set *self) {
    set_release(&self->rebuilt);
    self->rebuilding = true;
    self->cursor = 0;
    self->next_rebuild_ms = clock_monotonic_ms() + REBUILD_MS;
}

/* One question. True when there is more to ask at once. */
static bool ask(struct revocation_set *self) {
    int64_t now = clock_monotonic_ms();
    struct revocations_reply reply;
    struct bus_call call = { .deadline_ms = now + CALL_MS };
    if (now >= self->next_rebuild_ms) begin_rebuild(self);
    int code =
        bus_call(self->bus, MSG_REVOCATIONS, &(struct revocations){ .cursor = self->cursor }, &call, &reply, NULL);
    if (code) {
        log_debug("revocations cannot be asked for: %s", error_info(code)->name);
        return false;
    }
    bool went_back = reply.cursor < self->cursor; /* another log than before: a restore from backup */
    for (size_t i = 0; i < reply.session_ids_count; i++)
        add_session(self, reply.session_ids[i]);
    self->cursor = reply.cursor;
    bool more = reply.more;
    message_release(&revocations_reply_descriptor, &reply);
    if (went_back) {
        begin_rebuild(self);
        return true;
    }
    if (!more) note_complete(self, now);
    return more;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* Waits until the time; false when the thread shall end. */
static bool wait_until(struct revocation_set *self, int64_t until_ms) {
    struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000 };
    pthread_mutex_lock(&self->mutex);
    while (!self->stopping && clock_monotonic_ms() < until_ms)
        pthread_cond_timedwait(&self->stop, &self->mutex, &until);
    bool stopping = self->stopping;
    pthread_mutex_unlock(&self->mutex);
    return !stopping;
}

static void *run_thread(void *argument) {
    struct revocation_set *self = argument;
    int64_t next_ms = 0;
    while (wait_until(self, next_ms)) {
        next_ms = clock_monotonic_ms() + POLL_MS;
        if (ask(self)) next_ms = 0;
    }
    return NULL;
}

struct revocation_set *revocations_new(
    struct bus_client *bus, void (*on_revoked)(void *user_data, const char *session_id), void *user_data) {
    struct revocation_set *self = xcalloc(1, sizeof *self);
    self->bus = bus;
    self->on_revoked = on_revoked;
    self->user_data = user_data;
    self->created_ms = clock_monotonic_ms();
    self->next_rebuild_ms = self->created_ms + REBUILD_MS;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    int error = pthread_create(&self->thread, NULL, run_thread, self);
    if (error) {
        log_error("the thread that asks for revocations cannot be started: %s", strerror(error));
        abort();
    }
    pthread_setname_np(self->thread, "revocations");
    return self;
}

void revocations_free(struct revocation_set *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    pthread_cond_signal(&self->stop);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->stop);
    set_release(&self->sessions);
    set_release(&self->rebuilt);
    free(self);
}

/* --- answering --------------------------------------------------------------------------------------------------- */

int revocations_check_cached(struct revocation_set *self, const struct token_claims *claims) {
    int64_t now = clock_monotonic_ms();
    pthread_mutex_lock(&self->mutex);
    bool revoked = set_has(&self->sessions, claims->session_id);
    bool vouches = self->complete && now - self->fresh_ms <= FRESH_MS;
    pthread_mutex_unlock(&self->mutex);
    return revoked ? ERR_UNAUTHORIZED : vouches ? 0 : ERR_UNAVAILABLE;
}

int revocations_check(struct revocation_set *self, const struct token_claims *claims, int64_t deadline_ms) {
    int code = revocations_check_cached(self, claims);
    if (code != ERR_UNAVAILABLE) return code;
    struct token_check request = { .user_id = (char *)(uintptr_t)claims->user_id,
        .token_session = (char *)(uintptr_t)claims->session_id };
    struct token_check_reply reply;
    struct bus_call call = { .deadline_ms = deadline_ms, .request_id = log_request_id() };
    if (bus_call(self->bus, MSG_TOKEN_CHECK, &request, &call, &reply, NULL)) return ERR_UNAVAILABLE;
    bool valid = reply.valid;
    message_release(&token_check_reply_descriptor, &reply);
    return valid ? 0 : ERR_UNAUTHORIZED;
}

int64_t revocations_age_ms(struct revocation_set *self) {
    pthread_mutex_lock(&self->mutex);
    int64_t since = self->complete ? self->fresh_ms : self->created_ms;
    pthread_mutex_unlock(&self->mutex);
    return clock_monotonic_ms() - since;
}
