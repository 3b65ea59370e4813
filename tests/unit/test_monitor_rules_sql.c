/*
 * test_monitor_rules_sql.c: covered time and its canaries (sql/040), and the rules of time (sql/042).
 *
 * The covered time is set by the tests: nothing here waits.
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

static char user[64], instance[64];

static void set_clock(const char *offset) {
    char sql[300];
    snprintf(sql, sizeof sql,
        "CREATE OR REPLACE FUNCTION bore.clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE RETURN "
        "clock_timestamp() + interval '%s'",
        offset);
    sql_run(db, sql);
}

static int setup(void **state) {
    (void)state;
    set_clock("0");
    fixture_clear_all(db);
    sql_run(db, "UPDATE bore.coverage SET covered = 100000, sender = 'me', sent = 7000, at = clock_timestamp()");
    snprintf(user, sizeof user, "%s", fixture_make_user(db, "a@example.org"));
    sql_ask(db, "UPDATE bore.users SET plan = 'enterprise', plan_expires = NULL WHERE id = $1", user);
    snprintf(instance, sizeof instance, "%s", fixture_make_instance(db, user, "one"));
    return 0;
}

/* --- covered time ------------------------------------------------------------------------------------------------- */

/* A canary of "sender sent after_sender after_sent"; what stands then: "success sender sent covered". */
static const char *canary(const char *sender, const char *sent, const char *after_sender, const char *after_sent) {
    const char *success =
        sql_ask(db, "SELECT left(success::text, 1) FROM bore.canary_hear($1, $2::bigint, $3, $4::bigint)", sender, sent,
            after_sender, after_sent);
    return sql_ask(db, "SELECT concat_ws(' ', $1::text, sender, sent, covered) FROM bore.coverage", success);
}

static void test_canaries_in_order(void **state) {
    (void)state;
    assert_string_equal(canary("me", "8000", "me", "7000"), "t me 8000 101000");
    assert_string_equal(canary("me", "10500", "me", "8000"), "t me 10500 103500"); /* the longest step */
    assert_string_equal(canary("me", "13001", "me", "10500"), "t me 13001 103500");
    assert_string_equal(canary("me", "13002", "me", "13001"), "t me 13002 103501");
}

/* What was held up comes through all at once, in any order: one of them covers its step. */
static void test_canaries_held_up(void **state) {
    (void)state;
    assert_string_equal(canary("me", "8000", "me", "7000"), "t me 8000 101000");
    assert_string_equal(canary("me", "9000", "me", "7000"), "t me 9000 101000");
    assert_string_equal(canary("me", "11000", "me", "7000"), "t me 11000 101000");
    assert_string_equal(canary("me", "10000", "me", "7000"), "f me 11000 101000"); /* overtaken */
    assert_string_equal(canary("me", "11000", "me", "9000"), "f me 11000 101000"); /* a copy */
    assert_string_equal(canary("me", "12000", "me", "7000"), "t me 12000 101000"); /* the answers were lost */
    assert_string_equal(canary("me", "13000", "me", "12000"), "t me 13000 102000");
}

/* Another one takes over only what it has seen standing still; then the first one's count no more. */
static void test_canaries_of_two(void **state) {
    (void)state;
    assert_string_equal(canary("other", "500", "me", "6000"), "f me 7000 100000");
    assert_string_equal(canary("other", "500", "", "0"), "f me 7000 100000");
    assert_string_equal(canary("other", "500", "me", "7000"), "t other 500 100000");
    assert_string_equal(canary("me", "8000", "me", "7000"), "f other 500 100000");
    assert_string_equal(canary("other", "1500", "other", "500"), "t other 1500 101000");
    assert_string_equal(canary("third", "9", "other", "500"), "f other 1500 101000");
    /* a process that was started anew has a clock of its own */
    assert_string_equal(canary("third", "9", "other", "1500"), "t third 9 101000");
    assert_string_equal(canary("third", "1009", "third", "9"), "t third 1009 102000");
}

/* Between two canaries the clock goes on; one that jumped is not believed. */
static void test_now(void **state) {
    (void)state;
    static const char now[] = "SELECT bore.covered_now() - covered FROM bore.coverage";
    static const char at[] = "UPDATE bore.coverage SET at = bore.clock() - $1::interval";
    sql_ask(db, at, "0.4 seconds");
    long long since = sql_number(db, now);
    assert_true(since >= 400 && since < 1400);
    static const char *const jumps[] = { "1 hour", "-1 hour", "2.6 seconds", "-5 seconds" };
    for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
        sql_ask(db, at, jumps[i]);
        assert_int_equal(sql_number(db, now), 1000);
    }
}

/* --- the rules ---------------------------------------------------------------------------------------------------- */

/* Timeouts: heartbeats 30 s, starting 60 s, idle 1800 s. */
static const char *sweep(void) {
    return sql_ask(db, "SELECT concat_ws(' ', won, more) FROM bore.time_rules(30000, 60000, 1800000, 100)");
}

static void pass(const char *milliseconds) {
    sql_ask(db, "UPDATE bore.coverage SET covered = covered + $1::bigint, at = bore.clock()", milliseconds);
}

static const char *status(const char *id) {
    return sql_ask(db, "SELECT status || ': ' || status_reason FROM bore.instances WHERE id = $1", id);
}

static void connected(const char *id) {
    sql_ask(db,
        "SELECT bore.append_events(bore.settle(ARRAY [ROW (bore.with_phase(own, 'connected', 'open', bore.clock()), "
        "'server', NULL, NULL)::bore.step], interval '30 minutes')) FROM bore.instances AS own WHERE id = $1",
        id);
}

static void heartbeat(const char *id, const char *activity_ago) {
    sql_ask(db,
        "SELECT count(*) FROM bore.heartbeats_hear(ARRAY [$1], ARRAY [$2], ARRAY [true], ARRAY [true], ARRAY "
        "[1.0::double "
        "precision], ARRAY [1.0::double precision], ARRAY [date_part('epoch', bore.clock())::bigint - $3::bigint], "
        "ARRAY "
        "[NULL], interval '30 minutes')",
        user, id, activity_ago);
}

static void test_silence(void **state) {
    (void)state;
    connected(instance);
    heartbeat(instance, NULL);
    sql_run(db, "UPDATE bore.heartbeats SET covered = 100000");
    pass("30250");
    assert_string_equal(sweep(), "t f");
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    pass("1");
    sweep();
    assert_string_equal(status(instance), "offline: heartbeats stopped");
    assert_string_equal(sql_ask(db, "SELECT payload ->> 'actor' FROM bore.events ORDER BY id DESC LIMIT 1"), "monitor");
    /* noticed once; and back by itself */
    pass("100000");
    sweep();
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history WHERE instance_id = $1", instance), 4);
    heartbeat(instance, NULL);
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    sweep();
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
}

/* Hours by the clock, in which nobody could be heard, are no silence. */
static void test_blindness(void **state) {
    (void)state;
    connected(instance);
    heartbeat(instance, NULL);
    static const char *const clocks[] = { "3 hours", "-3 hours", "0" };
    for (size_t i = 0; i < ARRAY_SIZE(clocks); i++) {
        set_clock(clocks[i]);
        pass("9000");
        sweep();
        assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    }
    pass("9000");
    sweep();
    assert_string_equal(status(instance), "offline: heartbeats stopped");
    /* the clock went back and forth: history never did */
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history AS h JOIN bore.status_history AS later "
                                    "ON later.instance_id = h.instance_id AND later.id > h.id AND later.at < h.at"),
        0);
}

static void test_silence_without_a_session(void **state) {
    (void)state;
    heartbeat(instance, NULL);
    connected(instance); /* a plain client from here on */
    pass("1000000");
    sweep();
    assert_string_equal(status(instance), "active: open");
    assert_string_equal(sql_ask(db, "SELECT watched::text FROM bore.heartbeats"), "false");
}

static void test_idle(void **state) {
    (void)state;
    connected(instance);
    heartbeat(instance, "1798");
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    sweep();
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    set_clock("4 seconds");
    sweep();
    assert_string_equal(status(instance), "idle: no recent activity");
    heartbeat(instance, NULL);
    assert_string_equal(status(instance), "idle: no recent activity");
    heartbeat(instance, "0");
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
    sweep();
    assert_string_equal(status(instance), "online: tunnel connected, heartbeats arrive");
}

/* connect, and validate-key when asked to; answers the token. */
static const char *start(const char *id, bool validate) {
    const char *token = sql_ask(db,
        "SELECT tunnel_token FROM bore.instances_connect(ARRAY [$1], ARRAY [$2], 3600000, 'h', 7835, interval '1 "
        "minute', "
        "interval '30 minutes')",
        user, id);
    if (validate)
        assert_string_equal(
            sql_ask(db, "SELECT valid::text FROM bore.validate_keys(ARRAY [$1], interval '1 minute')", token), "true");
    return token;
}

static void report(const char *id, const char *kind, const char *port) {
    sql_ask(db,
        "SELECT count(*) FROM bore.tunnel_reports(ARRAY [ROW (1, $2, $1, $3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
        "NULL, NULL, NULL, NULL)::bore.batch_report], 'h', interval '1 minute', interval '30 minutes')",
        id, kind, port);
}

static void test_validated(void **state) {
    (void)state;
    start(instance, true);
    sql_run(db, "UPDATE bore.tunnel_sessions SET validated_covered = 100000");
    sweep();
    pass("60249");
    sweep();
    assert_string_equal(status(instance), "starting: waiting for the tunnel");
    pass("1");
    sweep();
    assert_string_equal(status(instance), "error: the tunnel did not open in time");
    report(instance, "connected", "5000");
    assert_string_equal(status(instance), "active: tunnel connected");
    assert_string_equal(sql_ask(db, "SELECT coalesce(max(due)::text, 'none') FROM bore.waiting"), "none");
}

/* It is validated late: its time begins then. */
static void test_validated_late(void **state) {
    (void)state;
    const char *token = start(instance, false);
    for (int i = 0; i < 7; i++) {
        sweep();
        pass("50000");
    }
    sql_ask(db, "SELECT valid FROM bore.validate_keys(ARRAY [$1], interval '1 minute')", token);
    for (int i = 0; i < 6; i++) {
        sweep();
        assert_string_equal(status(instance), "starting: waiting for the tunnel");
        pass("10000");
    }
    pass("2300");
    sweep();
    assert_string_equal(status(instance), "error: the tunnel did not open in time");
}

static void test_unused(void **state) {
    (void)state;
    start(instance, false);
    sweep();
    sql_run(db, "UPDATE bore.tunnel_tokens SET expires_at = bore.clock() + interval '20 seconds'");
    pass("60000");
    sweep();
    assert_string_equal(status(instance), "starting: waiting for the tunnel");
    assert_int_equal(sql_number(db,
                         "SELECT round((due - (SELECT covered FROM bore.coverage)) / 10000.0) FROM "
                         "bore.waiting WHERE instance_id = $1",
                         instance),
        2);
    set_clock("21 seconds");
    pass("21000");
    sweep();
    assert_string_equal(status(instance), "inactive: the tunnel token was not used in time");
}

/* An earlier tunnel is still open when the newer one does not come. */
static void test_earlier_one(void **state) {
    (void)state;
    start(instance, true);
    report(instance, "connected", "5000");
    start(instance, true);
    assert_string_equal(status(instance), "starting: waiting for the tunnel");
    sweep();
    pass("63000");
    sweep();
    assert_string_equal(status(instance), "active: tunnel connected: a newer one did not open");
    assert_string_equal(
        sql_ask(db, "SELECT concat_ws(' ', remote_port, current_session IS NOT NULL) FROM bore.instances"), "5000 t");
}

static const char *renew(void) {
    return sql_ask(db, "SELECT concat_ws(' ', close) FROM bore.server_renew('s1', 'h', 7835, 'eu', 10, true, 30000)");
}

static void test_lease(void **state) {
    (void)state;
    renew();
    sql_run(db, "UPDATE bore.servers SET lease_covered = 130000");
    sql_ask(db, "UPDATE bore.instances SET region = 'eu' WHERE id = $1", instance);
    start(instance, true);
    report(instance, "connected", "5000");
    pass("30250");
    assert_string_equal(sweep(), "t f");
    assert_string_equal(status(instance), "active: tunnel connected");
    pass("1");
    assert_string_equal(sweep(), "t t");
    assert_string_equal(sweep(), "t f");
    assert_string_equal(status(instance), "offline: tunnel disconnected: its bore-server no longer answers");
    assert_string_equal(sql_ask(db, "SELECT closed_by || ' ' || live FROM bore.tunnel_sessions"), "lease false");
    assert_string_equal(
        sql_ask(db, "SELECT payload ->> 'server_id' FROM bore.events WHERE kind = 'status' ORDER BY id DESC LIMIT 1"),
        "s1");
    assert_string_equal(sql_ask(db, "SELECT alive::text FROM bore.server_row"), "false");
    const char *close = sql_ask(db, "SELECT '{' || $1 || '}'", instance);
    assert_string_equal(renew(), close);
    assert_string_equal(sql_ask(db, "SELECT alive::text FROM bore.server_row"), "true");
}

/* Of many that are late, a bounded number at a time. */
static void test_bounds(void **state) {
    (void)state;
    sql_ask(db,
        "WITH made AS (INSERT INTO bore.instances (id, user_id, name, local_port, phase, phase_reason, status, "
        "heartbeat_session) SELECT 'inst_' || n, $1, 'n', 80, 'connected', 'open', 'online', true FROM "
        "generate_series(1, 250) AS n RETURNING id) INSERT INTO bore.heartbeats SELECT 0, now(), true, false, 1, NULL, "
        "NULL, NULL, id FROM made",
        user);
    assert_string_equal(sweep(), "t t");
    assert_string_equal(sweep(), "t t");
    assert_string_equal(sweep(), "t f");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances WHERE status = 'offline'"), 250);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history WHERE status = 'offline'"), 250);
}

/* Whoever is frozen within a sweep is one whose transaction is over: the lock is that of a transaction. */
static void test_one_wins(void **state) {
    (void)state;
    enum { RACERS = 10 };
    connected(instance);
    heartbeat(instance, NULL);
    pass("40000");
    struct sql_racer racers[RACERS];
    for (size_t i = 0; i < RACERS; i++)
        racers[i] =
            (struct sql_racer){ .sql = "SELECT won FROM bore.time_rules(30000, 60000, 1800000, 100), pg_sleep(0.1)",
                .parameters = { sql_end } };
    sql_race(racers, RACERS);
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(racers[i].error, 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history WHERE status = 'offline'"), 1);
    assert_int_equal(sql_number(db, "SELECT max(id) - count(*) FROM bore.events"), 0);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_canaries_in_order, setup),
        cmocka_unit_test_setup(test_canaries_held_up, setup),
        cmocka_unit_test_setup(test_canaries_of_two, setup),
        cmocka_unit_test_setup(test_now, setup),
        cmocka_unit_test_setup(test_silence, setup),
        cmocka_unit_test_setup(test_blindness, setup),
        cmocka_unit_test_setup(test_silence_without_a_session, setup),
        cmocka_unit_test_setup(test_idle, setup),
        cmocka_unit_test_setup(test_validated, setup),
        cmocka_unit_test_setup(test_validated_late, setup),
        cmocka_unit_test_setup(test_unused, setup),
        cmocka_unit_test_setup(test_earlier_one, setup),
        cmocka_unit_test_setup(test_lease, setup),
        cmocka_unit_test_setup(test_bounds, setup),
        cmocka_unit_test_setup(test_one_wins, setup),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
