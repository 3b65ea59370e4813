/*
 * engineio_http.h: the requests of Engine.IO's polling transport, and the ones that ask for a WebSocket.
 *
 * Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_ENGINEIO_HTTP_H
#define BORE_SERVICES_STREAM_ENGINEIO_HTTP_H

#include "services/stream/engineio.h"

/* GET, POST or OPTIONS of /socket.io/. Returns what the lws callback returns. */
int engineio_http_request(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection);
/* Whether a WebSocket may be made: 0, or -1 after it was refused by an answer. */
int engineio_http_upgrade(struct server *server, struct lws *wsi, const struct http_request *request);

/* Something is queued, or the session's upgrade makes the GET superfluous: it is answered soon. */
void engineio_poll_wake(struct engineio_poll *self);
/* The session left polling: the GET is answered with a no-operation, and the session forgets it. */
void engineio_poll_leave(struct engineio_poll *self);
/* The session has ended: the GET is answered with what is queued and a last packet, and the session forgets it. */
void engineio_poll_finish(struct engineio_poll *self, const char *last_packet);
/* The session has ended: the body that still comes is nobody's. */
void engineio_post_abandon(struct engineio_post *self);

#endif
