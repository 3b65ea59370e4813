/*
 * sse_stream.h: one HTTP request for GET /api/events/status, from its first byte to the last event. Loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_SSE_STREAM_H
#define BORE_SERVICES_STREAM_SSE_STREAM_H

#include "services/stream/server.h"

struct sse_stream;

/* Authenticates, then opens the stream or hands it to admission. Returns what the lws callback returns; *ret_stream
 * stays NULL when the request was refused. */
int sse_stream_begin(
    struct server *server, struct lws *wsi, const struct http_request *request, struct sse_stream **ret_stream);
/* Admission's answer; takes the job. The stream may be gone by now. */
void sse_stream_admitted(struct server *server, struct admission_job *job);
/* The socket takes bytes. Returns what the lws callback returns. */
int sse_stream_writeable(struct sse_stream *self);
/* The connection has ended, whoever ended it. */
void sse_stream_closed(struct sse_stream *self);
/* Once a second for each open stream: keep-alive when it is due. */
void sse_stream_tick(struct subscriber *subscriber, void *server);

#endif
