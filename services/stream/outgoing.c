/*
 * outgoing.c: shared texts and the ring that queues references to them. See outgoing.h.
 *
 * The lowest bit of a queued pointer says that the item counts against the stream's limit; malloc's alignment leaves it
 * free.
 */
#include "services/stream/outgoing.h"

#include <libwebsockets.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct outgoing {
    size_t size;
    unsigned references;
    unsigned char storage[]; /* LWS_PRE bytes, then the text */
};

struct outgoing *outgoing_new(const char *text, size_t size) {
    struct outgoing *self = xmalloc(sizeof *self + LWS_PRE + size);
    self->size = size;
    self->references = 1;
    memcpy(self->storage + LWS_PRE, text, size);
    return self;
}

struct outgoing *outgoing_ref(struct outgoing *self) {
    self->references++;
    return self;
}

void outgoing_unref(struct outgoing *self) {
    if (self && --self->references == 0) free(self);
}

unsigned char *outgoing_text(struct outgoing *self) {
    return self->storage + LWS_PRE;
}

size_t outgoing_size(const struct outgoing *self) {
    return self->size;
}

static struct outgoing *item_of(const struct outgoing *tagged) {
    return (struct outgoing *)((uintptr_t)tagged & ~(uintptr_t)1);
}

static bool is_counted(const struct outgoing *tagged) {
    return (uintptr_t)tagged & 1;
}

static void grow(struct outgoing_queue *self) {
    unsigned capacity = self->capacity ? self->capacity * 2 : 4;
    struct outgoing **items = xreallocarray(NULL, capacity, sizeof *items);
    for (unsigned i = 0; i < self->count; i++)
        items[i] = self->items[(self->head + i) % self->capacity];
    free(self->items);
    self->items = items;
    self->head = 0;
    self->capacity = capacity;
}

void outgoing_queue_push(struct outgoing_queue *self, struct outgoing *item, bool counted) {
    if (self->count == self->capacity) grow(self);
    outgoing_ref(item);
    if (counted) self->bytes += item->size;
    struct outgoing *tagged = (struct outgoing *)((uintptr_t)item | (counted ? 1 : 0));
    self->items[(self->head + self->count) % self->capacity] = tagged;
    self->count++;
}

bool outgoing_queue_empty(const struct outgoing_queue *self) {
    return self->count == 0;
}

struct outgoing *outgoing_queue_peek(const struct outgoing_queue *self) {
    return self->count ? item_of(self->items[self->head]) : NULL;
}

void outgoing_queue_pop(struct outgoing_queue *self) {
    struct outgoing *tagged = self->items[self->head];
    if (is_counted(tagged)) self->bytes -= item_of(tagged)->size;
    outgoing_unref(item_of(tagged));
    self->head = (self->head + 1) % self->capacity;
    self->count--;
    if (self->count == 0) { /* an idle stream keeps no memory for its queue */
        free(self->items);
        self->items = NULL;
        self->head = self->capacity = 0;
    }
}

void outgoing_queue_release(struct outgoing_queue *self) {
    while (self->count)
        outgoing_queue_pop(self);
    free(self->items);
    memset(self, 0, sizeof *self);
}
