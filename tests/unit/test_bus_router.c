/*
 * test_bus_router.c: requests and answers on the bus, by a clock and peers of the test's own (router_world.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "common/log.h"
#include "tests/unit/router_world.h"

static void test_there_and_back(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request(10, 3, 2500);
    assert_int_equal(router_world.workers_said, 1);
    assert_int_equal(last_batch()->count, 3);
    assert_int_equal(last_batch()->budget_ms, 2500);
    assert_int_equal(router_open_requests(router_world.router), 3);
    fake_reply_as('a', last_batch()->number, 11, 1);
    assert_int_equal(router_open_requests(router_world.router), 2);
    fake_reply_as('a', last_batch()->number, 10, 1);
    fake_reply_as('a', last_batch()->number, 12, 1);
    assert_int_equal(router_open_requests(router_world.router), 0);
    assert_int_equal(router_world.answers, 3);
    assert_int_equal(last_answer()->to, 'c');
    assert_int_equal(last_answer()->code, 0);
    assert_int_equal(fake_lane_status().outstanding, 0);
    fake_reply_as('a', last_batch()->number, 12, 1); /* once too often */
    assert_int_equal(router_world.answers, 3);
}

static void test_work_spreads_by_free_credits(void **state) {
    size_t got[3] = { 0 };
    (void)state;
    for (const char *worker = "abc"; *worker != '\0'; worker++)
        fake_join(*worker, 8);
    for (int i = 0; i < 9; i++)
        fake_request(i * 10, 2, 2500);
    for (size_t i = 0; i < router_world.workers_said; i++)
        got[router_world.to_worker[i].to - 'a'] += router_world.to_worker[i].count;
    for (int i = 0; i < 3; i++)
        assert_int_equal(got[i], 6);
    /* Idle ones take turns, too. */
    for (size_t i = 0; i < 9; i++)
        fake_reply_to(&router_world.to_worker[i]);
    memset(got, 0, sizeof(got));
    for (int i = 0; i < 9; i++) {
        fake_request(1000 + i, 1, 2500);
        got[last_batch()->to - 'a']++;
        fake_reply_to(last_batch());
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(got[i], 3);
}

static void test_no_credit_means_waiting_in_order(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request(1, 3, 2500);
    fake_request(10, 8, 2500); /* whole, beyond the credits */
    assert_int_equal(router_world.workers_said, 2);
    fake_request(100, 1, 2500);
    fake_request(200, 1, 1000);
    assert_int_equal(router_world.workers_said, 2);
    assert_int_equal(fake_lane_status().queued, 2);
    fake_time_passes(300);
    fake_reply_to(&router_world.to_worker[1]);
    assert_int_equal(router_world.workers_said, 3); /* 3 + 1: no credit left */
    assert_int_equal(last_batch()->correlation, 100);
    assert_int_equal(last_batch()->budget_ms, 2200);
    fake_reply_to(&router_world.to_worker[0]);
    assert_int_equal(last_batch()->correlation, 200);
    assert_int_equal(last_batch()->budget_ms, 700);
}

static void test_overload(void **state) {
    (void)state;
    fake_join('a', 1);
    fake_request(1, 1, 2500);
    for (int i = 0; i < 10; i++)
        fake_request(100 + 10 * i, 10, 2500);
    assert_int_equal(router_world.callers_said, 0);
    fake_request(500, 1, 2500);
    assert_int_equal(router_world.callers_said, 1);
    assert_int_equal(last_answer()->code, ERR_OVERLOADED);
    assert_int_equal(last_answer()->correlation, 500);
    assert_int_equal(router_open_requests(router_world.router), 101);
}

static void test_deadlines(void **state) {
    (void)state;
    fake_join('a', 2);
    fake_request(1, 2, 500);
    fake_request(10, 1, 300);
    fake_time_passes(280);
    assert_int_equal(router_world.answers, 0);
    fake_time_passes(40);
    assert_int_equal(router_world.answers, 1); /* the waiting one */
    assert_int_equal(last_answer()->correlation, 10);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
    fake_time_passes(200);
    assert_int_equal(router_world.answers, 3);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
    assert_int_equal(router_open_requests(router_world.router), 0);
    /* The worker still holds two: nothing new until it says something. */
    fake_request(20, 1, 2500);
    assert_int_equal(router_world.workers_said, 1);
    assert_int_equal(fake_lane_status().outstanding, 2);
    fake_reply_as('a', router_world.to_worker[0].number, 1, 1); /* late: not forwarded, but its credit is back */
    assert_int_equal(router_world.answers, 3);
    assert_int_equal(router_world.workers_said, 2);
}

static void test_mixed_deadlines_in_one_reply(void **state) {
    (void)state;
    fake_join('a', 10);
    fake_request(1, 2, 100);
    fake_time_passes(150);
    assert_int_equal(router_world.answers, 2);
    fake_request(5, 2, 2500);
    fake_reply_as('a', last_batch()->number, 5, 2);
    assert_int_equal(router_world.answers, 4);
    assert_int_equal(last_answer()->code, 0);
}

static void test_what_cannot_be_read(void **state) {
    zmq_msg_t caller, frame;
    struct strbuf bad = { .data = (char *)(uintptr_t) "\x02\x80", .size = 2 };
    (void)state;
    fake_join('a', 4);
    fake_message(&caller, "c", 1);
    fake_message(&frame, "nonsense", 8);
    router_on_request(router_world.router, &caller, &frame);
    zmq_msg_close(&caller);
    zmq_msg_close(&frame);
    fake_worker_message('a', "", 0, &bad);
    fake_worker_message('a', "12345678", 8, &bad);
    fake_worker_message('a', "123", 3, &bad);
    fake_request(1, 2, 2500);
    fake_reply_as('a', last_batch()->number, 2, 2); /* 3 is not in the batch */
    fake_reply_as('b', last_batch()->number, 1, 2); /* not b's */
    assert_int_equal(router_world.answers, 0);
    fake_reply_as('a', last_batch()->number, 1, 2);
    assert_int_equal(router_world.answers, 2);
}

static void test_the_bus_answers_for_itself(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request_on("bus", 1, 1, 2500);
    assert_int_equal(router_world.answers, 1);
    assert_int_equal(last_answer()->code, 0);
    assert_int_equal(router_world.workers_said, 0);
}

static void test_stopping(void **state) {
    (void)state;
    fake_join('a', 1);
    fake_request(1, 1, 2500);
    fake_request(2, 3, 2500);
    router_refuse_waiting(router_world.router);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    assert_int_equal(last_answer()->count, 3);
    assert_int_equal(router_open_requests(router_world.router), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, router_world_set_up, router_world_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_work_spreads_by_free_credits),
        TEST(test_no_credit_means_waiting_in_order),
        TEST(test_overload),
        TEST(test_deadlines),
        TEST(test_mixed_deadlines_in_one_reply),
        TEST(test_what_cannot_be_read),
        TEST(test_the_bus_answers_for_itself),
        TEST(test_stopping),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
