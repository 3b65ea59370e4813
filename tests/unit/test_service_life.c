/*
 * test_service_life.c: the skeleton over time: announcing itself, timers, a database and a bus that come and go, its
 * end, its memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/migrate.h"
#include "tests/unit/database.h"
#include "tests/unit/service_fixture.h"

/* In place of those in sql/. */
const struct migration migrations[] = { { .number = 1, .name = "test", .sql = "SELECT 1" } };
const size_t migrations_count = ARRAY_SIZE(migrations);

static void test_hello(void **state) {
    (void)state;
    struct worker_hello hello;
    assert_true(fake_bus_wait_hello(sample_bus, "registry", false, 2000, &hello));
    assert_string_equal(hello.process, "registry");
    assert_int_equal(hello.version, PROTOCOL_VERSION);
    assert_int_equal(hello.credits, 6);
    assert_int_equal(hello.instance, 4);
    message_release(&worker_hello_descriptor, &hello);
    assert_true(fake_bus_wait_hello(sample_bus, "registry.reports", false, 2000, &hello));
    assert_int_equal(hello.credits, 300);
    message_release(&worker_hello_descriptor, &hello);
    size_t before = fake_bus_hellos(sample_bus);
    assert_false(fake_bus_has(sample_bus, -1, 2100));
    assert_in_range(fake_bus_hellos(sample_bus) - before, 6, 10); /* two lanes, every 500 ms */
}

static void test_timers(void **state) {
    (void)state;
    int64_t before = sample_ask("ticks", "SELECT count(*) FROM test.ticks");
    assert_false(fake_bus_has(sample_bus, -1, 600));
    assert_in_range(sample_ask("ticks", "SELECT count(*) FROM test.ticks") - before, 6, 13);
}

/* Requests are refused quickly while the database is gone, and served again soon after it is back. */
static void test_database_goes_away(void **state) {
    (void)state;
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("database"), NULL, NULL), 0);
    pid_t postmaster = test_database_postmaster();
    kill(postmaster, SIGSTOP);
    sample_ask("terminate",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bore-registry-4'");
    usleep(100000);
    int64_t start = clock_monotonic_ms();
    for (int i = 0; i < 20; i++) {
        struct error_reply error;
        assert_int_equal(
            fake_bus_wait(sample_bus, sample_send_get("database"), &error_reply_descriptor, &error), ERR_UNAVAILABLE);
        assert_true(error.has_retry_after && error.retry_after == 1);
        message_release(&error_reply_descriptor, &error);
    }
    assert_in_range(clock_monotonic_ms() - start, 0, 1500);
    struct ping_reply ping;
    int64_t correlation = fake_bus_add_raw(sample_bus, MSG_PING_REGISTRY, "\x80", 1, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_int_equal(fake_bus_wait(sample_bus, correlation, &ping_reply_descriptor, &ping), 0);
    assert_false(ping.database);
    message_release(&ping_reply_descriptor, &ping);
    int64_t report = sample_add_connected("fine", false);
    fake_bus_send(sample_bus, "registry.reports");
    assert_int_equal(fake_bus_wait(sample_bus, report, NULL, NULL), ERR_UNAVAILABLE);
    assert_true(fake_bus_wait_hello(sample_bus, "registry", false, 1000, NULL)); /* still announced */

    kill(postmaster, SIGCONT);
    start = clock_monotonic_ms();
    while (
        fake_bus_wait(sample_bus, sample_send_get("database"), NULL, NULL) != 0 && clock_monotonic_ms() - start < 5000)
        usleep(20000);
    assert_in_range(clock_monotonic_ms() - start, 0, 2000);
}

static void test_bus_restart(void **state) {
    fake_bus_free(sample_bus);
    sample_setup_bus(state);
    assert_true(fake_bus_wait_hello(sample_bus, "registry", false, 2000, NULL));
    assert_int_equal(fake_bus_wait(sample_bus, sample_send_get("inst"), NULL, NULL), 0);
}

static void test_shutdown_finishes_what_is_held(void **state) {
    (void)state;
    int64_t held[4];
    for (int i = 0; i < 4; i++)
        held[i] = sample_add_get("sleep", SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    assert_false(fake_bus_has(sample_bus, held[0], 50));
    int64_t start = clock_monotonic_ms();
    kill(sample_child, SIGTERM);
    assert_true(fake_bus_wait_hello(sample_bus, "registry", true, 500, NULL));
    int64_t crossing = sample_send_get("crossing"); /* sent before the bus knew */
    for (int i = 0; i < 4; i++)
        assert_int_equal(fake_bus_wait(sample_bus, held[i], NULL, NULL), 0);
    assert_int_equal(fake_bus_wait(sample_bus, crossing, NULL, NULL), 0);
    assert_int_equal(sample_end(3000), 0);
    assert_in_range(clock_monotonic_ms() - start, 300, 2500);
}

static void test_refused_by_the_bus(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    struct worker_refused refused = { .message = "protocol version 1, the bus has 2" };
    assert_int_equal(message_encode_frame(&worker_refused_descriptor, &refused, &frame), 0);
    int64_t start = clock_monotonic_ms();
    fake_bus_send_frames(sample_bus, "", 0, frame.data, frame.size);
    assert_int_equal(sample_end(5000), 1);
    assert_in_range(clock_monotonic_ms() - start, 900, 3000);
}

static void test_database_is_waited_for(void **state) {
    sample_setup_bus(state);
    char *before = xstrdup(getenv("DB_HOST"));
    char link[200];
    snprintf(link, sizeof link, "%s/later", sample_directory);
    setenv("DB_HOST", link, 1);
    sample_start();
    assert_false(fake_bus_wait_hello(sample_bus, "registry", false, 1500, NULL));
    assert_int_equal(symlink(before, link), 0);
    assert_true(fake_bus_wait_hello(sample_bus, "registry", false, 4000, NULL));
    kill(sample_child, SIGTERM);
    assert_int_equal(sample_end(3000), 0);
    unlink(link);
    sample_start();
    usleep(500000);
    kill(sample_child, SIGTERM);
    assert_int_equal(sample_end(3000), 0); /* while waiting */
    setenv("DB_HOST", before, 1);
    free(before);
}

static long resident_pages(void) {
    char path[64];
    long total = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)sample_child);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &total, &resident), 2);
    fclose(file);
    return resident;
}

static void send_many(int count) {
    for (int i = 0; i < count; i += 200) {
        int64_t last = 0;
        for (int j = 0; j < 200; j++)
            last = sample_add_connected(j % 10 == 0 ? "refused" : "fine", false);
        fake_bus_send(sample_bus, "registry.reports");
        for (int j = 0; j < 200; j++)
            assert_true(fake_bus_has(sample_bus, last - j, 5000));
        sample_add_get("missing", SAMPLE_BUDGET_MS);
        int64_t get = sample_add_get("database", SAMPLE_BUDGET_MS);
        fake_bus_send(sample_bus, "registry");
        assert_int_equal(fake_bus_wait(sample_bus, get, NULL, NULL), 0);
        fake_bus_forget_answers(sample_bus);
    }
}

static void test_memory_does_not_grow(void **state) {
    (void)state;
    send_many(10000);
    long before = resident_pages();
    send_many(40000);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
#ifndef __SANITIZE_THREAD__
    assert_in_range(resident_pages() - before + 200, 0, 456); /* within 1 MiB */
#endif
#endif
    assert_true(before > 0);
}

static int run_all(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_timers, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_database_goes_away, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_bus_restart, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_shutdown_finishes_what_is_held, sample_setup, sample_teardown),
        cmocka_unit_test_setup_teardown(test_refused_by_the_bus, sample_setup, sample_teardown),
        cmocka_unit_test_teardown(test_database_is_waited_for, sample_teardown),
        cmocka_unit_test_setup_teardown(test_memory_does_not_grow, sample_setup, sample_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    return sample_main(argc, argv, run_all);
}
