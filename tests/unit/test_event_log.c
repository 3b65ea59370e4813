/*
 * test_event_log.c: a reader of the event log gets every row once and in order, whatever PUB loses, doubles or
 * reorders.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "tests/unit/database.h"
#include "tests/unit/event_fixture.h"

static void test_begins_at_the_head(void **state) {
    (void)state;
    events_append_only(7);
    events_start_reader(-1, NULL);
    events_wait_until_following();
    assert_int_equal(event_reader_cursor(events_reader), 7);
    events_append_and_publish(3);
    assert_true(events_wait_for(3, 2000) < 500);
    events_assert_seen_in_order(8);
    assert_int_equal(events_count_resets(), 1); /* it was told where it begins */
    assert_int_equal(event_reader_cursor(events_reader), 10);
}

static void test_reads_a_long_log(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++)
        events_append_only(500);
    events_append_only(123);
    events_start_reader(0, "");
    events_wait_for(3123, 3000);
    events_assert_seen_in_order(1);
}

static void test_without_pub_within_a_second(void **state) {
    (void)state;
    events_start_reader(0, NULL);
    events_wait_until_following();
    events_append_only(2);
    assert_true(events_wait_for(2, 3000) <= 1200);
    events_assert_seen_in_order(1);
    assert_true(event_reader_age_ms(events_reader) <= 1200);
}

static void test_a_hole_is_filled_at_once(void **state) {
    (void)state;
    events_start_reader(0, NULL);
    events_wait_until_following();
    events_append_and_publish(1);
    events_wait_for(1, 2000);
    events_append_only(1);
    events_append_and_publish(1);
    assert_true(events_wait_for(3, 2000) < 400);
    events_assert_seen_in_order(1);
}

static void test_random_loss_doubling_and_reordering(void **state) {
    (void)state;
    events_start_reader(0, NULL);
    events_wait_until_following();
    srand(7);
    size_t total = 0;
    json_t *late = NULL;
    for (int i = 0; i < 600; i++) {
        int count = 1 + rand() % 3;
        json_t *events = events_append(count);
        total += (size_t)count;
        for (size_t j = 0; j < json_array_size(events); j++) {
            json_t *event = json_array_get(events, j);
            int fate = rand() % 10;
            if (fate < 3) continue;
            if (fate == 3) events_publish(event);
            if (fate == 4 && late) events_publish(late);
            if (fate == 5) {
                json_decref(late);
                late = json_incref(event);
                continue;
            }
            events_publish(event);
        }
        json_decref(events);
    }
    json_decref(late);
    events_wait_for(total, 3000);
    usleep(100000);
    assert_int_equal(events_count_seen(), total);
    events_assert_seen_in_order(1);
    assert_int_equal(events_count_resets(), 0);
}

static void test_a_full_inbox_only_makes_a_hole(void **state) {
    (void)state;
    events_start_reader(0, NULL);
    events_wait_until_following();
    events_set_paused(true);
    for (int i = 0; i < 12; i++)
        events_append_and_publish(500);
    usleep(300000);
    events_set_paused(false);
    events_wait_for(6000, 4000);
    usleep(100000);
    assert_int_equal(events_count_seen(), 6000);
    events_assert_seen_in_order(1);
}

static void test_cursors(void **state) {
    (void)state;
    char text[80], epoch[16];
    int64_t id = -1;
    event_cursor_format("ab12", 42, text, sizeof text);
    assert_string_equal(text, "ab12-42");
    assert_int_equal(event_cursor_parse(text, epoch, sizeof epoch, &id), 0);
    assert_string_equal(epoch, "ab12");
    assert_true(id == 42);
    assert_int_equal(event_cursor_parse("e-9223372036854775807", epoch, sizeof epoch, &id), 0);
    assert_true(id == INT64_MAX);
    static const char *const wrong[] = { "", "-", "e-", "-1", "e-1x", "e--1", "e-+1", "e- 1", "e 1-1", "e-1 ",
        "e-9223372036854775808", "e-99999999999999999999", "abcdefghijklmnop-1", "42", "\xff-1", "e-0x1" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        id = 7;
        assert_int_equal(event_cursor_parse(wrong[i], epoch, sizeof epoch, &id), -EINVAL);
        assert_true(id == 7);
    }
    assert_int_equal(event_cursor_parse(NULL, epoch, sizeof epoch, &id), -EINVAL);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_begins_at_the_head, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_reads_a_long_log, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_without_pub_within_a_second, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_hole_is_filled_at_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_random_loss_doubling_and_reordering, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_full_inbox_only_makes_a_hole, events_setup, events_teardown),
        cmocka_unit_test(test_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    return events_main(argv, run_all);
}
