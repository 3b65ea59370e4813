/*
 * test_alerter_deliveries_sql.c: claims, retries, rests and order of deliveries; what is given up and what is deleted;
 * the lists of alerts; against a real PostgreSQL whose bore.clock() stands still until it is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "tests/unit/auth_fixture.h"
#include "tests/unit/database.h"
#include "tests/unit/instance_fixture.h"
#include "tests/unit/sql_client.h"

static char user[40], admin[40], instance[40], other[40];
static double now;

static void set_clock(double seconds) {
    char text[80];
    now = seconds;
    snprintf(text, sizeof text, "SET test.clock = '%.3f'", seconds);
    sql_run(db, text);
}

static int setup_group(void **state) {
    sql_setup(state);
    sql_run(db,
        "CREATE OR REPLACE FUNCTION bore.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$"
        "SELECT to_timestamp(coalesce(current_setting('test.clock', true), '1800000000')::double precision) $$");
    return 0;
}

static int setup(void **state) {
    (void)state;
    set_clock(1800000000);
    fixture_clear_all(db);
    sql_run(db, "TRUNCATE bore.alert_problems, bore.alert_marks, bore.alert_channels;"
                "UPDATE bore.alert_cursor SET id = 0, resuming = NULL");
    snprintf(user, sizeof user, "%s", fixture_make_user(db, "a@b.c"));
    snprintf(admin, sizeof admin, "%s", fixture_make_admin(db, "admin@b.c"));
    snprintf(instance, sizeof instance, "%s", fixture_make_instance(db, user, "web"));
    snprintf(other, sizeof other, "%s", fixture_make_instance(db, user, "api"));
    return 0;
}

/* Records an alert of an instance for these channels. */
static const char *record(const char *of, const char *type, const char *channels) {
    return sql_ask(db,
        "SELECT bore.alert_record(ROW ('3 s', '300 s', 5, '600 s', $3::text[])::bore.alert_rules, $2, ARRAY [$1], "
        "ARRAY [(SELECT user_id FROM bore.instances WHERE id = $1)], ARRAY ['it is so'], NULL)",
        of, type, channels);
}

/* Claims for 15 s; answers "channel attempt, …". */
static const char *claim(const char *channels, const char *most) {
    return sql_ask(db,
        "SELECT coalesce(string_agg(alert_type || ' ' || channel || ' ' || attempt, ', ' "
        "ORDER BY alert_type, channel, attempt), '') FROM bore.alert_claim($1::text[], $2::integer, '15 s')",
        channels, most);
}

static const char *miss(
    const char *alert, const char *attempt, const char *problem, const char *permanent, const char *rest_ms) {
    return sql_ask(db,
        "SELECT new_state || ' ' || wait_ms FROM bore.alert_failed($1, 'slack', $2::integer, $3, $4::boolean, "
        "$5::bigint, 0)",
        alert, attempt, problem, permanent, rest_ms);
}

static const char *delivery(const char *alert) {
    return sql_ask(db,
        "SELECT state || ' ' || attempts || ' ' || coalesce(last_error, '-') FROM bore.alert_deliveries "
        "WHERE alert_id = $1 AND channel = 'slack'",
        alert);
}

/* --- attempts ----------------------------------------------------------------------------------------------------- */

static void test_delays(void **state) {
    (void)state;
    static const char all[] =
        "SELECT string_agg(extract(epoch FROM bore.retry_delay(n, $1::float8))::float8::text, ' ' "
        "ORDER BY n) FROM generate_series(1, 12) AS n";
    assert_string_equal(sql_ask(db, all, "0"), "1 2 4 8 16 32 64 128 256 450 450 450");
    assert_string_equal(sql_ask(db, all, "1"), "2 4 8 16 32 64 128 256 512 900 900 900");
    assert_string_equal(sql_ask(db, "SELECT bore.retry_delay(2000000000, 7)"), "00:15:00");
}

static void test_claims(void **state) {
    (void)state;
    const char *alert = record(instance, "Instance Offline", "{slack,email}");
    assert_string_equal(claim("{}", "10"), "");
    assert_string_equal(claim("{slack}", "0"), "");
    assert_string_equal(claim("{slack,email}", "10"), "Instance Offline email 1, Instance Offline slack 1");
    assert_string_equal(claim("{slack,email}", "10"), "");
    /* who claimed it died */
    set_clock(now + 14);
    assert_string_equal(claim("{slack}", "10"), "");
    set_clock(now + 1);
    assert_string_equal(claim("{slack}", "10"), "Instance Offline slack 2");
    /* or was only slow: its failure says nothing any more, its success does */
    assert_string_equal(miss(alert, "1", "late", "t", "0"), " 0");
    assert_string_equal(delivery(alert), "pending 2 -");
    sql_ask(db, "SELECT bore.alert_delivered($1, 'slack')", alert);
    assert_string_equal(delivery(alert), "delivered 2 -");
    assert_string_equal(miss(alert, "2", "late", "t", "0"), " 0");
    assert_string_equal(delivery(alert), "delivered 2 -");
    set_clock(now + 100);
    assert_string_equal(claim("{slack}", "10"), "");
}

static void test_claim_tells(void **state) {
    (void)state;
    record(instance, "Instance Idle", "{slack}");
    static const char all[] =
        "SELECT alert_type || '|' || message || '|' || sent_at || '|' || coalesce(instance_id, '-') || '|' || "
        "coalesce(instance_name, '-') || '|' || coalesce(owner, '-') "
        "FROM bore.alert_claim('{slack}', 1, '1 s')";
    char expected[200];
    snprintf(expected, sizeof expected, "Instance Idle|it is so|1800000000000|%s|web|a@b.c", instance);
    assert_string_equal(sql_ask(db, all), expected);
    /* the user goes, with all instances */
    set_clock(now + 2);
    sql_ask(db, "SELECT * FROM bore.admin_user_action($1, $2, 'delete', '')", admin, user);
    snprintf(expected, sizeof expected, "Instance Idle|it is so|1800000000000|%s|-|-", instance);
    assert_string_equal(sql_ask(db, all), expected);
}

static void test_retries(void **state) {
    (void)state;
    const char *alert = record(instance, "Instance Offline", "{slack}");
    claim("{slack}", "1");
    assert_string_equal(miss(alert, "1", "HTTP 500", "f", "0"), "pending 1000");
    assert_string_equal(delivery(alert), "pending 1 HTTP 500");
    assert_string_equal(claim("{slack}", "1"), "");
    set_clock(now + 1);
    assert_string_equal(claim("{slack}", "1"), "Instance Offline slack 2");
    assert_string_equal(miss(alert, "2", "HTTP 503", "f", "0"), "pending 2000");
    set_clock(now + 2);
    assert_string_equal(claim("{slack}", "1"), "Instance Offline slack 3");
    assert_string_equal(miss(alert, "3", "HTTP 404", "t", "0"), "failed 4000");
    assert_string_equal(delivery(alert), "failed 3 HTTP 404");
    set_clock(now + 90000);
    assert_string_equal(claim("{slack}", "1"), "");
}

static void test_patience(void **state) {
    (void)state;
    const char *alert = record(instance, "Instance Offline", "{slack}");
    set_clock(now + 86400 - 100);
    claim("{slack}", "1");
    sql_run(db, "UPDATE bore.alert_deliveries SET attempts = 12");
    /* the last attempt is at the end of the day */
    assert_string_equal(miss(alert, "12", "no connection", "f", "0"), "pending 100000");
    set_clock(now + 100);
    assert_string_equal(claim("{slack}", "1"), "Instance Offline slack 13");
    assert_string_equal(miss(alert, "13", "no connection", "f", "0"), "failed 0");
    assert_string_equal(delivery(alert), "failed 13 given up after 24 hours: no connection");
}

static void test_rest(void **state) {
    (void)state;
    const char *alert = record(instance, "Instance Offline", "{slack,email}");
    claim("{slack}", "1");
    assert_string_equal(miss(alert, "1", "HTTP 429", "f", "30000"), "pending 30000");
    record(other, "Instance Offline", "{slack,email}");
    set_clock(now + 20);
    assert_string_equal(claim("{slack,email}", "10"), "Instance Offline email 1, Instance Offline email 1");
    set_clock(now + 10);
    assert_string_equal(claim("{slack}", "10"), "Instance Offline slack 1, Instance Offline slack 2");
    /* a shorter rest, heard later, does not end a longer one; none is longer than a day */
    assert_string_equal(miss(alert, "2", "HTTP 429", "f", "9000000000000"), "pending 86370000");
    sql_ask(db, "SELECT bore.alert_failed($1, 'slack', 2, 'HTTP 429', false, 1000, 0)", alert);
    assert_string_equal(
        sql_ask(db, "SELECT extract(epoch FROM resume_at - bore.clock())::integer FROM bore.alert_channels"), "86400");
}

static void test_order(void **state) {
    (void)state;
    const char *first = record(instance, "Instance Offline", "{slack,email}");
    set_clock(now + 1);
    record(instance, "Instance Recovered", "{slack,email}");
    record(other, "Instance Idle", "{slack}");
    assert_string_equal(
        claim("{slack,email}", "10"), "Instance Idle slack 1, Instance Offline email 1, Instance Offline slack 1");
    sql_ask(db, "SELECT bore.alert_delivered($1, 'email')", first);
    assert_string_equal(claim("{slack,email}", "10"), "Instance Recovered email 1");
    miss(first, "1", "HTTP 500", "f", "0");
    assert_string_equal(claim("{slack,email}", "10"), "");
    set_clock(now + 1);
    assert_string_equal(claim("{slack,email}", "10"), "Instance Offline slack 2");
    miss(first, "2", "HTTP 400", "t", "0");
    assert_string_equal(claim("{slack,email}", "10"), "Instance Recovered slack 1");
}

/* Of many who claim at once, each gets others. */
static void test_race(void **state) {
    (void)state;
    enum { RACERS = 8, EACH = 7, ALERTS = 40 };
    for (int i = 0; i < ALERTS; i++)
        record(i % 2 ? instance : other, "Instance Idle", "{slack}");
    sql_run(db, "UPDATE bore.alert_deliveries SET follows = '{}'");
    struct sql_racer racers[RACERS];
    for (int i = 0; i < RACERS; i++)
        racers[i] = (struct sql_racer){ .sql = "SELECT count(*) FROM bore.alert_claim('{slack}', 7, '15 s')",
            .parameters = { sql_end } };
    sql_race(racers, RACERS);
    int sum = 0;
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(racers[i].error, 0);
        assert_in_range(atoi(racers[i].answer), 0, EACH);
        sum += atoi(racers[i].answer);
    }
    /* skipped rows may leave somebody with less, never with another's */
    assert_int_equal(sql_number(db, "SELECT sum(attempts) FROM bore.alert_deliveries"), sum);
    assert_int_equal(sql_number(db, "SELECT max(attempts) FROM bore.alert_deliveries"), 1);
    assert_true(sum >= EACH);
}

/* --- upkeep ------------------------------------------------------------------------------------------------------- */

static void test_sweep(void **state) {
    (void)state;
    static const char sweep[] = "SELECT bore.alert_sweep('90 days', '300 s', 10)";
    const char *alert = record(instance, "Instance Offline", "{slack}");
    set_clock(now + 86400 + 601);
    assert_int_equal(sql_number(db, sweep), 0);
    assert_string_equal(delivery(alert), "failed 0 given up after 24 hours: this channel was not served");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_marks"), 1);
    set_clock(now + 2 * 86400);
    assert_int_equal(sql_number(db, sweep), 1);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_marks"), 0);
    set_clock(now + 86.0 * 86400);
    assert_int_equal(sql_number(db, sweep), 0);
    set_clock(now + 86400 + 1);
    assert_int_equal(sql_number(db, sweep), 1);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_history"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_deliveries"), 0);
}

/* --- lists -------------------------------------------------------------------------------------------------------- */

static const char *admin_list(const char *type, const char *of, const char *with_state, const char *q) {
    return sql_ask(db,
        "SELECT coalesce(string_agg(alert_type || ' ' || coalesce(own.name, '-'), ', '), '') FROM "
        "bore.admin_alert_list($1, $2, $3, $4, $5, 100, NULL) AS told LEFT JOIN bore.instances AS own "
        "ON own.id = told.instance_id",
        admin, type, of, with_state, q);
}

static void test_admin_list(void **state) {
    (void)state;
    static const char sql[] = "SELECT id FROM bore.admin_alert_list($1, $2, NULL, $3, NULL, 10, $4)";
    const char *first = record(instance, "Instance Offline", "{slack}");
    set_clock(now + 1);
    sql_ask(db,
        "SELECT bore.alert_record(ROW ('3 s', '300 s', 5, '600 s', '{slack}')::bore.alert_rules, 'Instance Offline', "
        "ARRAY [$1, $2], ARRAY [$3, $3], ARRAY ['one', 'two'], 'The Whole')",
        instance, other, user);
    set_clock(now + 1);
    record(other, "Instance Recovered", "{slack}");
    assert_string_equal(
        admin_list(NULL, NULL, NULL, NULL), "Instance Recovered api, Instance Offline -, Instance Offline web");
    assert_string_equal(admin_list(NULL, instance, NULL, NULL), "Instance Offline web, Instance Offline web");
    assert_string_equal(admin_list("Instance Recovered", NULL, NULL, NULL), "Instance Recovered api");
    assert_string_equal(admin_list(NULL, NULL, NULL, "whole"), "Instance Offline -");
    assert_string_equal(admin_list(NULL, NULL, "delivered", NULL), "");
    sql_ask(db, "SELECT bore.alert_delivered($1, 'slack')", first);
    assert_string_equal(admin_list(NULL, NULL, "delivered", NULL), "Instance Offline web");
    assert_string_equal(sql_refusal(db, sql, admin, "Instance Lost", NULL, NULL), "validation_error");
    assert_string_equal(sql_refusal(db, sql, admin, NULL, "lost", NULL), "validation_error");
    assert_string_equal(sql_refusal(db, sql, admin, NULL, NULL, "1.x;"), "validation_error");
    assert_string_equal(sql_refusal(db, sql, user, NULL, NULL, NULL), "forbidden");
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
#define TEST(function) cmocka_unit_test_setup(function, setup)
    const struct CMUnitTest tests[] = { TEST(test_delays), TEST(test_claims), TEST(test_claim_tells),
        TEST(test_retries), TEST(test_patience), TEST(test_rest), TEST(test_order), TEST(test_race), TEST(test_sweep),
        TEST(test_admin_list) };
    return cmocka_run_group_tests(tests, setup_group, sql_teardown);
}
