/*
 * hub.h: who listens to what. Subscribers by user, and those admins who listen to everything.
 *
 * Transport-free: an SSE stream and a Socket.IO session each give a `transport` that writes events in
 * its own format (once an event, shared by all streams of that transport) and knows how to wake and end a connection.
 * A subscriber gets each event above its cursor exactly once, in order. A queue over the limit ends the stream with the
 * reason "slow_reader"; the client resumes by its cursor. Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_HUB_H
#define BORE_SERVICES_STREAM_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"
#include "proto/protocol.h"
#include "services/stream/outgoing.h"

enum { HUB_WATCHES_MAX = 100 }; /* instances of others that one admin's stream may watch */

struct hub;
struct subscriber;
struct user_group;
struct watch;

struct transport {
    const char *name; /* "sse", "socketio" */
    /* Appends the event in the transport's format; nothing when it is not told. */
    void (*append_event)(struct strbuf *out, const char *epoch, const struct event *event);
    /* Something is in the queue: write it now if that does not block, or when it becomes possible. */
    void (*wake)(struct subscriber *subscriber);
    /* End the connection soon; the hub has already forgotten the subscriber, and its queue is empty. */
    void (*end)(struct subscriber *subscriber, const char *reason);
    /* A watched instance is gone, and with it the watch. May be NULL. */
    void (*unwatched)(struct subscriber *subscriber, const char *instance_id);
};

/* Embedded in a connection. Fill transport, session_id, everything, cursor, expires_at; then hub_add. */
struct subscriber {
    const struct transport *transport;
    struct outgoing_queue queue;
    struct user_group *group;                       /* NULL while not in the hub */
    struct subscriber *next, *previous;             /* all */
    struct subscriber *group_next, *group_previous; /* of this user */
    struct watch *watches;                          /* instances of others */
    unsigned watch_count;
    int64_t cursor;     /* the last event considered */
    int64_t expires_at; /* seconds since the epoch: the token's end */
    bool everything;    /* an admin with scope=all */
    char session_id[41];
};

struct hub_options {
    size_t queue_bytes; /* a stream's limit */
    unsigned most;      /* streams at once */
    unsigned most_a_user;
};

struct hub *hub_new(const struct hub_options *options);
/* Subscribers must be gone. */
void hub_free(struct hub *self);

/* 0, ERR_OVERLOADED (no place), ERR_TOO_MANY_REQUESTS (too many of this user). */
int hub_add(struct hub *self, struct subscriber *subscriber, const char *user_id);
/* Removes and empties it; harmless when it is not in the hub. */
void hub_remove(struct hub *self, struct subscriber *subscriber);

/* Gives an event to everyone who may see it. */
void hub_publish(struct hub *self, const char *epoch, const struct event *event);
/* Puts text into one subscriber's queue and wakes it. `counted`: against its limit. May end it. */
void hub_send(struct hub *self, struct subscriber *subscriber, struct outgoing *text, bool counted);

/* Also gives it all events of this instance, whoever's it is: for admins. 0, or ERR_TOO_MANY_REQUESTS. */
int hub_watch(struct hub *self, struct subscriber *subscriber, const char *instance_id);
/* Whether it was watched. */
bool hub_unwatch(struct hub *self, struct subscriber *subscriber, const char *instance_id);

const char *hub_user_id(const struct subscriber *subscriber);

/* Ends all streams of a session; all whose token ended by `now` (seconds); all. Returns how many. */
unsigned hub_end_session(struct hub *self, const char *session_id, const char *reason);
unsigned hub_end_expired(struct hub *self, int64_t now);
unsigned hub_end_all(struct hub *self, const char *reason);
/* Whether it sees what is not its user's. */
bool hub_is_privileged(const struct subscriber *subscriber);
/* Ends a user's privileged streams (no admin any more). */
unsigned hub_end_privileged_of(struct hub *self, const char *user_id, const char *reason);

/* Calls visit for every subscriber; it may end the one it is given. */
void hub_each(struct hub *self, void (*visit)(struct subscriber *subscriber, void *user_data), void *user_data);
unsigned hub_count(const struct hub *self);
unsigned hub_privileged_count(const struct hub *self);
/* Ends up to `most` streams, the oldest first. Returns how many are left. */
unsigned hub_end_some(struct hub *self, unsigned most, const char *reason);

#endif
