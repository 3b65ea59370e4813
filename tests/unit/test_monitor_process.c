/*
 * test_monitor_process.c: two real bore-monitor behind the real bore-bus and a real PostgreSQL, asked as gateway asks.
 *
 * Nobody answers their canaries, so covered time stands still here.
 */
#include <pthread.h>
#include <setjmp.h>
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
#include "services/lib/bus_client.h"
#include "tests/unit/auth_fixture.h"
#include "tests/unit/database.h"
#include "tests/unit/instance_fixture.h"
#include "tests/unit/process_fixture.h"
#include "tests/unit/sql_client.h"

static char user[64], instance[64];

static bool log_says(const char *text) {
    char command[400];
    snprintf(command, sizeof command, "grep -q '%s' %s", text, processes_log);
    return system(command) == 0;
}

static int setup_group(void **state) {
    setenv("EDGE_SECRET", "3f9c51d07be2486a9d10", 1);
    setenv("CANARY_URL", "http://127.0.0.1:9", 1); /* the port "discard": nobody listens */
    processes_setup(state);
    processes_start("bore-monitor", 1);
    processes_start("bore-monitor", 2);
    processes_wait_for("monitor", 2);
    processes_wait_for("monitor.heartbeats", 2);
    sql_setup(state);
    fixture_clear_all(db);
    snprintf(user, sizeof user, "%s", fixture_make_user(db, "a@example.org"));
    snprintf(instance, sizeof instance, "%s", fixture_make_instance(db, user, "one"));
    return 0;
}

static int beat(const char *account, const char *id, struct heartbeat_reply *ret_reply) {
    char *ignored[] = { (char *)"cpu_usage" };
    struct heartbeat request = { .user_id = (char *)account,
        .instance_id = (char *)id,
        .has_memory_usage = true,
        .memory_usage = 512,
        .ignored = ignored,
        .ignored_count = 1 };
    return bus_call(processes_bus, MSG_HEARTBEAT, &request, NULL, ret_reply, NULL);
}

static void test_heartbeat(void **state) {
    (void)state;
    struct heartbeat_reply reply;
    assert_int_equal(beat(user, instance, &reply), 0);
    assert_true(reply.success);
    assert_string_equal(reply.status, "inactive");
    assert_int_equal(reply.ignored_count, 1);
    assert_string_equal(reply.ignored[0], "cpu_usage");
    message_release(&heartbeat_reply_descriptor, &reply);
    assert_int_equal(beat(user, "inst_none", &reply), ERR_INSTANCE_NOT_FOUND);
    assert_int_equal(beat("user_none", instance, &reply), ERR_INSTANCE_NOT_FOUND);

    struct instance_health request = { .user_id = user, .instance_id = instance };
    struct instance_health_reply health;
    assert_int_equal(bus_call(processes_bus, MSG_INSTANCE_HEALTH, &request, NULL, &health, NULL), 0);
    assert_int_equal(health.samples_count, 1);
    assert_true(health.has_memory_usage && health.memory_usage > 511 && health.samples[0].has_memory_usage);
    assert_false(health.has_cpu_usage);
    message_release(&instance_health_reply_descriptor, &health);
}

/* --- many at once, through both ------------------------------------------------------------------------------------
 */

enum { THREADS = 16, EACH = 100 };

static void *beat_often(void *ret_failures) {
    int *failures = ret_failures;
    for (int i = 0; i < EACH; i++) {
        struct heartbeat_reply reply;
        if (beat(user, instance, &reply) != 0) {
            ++*failures;
        } else {
            message_release(&heartbeat_reply_descriptor, &reply);
        }
    }
    return NULL;
}

static void test_storm(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    int failures[THREADS] = { 0 };
    int64_t before = sql_number(db, "SELECT samples FROM bore.heartbeats");
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, beat_often, &failures[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(failures[i], 0);
    }
    /* what was answered is in the database */
    assert_int_equal(sql_number(db, "SELECT samples FROM bore.heartbeats") - before, THREADS * EACH);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics"), 1000);
}

/* --- canaries ------------------------------------------------------------------------------------------------------
 */

static void test_canary(void **state) {
    (void)state;
    sql_run(db, "UPDATE bore.coverage SET covered = 0, sender = '', sent = 0");
    struct canary request = { .sender = (char *)"x", .sent = 1000, .after_sender = (char *)"", .after_sent = 0 };
    struct canary_reply reply;
    assert_int_equal(bus_call(processes_bus, MSG_CANARY, &request, NULL, &reply, NULL), 0);
    assert_true(reply.success);
    message_release(&canary_reply_descriptor, &reply);
    request = (struct canary){ .sender = (char *)"x", .sent = 2000, .after_sender = (char *)"x", .after_sent = 1000 };
    assert_int_equal(bus_call(processes_bus, MSG_CANARY, &request, NULL, &reply, NULL), 0);
    assert_int_equal(reply.covered, 1000);
    message_release(&canary_reply_descriptor, &reply);
}

/* Nobody answers at CANARY_URL: each says so once, with the reason, and the rules go on. */
static void test_canary_fails(void **state) {
    (void)state;
    int64_t until = clock_monotonic_ms() + 30000;
    while (!log_says("monitor-1 the canary does not come through http://127.0.0.1:9 (Failed to connect.*): until it "
                     "does, no timeout "
                     "goes on") ||
           !log_says("monitor-2 the canary does not come through")) {
        if (clock_monotonic_ms() > until) fail_msg("nothing is said of it");
        usleep(50000);
    }
    assert_false(log_says("WARNING monitor-1 the rules of time"));
    char command[300];
    snprintf(command, sizeof command, "test $(grep -c 'monitor-1 the canary does not' %s) = 1", processes_log);
    assert_int_equal(system(command), 0);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heartbeat),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_canary),
        cmocka_unit_test(test_canary_fails),
    };
    return cmocka_run_group_tests(tests, setup_group, processes_teardown);
}
