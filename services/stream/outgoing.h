/*
 * outgoing.h: bytes on their way to clients, shared by every stream that gets them, and the bounded queue of one
 * stream.
 *
 * One event is written as text once and referenced by thousands of queues. LWS_PRE bytes in front of the text are free,
 * as lws_write asks. Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_OUTGOING_H
#define BORE_SERVICES_STREAM_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>

struct outgoing; /* reference-counted text */

/* One reference, the caller's. Copies the text. */
struct outgoing *outgoing_new(const char *text, size_t size);
struct outgoing *outgoing_ref(struct outgoing *self);
/* Takes NULL. */
void outgoing_unref(struct outgoing *self);
/* Writable by lws_write in front (LWS_PRE bytes); never longer than size. */
unsigned char *outgoing_text(struct outgoing *self);
size_t outgoing_size(const struct outgoing *self);

/* First in, first out; embedded, zero-initialised. */
struct outgoing_queue {
    struct outgoing **items;
    unsigned head, count, capacity;
    size_t bytes; /* of what counts against the limit */
};

/* Takes a reference of its own. `counted` is false for what the client asked for itself (a replay). */
void outgoing_queue_push(struct outgoing_queue *self, struct outgoing *item, bool counted);
bool outgoing_queue_empty(const struct outgoing_queue *self);
/* The oldest item, still owned by the queue; NULL when empty. */
struct outgoing *outgoing_queue_peek(const struct outgoing_queue *self);
/* Removes the oldest. */
void outgoing_queue_pop(struct outgoing_queue *self);
void outgoing_queue_release(struct outgoing_queue *self);

#endif
