/*
 * recent.h: the last events, contiguous by id, kept in memory so that a storm of reconnecting clients is answered
 * without a query each. A cache: it refills from the log's readers. Bounded by count and bytes. Thread rule: the loop
 * thread alone.
 */
#ifndef BORE_SERVICES_STREAM_RECENT_H
#define BORE_SERVICES_STREAM_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/protocol.h"

struct recent;

struct recent *recent_new(size_t most_events, size_t most_bytes);
void recent_free(struct recent *self);
/* Copies the event; its id follows the newest one's. */
void recent_add(struct recent *self, const struct event *event);
/* Forgets everything; the next event may have any id above `cursor`. */
void recent_reset(struct recent *self, int64_t cursor);
/* Whether every event after cursor is here (true as well when there is none). */
bool recent_covers(const struct recent *self, int64_t cursor);
/* The newest id (or the cursor it was reset to). */
int64_t recent_head(const struct recent *self);
/* Calls visit, in order, for every event after cursor: of all users, or with a user_id of that one, for the price of
 * that user's events alone. */
void recent_each(struct recent *self, const char *user_id, int64_t cursor,
    void (*visit)(const struct event *event, void *user_data), void *user_data);

#endif
