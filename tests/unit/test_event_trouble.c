/* test_event_trouble.c: a log that was trimmed or restored, a database that is away: what a reader does and says. */
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

static void test_trimmed_log(void **state) {
    (void)state;
    events_append_only(10);
    events_run("DELETE FROM bore.events WHERE id <= 5");
    events_start_reader(2, NULL);
    events_wait_for_reset(1, 2000);
    assert_int_equal(events_reset_head, 10);
    events_append_only(1);
    events_wait_for(1, 2000);
    events_assert_seen_in_order(11);
    event_reader_free(events_reader);
    events_seen_count = events_reset_count = 0;
    events_start_reader(5, NULL); /* the first one kept is its successor: nothing is missing */
    events_wait_for(6, 2000);
    events_assert_seen_in_order(6);
    assert_int_equal(events_count_resets(), 0);
}

static void test_restore_from_backup(void **state) {
    (void)state;
    events_append_only(10);
    events_start_reader(10, NULL);
    events_wait_until_following();
    events_append_and_publish(2);
    events_wait_for(2, 2000);
    events_run("DELETE FROM bore.events WHERE id > 6; UPDATE bore.event_epoch SET epoch = 'other'");
    events_wait_for_reset(1, 2000);
    assert_int_equal(events_reset_head, 6);
    char epoch[40];
    event_reader_epoch(events_reader, epoch, sizeof epoch);
    assert_string_equal(epoch, "other");
    events_append_and_publish(1);
    events_wait_for(3, 2000);
    assert_int_equal(events_seen[2], 7);
}

static void test_start_in_another_epoch_or_beyond(void **state) {
    (void)state;
    events_append_only(10);
    events_start_reader(4, "deadbeef");
    events_wait_for_reset(1, 2000);
    assert_int_equal(events_reset_head, 10);
    event_reader_free(events_reader);
    _cleanup_free_ char *epoch = events_ask("epoch", "SELECT epoch FROM bore.event_epoch");
    events_start_reader(11, epoch);
    events_wait_for_reset(2, 2000);
    event_reader_free(events_reader);
    events_start_reader(4, epoch);
    events_wait_for(6, 2000);
    events_assert_seen_in_order(5);
    assert_int_equal(events_count_resets(), 2);
}

/* Committed rows that PUB brings are handed out while the database cannot be reached; others wait for it. */
static void test_database_goes_away(void **state) {
    (void)state;
    events_start_reader(0, NULL);
    events_wait_until_following();
    json_t *events = events_append(6);
    events_publish(json_array_get(events, 0));
    events_wait_for(6, 2000); /* the others come from the log */
    json_decref(events);
    events = events_append(1);
    events_publish(json_array_get(events, 0));
    json_decref(events);
    events_wait_for(7, 2000);
    events_append_only(1);
    events_wait_for(8, 2000);

    json_t *first = events_append(1), *second = events_append(1), *third = events_append(1);
    kill(test_database_postmaster(), SIGSTOP);
    free(
        events_ask("kill", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'"));
    events_publish(json_array_get(first, 0)); /* may still be read from the log just before */
    events_wait_for(9, 2000);
    usleep(1500000);
    size_t before = events_count_seen();
    if (before == 9) {
        events_publish(json_array_get(second, 0));
        assert_true(events_wait_for(10, 2000) < 1000);
        events_publish(json_array_get(third, 0));
        assert_true(events_wait_for(11, 2000) < 1000);
    }
    kill(test_database_postmaster(), SIGCONT);
    events_append_only(1);
    events_wait_for(12, 4000);
    events_assert_seen_in_order(1);
    json_decref(first);
    json_decref(second);
    json_decref(third);
}

static void test_age_shows_blindness(void **state) {
    (void)state;
    events_start_reader(-1, NULL);
    events_wait_until_following();
    assert_true(event_reader_age_ms(events_reader) < 1500);
    kill(test_database_postmaster(), SIGSTOP);
    free(
        events_ask("kill", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'"));
    usleep(2500000);
    assert_true(event_reader_age_ms(events_reader) > 1500);
    kill(test_database_postmaster(), SIGCONT);
    int64_t start = clock_monotonic_ms();
    while (event_reader_age_ms(events_reader) > 500 && clock_monotonic_ms() - start < 4000)
        usleep(5000);
    assert_true(clock_monotonic_ms() - start < 2500);
}

static void test_age_before_the_first_look(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    options.host = "/nonexistent";
    events_reader = event_reader_new(&(struct event_reader_options){
        .bus = events_bus, .database = &options, .start = -1, .on_event = events_on_event, .user_data = events_seen });
    usleep(100000);
    assert_true(event_reader_age_ms(events_reader) == INT64_MAX);
    assert_int_equal(event_reader_cursor(events_reader), 0);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trimmed_log, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_restore_from_backup, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_start_in_another_epoch_or_beyond, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_database_goes_away, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_age_shows_blindness, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_age_before_the_first_look, events_setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    return events_main(argv, run_all);
}
