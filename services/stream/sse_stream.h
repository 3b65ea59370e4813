/*
 * sse_stream.h: one HTTP request for GET /api/events/status, from its first byte to the last event. Loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_SSE_STREAM_H
#define BORE_SERVICES_STREAM_SSE_STREAM_H

#include "services/stream/server.h"

/* Authenticates, then opens the stream or hands it to admission; the connection becomes the stream's, unless the
 * request was refused. Returns what the lws callback returns. */
int sse_stream_begin(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection);
/* Once a second for each open stream: keep-alive when it is due. */
void sse_stream_tick(struct subscriber *subscriber, void *server);

#endif
