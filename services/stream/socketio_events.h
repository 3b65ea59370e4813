/*
 * socketio_events.h: the events that Socket.IO clients send, and the pieces of socketio.c that answering them takes.
 *
 * Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_SOCKETIO_EVENTS_H
#define BORE_SERVICES_STREAM_SOCKETIO_EVENTS_H

#include <jansson.h>

#include "services/stream/engineio.h"

enum socketio_state { SOCKETIO_OUTSIDE, SOCKETIO_JOINING, SOCKETIO_JOINED };

/* An event of a client that has joined: ["name", argument…]; ack_id < 0: no acknowledgement is wanted. */
void socketio_on_event(struct engineio_session *session, const json_t *data, int64_t ack_id);
/* Answers `error`, and the acknowledgement. */
void socketio_refuse_event(struct engineio_session *session, int64_t ack_id, const char *error, const char *message);
/* `subscribed` or `unsubscribed`. */
void socketio_emit_instance(struct engineio_session *session, const char *name, const char *instance_id);

/* --- in socketio.c --- */

/* One event with one argument and the cursor; may end the session. */
void socketio_emit(struct engineio_session *session, const char *name, const char *json);
void socketio_emit_error(struct engineio_session *session, const char *error, const char *message);
/* The subscriber's watches changed. */
void socketio_note_watches(struct engineio_session *session);

#endif
