/*
 * test_bus_envelope.c: the scan of batches sees what the codec sees, refuses what it refuses, survives any bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/lib/bus_envelope.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int64_t random_int(int64_t limit) {
    unsigned bits = (unsigned)(next_random() % 40);
    uint64_t count = limit > 0 ? (uint64_t)limit + 1 : 1;
    return (int64_t)(next_random() % (UINT64_C(1) << bits) % count);
}

static void make_requests(struct strbuf *frame, size_t count, struct bus_request *ret_requests) {
    static unsigned char body[2000];
    for (size_t i = 0; i < count; i++) {
        ret_requests[i] = (struct bus_request){
            .correlation = (int64_t)next_random(),
            .method = 1 + random_int(65534),
            .budget_ms = random_int(600000),
            .request_id = (char *)(uintptr_t) "r-1",
            .body = body,
            .body_size = (size_t)random_int(sizeof(body)),
        };
    }
    struct request_batch batch = {
        .lane = (char *)(uintptr_t) "registry.validate", .requests = ret_requests, .requests_count = count
    };
    strbuf_clear(frame);
    assert_int_equal(message_encode_frame(&request_batch_descriptor, &batch, frame), 0);
}

static void test_requests_as_the_codec_wrote_them(void **state) {
    static struct request_envelope envelope;
    struct bus_request requests[BUS_BATCH_MAX];
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t count = 1 + (size_t)random_int(BUS_BATCH_MAX - 1);
        make_requests(&frame, count, requests);
        assert_int_equal(request_envelope_scan(frame.data, frame.size, &envelope), 0);
        assert_string_equal(envelope.lane, "registry.validate");
        assert_int_equal(envelope.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(envelope.requests[i].correlation, requests[i].correlation);
            assert_int_equal(envelope.requests[i].method, requests[i].method);
            assert_int_equal(envelope.requests[i].budget_ms, requests[i].budget_ms);
        }
    }
}

static void test_replies_as_the_codec_wrote_them(void **state) {
    static struct reply_envelope envelope;
    unsigned char body[] = "a body";
    struct bus_reply replies[] = {
        { .correlation = 1, .code = 0, .body = body, .body_size = sizeof(body) },
        { .correlation = INT64_MIN, .code = 999 },
        { .correlation = -70000, .code = 25, .body = body, .body_size = 1 },
    };
    struct reply_batch batch = { .replies = replies, .replies_count = ARRAY_SIZE(replies) };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    (void)state;
    assert_int_equal(message_encode_frame(&reply_batch_descriptor, &batch, &frame), 0);
    assert_int_equal(reply_envelope_scan(frame.data, frame.size, &envelope), 0);
    assert_int_equal(envelope.count, ARRAY_SIZE(replies));
    for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
        assert_int_equal(envelope.replies[i].correlation, replies[i].correlation);
        assert_int_equal(envelope.replies[i].code, replies[i].code);
        assert_int_equal(envelope.replies[i].body_size, replies[i].body_size);
        assert_memory_equal(envelope.replies[i].body, replies[i].body, replies[i].body_size);
    }
}

static void test_a_budget_shrinks_in_place(void **state) {
    static struct request_envelope envelope;
    struct bus_request requests[20];
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    (void)state;
    for (int round = 0; round < 500; round++) {
        struct request_batch batch;
        int64_t wanted[20];
        make_requests(&frame, 20, requests);
        assert_int_equal(request_envelope_scan(frame.data, frame.size, &envelope), 0);
        for (size_t i = 0; i < 20; i++) {
            wanted[i] = random_int(700000);
            bus_budget_set((unsigned char *)frame.data + envelope.requests[i].budget_offset, wanted[i]);
        }
        assert_int_equal(message_decode_frame(&request_batch_descriptor, frame.data, frame.size, &batch), 0);
        for (size_t i = 0; i < 20; i++) {
            int64_t expected = wanted[i] < requests[i].budget_ms ? wanted[i] : requests[i].budget_ms;
            assert_int_equal(batch.requests[i].budget_ms, expected);
            assert_int_equal(batch.requests[i].body_size, requests[i].body_size);
        }
        message_release(&request_batch_descriptor, &batch);
    }
}

static int scan_requests(const char *bytes, size_t size) {
    static struct request_envelope envelope;
    return request_envelope_scan(bytes, size, &envelope);
}

#define SCAN(text) scan_requests(text, sizeof(text) - 1)
/* msgpack by hand, in octal: \2xx maps and arrays, \24x and \25x texts, \304 binary. */
#define REQUEST "\205\253correlation\1\246method\5\251budget_ms\12\252request_id\240\244body\304\0"
#define LANE    "\244lane\241a"

static void test_what_is_refused(void **state) {
    (void)state;
    assert_int_equal(SCAN("\1\202" LANE "\250requests\221" REQUEST), 0);
    /* any order, unknown keys, wide formats */
    assert_int_equal(SCAN("\1\203\250requests\334\0\1" REQUEST "\243new\222\1\300\244lane\331\1a"), 0);
    assert_int_equal(SCAN("\1\203" LANE "\243new\221\221\221\221\221\300\250requests\221" REQUEST), 0);
    /* too deep, cut, of another kind, empty, twice, missing, lying */
    assert_true(SCAN("\1\203" LANE "\243new\221\221\221\221\221\221\221\221\221\300\250requests\221" REQUEST) < 0);
    assert_true(SCAN("") < 0);
    assert_true(SCAN("\2\202" LANE "\250requests\221" REQUEST) < 0);
    assert_true(SCAN("\1\202" LANE "\250requests\220") < 0);
    assert_true(SCAN("\1\201\250requests\221" REQUEST) < 0);
    assert_true(SCAN("\1\201" LANE) < 0);
    assert_true(SCAN("\1\202\244lane\240\250requests\221" REQUEST) < 0);
    assert_true(SCAN("\1\202\244lane\241A\250requests\221" REQUEST) < 0);
    assert_true(SCAN("\1\202\244lane\241\"\250requests\221" REQUEST) < 0);
    assert_true(SCAN("\1\202" LANE "\250requests\221" REQUEST "\0") < 0);
    assert_true(SCAN("\1\203" LANE "\250requests\221" REQUEST LANE) < 0);
    assert_true(SCAN("\1\202" LANE "\250requests\221\202\253correlation\1\246method\5") < 0);
    assert_true(SCAN("\1\202" LANE "\250requests\335\377\377\377\377" REQUEST) < 0);
    assert_true(SCAN("\1\337\377\377\377\377") < 0);
}

static bool codec_accepts(const void *frame, size_t size) {
    struct request_batch batch;
    if (message_decode_frame(&request_batch_descriptor, frame, size, &batch) != 0) return false;
    message_release(&request_batch_descriptor, &batch);
    return true;
}

/* Cut and changed frames: no crash (the sanitizers look on), and nothing passes that a worker could not read. */
static void test_damaged_frames(void **state) {
    static struct request_envelope envelope;
    struct bus_request requests[4];
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    int accepted = 0;
    (void)state;
    make_requests(&frame, 4, requests);
    for (size_t size = 0; size < frame.size; size++) {
        void *copy = xmemdup(frame.data, size + (size == 0));
        assert_true(request_envelope_scan(copy, size, &envelope) < 0);
        free(copy);
    }
    for (int round = 0; round < 200000; round++) {
        unsigned char *copy = xmemdup(frame.data, frame.size);
        for (int64_t changes = 1 + random_int(3); changes > 0; changes--)
            copy[random_int(round % 2 == 0 ? 119 : (int64_t)frame.size - 1)] = (unsigned char)next_random();
        if (request_envelope_scan(copy, frame.size, &envelope) == 0) {
            accepted++;
            assert_true(codec_accepts(copy, frame.size));
            for (size_t i = 0; i < envelope.count; i++)
                bus_budget_set(copy + envelope.requests[i].budget_offset, 0);
            assert_true(codec_accepts(copy, frame.size));
        }
        free(copy);
    }
    assert_true(accepted > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_as_the_codec_wrote_them),
        cmocka_unit_test(test_replies_as_the_codec_wrote_them),
        cmocka_unit_test(test_a_budget_shrinks_in_place),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_damaged_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
