/*
 * socketio_text.h: what is told to Socket.IO clients, as text: events of the log and the server's own.
 *
 * Every text is an Engine.IO message of one Socket.IO packet. Thread rule: no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_SOCKETIO_TEXT_H
#define BORE_SERVICES_STREAM_SOCKETIO_TEXT_H

#include <stdbool.h>

#include "proto/protocol.h"
#include "services/stream/socketio_packet.h"

/* The last argument of an event: "<epoch>-<id>", and with is_marked a `!` behind it. A marked cursor belongs to a
 * client that hears of more than its own user's instances by `subscribe`: it is no promise that can be kept elsewhere.
 */
void socketio_append_cursor(struct strbuf *out, const char *epoch, int64_t id, bool is_marked);
/* An event of the log; nothing when its kind is not told. */
void socketio_append_event(struct strbuf *out, const char *epoch, const struct event *event);
void socketio_append_event_marked(struct strbuf *out, const char *epoch, const struct event *event);

/* The beginning of an event, up to its argument, and its end behind it. */
void socketio_begin_event(struct strbuf *out, const char *name);
void socketio_end_event(struct strbuf *out, const char *epoch, int64_t id, bool is_marked);

/* CONNECT_ERROR of the namespace `/`. */
void socketio_append_connect_error(struct strbuf *out, const char *message, const char *error);

#endif
