/*
 * fanout.h: published messages from XSUB to XPUB, subscriptions the other way. See ARCHITECTURE §2 "Events".
 *
 * A message is two frames: topic (at most TOPIC_MAX bytes) and body. Fan-out loses what a subscriber has no room for,
 * and counts that; nothing durable depends on it. Thread rule: the bus's one thread.
 */
#ifndef BORE_SERVICES_BUS_FANOUT_H
#define BORE_SERVICES_BUS_FANOUT_H

#include <stdbool.h>
#include <stddef.h>

/* Up to `most` messages from publishers to subscribers. Returns whether there may be more; *sent becomes true when
 * something was sent. */
bool fanout_publications(void *xsub, void *xpub, int most, bool *sent);
/* Subscriptions from subscribers to publishers, likewise. */
bool fanout_subscriptions(void *xpub, void *xsub, int most, bool *sent);
/* Publishes a message of the bus's own. */
void fanout_publish(void *xpub, const char *topic, const void *frame, size_t size);

#endif
