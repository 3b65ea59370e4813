/*
 * engineio_websocket.c: Engine.IO over a WebSocket (RFC 6455), and the upgrade from polling. See engineio.h.
 *
 * Frames are written by hand: an unmasked server's frame is a head of at most ten bytes, so that several packets leave
 * in one write, and one packet without a copy. libwebsockets does the handshake, the reading and the closing.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/stream/engineio.h"
#include "services/stream/engineio_http.h"

enum { WRITE_MAX = 32768, FRAME_HEAD_MAX = 10, UPGRADE_MS = 10000, CLOSE_SECONDS = 3, REASON_MAX = 100 };

/* ---- writing ---- */

/* The head of a whole text frame; its length. */
static size_t frame_head(unsigned char *ret_head, size_t size) {
    ret_head[0] = 0x81;
    if (size < 126) {
        ret_head[1] = (unsigned char)size;
        return 2;
    }
    unsigned bytes = size < 65536 ? 2 : 8;
    ret_head[1] = bytes == 2 ? 126 : 127;
    for (unsigned i = 0; i < bytes; i++)
        ret_head[2 + i] = (unsigned char)((uint64_t)size >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}

/* LWS_WRITE_HTTP: these bytes as they are. */
static int write_raw(struct engineio_session *session, unsigned char *bytes, size_t size) {
    return lws_write(session->websocket, bytes, size, LWS_WRITE_HTTP) < 0 ? -1 : 0;
}

/* The head goes into the room in front of the text, which every reader of this text fills alike. */
static int write_one(struct engineio_session *session, struct outgoing *item) {
    unsigned char head[FRAME_HEAD_MAX], *text = outgoing_text(item);
    size_t head_size = frame_head(head, outgoing_size(item));
    memcpy(text - head_size, head, head_size);
    int error = write_raw(session, text - head_size, head_size + outgoing_size(item));
    outgoing_queue_pop(&session->subscriber.queue);
    return error;
}

static int write_some(struct engineio_session *session) {
    static unsigned char buffer[LWS_PRE + WRITE_MAX]; /* the loop is one thread */
    struct outgoing_queue *queue = &session->subscriber.queue;
    struct outgoing *item = outgoing_queue_peek(queue);
    if (queue->count == 1 || outgoing_size(item) + FRAME_HEAD_MAX > WRITE_MAX) return write_one(session, item);
    unsigned char *start = buffer + LWS_PRE;
    size_t size = 0;
    while ((item = outgoing_queue_peek(queue)) != NULL && size + FRAME_HEAD_MAX + outgoing_size(item) <= WRITE_MAX) {
        size += frame_head(start + size, outgoing_size(item));
        memcpy(start + size, outgoing_text(item), outgoing_size(item));
        size += outgoing_size(item);
        outgoing_queue_pop(queue);
    }
    return write_raw(session, start, size);
}

void engineio_websocket_wake(struct engineio_session *session) {
    if (outgoing_queue_empty(&session->subscriber.queue)) return;
    /* what the socket does not take lws keeps, once; until it has left we queue */
    if (!lws_partial_buffered(session->websocket) && write_some(session) < 0)
        lws_set_timeout(session->websocket, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    else if (!outgoing_queue_empty(&session->subscriber.queue))
        lws_callback_on_writable(session->websocket);
}

void engineio_websocket_close(struct engineio_session *session, const char *reason) {
    if (!session->websocket) return;
    char text[REASON_MAX];
    snprintf(text, sizeof text, "%s", reason);
    lws_close_reason(session->websocket,
        strcmp(reason, "message_too_large") == 0 ? LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE
        : strcmp(reason, "server_shutdown") == 0 ? LWS_CLOSE_STATUS_NORMAL
                                                 : LWS_CLOSE_STATUS_POLICY_VIOLATION,
        (unsigned char *)text, strlen(text));
    session->upgrade_due_ms = -1; /* it closes: nothing that it says counts any more */
    lws_set_timeout(session->websocket, PENDING_TIMEOUT_USER_OK, CLOSE_SECONDS); /* for a client that reads nothing */
    lws_callback_on_writable(session->websocket);
}

static bool is_closing(const struct engineio_session *session) {
    return session->upgrade_due_ms < 0 || session->state == ENGINEIO_ENDED;
}

static int on_writeable(void *owner) {
    struct engineio_session *session = owner;
    bool carries = session->state == ENGINEIO_WEBSOCKET || session->state == ENGINEIO_ENDED;
    if (carries && !outgoing_queue_empty(&session->subscriber.queue)) {
        if (write_some(session) < 0) return -1;
        lws_callback_on_writable(session->websocket);
        return 0;
    }
    return is_closing(session) ? -1 : 0;
}

/* ---- reading ---- */

/* While the session is still polled: the probe, then the upgrade, in this order. */
static void receive_probe(struct engineio_session *session, const struct engineio_packet *packet) {
    if (session->state == ENGINEIO_POLLING && packet->type == ENGINEIO_PING && engineio_packet_says(packet, "probe")) {
        unsigned char answer[LWS_PRE + 6];
        memcpy(answer + LWS_PRE, "3probe", 6);
        lws_write(session->websocket, answer + LWS_PRE, 6, LWS_WRITE_TEXT);
        session->state = ENGINEIO_PROBED;
        if (session->poll) engineio_poll_wake(session->poll);
    } else if (session->state == ENGINEIO_PROBED && packet->type == ENGINEIO_UPGRADE) {
        session->state = ENGINEIO_WEBSOCKET;
        session->upgrade_due_ms = 0;
        session->pong_due_ms = 0;
        if (session->poll) engineio_poll_leave(session->poll);
        engineio_websocket_wake(session);
    } else {
        if (session->state == ENGINEIO_PROBED) session->state = ENGINEIO_POLLING;
        engineio_websocket_close(session, "no_probe");
    }
}

static void receive_message(struct engineio_session *session, const char *text, size_t size, bool is_binary) {
    struct engineio_packet packet = { .type = ENGINEIO_MESSAGE, .is_binary = true, .data = text, .size = size };
    if (!is_binary && engineio_packet_parse(text, size, &packet) != 0) {
        if (session->state == ENGINEIO_WEBSOCKET)
            engineio_end(session, "invalid_packet", "1");
        else
            engineio_websocket_close(session, "invalid_packet");
    } else if (session->state == ENGINEIO_WEBSOCKET) {
        engineio_receive(session, &packet);
    } else {
        receive_probe(session, &packet);
    }
}

/* A part of a message: whole ones are used where they lie, others are put together first. */
static int on_received(void *owner, const void *data, size_t size) {
    struct engineio_session *session = owner;
    if (is_closing(session)) return 0;
    struct lws *wsi = session->websocket;
    bool is_whole = lws_is_final_fragment(wsi) && lws_remaining_packet_payload(wsi) == 0;
    bool is_binary = lws_frame_is_binary(wsi) != 0;
    struct strbuf *incoming = &session->incoming;
    if (incoming->size + size > ENGINEIO_PAYLOAD_MAX) {
        if (session->state == ENGINEIO_WEBSOCKET)
            engineio_end(session, "message_too_large", "1");
        else
            engineio_websocket_close(session, "message_too_large");
        return 0;
    }
    engineio_hold(session);
    if (is_whole && incoming->size == 0) {
        receive_message(session, data, size, is_binary);
    } else {
        strbuf_append(incoming, data, size);
        if (is_whole) {
            receive_message(session, incoming->data, incoming->size, is_binary);
            strbuf_release(incoming);
            strbuf_init(incoming);
        }
    }
    engineio_release(session);
    return 0;
}

static void on_closed(void *owner) {
    struct engineio_session *session = owner;
    engineio_hold(session);
    session->websocket = NULL;
    if (session->state == ENGINEIO_WEBSOCKET) {
        engineio_end(session, "transport_closed", "1");
    } else if (session->state != ENGINEIO_ENDED) { /* the upgrade failed; polling goes on */
        session->state = ENGINEIO_POLLING;
        session->upgrade_due_ms = 0;
        strbuf_release(&session->incoming);
        strbuf_init(&session->incoming);
    }
    engineio_release(session);
}

static const struct connection_handler handler = {
    .writeable = on_writeable, .closed = on_closed, .body = on_received
};

/* ---- opening ---- */

int engineio_websocket_begin(
    struct server *server, struct lws *wsi, const struct http_request *request, struct connection *connection) {
    int error;
    struct engineio_session *session = request->sid[0] ? engineio_find(server->engineio, request->sid)
                                                       : engineio_open(server->engineio, request, &error);
    if (!session || session->websocket) return -1;
    session->websocket = wsi;
    server_bound_socket(wsi);
    *connection = (struct connection){ &handler, session };
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    if (request->sid[0]) {
        session->upgrade_due_ms = clock_monotonic_ms() + UPGRADE_MS;
        return 0;
    }
    session->state = ENGINEIO_WEBSOCKET;
    _cleanup_strbuf_ struct strbuf packet = STRBUF_INIT;
    engineio_append_open(
        &packet, session->sid, false, server->options.ping_interval_ms, server->options.ping_timeout_ms);
    engineio_send(session, packet.data, packet.size);
    return 0;
}
