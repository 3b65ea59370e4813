/*
 * client_watch.h: notices that a client leaves while it is being answered, or waits for its answer.
 *
 * libwebsockets 4.1 does not read from a connection while it answers, not even its end, which then keeps the loop awake
 * without a pause. So this reads what comes, next to it. Whatever a client says after its request has no meaning; when
 * it is gone, the connection is ended at once, which calls its `closed` (server.h).
 */
#ifndef BORE_SERVICES_STREAM_CLIENT_WATCH_H
#define BORE_SERVICES_STREAM_CLIENT_WATCH_H

#include <ev.h>
#include <libwebsockets.h>

/* Embedded in what serves the connection, which must stay where it is while watched. */
struct client_watch {
    struct lws *wsi; /* borrowed */
    ev_io incoming;
};

/* Thread rule for both: the loop thread alone. */
void client_watch_start(struct client_watch *self, struct ev_loop *loop, struct lws *wsi);
/* To be called in `closed`, at the latest. Once more does nothing. */
void client_watch_stop(struct client_watch *self, struct ev_loop *loop);

#endif
