/*
 * bus_envelope.h: reads the outside of batches, without copying or decoding the bodies in them.
 *
 * The bus and the client only need to know whose a request or a reply is. The scan steps over bodies, allocates
 * nothing, and lets through only what message_decode_frame of the same message accepts (a test compares the two), so
 * that no caller can hand a worker what it cannot read. Keys may come in any order, unknown ones are skipped. Thread
 * rule: no shared state; any thread.
 */
#ifndef BORE_SERVICES_LIB_BUS_ENVELOPE_H
#define BORE_SERVICES_LIB_BUS_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/protocol.h"

#define BUS_LANE_MAX 40 /* bytes of a lane's name */

struct envelope_request {
    int64_t correlation;
    int64_t budget_ms;
    uint32_t budget_offset; /* of the budget's msgpack value in the frame */
    int method;
};

struct request_envelope {
    char lane[BUS_LANE_MAX + 1];
    size_t count; /* 1..BUS_BATCH_MAX */
    struct envelope_request requests[BUS_BATCH_MAX];
};

struct envelope_reply {
    int64_t correlation;
    int code;                  /* 0, or the number of an error (errors.def) */
    const unsigned char *body; /* inside the frame */
    size_t body_size;
};

struct reply_envelope {
    size_t count; /* 1..BUS_BATCH_MAX */
    struct envelope_reply replies[BUS_BATCH_MAX];
};

/* Of a REQUEST_BATCH or REPLY_BATCH frame. 0, or -EBADMSG with *ret_envelope undefined. A lane's name is
 * [a-z0-9._-]{1,40}; an empty batch is refused. */
int request_envelope_scan(const void *frame, size_t size, struct request_envelope *ret_envelope);
int reply_envelope_scan(const void *frame, size_t size, struct reply_envelope *ret_envelope);

/* Makes a request's budget (its msgpack value, at budget_offset in a scanned frame) smaller, in the bytes it already
 * has; never makes it larger. */
void bus_budget_set(unsigned char *value, int64_t budget_ms);

#endif
