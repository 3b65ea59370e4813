/*
 * test_bus_router.c: who gets which request and what becomes of it, with a clock and peers of the test's own.
 *
 * Peers are named by one letter, callers "c", workers "a", "b", …; what the router says to them is kept in lists.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/bus/router.h"

enum { SAID_MAX = 4000, START_MS = 1000000, LONG_AGO_MS = ROUTER_REMEMBER_MS + 1 };

/* A batch that a worker got, or an answer that a caller got. */
struct said {
    char to;
    uint64_t number;
    size_t count;
    int64_t correlation; /* of the first */
    int64_t budget_ms;   /* of the first request */
    int code;            /* ERR_ of the first answer, else 0 */
};

struct world {
    struct router *router;
    int64_t now_ms;
    struct said to_worker[SAID_MAX], to_caller[SAID_MAX];
    size_t workers_said, callers_said;
    size_t answers;         /* single requests answered */
    char unreachable, full; /* worker that takes nothing */
    int refused;
};

static struct world world;

static int say_to_worker(void *user_data, zmq_msg_t *worker, uint64_t number, zmq_msg_t *frame) {
    struct request_batch batch;
    (void)user_data;
    char to = *(char *)zmq_msg_data(worker);
    if (to == world.unreachable) return -EHOSTUNREACH;
    if (to == world.full) return -EAGAIN;
    if (number == 0) {
        world.refused += message_frame_id(zmq_msg_data(frame), zmq_msg_size(frame)) == MSG_WORKER_REFUSED;
    } else {
        int error = message_decode_frame(&request_batch_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &batch);
        assert_int_equal(error, 0);
        world.to_worker[world.workers_said++] = (struct said){ .to = to,
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
    world.to_caller[world.callers_said++] = (struct said){ .to = *(char *)zmq_msg_data(caller),
        .count = batch.replies_count,
        .correlation = batch.replies[0].correlation,
        .code = batch.replies[0].code != 0 ? -1000 - (int)batch.replies[0].code : 0 };
    world.answers += batch.replies_count;
    message_release(&reply_batch_descriptor, &batch);
    zmq_msg_close(frame);
}

static int set_up(void **state) {
    struct router_output output = { &world, say_to_worker, say_to_caller };
    (void)state;
    memset(&world, 0, sizeof(world));
    world.now_ms = START_MS;
    world.router = router_new(100, &output, world.now_ms);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    router_free(world.router);
    return 0;
}

/* --- what peers do --------------------------------------------------------------------------------------------------
 */

static void to_message(zmq_msg_t *message, const void *data, size_t size) {
    zmq_msg_init_size(message, size);
    if (size > 0) memcpy(zmq_msg_data(message), data, size);
}

static void deliver_worker(char worker, const void *head, size_t head_size, const struct strbuf *frame) {
    zmq_msg_t identity, head_message, body;
    to_message(&identity, &worker, 1);
    to_message(&head_message, head, head_size);
    to_message(&body, frame->data, frame->size);
    router_on_worker(world.router, &identity, &head_message, &body, worker);
    zmq_msg_close(&identity);
    zmq_msg_close(&head_message);
    zmq_msg_close(&body);
}

static void hello(char worker, int64_t credits, bool leaving, int version) {
    struct worker_hello message = { .lane = (char *)(uintptr_t) "lane",
        .process = (char *)(uintptr_t) "test",
        .instance = worker - 'a' + 1,
        .version = version,
        .credits = credits,
        .leaving = leaving };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    message_encode_frame(&worker_hello_descriptor, &message, &frame);
    deliver_worker(worker, "", 0, &frame);
}

static void join(char worker, int64_t credits) {
    hello(worker, credits, false, PROTOCOL_VERSION);
}

static void request_on(const char *lane, int64_t correlation, size_t count, int64_t budget_ms) {
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
    to_message(&caller, "c", 1);
    to_message(&frame, text.data, text.size);
    router_on_request(world.router, &caller, &frame);
    zmq_msg_close(&caller);
    zmq_msg_close(&frame);
}

static void request(int64_t correlation, size_t count, int64_t budget_ms) {
    request_on("lane", correlation, count, budget_ms);
}

/* The worker answers `count` requests from the given one on. */
static void reply_as(char worker, uint64_t number, int64_t correlation, size_t count) {
    struct bus_reply replies[BUS_BATCH_MAX];
    struct reply_batch batch = { .replies = replies, .replies_count = count };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    unsigned char head[8];
    for (size_t i = 0; i < count; i++)
        replies[i] = (struct bus_reply){ .correlation = correlation + (int64_t)i };
    message_encode_frame(&reply_batch_descriptor, &batch, &frame);
    for (size_t i = 0; i < sizeof(head); i++)
        head[i] = (unsigned char)(number >> (8 * (7 - i)));
    deliver_worker(worker, head, sizeof(head), &frame);
}

static void reply_to(const struct said *said) {
    reply_as(said->to, said->number, said->correlation, said->count);
}

static void pass(int64_t milliseconds) {
    while (milliseconds > 0) {
        int64_t step = milliseconds < 20 ? milliseconds : 20;
        world.now_ms += step;
        milliseconds -= step;
        router_set_time(world.router, world.now_ms);
        router_tick(world.router);
    }
}

static const struct said *last_batch(void) {
    return &world.to_worker[world.workers_said - 1];
}

static const struct said *last_answer(void) {
    return &world.to_caller[world.callers_said - 1];
}

static struct lane_status lane_status(void) {
    struct bus_status_reply reply;
    struct lane_status status;
    router_status(world.router, &reply);
    assert_int_equal(reply.lanes_count, 1);
    status = reply.lanes[0];
    status.lane = NULL;
    message_release(&bus_status_reply_descriptor, &reply);
    return status;
}

static void disconnect(char worker) {
    router_on_disconnect(world.router, worker);
    router_end_disconnected(world.router);
}

/* --- tests ----------------------------------------------------------------------------------------------------------
 */

static void test_there_and_back(void **state) {
    (void)state;
    join('a', 4);
    request(10, 3, 2500);
    assert_int_equal(world.workers_said, 1);
    assert_int_equal(last_batch()->count, 3);
    assert_int_equal(last_batch()->budget_ms, 2500);
    assert_int_equal(router_open_requests(world.router), 3);
    reply_as('a', last_batch()->number, 11, 1);
    assert_int_equal(router_open_requests(world.router), 2);
    reply_as('a', last_batch()->number, 10, 1);
    reply_as('a', last_batch()->number, 12, 1);
    assert_int_equal(router_open_requests(world.router), 0);
    assert_int_equal(world.answers, 3);
    assert_int_equal(last_answer()->to, 'c');
    assert_int_equal(last_answer()->code, 0);
    assert_int_equal(lane_status().outstanding, 0);
    reply_as('a', last_batch()->number, 12, 1); /* once too often */
    assert_int_equal(world.answers, 3);
}

static void test_work_spreads_by_free_credits(void **state) {
    size_t got[3] = { 0 };
    (void)state;
    for (char worker = 'a'; worker <= 'c'; worker++)
        join(worker, 8);
    for (int i = 0; i < 9; i++)
        request(i * 10, 2, 2500);
    for (size_t i = 0; i < world.workers_said; i++)
        got[world.to_worker[i].to - 'a'] += world.to_worker[i].count;
    for (int i = 0; i < 3; i++)
        assert_int_equal(got[i], 6);
    /* Idle ones take turns, too. */
    for (size_t i = 0; i < 9; i++)
        reply_to(&world.to_worker[i]);
    memset(got, 0, sizeof(got));
    for (int i = 0; i < 9; i++) {
        request(1000 + i, 1, 2500);
        got[last_batch()->to - 'a']++;
        reply_to(last_batch());
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(got[i], 3);
}

static void test_no_credit_means_waiting_in_order(void **state) {
    (void)state;
    join('a', 4);
    request(1, 3, 2500);
    request(10, 8, 2500); /* whole, beyond the credits */
    assert_int_equal(world.workers_said, 2);
    request(100, 1, 2500);
    request(200, 1, 1000);
    assert_int_equal(world.workers_said, 2);
    assert_int_equal(lane_status().queued, 2);
    pass(300);
    reply_to(&world.to_worker[1]);
    assert_int_equal(world.workers_said, 3); /* 3 + 1: no credit left */
    assert_int_equal(last_batch()->correlation, 100);
    assert_int_equal(last_batch()->budget_ms, 2200);
    reply_to(&world.to_worker[0]);
    assert_int_equal(last_batch()->correlation, 200);
    assert_int_equal(last_batch()->budget_ms, 700);
}

static void test_a_worker_that_takes_nothing(void **state) {
    (void)state;
    join('a', 8);
    join('b', 4);
    world.full = 'a';
    request(1, 1, 2500);
    assert_int_equal(last_batch()->to, 'b'); /* though a has more */
    request(2, 1, 2500);
    assert_int_equal(last_batch()->to, 'b');
    world.full = 0;
    join('a', 8); /* speaks again */
    request(3, 1, 2500);
    assert_int_equal(last_batch()->to, 'a');
    world.full = 'a';
    world.unreachable = 'b';
    request(4, 1, 2500);
    assert_int_equal(world.callers_said, 2); /* b is dead: what it held is unavailable; the new request waits */
    assert_int_equal(lane_status().queued, 1);
    assert_int_equal(lane_status().workers, 1);
    world.full = 0;
    join('a', 8);
    assert_int_equal(last_batch()->correlation, 4);
    assert_int_equal(last_batch()->to, 'a');
}

static void test_overload(void **state) {
    (void)state;
    join('a', 1);
    request(1, 1, 2500);
    for (int i = 0; i < 10; i++)
        request(100 + 10 * i, 10, 2500);
    assert_int_equal(world.callers_said, 0);
    request(500, 1, 2500);
    assert_int_equal(world.callers_said, 1);
    assert_int_equal(last_answer()->code, ERR_OVERLOADED);
    assert_int_equal(last_answer()->correlation, 500);
    assert_int_equal(router_open_requests(world.router), 101);
}

static void test_deadlines(void **state) {
    (void)state;
    join('a', 2);
    request(1, 2, 500);
    request(10, 1, 300);
    pass(280);
    assert_int_equal(world.answers, 0);
    pass(40);
    assert_int_equal(world.answers, 1); /* the waiting one */
    assert_int_equal(last_answer()->correlation, 10);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
    pass(200);
    assert_int_equal(world.answers, 3);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
    assert_int_equal(router_open_requests(world.router), 0);
    /* The worker still holds two: nothing new until it says something. */
    request(20, 1, 2500);
    assert_int_equal(world.workers_said, 1);
    assert_int_equal(lane_status().outstanding, 2);
    reply_as('a', world.to_worker[0].number, 1, 1); /* late: not forwarded, but its credit is back */
    assert_int_equal(world.answers, 3);
    assert_int_equal(world.workers_said, 2);
}

static void test_credits_of_a_lost_reply_come_back(void **state) {
    (void)state;
    join('a', 1);
    request(1, 1, 100);
    for (int i = 0; i < 8; i++) {
        pass(400);
        join('a', 1);
    }
    assert_int_equal(lane_status().outstanding, 0);
    reply_as('a', world.to_worker[0].number, 1, 1);
    assert_int_equal(world.answers, 1);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
}

static void test_mixed_deadlines_in_one_reply(void **state) {
    (void)state;
    join('a', 10);
    request(1, 2, 100);
    pass(150);
    assert_int_equal(world.answers, 2);
    request(5, 2, 2500);
    reply_as('a', last_batch()->number, 5, 2);
    assert_int_equal(world.answers, 4);
    assert_int_equal(last_answer()->code, 0);
}

static void test_silence_is_death(void **state) {
    (void)state;
    join('a', 4);
    join('b', 1);
    request(1, 2, 20000);
    assert_int_equal(last_batch()->to, 'a');
    for (int i = 0; i < 4; i++) {
        pass(500);
        join('b', 1);
        assert_int_equal(world.answers, 0);
    }
    pass(600);
    assert_int_equal(world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    assert_int_equal(lane_status().workers, 1);
    reply_as('a', world.to_worker[0].number, 1, 2); /* it lived after all */
    assert_int_equal(world.answers, 2);
    join('a', 4);
    assert_int_equal(lane_status().workers, 2);
    assert_int_equal(lane_status().outstanding, 0);
}

static void test_an_ended_connection_is_death_at_once(void **state) {
    (void)state;
    join('a', 4);
    request(1, 2, 20000);
    disconnect('x');
    assert_int_equal(world.answers, 0);
    disconnect('a');
    assert_int_equal(world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_the_last_words_of_a_worker_count(void **state) {
    (void)state;
    join('a', 4);
    request(1, 2, 20000);
    router_on_disconnect(world.router, 'a');
    request(5, 1, 20000); /* is not given to it */
    assert_int_equal(world.workers_said, 1);
    reply_as('a', last_batch()->number, 1, 1);
    assert_int_equal(world.workers_said, 1);
    router_end_disconnected(world.router);
    assert_int_equal(world.answers, 2);
    assert_int_equal(world.to_caller[0].code, 0);
    assert_int_equal(world.to_caller[1].code, ERR_UNAVAILABLE);
    assert_int_equal(lane_status().queued, 1);
}

static void test_the_bus_own_sleep_is_nobodys_silence(void **state) {
    (void)state;
    join('a', 4);
    world.now_ms += 60000;
    router_set_time(world.router, world.now_ms);
    router_tick(world.router);
    assert_int_equal(lane_status().workers, 1);
    pass(2600);
    assert_int_equal(lane_status().workers, 0);
}

static void test_a_lane_without_worker_holds_a_second(void **state) {
    (void)state;
    join('a', 4);
    request(1, 1, 2500);
    disconnect('a');
    request(2, 1, 2500);
    pass(900);
    assert_int_equal(world.answers, 1);
    pass(120);
    assert_int_equal(world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    request(3, 1, 2500);
    pass(700);
    join('b', 4); /* back in time */
    assert_int_equal(last_batch()->correlation, 3);
    assert_int_equal(last_batch()->budget_ms, 1800);
    reply_to(last_batch());
    disconnect('b');
    pass(LONG_AGO_MS);
    request(4, 1, 2500);
    assert_int_equal(last_answer()->correlation, 4);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_a_deadline_may_come_before_the_hold_ends(void **state) {
    (void)state;
    request(1, 1, 200);
    pass(300);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
}

static void test_unknown_lanes(void **state) {
    (void)state;
    request(1, 1, 2500); /* the bus is young: its workers may still come */
    assert_int_equal(world.answers, 0);
    join('a', 1);
    assert_int_equal(last_batch()->correlation, 1);
    pass(LONG_AGO_MS);
    request_on("elsewhere", 2, 3, 2500);
    assert_int_equal(last_answer()->count, 3);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_lanes_are_bounded(void **state) {
    (void)state;
    for (int i = 0; i < 3 * ROUTER_LANES_MAX; i++) {
        char name[20];
        snprintf(name, sizeof(name), "lane-%d", i);
        request_on(name, i, 1, 100);
    }
    assert_int_equal(world.answers, 2 * ROUTER_LANES_MAX); /* refused at once */
    pass(200);
    assert_int_equal(world.answers, 3 * ROUTER_LANES_MAX);
    join('a', 1); /* finds a place */
    request(9, 1, 100);
    assert_int_equal(last_batch()->correlation, 9);
}

static void test_leaving(void **state) {
    (void)state;
    join('a', 4);
    join('b', 4);
    request(1, 1, 2500);
    char left = last_batch()->to, other = left == 'a' ? 'b' : 'a';
    hello(left, 4, true, PROTOCOL_VERSION);
    for (int i = 0; i < 4; i++) {
        request(10 + i, 1, 2500);
        assert_int_equal(last_batch()->to, other);
    }
    request(20, 1, 2500); /* waits rather than going to who is leaving */
    assert_int_equal(world.workers_said, 5);
    reply_to(&world.to_worker[0]); /* but what it holds it may finish */
    assert_int_equal(world.answers, 1);
    disconnect(left);
    assert_int_equal(world.answers, 1);
}

static void test_another_version_is_refused(void **state) {
    (void)state;
    hello('a', 4, false, PROTOCOL_VERSION + 1);
    hello('a', 4, false, PROTOCOL_VERSION + 1);
    assert_int_equal(world.refused, 2);
    request(1, 1, 100);
    assert_int_equal(world.workers_said, 0);
}

static void test_what_cannot_be_read(void **state) {
    zmq_msg_t caller, frame;
    struct strbuf bad = { .data = (char *)(uintptr_t) "\x02\x80", .size = 2 };
    (void)state;
    join('a', 4);
    to_message(&caller, "c", 1);
    to_message(&frame, "nonsense", 8);
    router_on_request(world.router, &caller, &frame);
    zmq_msg_close(&caller);
    zmq_msg_close(&frame);
    deliver_worker('a', "", 0, &bad);
    deliver_worker('a', "12345678", 8, &bad);
    deliver_worker('a', "123", 3, &bad);
    request(1, 2, 2500);
    reply_as('a', last_batch()->number, 2, 2); /* 3 is not in the batch */
    reply_as('b', last_batch()->number, 1, 2); /* not b's */
    assert_int_equal(world.answers, 0);
    reply_as('a', last_batch()->number, 1, 2);
    assert_int_equal(world.answers, 2);
}

static void test_the_bus_answers_for_itself(void **state) {
    (void)state;
    join('a', 4);
    request_on("bus", 1, 1, 2500);
    assert_int_equal(world.answers, 1);
    assert_int_equal(last_answer()->code, 0);
    assert_int_equal(world.workers_said, 0);
}

static void test_stopping(void **state) {
    (void)state;
    join('a', 1);
    request(1, 1, 2500);
    request(2, 3, 2500);
    router_refuse_waiting(world.router);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    assert_int_equal(last_answer()->count, 3);
    assert_int_equal(router_open_requests(world.router), 1);
}

/* Anything at random: at the end every request was answered exactly once, and nothing is left. */
static void test_random_life(void **state) {
    size_t asked = 0;
    (void)state;
    srand(11);
    for (int step = 0; step < 1500; step++) {
        size_t count = 1 + (size_t)rand() % 9;
        switch (rand() % 8) {
        case 0:
            join((char)('a' + rand() % 3), rand() % 12);
            break;
        case 1:
            if (rand() % 5 == 0) disconnect((char)('a' + rand() % 3));
            break;
        case 2:
        case 3:
            if (world.workers_said > 0) {
                const struct said *batch = &world.to_worker[(size_t)rand() % world.workers_said];
                size_t part = 1 + (size_t)rand() % batch->count;
                reply_as(batch->to, batch->number, batch->correlation, part);
            }
            break;
        case 4:
            pass(rand() % 300);
            break;
        case 5:
            world.full = (char)(rand() % 3 == 0 ? 'a' + rand() % 3 : 0);
            world.unreachable = (char)(rand() % 20 == 0 ? 'a' + rand() % 3 : 0);
            break;
        default:
            request(step * 100, count, rand() % 3000);
            asked += count;
        }
    }
    pass(4000);
    assert_int_equal(router_open_requests(world.router), 0);
    assert_in_range(world.answers, asked, SAID_MAX * 9);
    join('a', 5);
    pass(400);
    join('a', 5);
    assert_int_equal(lane_status().queued, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_work_spreads_by_free_credits),
        TEST(test_no_credit_means_waiting_in_order),
        TEST(test_a_worker_that_takes_nothing),
        TEST(test_overload),
        TEST(test_deadlines),
        TEST(test_credits_of_a_lost_reply_come_back),
        TEST(test_mixed_deadlines_in_one_reply),
        TEST(test_silence_is_death),
        TEST(test_an_ended_connection_is_death_at_once),
        TEST(test_the_last_words_of_a_worker_count),
        TEST(test_the_bus_own_sleep_is_nobodys_silence),
        TEST(test_a_lane_without_worker_holds_a_second),
        TEST(test_a_deadline_may_come_before_the_hold_ends),
        TEST(test_unknown_lanes),
        TEST(test_lanes_are_bounded),
        TEST(test_leaving),
        TEST(test_another_version_is_refused),
        TEST(test_what_cannot_be_read),
        TEST(test_the_bus_answers_for_itself),
        TEST(test_stopping),
        TEST(test_random_life),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
