/*
 * socketio.h: Socket.IO on an Engine.IO session: the namespace `/`, who is let in, events both ways, recovery.
 *
 * What clients may say and what they are told is in API.md "Real time" and docs/realtime.md. Every event ends with the
 * cursor as a string, which official clients give back as `offset` when they return: so a stream is resumed on any
 * replica and after a restart. Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_SOCKETIO_H
#define BORE_SERVICES_STREAM_SOCKETIO_H

#include "services/stream/engineio.h"

/* A new session: it must join the namespace within some seconds. */
void socketio_init(struct engineio_session *session);
/* The data of a message. May end the session. */
void socketio_receive(struct engineio_session *session, const struct engineio_packet *packet);
/* The session has ended: it leaves the hub. */
void socketio_ended(struct engineio_session *session);
/* Now and then, at most once a second: allowances, and the cursor of clients that heard nothing for long. */
void socketio_tick(struct engineio_session *session, int64_t now_ms);
void socketio_announce_shutdown(struct engineio_session *session);

#endif
