/*
 * engineio.h: Engine.IO sessions: a client's place between its requests and its WebSocket, whatever carries it.
 *
 * A session is OPEN until it ends, carried by polling or, after an upgrade or from the start, by a WebSocket. What
 * waits for the client is in its subscriber's queue as packets of text. What the messages say is socketio.c's affair.
 * Source: https://github.com/socketio/engine.io-protocol. Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_ENGINEIO_H
#define BORE_SERVICES_STREAM_ENGINEIO_H

#include "services/stream/engineio_packet.h"
#include "services/stream/server.h"

enum { ENGINEIO_SID_MAX = 72 };

struct engineio;
struct engineio_poll; /* a GET that waits (engineio_http.c) */
struct engineio_post; /* a POST whose body arrives */

enum engineio_state {
    ENGINEIO_POLLING,   /* polls carry it; `websocket`, if any, has not proven itself */
    ENGINEIO_PROBED,    /* the WebSocket answered the probe: polls end, the upgrade packet is awaited */
    ENGINEIO_WEBSOCKET, /* the WebSocket carries it */
    ENGINEIO_ENDED      /* in no table; waits for its connections to close */
};

struct engineio_session {
    struct subscriber subscriber; /* first; its queue holds what waits for the client, in the hub or not */
    struct server *server;
    struct lws *websocket;
    struct engineio_poll *poll;
    struct engineio_post *post;
    struct engineio_session *next, *previous; /* of all */
    struct tally_entry *address;
    struct strbuf incoming;                           /* a WebSocket message that is not yet whole */
    int64_t ping_due_ms, pong_due_ms, upgrade_due_ms; /* monotonic; 0: none */
    enum engineio_state state;
    unsigned references; /* jobs in admission, and calls on the stack */
    char sid[ENGINEIO_SID_MAX];

    /* of socketio.c */
    char *token; /* of the handshake's header or cookie; NULL when none */
    int64_t connect_due_ms;
    unsigned ticked_second;
    unsigned short credit;         /* events that the client may send now */
    unsigned char socketio_state;  /* enum socketio_state */
    unsigned char attachments_due; /* of an event that was refused */
    unsigned char questions;       /* of this client, in admission */
};

struct engineio *engineio_new(struct server *server);
/* Ends the timer; no call may follow but engineio_free, which frees what lws has closed by then. */
void engineio_stop(struct engineio *self);
void engineio_free(struct engineio *self);

/* A new session, or NULL with *ret_error (ERR_…) when there is no place. token: see above, may be NULL. */
struct engineio_session *engineio_open(struct engineio *self, const struct http_request *request, int *ret_error);
struct engineio_session *engineio_find(struct engineio *self, const char *sid);

/* One packet from the client, over whatever carries the session; it may end it. */
void engineio_receive(struct engineio_session *session, const struct engineio_packet *packet);
/* Queues text that is a whole packet, and writes it as soon as the client takes it. */
void engineio_send(struct engineio_session *session, const char *text, size_t size);
/* The queue has something: subscriber.transport->wake. */
void engineio_wake(struct engineio_session *session);

/* Ends the session, for a reason that goes into the log and into a WebSocket's closing frame. What is queued is still
 * written. A GET that waits is answered with what is queued and `last_packet` ("1": closed, "6": as asked). */
void engineio_end(struct engineio_session *session, const char *reason, const char *last_packet);

/* Keeps the session's memory while a pointer is in use elsewhere. */
void engineio_hold(struct engineio_session *session);
void engineio_release(struct engineio_session *session);

/* Tells every Socket.IO client that this process is about to end. */
void engineio_announce_shutdown(struct engineio *self);

/* --- the WebSocket (engineio_websocket.c) --- */

/* A WebSocket was made, for a new session or as the upgrade of one; the request was found good by
 * engineio_http_upgrade. Returns what the lws callback returns. */
int engineio_websocket_begin(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection);
void engineio_websocket_wake(struct engineio_session *session);
/* The session has ended, or its WebSocket was not accepted: closes the WebSocket behind what is queued. */
void engineio_websocket_close(struct engineio_session *session, const char *reason);

#endif
