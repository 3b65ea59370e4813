/* tunnel_world.c: see tunnel_world.h. */
#include "tests/unit/tunnel_world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LATE_MS = 3000, WINDOW_MS = 4200 };

/* splitmix64 */
static uint64_t next_random(struct world *self) {
    uint64_t value = self->random += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static int64_t between(struct world *self, int64_t least, int64_t most) {
    return least + (int64_t)(next_random(self) % (uint64_t)(most - least + 1));
}

static bool chance(struct world *self, int percent) {
    return between(self, 1, 100) <= percent;
}

void world_trace(struct world *self, int64_t now, const char *format, ...) {
    char *place = self->trace + self->trace_size;
    size_t room = sizeof self->trace - self->trace_size;
    int size = snprintf(place, room, "%6d ", (int)now);
    va_list arguments;
    va_start(arguments, format);
    if (size > 0 && (size_t)size < room) size += vsnprintf(place + size, room - (size_t)size, format, arguments);
    va_end(arguments);
    if (size > 0 && (size_t)size + 2 < room) {
        memcpy(place + size, "\n", 2);
        self->trace_size += (size_t)size + 1;
    }
}

static void schedule(struct world *self, int64_t at, enum world_event_kind kind, int session) {
    assert(self->event_count < WORLD_EVENTS_MAX);
    self->events[self->event_count++] = (struct world_event){ at, kind, session };
}

/* Mostly at once, else up to three seconds late. */
static int64_t delay(struct world *self) {
    return chance(self, 60) ? between(self, 5, 60) : between(self, 5, LATE_MS - 10);
}

static void report(struct world *self, int64_t now, enum world_event_kind kind, int session, int copies) {
    for (int i = 0; i < copies; i++)
        schedule(self, now + delay(self), kind, session);
}

static int copies(struct world *self) {
    return chance(self, 50) ? 1 : (int)between(self, 2, 3);
}

void world_init(struct world *self, enum world_kind kind, uint64_t seed) {
    memset(self, 0, sizeof *self);
    self->kind = kind;
    self->seed = seed;
    self->random = seed * (uint64_t)WORLD_KINDS + (uint64_t)kind;
    self->attempts = (int)between(self, 1, WORLD_SESSIONS_MAX - 1);
    self->disconnected_at = -WINDOW_MS;
    self->last_end_ms = -WINDOW_MS;
    schedule(self, between(self, 100, 2000), WORLD_CONNECT, self->count++);
}

static bool is_planned(const struct world *self, int session) {
    for (size_t i = 0; i < self->event_count; i++)
        if (self->events[i].session == session) return true;
    return false;
}

/* Whether a session, or a report of one, could be near in the time that copies of a report need. */
static bool has_company(const struct world *self, int session, int64_t now) {
    for (int i = 0; i < self->count; i++) {
        const struct world_session *other = &self->sessions[i];
        if (i != session && !other->ended && (other->validated || !is_planned(self, i))) return true;
    }
    for (size_t i = 0; i < self->event_count; i++)
        if (self->events[i].session != session && self->events[i].at < now + 2 * WINDOW_MS) return true;
    return false;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

/* The next attempt, seen from the end of this one: overlapping, at once, or after a while. */
static void plan_next(struct world *self, int64_t now, int64_t end) {
    if (self->count >= self->attempts) return;
    int session = self->count++;
    int mode = (int)between(self, 0, 2);
    int64_t at = end + between(self, 5000, 9000);
    if (mode == 0) at = end - between(self, 0, 3000);
    if (mode == 1) at = end + between(self, 50, 2000);
    if (at <= now) at = now + 50;
    if (self->kind == WORLD_PLAIN && at < now + LATE_MS) at = now + LATE_MS;
    bool same_token = mode == 0 ? chance(self, 70) : chance(self, 30);
    if (same_token)
        memcpy(self->sessions[session].token, self->sessions[session - 1].token,
            sizeof(((struct world_session *)0)->token));
    schedule(self, at, same_token ? WORLD_VALIDATE : WORLD_CONNECT, session);
}

void world_token(struct world *self, int session, int64_t now, const char *token) {
    snprintf(self->sessions[session].token, sizeof self->sessions[session].token, "%s", token);
    self->disconnected = false;
    schedule(self, now + between(self, 60, 400), WORLD_VALIDATE, session);
}

static int64_t choose_life(struct world *self, int64_t now) {
    bool follows = now - self->last_end_ms < 2 * WINDOW_MS || now - self->disconnected_at < 2 * WINDOW_MS;
    for (int i = 0; i < self->count; i++)
        follows = follows || self->sessions[i].open;
    if (self->kind == WORLD_PLAIN && follows) return between(self, LATE_MS + 200, 12000);
    return chance(self, 40) ? between(self, 20, 1500) : between(self, 1500, 12000);
}

static bool port_is_used(const struct world *self, int session) {
    for (int i = 0; i < self->count; i++)
        if (i != session && self->sessions[i].port == self->sessions[session].port) return true;
    return false;
}

void world_validated(struct world *self, int session, int64_t now, bool valid) {
    struct world_session *self_session = &self->sessions[session];
    if (self_session->validated) return; /* an answer to a second copy */
    if (!valid) {
        schedule(self, now + between(self, 60, 300), WORLD_CONNECT, session);
        return;
    }
    self_session->validated = true;
    do {
        self_session->port = (int)between(self, 10000, 60000);
    } while (port_is_used(self, session));
    self_session->opens = chance(self, 92) || now - self->disconnected_at < 2 * WINDOW_MS;
    self_session->life_ms = choose_life(self, now);
    int64_t opens = now + between(self, 60, 300);
    if (self_session->opens) {
        schedule(self, opens, WORLD_OPENS, session);
    } else {
        self_session->ended = true;
        plan_next(self, now, opens + 500);
    }
}

static void open_session(struct world *self, int session, int64_t now) {
    struct world_session *opened = &self->sessions[session];
    opened->open = true;
    world_trace(self, now, "  session %d is open on %d", session, opened->port);
    report(self, now, WORLD_CONNECTED, session, copies(self));
    if (self->kind == WORLD_USAGE) report(self, now, WORLD_START, session, copies(self));
    bool stays = session == self->attempts - 1 && chance(self, 60);
    if (!stays) schedule(self, now + opened->life_ms, WORLD_ENDS, session);
    if (!opened->disowned) plan_next(self, now, now + opened->life_ms);
    if (chance(self, 20))
        schedule(self, now + between(self, 50, opened->life_ms + 2000), WORLD_USER_DISCONNECT, session);
}

static void send_end(struct world *self, int session, int64_t now) {
    if (self->sessions[session].ended && self->sessions[session].usage[0])
        report(self, now, WORLD_END, session, copies(self));
}

void world_started(struct world *self, int session, int64_t now, const char *usage_id) {
    struct world_session *started = &self->sessions[session];
    bool is_first = !started->usage[0];
    snprintf(started->usage, sizeof started->usage, "%s", usage_id);
    if (is_first) send_end(self, session, now);
}

static void end_session(struct world *self, int session, int64_t now) {
    struct world_session *ended = &self->sessions[session];
    if (!ended->open) return;
    ended->open = false;
    ended->ended = true;
    self->last_end_ms = now;
    int count = copies(self);
    if (self->kind == WORLD_PLAIN && has_company(self, session, now)) count = 1;
    if (self->kind == WORLD_USAGE && chance(self, 10)) count = 0;
    world_trace(self, now, "  session %d has ended, %d copies", session, count);
    report(self, now, WORLD_DISCONNECTED, session, count);
    send_end(self, session, now);
}

/* Whether nothing follows this session, or goes beside it. */
static bool is_last(const struct world *self, int session) {
    for (size_t i = 0; i < self->event_count; i++)
        if (self->events[i].session != session) return false;
    return true;
}

/* The user disconnects; the client hears of it soon, or, if nothing follows, perhaps not at all. */
static void disconnect(struct world *self, int64_t now) {
    self->disconnected = true;
    self->disconnected_at = now;
    for (int i = 0; i < self->count; i++) {
        struct world_session *session = &self->sessions[i];
        if (!session->validated || session->ended) continue;
        session->disowned = true;
        bool lingers = chance(self, 20) && (self->kind != WORLD_PLAIN || is_last(self, i));
        if (!lingers && session->open) schedule(self, now + between(self, 5, 500), WORLD_ENDS, i);
        if (!session->open && !lingers) session->life_ms = between(self, 5, 200);
    }
}

/* --- events ------------------------------------------------------------------------------------------------------- */

static bool take_earliest(struct world *self, int64_t now, struct world_event *ret_event) {
    size_t earliest = WORLD_EVENTS_MAX;
    for (size_t i = 0; i < self->event_count; i++) {
        if (self->events[i].at > now) continue;
        if (earliest == WORLD_EVENTS_MAX || self->events[i].at < self->events[earliest].at) earliest = i;
    }
    if (earliest == WORLD_EVENTS_MAX) return false;
    *ret_event = self->events[earliest];
    self->events[earliest] = self->events[--self->event_count];
    return true;
}

bool world_next(struct world *self, int64_t now, struct world_event *ret_event) {
    while (take_earliest(self, now, ret_event)) {
        if (ret_event->kind == WORLD_OPENS) {
            self->last_event_ms = now;
            open_session(self, ret_event->session, now);
        } else if (ret_event->kind == WORLD_ENDS) {
            end_session(self, ret_event->session, now);
        } else {
            if (ret_event->kind == WORLD_USER_DISCONNECT) disconnect(self, now);
            self->last_event_ms = now;
            return true;
        }
    }
    return false;
}

bool world_is_over(const struct world *self) {
    return self->event_count == 0;
}

bool world_is_quiet(const struct world *self, int64_t now) {
    for (size_t i = 0; i < self->event_count; i++)
        if (self->events[i].kind >= WORLD_CONNECTED && self->events[i].kind <= WORLD_END) return false;
    return now - self->last_event_ms > WINDOW_MS + 1000;
}

bool world_is_connected(const struct world *self) {
    for (int i = 0; i < self->count; i++)
        if (self->sessions[i].open && !self->sessions[i].disowned) return true;
    return false;
}

bool world_has_port(const struct world *self, int port) {
    for (int i = 0; i < self->count; i++)
        if (self->sessions[i].open && !self->sessions[i].disowned && self->sessions[i].port == port) return true;
    return false;
}

bool world_has_ended(const struct world *self) {
    for (int i = 0; i < self->count; i++)
        if (!self->sessions[i].opens || !self->sessions[i].ended) return false;
    return true;
}
