/*
 * recent.c: a ring of events whose ids are contiguous, so that finding one is arithmetic. See recent.h.
 *
 * Each event names the one before it of the same user, and a table each user's newest: ten thousand clients that come
 * back with old cursors walk over their own events, not over everybody's.
 */
#include "services/stream/recent.h"

#include <assert.h>
#include <czmq.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct slot {
    struct event event;
    int64_t previous; /* id of this user's event before this one; 0: none is known */
};

struct recent {
    struct slot *slots;
    const struct event **found; /* room for recent_each */
    zhashx_t *newest;           /* user id -> int64_t: the id of its newest event here */
    size_t capacity, first, count;
    size_t bytes, most_bytes;
    int64_t head;
};

static size_t event_bytes(const struct event *event) {
    return sizeof(struct slot) + strlen(event->payload) + strlen(event->kind) + 160;
}

struct recent *recent_new(size_t most_events, size_t most_bytes) {
    struct recent *self = xcalloc(1, sizeof *self);
    self->slots = xcalloc(most_events, sizeof *self->slots);
    self->found = xcalloc(most_events, sizeof *self->found);
    self->newest = zhashx_new();
    self->capacity = most_events;
    self->most_bytes = most_bytes;
    return self;
}

static int64_t lowest_id(const struct recent *self) {
    return self->head - (int64_t)self->count + 1;
}

/* id is one of those here. */
static struct slot *slot_of(const struct recent *self, int64_t id) {
    return &self->slots[(self->first + (size_t)(id - lowest_id(self))) % self->capacity];
}

static void drop_oldest(struct recent *self) {
    assert(self->capacity > 0);
    struct event *oldest = &self->slots[self->first].event;
    int64_t *newest = oldest->user_id ? zhashx_lookup(self->newest, oldest->user_id) : NULL;
    if (newest && *newest == oldest->id) {
        zhashx_delete(self->newest, oldest->user_id);
        free(newest);
    }
    self->bytes -= event_bytes(oldest);
    message_release(&event_descriptor, oldest);
    self->first = (self->first + 1) % self->capacity;
    self->count--;
}

void recent_reset(struct recent *self, int64_t cursor) {
    while (self->count)
        drop_oldest(self);
    self->head = cursor;
}

void recent_free(struct recent *self) {
    if (!self) return;
    recent_reset(self, 0);
    zhashx_destroy(&self->newest);
    free(self->found);
    free(self->slots);
    free(self);
}

/* Puts the newest slot in front of its user's chain. */
static void chain(struct recent *self, struct slot *slot) {
    slot->previous = 0;
    if (!slot->event.user_id) return;
    int64_t *newest = zhashx_lookup(self->newest, slot->event.user_id);
    if (newest) {
        slot->previous = *newest;
    } else {
        newest = xmalloc(sizeof *newest);
        zhashx_insert(self->newest, slot->event.user_id, newest);
    }
    *newest = slot->event.id;
}

void recent_add(struct recent *self, const struct event *event) {
    assert(self->capacity > 0);
    if (event->id != self->head + 1) recent_reset(self, event->id - 1);
    while (self->count == self->capacity || (self->count && self->bytes > self->most_bytes))
        drop_oldest(self);
    struct slot *slot = &self->slots[(self->first + self->count) % self->capacity];
    message_copy(&event_descriptor, event, &slot->event);
    chain(self, slot);
    self->bytes += event_bytes(&slot->event);
    self->count++;
    self->head = event->id;
}

bool recent_covers(const struct recent *self, int64_t cursor) {
    return cursor <= self->head && cursor >= self->head - (int64_t)self->count;
}

int64_t recent_head(const struct recent *self) {
    return self->head;
}

void recent_each(struct recent *self, const char *user_id, int64_t cursor,
    void (*visit)(const struct event *event, void *user_data), void *user_data) {
    int64_t lowest = cursor + 1 > lowest_id(self) ? cursor + 1 : lowest_id(self);
    if (!user_id) {
        for (int64_t id = lowest; id <= self->head; id++)
            visit(&slot_of(self, id)->event, user_data);
        return;
    }
    const int64_t *newest = zhashx_lookup(self->newest, user_id);
    size_t found = 0;
    for (int64_t id = newest ? *newest : 0; id >= lowest && id > 0; id = slot_of(self, id)->previous)
        self->found[found++] = &slot_of(self, id)->event;
    while (found > 0)
        visit(self->found[--found], user_data);
}
