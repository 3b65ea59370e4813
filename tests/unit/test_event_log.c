/*
 * test_event_log.c: a reader of the event log gets every row once and in order, whatever PUB loses, doubles or
 * reorders, and says so when it cannot. The log is real (sql/001 and 002); the tests publish in place of the bus.
 */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "services/lib/event_log.h"
#include "tests/unit/database.h"

static char directory[] = "/tmp/bore-events.XXXXXX";
static char url[100];
static struct db *db;
static void *context, *publisher;
static struct bus_client *bus;
static struct event_reader *reader;

/* --- what the reader handed out
 * ----------------------------------------------------------------------------------------- */

enum { SEEN_MAX = 20000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int64_t seen[SEEN_MAX];
static size_t seen_count;
static int64_t reset_head;
static size_t reset_count;
static bool paused;

static void on_event(void *user_data, const struct event *event) {
    assert_ptr_equal(user_data, seen);
    for (bool wait = true; wait;) {
        pthread_mutex_lock(&mutex);
        wait = paused;
        if (!wait && seen_count < SEEN_MAX && event->kind && event->payload) seen[seen_count++] = event->id;
        pthread_mutex_unlock(&mutex);
        if (wait) usleep(1000);
    }
}

static void on_reset(void *user_data, int64_t head) {
    assert_ptr_equal(user_data, seen);
    pthread_mutex_lock(&mutex);
    reset_head = head;
    reset_count++;
    pthread_mutex_unlock(&mutex);
}

static void set_paused(bool value) {
    pthread_mutex_lock(&mutex);
    paused = value;
    pthread_mutex_unlock(&mutex);
}

static size_t count_seen(void) {
    pthread_mutex_lock(&mutex);
    size_t count = seen_count;
    pthread_mutex_unlock(&mutex);
    return count;
}

static size_t count_resets(void) {
    pthread_mutex_lock(&mutex);
    size_t count = reset_count;
    pthread_mutex_unlock(&mutex);
    return count;
}

/* Milliseconds until so many were seen; the test fails after `limit`. */
static int64_t wait_for(size_t count, int64_t limit) {
    int64_t start = clock_monotonic_ms();
    while (count_seen() < count) {
        if (clock_monotonic_ms() - start > limit)
            fail_msg("%zu events of %zu after %lld ms", count_seen(), count, (long long)limit);
        usleep(1000);
    }
    return clock_monotonic_ms() - start;
}

static void wait_for_reset(size_t count, int64_t limit) {
    int64_t start = clock_monotonic_ms();
    while (count_resets() < count) {
        assert_true(clock_monotonic_ms() - start <= limit);
        usleep(1000);
    }
}

static void assert_seen_in_order(int64_t first) {
    for (size_t i = 0; i < seen_count; i++)
        assert_true(seen[i] == first + (int64_t)i);
}

/* --- the log and the bus
 * -------------------------------------------------------------------------------------------------- */

static char *ask(const char *name, const char *sql) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_statement statement = { .name = name, .sql = sql };
    int error = db_run(db, &statement, NULL, &result);
    if (error) print_error("%s\n", db_error_message(db));
    assert_int_equal(error, 0);
    return db_result_rows(result) ? xstrdup_or_null(db_result_text(result, 0, 0)) : NULL;
}

static void run(const char *sql) {
    assert_int_equal(db_run_script(db, sql), 0);
}

/* Appends `count` events; returns their JSON. */
static json_t *append(int count) {
    char sql[300];
    snprintf(sql, sizeof sql,
        "SELECT bore.append_events((SELECT array_agg(ROW('status', 'user_' || n, 'inst', '{\"status\":\"online\"}', "
        "NULL)"
        "::bore.new_event) FROM generate_series(1, %d) AS n))",
        count);
    char name[32];
    snprintf(name, sizeof name, "append%d", count);
    _cleanup_free_ char *text = ask(name, sql);
    json_t *events = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(events), count);
    return events;
}

static void publish(json_t *object) {
    struct event event = {
        .id = json_integer_value(json_object_get(object, "id")), .at = 1, .kind = "status", .payload = "{}"
    };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    assert_int_equal(message_encode_frame(&event_descriptor, &event, &frame), 0);
    zmq_send(publisher, "event.status", 12, ZMQ_SNDMORE);
    zmq_send(publisher, frame.data, frame.size, 0);
}

static void append_and_publish(int count) {
    json_t *events = append(count);
    for (size_t i = 0; i < json_array_size(events); i++)
        publish(json_array_get(events, i));
    json_decref(events);
}

static void append_only(int count) {
    json_decref(append(count));
}

static void start_reader(int64_t start, const char *epoch) {
    struct db_options options = test_database_options();
    options.application_name = "reader";
    reader = event_reader_new(&(struct event_reader_options){ .bus = bus,
        .database = &options,
        .start = start,
        .epoch = epoch,
        .on_event = on_event,
        .on_reset = on_reset,
        .user_data = seen });
}

/* Until the log was read and PUB arrives. */
static void wait_until_following(void) {
    int64_t start = clock_monotonic_ms();
    char epoch[40] = "";
    while (!*epoch) {
        event_reader_epoch(reader, epoch, sizeof epoch);
        assert_true(clock_monotonic_ms() - start < 5000);
        usleep(1000);
    }
    /* an event that only PUB could bring: far ahead, so that the reader only looks into the log */
    usleep(200000);
}

static void run_file(const char *path) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got;
    while ((got = fread(strbuf_reserve(&text, 4096), 1, 4096, file)) > 0)
        strbuf_add_size(&text, got);
    fclose(file);
    run(text.data);
}

static int setup(void **state) {
    (void)state;
    set_paused(false);
    seen_count = reset_count = 0;
    run("DROP SCHEMA IF EXISTS bore CASCADE; CREATE SCHEMA bore");
    run_file("sql/001_schema.sql");
    run_file("sql/002_events.sql");
    bus = bus_client_new(url, "");
    return bus ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kill(test_database_postmaster(), SIGCONT);
    set_paused(false);
    event_reader_free(reader);
    reader = NULL;
    bus_client_free(bus);
    return 0;
}

/* --- tests
 * ------------------------------------------------------------------------------------------------------------------ */

static void test_begins_at_the_head(void **state) {
    (void)state;
    append_only(7);
    start_reader(-1, NULL);
    wait_until_following();
    assert_int_equal(event_reader_cursor(reader), 7);
    append_and_publish(3);
    assert_true(wait_for(3, 2000) < 500);
    assert_seen_in_order(8);
    assert_int_equal(count_resets(), 0);
    assert_int_equal(event_reader_cursor(reader), 10);
}

static void test_reads_a_long_log(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++)
        append_only(500);
    append_only(123);
    start_reader(0, "");
    wait_for(3123, 3000);
    assert_seen_in_order(1);
}

static void test_without_pub_within_a_second(void **state) {
    (void)state;
    start_reader(0, NULL);
    wait_until_following();
    append_only(2);
    assert_true(wait_for(2, 3000) <= 1200);
    assert_seen_in_order(1);
    assert_true(event_reader_age_ms(reader) <= 1200);
}

static void test_a_hole_is_filled_at_once(void **state) {
    (void)state;
    start_reader(0, NULL);
    wait_until_following();
    append_and_publish(1);
    wait_for(1, 2000);
    append_only(1);
    append_and_publish(1);
    assert_true(wait_for(3, 2000) < 400);
    assert_seen_in_order(1);
}

static void test_random_loss_doubling_and_reordering(void **state) {
    (void)state;
    start_reader(0, NULL);
    wait_until_following();
    srand(7);
    size_t total = 0;
    json_t *late = NULL;
    for (int i = 0; i < 600; i++) {
        int count = 1 + rand() % 3;
        json_t *events = append(count);
        total += (size_t)count;
        for (size_t j = 0; j < json_array_size(events); j++) {
            json_t *event = json_array_get(events, j);
            int fate = rand() % 10;
            if (fate < 3) continue;
            if (fate == 3) publish(event);
            if (fate == 4 && late) publish(late);
            if (fate == 5) {
                json_decref(late);
                late = json_incref(event);
                continue;
            }
            publish(event);
        }
        json_decref(events);
    }
    json_decref(late);
    wait_for(total, 3000);
    usleep(100000);
    assert_int_equal(count_seen(), total);
    assert_seen_in_order(1);
    assert_int_equal(count_resets(), 0);
}

static void test_a_full_inbox_only_makes_a_hole(void **state) {
    (void)state;
    start_reader(0, NULL);
    wait_until_following();
    set_paused(true);
    for (int i = 0; i < 12; i++)
        append_and_publish(500);
    usleep(300000);
    set_paused(false);
    wait_for(6000, 4000);
    usleep(100000);
    assert_int_equal(count_seen(), 6000);
    assert_seen_in_order(1);
}

static void test_trimmed_log(void **state) {
    (void)state;
    append_only(10);
    run("DELETE FROM bore.events WHERE id <= 5");
    start_reader(2, NULL);
    wait_for_reset(1, 2000);
    assert_int_equal(reset_head, 10);
    append_only(1);
    wait_for(1, 2000);
    assert_seen_in_order(11);
    event_reader_free(reader);
    seen_count = reset_count = 0;
    start_reader(5, NULL); /* the first one kept is its successor: nothing is missing */
    wait_for(6, 2000);
    assert_seen_in_order(6);
    assert_int_equal(count_resets(), 0);
}

static void test_restore_from_backup(void **state) {
    (void)state;
    append_only(10);
    start_reader(10, NULL);
    wait_until_following();
    append_and_publish(2);
    wait_for(2, 2000);
    run("DELETE FROM bore.events WHERE id > 6; UPDATE bore.event_epoch SET epoch = 'other'");
    wait_for_reset(1, 2000);
    assert_int_equal(reset_head, 6);
    char epoch[40];
    event_reader_epoch(reader, epoch, sizeof epoch);
    assert_string_equal(epoch, "other");
    append_and_publish(1);
    wait_for(3, 2000);
    assert_int_equal(seen[2], 7);
}

static void test_start_in_another_epoch_or_beyond(void **state) {
    (void)state;
    append_only(10);
    start_reader(4, "deadbeef");
    wait_for_reset(1, 2000);
    assert_int_equal(reset_head, 10);
    event_reader_free(reader);
    _cleanup_free_ char *epoch = ask("epoch", "SELECT epoch FROM bore.event_epoch");
    start_reader(11, epoch);
    wait_for_reset(2, 2000);
    event_reader_free(reader);
    start_reader(4, epoch);
    wait_for(6, 2000);
    assert_seen_in_order(5);
    assert_int_equal(count_resets(), 2);
}

/* Committed rows that PUB brings are handed out while the database cannot be reached; others wait for it. */
static void test_database_goes_away(void **state) {
    (void)state;
    start_reader(0, NULL);
    wait_until_following();
    json_t *events = append(6);
    publish(json_array_get(events, 0));
    wait_for(6, 2000); /* the others come from the log */
    json_decref(events);
    events = append(1);
    publish(json_array_get(events, 0));
    json_decref(events);
    wait_for(7, 2000);
    append_only(1);
    wait_for(8, 2000);

    json_t *first = append(1), *second = append(1), *third = append(1);
    kill(test_database_postmaster(), SIGSTOP);
    free(ask("kill", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'"));
    publish(json_array_get(first, 0)); /* may still be read from the log just before */
    wait_for(9, 2000);
    usleep(1500000);
    size_t before = count_seen();
    if (before == 9) {
        publish(json_array_get(second, 0));
        assert_true(wait_for(10, 2000) < 1000);
        publish(json_array_get(third, 0));
        assert_true(wait_for(11, 2000) < 1000);
    }
    kill(test_database_postmaster(), SIGCONT);
    append_only(1);
    wait_for(12, 4000);
    assert_seen_in_order(1);
    json_decref(first);
    json_decref(second);
    json_decref(third);
}

static void test_age_shows_blindness(void **state) {
    (void)state;
    start_reader(-1, NULL);
    wait_until_following();
    assert_true(event_reader_age_ms(reader) < 1500);
    kill(test_database_postmaster(), SIGSTOP);
    free(ask("kill", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'"));
    usleep(2500000);
    assert_true(event_reader_age_ms(reader) > 1500);
    kill(test_database_postmaster(), SIGCONT);
    int64_t start = clock_monotonic_ms();
    while (event_reader_age_ms(reader) > 500 && clock_monotonic_ms() - start < 4000)
        usleep(5000);
    assert_true(clock_monotonic_ms() - start < 2500);
}

static void test_age_before_the_first_look(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    options.host = "/nonexistent";
    reader = event_reader_new(&(struct event_reader_options){
        .bus = bus, .database = &options, .start = -1, .on_event = on_event, .user_data = seen });
    usleep(100000);
    assert_true(event_reader_age_ms(reader) == INT64_MAX);
    assert_int_equal(event_reader_cursor(reader), 0);
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
        cmocka_unit_test_setup_teardown(test_begins_at_the_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reads_a_long_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_pub_within_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hole_is_filled_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_loss_doubling_and_reordering, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_inbox_only_makes_a_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trimmed_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restore_from_backup, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_in_another_epoch_or_beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(test_database_goes_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_age_shows_blindness, setup, teardown),
        cmocka_unit_test_setup_teardown(test_age_before_the_first_look, setup, teardown),
        cmocka_unit_test(test_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    if (!mkdtemp(directory)) return 1;
    char endpoint[150];
    snprintf(url, sizeof url, "ipc://%s/bus", directory);
    snprintf(endpoint, sizeof endpoint, "%s.subscribe", url);
    log_init("test", 1, "error", "text");
    context = zmq_ctx_new();
    publisher = zmq_socket(context, ZMQ_PUB);
    int unlimited = 0;
    zmq_setsockopt(publisher, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
    if (zmq_bind(publisher, endpoint) != 0) return 1;
    struct db_options options = test_database_options();
    db = db_new(&options);
    int failed = run_all();
    db_free(db);
    zmq_close(publisher);
    zmq_ctx_term(context);
    unlink(endpoint + strlen("ipc://"));
    rmdir(directory);
    return failed;
}
