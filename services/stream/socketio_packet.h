/*
 * socketio_packet.h: Socket.IO revision 5 as text: one packet, which an Engine.IO message holds.
 *
 * Source: https://github.com/socketio/socket.io-protocol. What comes from outside is bounded: the depth of its JSON,
 * the length of a namespace, the number of attachments. Pure: no sockets, no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_SOCKETIO_PACKET_H
#define BORE_SERVICES_STREAM_SOCKETIO_PACKET_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"

enum { SOCKETIO_NAMESPACE_MAX = 200, SOCKETIO_DEPTH_MAX = 32, SOCKETIO_ATTACHMENTS_MAX = 10 };

enum socketio_type {
    SOCKETIO_CONNECT,
    SOCKETIO_DISCONNECT,
    SOCKETIO_EVENT,
    SOCKETIO_ACK,
    SOCKETIO_CONNECT_ERROR,
    SOCKETIO_BINARY_EVENT,
    SOCKETIO_BINARY_ACK
};

struct socketio_packet {
    enum socketio_type type;
    unsigned attachments;                        /* messages of bytes that follow; only with the binary types */
    char name_space[SOCKETIO_NAMESPACE_MAX + 1]; /* "/" when the text names none */
    int64_t id;                                  /* of an acknowledgement; -1 when there is none */
    json_t *data;                                /* owned; NULL when there is none */
};

/* Reads a packet and checks that its data fits its type. 0, or -EINVAL, where the connection must be closed; then
 * *ret_packet owns nothing. */
int socketio_packet_parse(const char *text, size_t size, struct socketio_packet *ret_packet);
void socketio_packet_release(struct socketio_packet *packet);

/* Appends an Engine.IO message with the head of a packet; its JSON follows. id < 0: none. */
void socketio_append_head(struct strbuf *out, enum socketio_type type, const char *name_space, int64_t id);

#endif
