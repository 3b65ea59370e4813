/*
 * engineio_packet.h: Engine.IO revision 4 as text: packets, payloads of the polling transport, what a request must say,
 * and the bodies of refusals.
 *
 * Source: https://github.com/socketio/engine.io-protocol. Pure: no sockets, no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_ENGINEIO_PACKET_H
#define BORE_SERVICES_STREAM_ENGINEIO_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"

enum { ENGINEIO_PAYLOAD_MAX = 1000000 }; /* bytes of one request or one WebSocket message: maxPayload */
#define ENGINEIO_SEPARATOR '\x1e'

enum engineio_type {
    ENGINEIO_OPEN,
    ENGINEIO_CLOSE,
    ENGINEIO_PING,
    ENGINEIO_PONG,
    ENGINEIO_MESSAGE,
    ENGINEIO_UPGRADE,
    ENGINEIO_NOOP
};

struct engineio_packet {
    enum engineio_type type;
    bool is_binary;   /* a message of bytes; in a payload still in base64 */
    const char *data; /* borrowed from the text, not terminated */
    size_t size;
};

/* One packet of text, as a WebSocket message holds it. 0 or -EINVAL. */
int engineio_packet_parse(const char *text, size_t size, struct engineio_packet *ret_packet);
/* The next packet of a payload; *position (at first the payload's beginning) moves behind it. 1: a packet, 0: the end,
 * -EINVAL: no packet, where the session must be closed. An empty payload holds no packet and is -EINVAL at once. */
int engineio_payload_next(const char **position, const char *end, struct engineio_packet *ret_packet);

/* Whether a packet's data is exactly this text. */
bool engineio_packet_says(const struct engineio_packet *packet, const char *text);

/* The open packet. */
void engineio_append_open(
    struct strbuf *out, const char *sid, bool may_upgrade, int64_t ping_interval_ms, int64_t ping_timeout_ms);

enum engineio_error {
    ENGINEIO_FINE = -1,
    ENGINEIO_UNKNOWN_TRANSPORT,
    ENGINEIO_UNKNOWN_SID,
    ENGINEIO_BAD_HANDSHAKE_METHOD,
    ENGINEIO_BAD_REQUEST,
    ENGINEIO_FORBIDDEN,
    ENGINEIO_UNSUPPORTED_PROTOCOL
};

/* `{"code":…,"message":"…"}`, a constant; and its HTTP status. */
const char *engineio_error_body(enum engineio_error error);
unsigned engineio_error_status(enum engineio_error error);

/* What a request says of itself, before any session is looked up. Texts are "" when absent. */
struct engineio_query {
    const char *revision;  /* EIO */
    const char *transport; /* polling, websocket */
    const char *sid;
    const char *method; /* of HTTP */
    bool is_upgrade;    /* asks for a WebSocket */
};
enum engineio_error engineio_query_check(const struct engineio_query *query);

#endif
