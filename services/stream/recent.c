/* recent.c: a ring of events whose ids are contiguous, so that finding one is arithmetic. See recent.h. */
#include "services/stream/recent.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct recent {
    struct event *events;
    size_t capacity, first, count;
    size_t bytes, most_bytes;
    int64_t head;
};

static size_t event_bytes(const struct event *event) {
    return sizeof *event + strlen(event->payload) + strlen(event->kind) + 160;
}

struct recent *recent_new(size_t most_events, size_t most_bytes) {
    struct recent *self = xcalloc(1, sizeof *self);
    self->events = xcalloc(most_events, sizeof *self->events);
    self->capacity = most_events;
    self->most_bytes = most_bytes;
    return self;
}

static void drop_oldest(struct recent *self) {
    assert(self->capacity > 0);
    struct event *oldest = &self->events[self->first];
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
    free(self->events);
    free(self);
}

void recent_add(struct recent *self, const struct event *event) {
    assert(self->capacity > 0);
    if (event->id != self->head + 1) recent_reset(self, event->id - 1);
    while (self->count == self->capacity || (self->count && self->bytes > self->most_bytes))
        drop_oldest(self);
    struct event *slot = &self->events[(self->first + self->count) % self->capacity];
    message_copy(&event_descriptor, event, slot);
    self->bytes += event_bytes(slot);
    self->count++;
    self->head = event->id;
}

bool recent_covers(const struct recent *self, int64_t cursor) {
    return cursor <= self->head && cursor >= self->head - (int64_t)self->count;
}

int64_t recent_head(const struct recent *self) {
    return self->head;
}

const struct event *recent_after(const struct recent *self, int64_t cursor) {
    if (self->count == 0 || cursor >= self->head) return NULL;
    int64_t lowest = self->head - (int64_t)self->count + 1;
    int64_t wanted = cursor + 1 < lowest ? lowest : cursor + 1;
    return &self->events[(self->first + (size_t)(wanted - lowest)) % self->capacity];
}
