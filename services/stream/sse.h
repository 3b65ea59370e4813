/*
 * sse.h: events as server-sent events, the text that API.md "Real time" promises.
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Thread rule: no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_SSE_H
#define BORE_SERVICES_STREAM_SSE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/strbuf.h"
#include "proto/protocol.h"

enum { SSE_RETRY_MS = 2000, SSE_COMMENT_SECONDS = 15 };

/* Whether a kind of event is told to clients at all. */
bool sse_is_told(const char *kind);
/* Appends one event; nothing when its kind is not told. */
void sse_append_event(struct strbuf *out, const char *epoch, const struct event *event);
/* The first block of a stream: retry, the cursor that it continues from, `connected`. */
void sse_append_connected(struct strbuf *out, const char *epoch, int64_t cursor, int64_t now_ms);
/* Tells the client to reload: events between its cursor and this one are not to be had. */
void sse_append_reset(struct strbuf *out, const char *epoch, int64_t cursor, int64_t now_ms);
/* A comment; with a cursor >= 0 also an id-only block, which moves Last-Event-ID and dispatches nothing. */
void sse_append_keep_alive(struct strbuf *out, const char *epoch, int64_t cursor);

#endif
