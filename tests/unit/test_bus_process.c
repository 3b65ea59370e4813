/*
 * test_bus_process.c: the bore-bus program itself: killed, stopped, frozen, ended and refused, with callers at work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "services/lib/bus_socket.h"
#include "tests/unit/bus_worker.h"
#include "tests/unit/process.h"

static const struct method echo = { .request_id = MSG_PING_AUTH, .lane = "echo", .idempotent = true };
static const struct method once = { .request_id = MSG_PING_AUTH, .lane = "echo", .idempotent = false };

static char *url;
static pid_t bus;
static struct bus_client *client;
static struct bus_worker *worker;

static int call(const struct method *method, int64_t budget_ms) {
    unsigned char *reply;
    size_t size;
    struct bus_call options = { .deadline_ms = clock_monotonic_ms() + budget_ms };
    int error = bus_call_raw(client, method, "x", 1, &options, &reply, &size, NULL);
    if (error == 0) free(reply);
    return error;
}

static pid_t start_bus(void) {
    char *setting = xasprintf("BUS_URL=%s", url);
    pid_t process = process_start("bore-bus", (const char *const[]){ setting, "LOG_LEVEL=error", NULL }, "/dev/stderr");
    free(setting);
    return process;
}

static int set_up(void **state) {
    (void)state;
    url = bus_url_new();
    bus = start_bus();
    client = bus_client_new(url, "");
    worker = bus_worker_new(
        &(struct bus_worker_options){ .url = url, .lane = "echo", .instance = 1, .credits = 64, .delay_ms = 2 });
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < 10 && call(&echo, 2500) != 0; i++) /* so that it is there to be ended */
        sleep_ms(100);
    bus_worker_free(worker);
    bus_client_free(client);
    int status = process_end(bus, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    bus_url_free(url);
    return 0;
}

struct caller {
    pthread_t thread;
    const struct method *method;
    int64_t end_ms;
    int calls, unavailable, others;
    int64_t longest_ms;
};

static void *call_until(void *argument) {
    struct caller *self = argument;
    while (clock_monotonic_ms() < self->end_ms) {
        int64_t start_ms = clock_monotonic_ms();
        int error = call(self->method, BUS_CALL_BUDGET_MS);
        int64_t took_ms = clock_monotonic_ms() - start_ms;
        if (took_ms > self->longest_ms) self->longest_ms = took_ms;
        self->calls++;
        self->unavailable += error == ERR_UNAVAILABLE;
        self->others += error != 0 && error != ERR_UNAVAILABLE;
    }
    return NULL;
}

static void start_callers(struct caller *callers, size_t count, const struct method *method, int64_t run_ms) {
    for (size_t i = 0; i < count; i++) {
        callers[i] = (struct caller){ .method = method, .end_ms = clock_monotonic_ms() + run_ms };
        pthread_create(&callers[i].thread, NULL, call_until, &callers[i]);
    }
}

static struct caller join_callers(struct caller *callers, size_t count) {
    struct caller sum = { 0 };
    for (size_t i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        sum.calls += callers[i].calls;
        sum.unavailable += callers[i].unavailable;
        sum.others += callers[i].others;
        if (callers[i].longest_ms > sum.longest_ms) sum.longest_ms = callers[i].longest_ms;
    }
    return sum;
}

/* --- tests ----------------------------------------------------------------------------------------------------------
 */

static void kill_and_restart(int signal_number, int64_t down_ms) {
    process_end(bus, signal_number);
    sleep_ms(down_ms);
    bus = start_bus();
}

static void test_killed_under_load_and_back(void **state) {
    struct caller callers[16];
    (void)state;
    assert_int_equal(call(&echo, 2500), 0);
    start_callers(callers, 16, &echo, 4000);
    for (int i = 0; i < 2; i++) {
        sleep_ms(400);
        kill_and_restart(SIGKILL, 300);
        sleep_ms(1200);
    }
    struct caller sum = join_callers(callers, 16);
    assert_int_equal(sum.unavailable + sum.others, 0); /* what may be repeated never failed */
    assert_true(sum.calls > 1000);
    assert_true(sum.longest_ms < 1500);
}

static void test_killed_while_calls_may_not_be_repeated(void **state) {
    struct caller callers[8];
    (void)state;
    assert_int_equal(call(&once, 2500), 0);
    start_callers(callers, 8, &once, 2500);
    sleep_ms(300);
    kill_and_restart(SIGKILL, 300);
    struct caller sum = join_callers(callers, 8);
    assert_in_range(sum.unavailable, 0, 8); /* at most what was under way */
    assert_int_equal(sum.others, 0);
    assert_true(sum.longest_ms < 1500);
}

static void test_ended_under_load_loses_nothing_under_way(void **state) {
    struct caller callers[8];
    (void)state;
    assert_int_equal(call(&once, 2500), 0);
    start_callers(callers, 8, &echo, 2500);
    sleep_ms(300);
    process_end(bus, SIGTERM);
    bus = start_bus();
    struct caller sum = join_callers(callers, 8);
    assert_int_equal(sum.unavailable + sum.others, 0);
}

static void *call_once(void *ret_error) {
    *(int *)ret_error = call(&once, 2500);
    return NULL;
}

static void test_sigterm_waits_for_answers(void **state) {
    pthread_t threads[4];
    int errors[4];
    (void)state;
    assert_int_equal(call(&once, 2500), 0);
    bus_worker_set_mode(worker, WORKER_HOLD);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, call_once, &errors[i]);
    sleep_ms(200);
    kill(bus, SIGTERM);
    sleep_ms(300);
    bus_worker_set_mode(worker, WORKER_ECHO);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(errors[i], 0);
    }
    int status = process_end(bus, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    bus = start_bus();
}

static void test_sigterm_does_not_wait_for_ever(void **state) {
    pthread_t thread;
    int error;
    (void)state;
    assert_int_equal(call(&once, 2500), 0);
    bus_worker_set_mode(worker, WORKER_HOLD);
    pthread_create(&thread, NULL, call_once, &error);
    sleep_ms(100);
    int64_t start_ms = clock_monotonic_ms();
    int status = process_end(bus, SIGTERM);
    assert_in_range(clock_monotonic_ms() - start_ms, 1500, 3000);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pthread_join(thread, NULL);
    assert_int_not_equal(error, 0);
    bus = start_bus();
}

static void test_frozen_and_thawed(void **state) {
    (void)state;
    assert_int_equal(call(&echo, 2500), 0);
    kill(bus, SIGSTOP);
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(call(&echo, 700), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - start_ms, 700, 800);
    sleep_ms(2500);
    kill(bus, SIGCONT);
    assert_int_equal(call(&once, 500), 0); /* its workers are not taken for dead */
}

static void test_away_for_long(void **state) {
    (void)state;
    assert_int_equal(call(&echo, 2500), 0);
    process_end(bus, SIGKILL);
    sleep_ms(3100);
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(call(&echo, 2500), ERR_UNAVAILABLE); /* known to be away: at once */
    assert_true(clock_monotonic_ms() - start_ms < 100);
    bus = start_bus();
    sleep_ms(1200);
    assert_int_equal(call(&echo, 2500), 0);
}

static void test_idle_means_idle(void **state) {
    clockid_t clock;
    struct timespec before, after;
    (void)state;
    assert_int_equal(call(&echo, 2500), 0);
    assert_int_equal(clock_getcpuclockid(bus, &clock), 0);
    clock_gettime(clock, &before);
    sleep_ms(2000);
    clock_gettime(clock, &after);
    double used_ms = (double)(after.tv_sec - before.tv_sec) * 1e3 + (double)(after.tv_nsec - before.tv_nsec) / 1e6;
    assert_true(used_ms < 40);
}

static void expect_refusal(int exit_status, const char *const *settings) {
    int status = process_end(process_start("bore-bus", settings, "/dev/null"), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), exit_status);
}

static void test_what_it_refuses_to_be(void **state) {
    char directory[] = "/tmp/bore-open-XXXXXX";
    (void)state;
    assert_int_equal(call(&echo, 2500), 0);
    char *same = xasprintf("BUS_URL=%s", url);
    expect_refusal(1, (const char *const[]){ same, NULL }); /* a second one at one place */
    free(same);
    assert_int_equal(call(&echo, 2500), 0);

    assert_non_null(mkdtemp(directory));
    chmod(directory, 0750);
    char *open_directory = xasprintf("BUS_URL=ipc://%s/bus", directory);
    expect_refusal(1, (const char *const[]){ open_directory, NULL });
    free(open_directory);
    char *missing_keys = xasprintf("BUS_CURVE_DIR=%s", directory);
    expect_refusal(1, (const char *const[]){ "BUS_URL=tcp://127.0.0.1:39999", missing_keys, NULL });
    free(missing_keys);
    rmdir(directory);

    expect_refusal(1, (const char *const[]){ "BUS_URL=tcp://0.0.0.0:39999", NULL });
    expect_refusal(1, (const char *const[]){ "BUS_URL=http://localhost", NULL });
    expect_refusal(1, (const char *const[]){ "BUS_URL=ipc:///no/such/directory/here/bus", NULL });
    expect_refusal(2, (const char *const[]){ "BUS_QUEUE_MAX=many", NULL });
}

static void test_it_makes_its_directory(void **state) {
    char parent[] = "/tmp/bore-made-XXXXXX";
    struct stat status;
    (void)state;
    assert_non_null(mkdtemp(parent));
    char *made = xasprintf("%s/bus", parent);
    char *setting = xasprintf("BUS_URL=ipc://%s/bus", made);
    pid_t process = process_start("bore-bus", (const char *const[]){ setting, NULL }, "/dev/null");
    sleep_ms(500);
    assert_int_equal(stat(made, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(process_end(process, SIGINT), 0);
    char *inside = xasprintf("ipc://%s/bus", made);
    bus_url_free(inside);
    rmdir(parent);
    free(setting);
    free(made);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_killed_under_load_and_back),
        TEST(test_killed_while_calls_may_not_be_repeated),
        TEST(test_ended_under_load_loses_nothing_under_way),
        TEST(test_sigterm_waits_for_answers),
        TEST(test_sigterm_does_not_wait_for_ever),
        TEST(test_frozen_and_thawed),
        TEST(test_away_for_long),
        TEST(test_idle_means_idle),
        TEST(test_what_it_refuses_to_be),
        TEST(test_it_makes_its_directory),
    };
    log_init("test", 0, "error", "text");

    return cmocka_run_group_tests(tests, NULL, NULL);
}
