/*
 * server.h: the loop of stream: libwebsockets' context, and everything that only the loop thread touches.
 *
 * Neither libpq nor ZeroMQ runs here (ARCHITECTURE §1): their threads post letters (inbox.h) and wake the loop.
 */
#ifndef BORE_SERVICES_STREAM_SERVER_H
#define BORE_SERVICES_STREAM_SERVER_H

#include <czmq.h>
#include <libwebsockets.h>
#include <stdbool.h>

#include "services/lib/counters.h"
#include "services/lib/revocations.h"
#include "services/lib/token.h"
#include "services/stream/admission.h"
#include "services/stream/http.h"
#include "services/stream/hub.h"
#include "services/stream/inbox.h"
#include "services/stream/recent.h"
#include "services/stream/tally.h"

struct engineio;

enum { SERVER_RECENT_EVENTS = 20000 }; /* kept in memory for those who come back */

struct server_options {
    const char *address; /* copied */
    int port;
    const char *jwt_secret;          /* borrowed, as all texts below */
    const char *jwt_secret_previous; /* what was made with it is accepted too; "" or NULL: none */
    const char *allowed_origins;
    const char *edge_secret;
    unsigned most_an_address;
    int64_t ping_interval_ms, ping_timeout_ms; /* of Engine.IO */
    struct hub_options hub;
};

struct server {
    struct server_options options;
    struct lws_context *context;
    struct hub *hub;
    struct recent *recent;
    struct token_cache *tokens;
    struct inbox *inbox;
    struct revocation_set *revocations; /* set before the loop runs */
    struct admission *admission;        /* likewise */
    struct engineio *engineio;
    struct tally *addresses; /* open streams by client address */
    struct tally *replays;   /* reads of the log by user, those that admission holds */
    zhashx_t *rechecked;     /* user ids asked about in this tick */
    char epoch[20];
    bool is_ready; /* the log was read to its end once, and the recent events are here */
    void (*read_epoch)(char *ret_epoch, size_t size);
    const char *allowed_origins;
    struct ev_loop *loop;
    lws_sorted_usec_list_t tick;
    lws_sorted_usec_list_t ending;
    bool stopping;
    int64_t stop_deadline_ms;
    unsigned sse_open, socketio_open;
    struct counter *active_sse, *opened_sse, *active_socketio, *opened_socketio;
};

/* One connection of lws, from its request on: who has it, and what that one does with it. */
struct connection_handler {
    int (*writeable)(void *owner);                           /* returns what the lws callback returns */
    void (*closed)(void *owner);                             /* whoever ended it */
    int (*body)(void *owner, const void *data, size_t size); /* a part of the request's body, or of a message */
    int (*body_complete)(void *owner);                       /* may be NULL, like body */
};

struct connection {
    const struct connection_handler *handler; /* NULL: nobody */
    void *owner;
};

/* NULL when the port cannot be had; lws has logged why. */
struct server *server_new(const struct server_options *options);
/* Runs until a LETTER_STOP was handled and the streams have ended. */
void server_run(struct server *self);
void server_free(struct server *self);

/* Bounds what the kernel keeps for a client that does not read; what is beyond waits in the stream's own queue. */
void server_bound_socket(struct lws *wsi);

/* What other threads call. */
void server_wake(void *server);

/* Seconds since the epoch. */
int64_t server_now_seconds(void);

#endif
