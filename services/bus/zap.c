/*
 * zap.c: see zap.h. A question has seven frames (version, request id, domain, address, identity, mechanism,
 * credentials), an answer six (version, request id, status, text, user id, metadata). A question of another form is
 * answered 400.
 */
#include "services/bus/zap.h"

#include <string.h>
#include <zmq.h>

#include "services/bus/drops.h"

enum { FRAMES = 7, FRAME_MAX = 255, REQUEST_ID = 1, MECHANISM = 5, CREDENTIALS = 6 };

struct frame {
    size_t size;
    unsigned char data[FRAME_MAX];
};

void *zap_socket_new(void *context) {
    void *socket = zmq_socket(context, ZMQ_REP);
    int linger = 0;
    if (socket == NULL) return NULL;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
    if (zmq_bind(socket, "inproc://zeromq.zap.01") == 0) return socket;
    zmq_close(socket);
    return NULL;
}

/* Reads all frames of one question; returns how many there were, 0 when there is none. */
static size_t receive(void *socket, struct frame *frames) {
    size_t count = 0;
    int more = 1;
    size_t size = sizeof(more);
    while (more) {
        struct frame rest;
        struct frame *frame = count < FRAMES ? &frames[count] : &rest;
        int received = zmq_recv(socket, frame->data, FRAME_MAX, ZMQ_DONTWAIT);
        if (received < 0) return count;
        frame->size = (size_t)received; /* of a longer one the true size, which then fits nothing */
        count++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) != 0) return count;
    }
    return count;
}

static bool is_allowed(const struct frame *frames, size_t count, const struct bus_keys *keys) {
    return count == FRAMES && frames[MECHANISM].size == strlen("CURVE") &&
           memcmp(frames[MECHANISM].data, "CURVE", strlen("CURVE")) == 0 && frames[CREDENTIALS].size <= FRAME_MAX &&
           bus_keys_accept(keys, frames[CREDENTIALS].data, frames[CREDENTIALS].size);
}

bool zap_answer(void *socket, const struct bus_keys *keys) {
    struct frame frames[FRAMES];
    frames[REQUEST_ID].size = 0;
    size_t count = receive(socket, frames);
    if (count == 0) return false;
    bool allowed = is_allowed(frames, count, keys);
    if (!allowed) drop_count(DROP_KEY_REFUSED);
    const char *status = allowed ? "200" : "400";
    size_t id_size = frames[REQUEST_ID].size <= FRAME_MAX ? frames[REQUEST_ID].size : 0;
    zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(socket, frames[REQUEST_ID].data, id_size, ZMQ_SNDMORE);
    zmq_send(socket, status, 3, ZMQ_SNDMORE);
    zmq_send(socket, allowed ? "OK" : "no", 2, ZMQ_SNDMORE);
    zmq_send(socket, "", 0, ZMQ_SNDMORE);
    zmq_send(socket, "", 0, 0);
    return true;
}
