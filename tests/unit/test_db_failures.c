/*
 * test_db_failures.c: servers that die, freeze, refuse and collide.
 *
 * Each test has its own connection, and a second one beside it for the other side of a collision. Backends are killed
 * and frozen for real, by signals; whatever was frozen goes on afterwards.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/db.h"
#include "common/memory.h"
#include "tests/unit/database.h"

enum { SLACK_MS = 700 }; /* how much later than its deadline a call may come back on a busy machine */

static const struct db_statement one = { .name = "one", .sql = "SELECT 1" };
static const struct db_statement sleep_second = { .name = "sleep_second", .sql = "SELECT pg_sleep(1)" };

static struct db *db;
static struct db *other;
static pid_t frozen;

static int setup(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    db = db_new(&options);
    other = db_new(&options);
    db_set_deadline(other, 0);
    return db_connect(db, clock_monotonic_ms() + 10000) || db_connect(other, clock_monotonic_ms() + 10000);
}

static int teardown(void **state) {
    (void)state;
    if (frozen) kill(frozen, SIGCONT);
    frozen = 0;
    db_free(db);
    db_free(other);
    return 0;
}

static void freeze(pid_t process) {
    assert_true(process > 1);
    frozen = process;
    assert_int_equal(kill(process, SIGSTOP), 0);
}

static void thaw(void) {
    kill(frozen, SIGCONT);
    frozen = 0;
}

static void run(struct db *connection, const char *sql) {
    if (db_run_script(connection, sql) < 0) fail_msg("%s: %s", sql, db_error_message(connection));
}

static int64_t number(const char *sql) {
    struct db_statement statement = { .name = sql, .sql = sql };
    struct db_result *result = NULL;
    if (db_run(db, &statement, NULL, &result) < 0) fail_msg("%s: %s", sql, db_error_message(db));
    int64_t value = db_result_int(result, 0, 0, -1);
    db_result_free(result);
    return value;
}

static void assert_elapsed(int64_t start_ms, int64_t expected_ms) {
    int64_t elapsed = clock_monotonic_ms() - start_ms;
    if (elapsed < expected_ms - 5 || elapsed > expected_ms + SLACK_MS)
        fail_msg("took %d ms, not %d", (int)elapsed, (int)expected_ms);
}

static uint64_t connects(void) {
    struct db_statistics statistics;
    db_statistics(db, &statistics);
    return statistics.connects;
}

/* --- dying ------------------------------------------------------------------------------------------------------- */

/* The connection is found dead before anything is sent: nobody notices, and statements are prepared anew. */
static void test_killed_while_idle(void **state) {
    (void)state;
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    assert_int_equal(kill(test_database_backend(db), SIGKILL), 0);
    usleep(200000);
    db_set_deadline(db, clock_monotonic_ms() + 10000);
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    assert_string_equal(db_error_message(db), "");
    assert_int_equal(connects(), 2);
}

static void test_terminated_while_idle(void **state) {
    (void)state;
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    struct db_call calls[] = { { &one, NULL }, { &one, NULL } };
    struct db_result *results[2];
    assert_int_equal(kill(test_database_backend(db), SIGTERM), 0);
    usleep(200000);
    assert_int_equal(db_run_many(db, calls, 2, results), 0);
    for (size_t i = 0; i < 2; i++)
        db_result_free(results[i]);
    assert_int_equal(connects(), 2);
}

struct later {
    pid_t process;
    int signal;
};

static void *signal_later(void *argument) {
    struct later *later = argument;
    usleep(200000);
    kill(later->process, later->signal);
    return NULL;
}

static void lost_while_running(int signal_number) {
    struct later later = { .process = test_database_backend(db), .signal = signal_number };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, signal_later, &later), 0);
    int error = db_run(db, &sleep_second, NULL, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(error, -ECONNRESET);
    assert_string_not_equal(db_error_message(db), "");
    assert_false(db_is_connected(db));
    db_set_deadline(db, clock_monotonic_ms() + 10000);
    error = db_run(db, &sleep_second, NULL, NULL);
    /* A backend that was killed takes all others along: so also one that began before the server noticed. */
    int connections = 2;
    if (error == -ECONNRESET && signal_number == SIGKILL) {
        connections = 3;
        db_set_deadline(db, clock_monotonic_ms() + 10000);
        error = db_run(db, &sleep_second, NULL, NULL);
    }
    if (error < 0) fail_msg("%s", db_error_message(db));
    assert_int_equal(connects(), connections);
}

static void test_killed_while_running(void **state) {
    (void)state;
    lost_while_running(SIGKILL);
}

static void test_terminated_while_running(void **state) {
    (void)state;
    lost_while_running(SIGTERM);
}

/* Statements go on within their deadline although the server recovers from a crash in between. */
static void test_through_recovery(void **state) {
    (void)state;
    kill(test_database_backend(other), SIGKILL);
    int64_t start = clock_monotonic_ms();
    int lost = 0;
    while (clock_monotonic_ms() < start + 1500) {
        db_set_deadline(db, clock_monotonic_ms() + 5000);
        int error = db_run(db, &one, NULL, NULL);
        if (error == -ECONNRESET) lost++;
        if (error != 0 && error != -ECONNRESET) fail_msg("%d %s", error, db_error_message(db));
        usleep(1000);
    }
    assert_true(lost <= 1);
    assert_int_equal(connects(), 2);
}

/* What follows must not be committed on its own, when the transaction that a script began is gone. */
static void test_lost_transaction(void **state) {
    (void)state;
    static const struct db_statement insert = { .name = "insert_lost", .sql = "INSERT INTO t.lost VALUES (1)" };
    run(db, "CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.lost (id int)");
    pid_t backend = test_database_backend(db);
    run(db, "BEGIN");
    assert_int_equal(kill(backend, SIGTERM), 0);
    usleep(200000);
    assert_int_equal(db_run(db, &insert, NULL, NULL), -ECONNRESET);
    run(db, "BEGIN; INSERT INTO t.lost VALUES (2)");
    static const struct db_statement collide = { .name = "collide_in_transaction",
        .sql = "DO $$ BEGIN RAISE serialization_failure; END $$" };
    assert_int_equal(db_run(db, &collide, NULL, NULL), -EIO);
    assert_int_equal(number("SELECT count(*) FROM t.lost"), 0);
}

/* --- not there, or frozen ---------------------------------------------------------------------------------------- */

static void test_nobody_there(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    options.port = 5999;
    options.password = "hush";
    struct db *nowhere = db_new(&options);
    int64_t start = clock_monotonic_ms();
    assert_int_equal(db_connect(nowhere, start + 300), -ENOTCONN);
    assert_elapsed(start, 300);
    assert_non_null(strstr(db_error_message(nowhere), "cannot connect to the database: "));
    assert_non_null(strstr(db_error_message(nowhere), "No such file or directory"));
    assert_null(strchr(db_error_message(nowhere), '\n'));
    assert_null(strstr(db_error_message(nowhere), "hush"));
    start = clock_monotonic_ms();
    db_set_deadline(nowhere, start + 300);
    assert_int_equal(db_run(nowhere, &one, NULL, NULL), -ENOTCONN);
    assert_elapsed(start, 300);
    start = clock_monotonic_ms();
    db_set_deadline(nowhere, start - 1);
    assert_int_equal(db_run(nowhere, &one, NULL, NULL), -ENOTCONN);
    assert_int_equal(db_run_script(nowhere, "SELECT 1"), -ENOTCONN);
    assert_elapsed(start, 0);
    db_free(nowhere);
}

static void test_no_such_database(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    options.name = "missing";
    struct db *missing = db_new(&options);
    assert_int_equal(db_connect(missing, clock_monotonic_ms() + 100), -ENOTCONN);
    assert_non_null(strstr(db_error_message(missing), "database \"missing\" does not exist"));
    db_free(missing);
}

static void test_frozen_backend(void **state) {
    (void)state;
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    freeze(test_database_backend(db));
    int64_t start = clock_monotonic_ms();
    db_set_deadline(db, start + 300);
    assert_int_equal(db_run(db, &one, NULL, NULL), -ETIMEDOUT);
    assert_elapsed(start, 300);
    assert_false(db_is_connected(db));
    /* The next one has its own backend, while the first still stands. */
    db_set_deadline(db, clock_monotonic_ms() + 3000);
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
}

static void test_frozen_backend_and_pipeline(void **state) {
    (void)state;
    freeze(test_database_backend(db));
    struct db_call calls[] = { { &one, NULL }, { &sleep_second, NULL } };
    struct db_result *results[2] = { NULL };
    int64_t start = clock_monotonic_ms();
    db_set_deadline(db, start + 300);
    assert_int_equal(db_run_many(db, calls, 2, results), -ETIMEDOUT);
    assert_elapsed(start, 300);
    assert_null(results[0]);
}

/* More than the socket's buffers hold: sending, too, and hanging up must not wait. */
static void test_frozen_backend_and_large_statement(void **state) {
    (void)state;
    static const struct db_statement length = { .name = "length", .sql = "SELECT length($1::text)" };
    size_t size = (size_t)16 << 20;
    _cleanup_free_ char *text = xmalloc(size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, text);
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_int_equal(db_run(db, &length, &params, &result), 0);
    assert_int_equal(db_result_int(result, 0, 0, -1), size);
    freeze(test_database_backend(db));
    int64_t start = clock_monotonic_ms();
    db_set_deadline(db, start + 300);
    assert_int_equal(db_run(db, &length, &params, NULL), -ETIMEDOUT);
    assert_elapsed(start, 300);
}

/* Without a deadline, statement_timeout and a second bound the wait. */
static void test_frozen_backend_without_deadline(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    options.statement_timeout_ms = 200;
    struct db *hasty = db_new(&options);
    freeze(test_database_backend(hasty));
    int64_t start = clock_monotonic_ms();
    assert_int_equal(db_run(hasty, &one, NULL, NULL), -ETIMEDOUT);
    assert_elapsed(start, 1200);
    db_free(hasty);
}

static void test_frozen_postmaster(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    struct db *fresh = db_new(&options);
    freeze(test_database_postmaster());
    int64_t start = clock_monotonic_ms();
    assert_int_equal(db_connect(fresh, start + 300), -ENOTCONN);
    assert_elapsed(start, 300);
    assert_string_equal(db_error_message(fresh), "cannot connect to the database: no answer in time");
    /* Connections that exist go on. */
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    thaw();
    assert_int_equal(db_connect(fresh, clock_monotonic_ms() + 5000), 0);
    db_free(fresh);
}

static void test_deadline_before_the_statement(void **state) {
    (void)state;
    db_set_deadline(db, clock_monotonic_ms() - 1);
    assert_int_equal(db_run(db, &one, NULL, NULL), -ETIMEDOUT);
    assert_true(db_is_connected(db));
    db_set_deadline(db, 0);
    assert_int_equal(db_run(db, &one, NULL, NULL), 0);
    assert_int_equal(connects(), 1);
}

/* --- colliding --------------------------------------------------------------------------------------------------- */

static int thread_result;

static void *increment(void *unused) {
    (void)unused;
    static const struct db_statement statement = { .name = "increment", .sql = "UPDATE t.counter SET n = n + 1" };
    thread_result = db_run(db, &statement, NULL, NULL);
    return NULL;
}

/* A real one: two transactions in REPEATABLE READ change one row. */
static void test_serialization_failure(void **state) {
    (void)state;
    run(db, "CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.counter (n int); INSERT INTO t.counter VALUES (0)");
    run(db, "SET default_transaction_isolation = 'repeatable read'");
    run(other, "BEGIN; UPDATE t.counter SET n = n + 1");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, increment, NULL), 0);
    usleep(300000);
    run(other, "COMMIT");
    pthread_join(thread, NULL);
    if (thread_result < 0) fail_msg("%s", db_error_message(db));
    assert_int_equal(number("SELECT n FROM t.counter"), 2);
}

static void define_colliding(const char *condition, const char *until) {
    _cleanup_free_ char *sql = xasprintf(
        "CREATE SCHEMA IF NOT EXISTS t; DROP SEQUENCE IF EXISTS t.attempts CASCADE; CREATE SEQUENCE t.attempts;"
        "CREATE OR REPLACE FUNCTION t.collide() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('t.attempts') < %s THEN RAISE %s; END IF; RETURN 1; END $$",
        until, condition);
    run(db, sql);
}

static void test_collisions_are_run_again(void **state) {
    (void)state;
    static const struct db_statement collide = { .name = "collide", .sql = "SELECT t.collide()" };
    static const char *const conditions[] = { "serialization_failure", "deadlock_detected" };
    for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
        define_colliding(conditions[i], "4");
        assert_int_equal(db_run(db, &collide, NULL, NULL), 0);
        assert_int_equal(number("SELECT last_value FROM t.attempts"), 4);
        define_colliding(conditions[i], "1000");
        assert_int_equal(db_run(db, &collide, NULL, NULL), -EIO);
        assert_int_equal(number("SELECT last_value FROM t.attempts"), 4);
    }
    define_colliding("serialization_failure", "3");
    struct db_call calls[] = { { &one, NULL }, { &collide, NULL } };
    struct db_result *results[2];
    assert_int_equal(db_run_many(db, calls, 2, results), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(db_result_int(results[i], 0, 0, -1), 1);
        db_result_free(results[i]);
    }
}

/* Everything else is told, not repeated. */
static void test_nothing_else_is_run_again(void **state) {
    (void)state;
    static const struct db_statement collide = { .name = "collide", .sql = "SELECT t.collide()" };
    static const struct {
        const char *condition;
        int error;
    } cases[] = { { "unique_violation", -EEXIST }, { "disk_full", -ENOSPC }, { "lock_not_available", -ETIMEDOUT },
        { "query_canceled", -ETIMEDOUT }, { "internal_error", -EIO }, { "raise_exception", -EIO } };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        define_colliding(cases[i].condition, "1000");
        assert_int_equal(db_run(db, &collide, NULL, NULL), cases[i].error);
        assert_int_equal(number("SELECT last_value FROM t.attempts"), 1);
    }
    assert_int_equal(connects(), 1);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_while_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_terminated_while_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_while_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_terminated_while_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_through_recovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_database, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen_backend, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen_backend_and_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen_backend_and_large_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen_backend_without_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen_postmaster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_before_the_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_serialization_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_collisions_are_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_else_is_run_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
