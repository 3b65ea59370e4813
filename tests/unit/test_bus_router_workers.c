/*
 * test_bus_router_workers.c: how the bus sees workers come, fall silent, leave and die, by a clock and peers of the
 * test's own (router_world.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/unit/router_world.h"

enum { LONG_AGO_MS = ROUTER_REMEMBER_MS + 1 };

static void test_a_worker_that_takes_nothing(void **state) {
    (void)state;
    fake_join('a', 8);
    fake_join('b', 4);
    router_world.full = 'a';
    fake_request(1, 1, 2500);
    assert_int_equal(last_batch()->to, 'b'); /* though a has more */
    fake_request(2, 1, 2500);
    assert_int_equal(last_batch()->to, 'b');
    router_world.full = 0;
    fake_join('a', 8); /* speaks again */
    fake_request(3, 1, 2500);
    assert_int_equal(last_batch()->to, 'a');
    router_world.full = 'a';
    router_world.unreachable = 'b';
    fake_request(4, 1, 2500);
    assert_int_equal(router_world.callers_said, 2); /* b is dead: what it held is unavailable; the new request waits */
    assert_int_equal(fake_lane_status().queued, 1);
    assert_int_equal(fake_lane_status().workers, 1);
    router_world.full = 0;
    fake_join('a', 8);
    assert_int_equal(last_batch()->correlation, 4);
    assert_int_equal(last_batch()->to, 'a');
}

static void test_credits_of_a_lost_reply_come_back(void **state) {
    (void)state;
    fake_join('a', 1);
    fake_request(1, 1, 100);
    for (int i = 0; i < 8; i++) {
        fake_time_passes(400);
        fake_join('a', 1);
    }
    assert_int_equal(fake_lane_status().outstanding, 0);
    fake_reply_as('a', router_world.to_worker[0].number, 1, 1);
    assert_int_equal(router_world.answers, 1);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
}

static void test_silence_is_death(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_join('b', 1);
    fake_request(1, 2, 20000);
    assert_int_equal(last_batch()->to, 'a');
    for (int i = 0; i < 4; i++) {
        fake_time_passes(500);
        fake_join('b', 1);
        assert_int_equal(router_world.answers, 0);
    }
    fake_time_passes(600);
    assert_int_equal(router_world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    assert_int_equal(fake_lane_status().workers, 1);
    fake_reply_as('a', router_world.to_worker[0].number, 1, 2); /* it lived after all */
    assert_int_equal(router_world.answers, 2);
    fake_join('a', 4);
    assert_int_equal(fake_lane_status().workers, 2);
    assert_int_equal(fake_lane_status().outstanding, 0);
}

static void test_an_ended_connection_is_death_at_once(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request(1, 2, 20000);
    fake_disconnect('x');
    assert_int_equal(router_world.answers, 0);
    fake_disconnect('a');
    assert_int_equal(router_world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_the_last_words_of_a_worker_count(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request(1, 2, 20000);
    router_on_disconnect(router_world.router, 'a');
    fake_request(5, 1, 20000); /* is not given to it */
    assert_int_equal(router_world.workers_said, 1);
    fake_reply_as('a', last_batch()->number, 1, 1);
    assert_int_equal(router_world.workers_said, 1);
    router_end_disconnected(router_world.router);
    assert_int_equal(router_world.answers, 2);
    assert_int_equal(router_world.to_caller[0].code, 0);
    assert_int_equal(router_world.to_caller[1].code, ERR_UNAVAILABLE);
    assert_int_equal(fake_lane_status().queued, 1);
}

static void test_the_bus_own_sleep_is_nobodys_silence(void **state) {
    (void)state;
    fake_join('a', 4);
    router_world.now_ms += 60000;
    router_set_time(router_world.router, router_world.now_ms);
    router_tick(router_world.router);
    assert_int_equal(fake_lane_status().workers, 1);
    fake_time_passes(2600);
    assert_int_equal(fake_lane_status().workers, 0);
}

static void test_a_lane_without_worker_holds_a_second(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_request(1, 1, 2500);
    fake_disconnect('a');
    fake_request(2, 1, 2500);
    fake_time_passes(900);
    assert_int_equal(router_world.answers, 1);
    fake_time_passes(120);
    assert_int_equal(router_world.answers, 2);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
    fake_request(3, 1, 2500);
    fake_time_passes(700);
    fake_join('b', 4); /* back in time */
    assert_int_equal(last_batch()->correlation, 3);
    assert_int_equal(last_batch()->budget_ms, 1800);
    fake_reply_to(last_batch());
    fake_disconnect('b');
    fake_time_passes(LONG_AGO_MS);
    fake_request(4, 1, 2500);
    assert_int_equal(last_answer()->correlation, 4);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_a_deadline_may_come_before_the_hold_ends(void **state) {
    (void)state;
    fake_request(1, 1, 200);
    fake_time_passes(300);
    assert_int_equal(last_answer()->code, ERR_TIMEOUT);
}

static void test_unknown_lanes(void **state) {
    (void)state;
    fake_request(1, 1, 2500); /* the bus is young: its workers may still come */
    assert_int_equal(router_world.answers, 0);
    fake_join('a', 1);
    assert_int_equal(last_batch()->correlation, 1);
    fake_time_passes(LONG_AGO_MS);
    fake_request_on("elsewhere", 2, 3, 2500);
    assert_int_equal(last_answer()->count, 3);
    assert_int_equal(last_answer()->code, ERR_UNAVAILABLE);
}

static void test_lanes_are_bounded(void **state) {
    (void)state;
    for (int i = 0; i < 3 * ROUTER_LANES_MAX; i++) {
        char name[20];
        snprintf(name, sizeof(name), "lane-%d", i);
        fake_request_on(name, i, 1, 100);
    }
    assert_int_equal(router_world.answers, 2 * ROUTER_LANES_MAX); /* refused at once */
    fake_time_passes(200);
    assert_int_equal(router_world.answers, 3 * ROUTER_LANES_MAX);
    fake_join('a', 1); /* finds a place */
    fake_request(9, 1, 100);
    assert_int_equal(last_batch()->correlation, 9);
}

static void test_leaving(void **state) {
    (void)state;
    fake_join('a', 4);
    fake_join('b', 4);
    fake_request(1, 1, 2500);
    char left = last_batch()->to, other = left == 'a' ? 'b' : 'a';
    fake_hello(left, 4, true, PROTOCOL_VERSION);
    for (int i = 0; i < 4; i++) {
        fake_request(10 + i, 1, 2500);
        assert_int_equal(last_batch()->to, other);
    }
    fake_request(20, 1, 2500); /* waits rather than going to who is leaving */
    assert_int_equal(router_world.workers_said, 5);
    fake_reply_to(&router_world.to_worker[0]); /* but what it holds it may finish */
    assert_int_equal(router_world.answers, 1);
    fake_disconnect(left);
    assert_int_equal(router_world.answers, 1);
}

static void test_another_version_is_refused(void **state) {
    (void)state;
    fake_hello('a', 4, false, PROTOCOL_VERSION + 1);
    fake_hello('a', 4, false, PROTOCOL_VERSION + 1);
    assert_int_equal(router_world.refused, 2);
    fake_request(1, 1, 100);
    assert_int_equal(router_world.workers_said, 0);
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
            fake_join((char)('a' + rand() % 3), rand() % 12);
            break;
        case 1:
            if (rand() % 5 == 0) fake_disconnect((char)('a' + rand() % 3));
            break;
        case 2:
        case 3:
            if (router_world.workers_said > 0) {
                const struct said *batch = &router_world.to_worker[(size_t)rand() % router_world.workers_said];
                size_t part = 1 + (size_t)rand() % batch->count;
                fake_reply_as(batch->to, batch->number, batch->correlation, part);
            }
            break;
        case 4:
            fake_time_passes(rand() % 300);
            break;
        case 5:
            router_world.full = (char)(rand() % 3 == 0 ? 'a' + rand() % 3 : 0);
            router_world.unreachable = (char)(rand() % 20 == 0 ? 'a' + rand() % 3 : 0);
            break;
        default:
            fake_request(step * 100, count, rand() % 3000);
            asked += count;
        }
    }
    fake_time_passes(4000);
    assert_int_equal(router_open_requests(router_world.router), 0);
    assert_in_range(router_world.answers, asked, SAID_MAX * 9);
    fake_join('a', 5);
    fake_time_passes(400);
    fake_join('a', 5);
    assert_int_equal(fake_lane_status().queued, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, router_world_set_up, router_world_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_worker_that_takes_nothing),
        TEST(test_credits_of_a_lost_reply_come_back),
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
        TEST(test_random_life),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
