/*
 * router_world.c: see router_world.h.
 */
#include "tests/unit/router_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "common/memory.h"

struct router_world router_world;

static int say_to_worker(void *user_data, zmq_msg_t *worker, uint64_t number, zmq_msg_t *frame) {
    struct request_batch batch;
    (void)user_data;
    char to = *(char *)zmq_msg_data(worker);
    if (to == router_world.unreachable) return -EHOSTUNREACH;
    if (to == router_world.full) return -EAGAIN;
    if (number == 0) {
        router_world.refused += message_frame_id(zmq_msg_data(frame), zmq_msg_size(frame)) == MSG_WORKER_REFUSED;
    } else {
        int error = message_decode_frame(&request_batch_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &batch);
        assert_int_equal(error, 0);
        router_world.to_worker[router_world.workers_said++] = (struct said){ .to = to,
            .number = number,
            .count = batch.requests_count,
            .correlation = batch.requests[0].correlation,
            .budget_ms = batch.requests[0].budget_ms };
        message_release(&request_batch_descriptor, &batch);
    }
    zmq_msg_close(frame);
    return 0;
}

static void say_to_caller(void *user_data, zmq_msg_t *caller, zmq_msg_t *frame) {
    struct reply_batch batch;
    (void)user_data;
    int error = message_decode_frame(&reply_batch_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &batch);
    assert_int_equal(error, 0);
    router_world.to_caller[router_world.callers_said++] = (struct said){ .to = *(char *)zmq_msg_data(caller),
        .count = batch.replies_count,
        .correlation = batch.replies[0].correlation,
        .code = batch.replies[0].code != 0 ? -1000 - (int)batch.replies[0].code : 0 };
    router_world.answers += batch.replies_count;
    message_release(&reply_batch_descriptor, &batch);
    zmq_msg_close(frame);
}

int router_world_set_up(void **state) {
    struct router_output output = { &router_world, say_to_worker, say_to_caller };
    (void)state;
    memset(&router_world, 0, sizeof(router_world));
    router_world.now_ms = ROUTER_WORLD_START_MS;
    router_world.router = router_new(100, &output, router_world.now_ms);
    return 0;
}

int router_world_tear_down(void **state) {
    (void)state;
    router_free(router_world.router);
    return 0;
}

/* --- what peers do --------------------------------------------------------------------------------------------------
 */

void fake_message(zmq_msg_t *message, const void *data, size_t size) {
    zmq_msg_init_size(message, size);
    if (size > 0) memcpy(zmq_msg_data(message), data, size);
}

void fake_worker_message(char worker, const void *head, size_t head_size, const struct strbuf *frame) {
    zmq_msg_t identity, head_message, body;
    fake_message(&identity, &worker, 1);
    fake_message(&head_message, head, head_size);
    fake_message(&body, frame->data, frame->size);
    router_on_worker(router_world.router, &identity, &head_message, &body, worker);
    zmq_msg_close(&identity);
    zmq_msg_close(&head_message);
    zmq_msg_close(&body);
}

void fake_hello(char worker, int64_t credits, bool leaving, int version) {
    struct worker_hello message = { .lane = (char *)(uintptr_t) "lane",
        .process = (char *)(uintptr_t) "test",
        .instance = worker - 'a' + 1,
        .version = version,
        .credits = credits,
        .leaving = leaving };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    message_encode_frame(&worker_hello_descriptor, &message, &frame);
    fake_worker_message(worker, "", 0, &frame);
}

void fake_join(char worker, int64_t credits) {
    fake_hello(worker, credits, false, PROTOCOL_VERSION);
}

void fake_request_on(const char *lane, int64_t correlation, size_t count, int64_t budget_ms) {
    struct bus_request requests[BUS_BATCH_MAX];
    struct request_batch batch = { .lane = (char *)(uintptr_t)lane, .requests = requests, .requests_count = count };
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    zmq_msg_t caller, frame;
    for (size_t i = 0; i < count; i++)
        requests[i] = (struct bus_request){ .correlation = correlation + (int64_t)i,
            .method = MSG_BUS_STATUS,
            .budget_ms = budget_ms,
            .request_id = (char *)(uintptr_t) "" };
    message_encode_frame(&request_batch_descriptor, &batch, &text);
    fake_message(&caller, "c", 1);
    fake_message(&frame, text.data, text.size);
    router_on_request(router_world.router, &caller, &frame);
    zmq_msg_close(&caller);
    zmq_msg_close(&frame);
}

void fake_request(int64_t correlation, size_t count, int64_t budget_ms) {
    fake_request_on("lane", correlation, count, budget_ms);
}

/* The worker answers `count` requests from the given one on. */
void fake_reply_as(char worker, uint64_t number, int64_t correlation, size_t count) {
    struct bus_reply replies[BUS_BATCH_MAX];
    struct reply_batch batch = { .replies = replies, .replies_count = count };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    unsigned char head[8];
    for (size_t i = 0; i < count; i++)
        replies[i] = (struct bus_reply){ .correlation = correlation + (int64_t)i };
    message_encode_frame(&reply_batch_descriptor, &batch, &frame);
    for (size_t i = 0; i < sizeof(head); i++)
        head[i] = (unsigned char)(number >> (8 * (7 - i)));
    fake_worker_message(worker, head, sizeof(head), &frame);
}

void fake_reply_to(const struct said *said) {
    fake_reply_as(said->to, said->number, said->correlation, said->count);
}

void fake_time_passes(int64_t milliseconds) {
    while (milliseconds > 0) {
        int64_t step = milliseconds < 20 ? milliseconds : 20;
        router_world.now_ms += step;
        milliseconds -= step;
        router_set_time(router_world.router, router_world.now_ms);
        router_tick(router_world.router);
    }
}

const struct said *last_batch(void) {
    return &router_world.to_worker[router_world.workers_said - 1];
}

const struct said *last_answer(void) {
    return &router_world.to_caller[router_world.callers_said - 1];
}

struct lane_status fake_lane_status(void) {
    struct bus_status_reply reply;
    struct lane_status status;
    router_status(router_world.router, &reply);
    assert_int_equal(reply.lanes_count, 1);
    status = reply.lanes[0];
    status.lane = NULL;
    message_release(&bus_status_reply_descriptor, &reply);
    return status;
}

void fake_disconnect(char worker) {
    router_on_disconnect(router_world.router, worker);
    router_end_disconnected(router_world.router);
}
