/*
 * fuzz_bus_frames.c: the bus's scan of batches against bytes from anywhere (libFuzzer).
 *
 * What the scan of a request batch lets through, the codec must read as well, before and after the bus has shortened
 * its budgets; what it finds must lie inside the frame. The same for replies.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/bus_frames.
 */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/lib/bus_envelope.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static void check_requests(const unsigned char *data, size_t size) {
    static struct request_envelope envelope;
    struct request_batch batch;
    if (request_envelope_scan(data, size, &envelope) != 0) return;
    unsigned char *frame = xmemdup(data, size);
    for (size_t i = 0; i < envelope.count; i++) {
        require(envelope.requests[i].budget_offset < size);
        bus_budget_set(frame + envelope.requests[i].budget_offset, (int64_t)i);
    }
    require(message_decode_frame(&request_batch_descriptor, frame, size, &batch) == 0);
    require(strcmp(batch.lane, envelope.lane) == 0 && batch.requests_count == envelope.count);
    for (size_t i = 0; i < envelope.count; i++) {
        require(batch.requests[i].correlation == envelope.requests[i].correlation);
        require(batch.requests[i].method == envelope.requests[i].method);
        require(batch.requests[i].budget_ms <= envelope.requests[i].budget_ms);
        require(batch.requests[i].budget_ms <= (int64_t)i);
    }
    message_release(&request_batch_descriptor, &batch);
    free(frame);
}

static void check_replies(const unsigned char *data, size_t size) {
    static struct reply_envelope envelope;
    struct reply_batch batch;
    if (reply_envelope_scan(data, size, &envelope) != 0) return;
    require(message_decode_frame(&reply_batch_descriptor, data, size, &batch) == 0);
    require(batch.replies_count == envelope.count);
    for (size_t i = 0; i < envelope.count; i++) {
        const struct envelope_reply *reply = &envelope.replies[i];
        require(reply->body >= data && reply->body + reply->body_size <= data + size);
        require(batch.replies[i].correlation == reply->correlation && batch.replies[i].code == reply->code);
        require(batch.replies[i].body_size == reply->body_size);
    }
    message_release(&reply_batch_descriptor, &batch);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    check_requests(data, size);
    check_replies(data, size);
    return 0;
}
