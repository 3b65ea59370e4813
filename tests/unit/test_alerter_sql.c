/*
 * test_alerter_sql.c: which changes of status become which alerts and when, one row a case; cooldown, outages, gaps in
 * the log, deliveries and their retries; against a real PostgreSQL whose bore.clock() stands still until it is told.
 *
 * A script is words: an instance's number (left out: 1) and what it becomes: S starting, A active, N online, D
 * degraded, I idle, O offline (its bore-server says so), E error, X inactive (its user says so), M offline (the end of
 * its bore-server), R deleted; +n lets n seconds pass with a step of the alerter in each, ~n without one. What was told
 * is read as "seconds type instance": "3 Offline 1". Settle 3 s, cooldown 300 s, high error rate 5 in 600 s.
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

enum { INSTANCES = 14 };

#define STEP(channels) \
    "SELECT alerts FROM bore.alerter_step('3 seconds', '300 seconds', 5, '600 seconds', '" channels "', 20)"

static char user[40], admin[40];
static char instances[INSTANCES + 1][40]; /* from 1 */
static double begun, now;

/* --- the world ---------------------------------------------------------------------------------------------------- */

static int setup_group(void **state) {
    sql_setup(state);
    sql_run(db,
        "CREATE OR REPLACE FUNCTION bore.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$"
        "SELECT to_timestamp(current_setting('test.clock')::double precision) $$;"
        "CREATE FUNCTION bore.test_becomes(instance text, new_status text, actor text, server text) RETURNS void "
        "LANGUAGE plpgsql AS $$ DECLARE own bore.instances; BEGIN "
        "SELECT * INTO own FROM bore.instances WHERE id = instance; "
        "UPDATE bore.instances SET status = new_status, status_reason = 'it was so', status_since = bore.clock() "
        "WHERE id = instance; "
        "INSERT INTO bore.status_history (instance_id, status, reason, at) "
        "VALUES (instance, new_status, 'it was so', bore.clock()); "
        "PERFORM bore.append_events(ARRAY [ROW ('status', own.user_id, instance, jsonb_build_object("
        "'status', new_status, 'previous_status', own.status, 'reason', 'it was so', 'actor', actor, 'server_id', "
        "server), "
        "bore.clock())::bore.new_event]); END $$;");
    return 0;
}

static void set_clock(double seconds) {
    char text[80];
    now = seconds;
    snprintf(text, sizeof text, "SET test.clock = '%.3f'", seconds);
    sql_run(db, text);
}

static void step(void) {
    sql_ask(db, STEP("{slack}"));
}

static int setup(void **state) {
    (void)state;
    set_clock(1800000000);
    begun = now;
    fixture_clear_all(db);
    sql_run(db, "TRUNCATE bore.alert_problems, bore.alert_marks, bore.alert_channels;"
                "UPDATE bore.alert_cursor SET id = 0, resuming = NULL, epoch = (SELECT epoch FROM bore.event_epoch)");
    snprintf(user, sizeof user, "%s", fixture_make_user(db, "a@b.c"));
    snprintf(admin, sizeof admin, "%s", fixture_make_admin(db, "admin@b.c"));
    for (int i = 1; i <= INSTANCES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        snprintf(instances[i], sizeof instances[i], "%s", fixture_make_instance(db, user, name));
    }
    return 0;
}

static void pass(double seconds, bool with_steps) {
    double end = now + seconds;
    while (with_steps && now + 1 <= end) {
        set_clock(now + 1);
        step();
    }
    set_clock(end);
    if (with_steps) step();
}

static void become(const char *instance, char word) {
    static const struct {
        char word;
        const char *status, *actor, *server;
    } words[] = { { 'S', "starting", "user", NULL }, { 'A', "active", "server", NULL },
        { 'N', "online", "monitor", NULL }, { 'D', "degraded", "monitor", NULL }, { 'I', "idle", "monitor", NULL },
        { 'O', "offline", "server", "s1" }, { 'E', "error", "monitor", NULL }, { 'X', "inactive", "user", NULL },
        { 'M', "offline", "monitor", "s1" } };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (words[i].word != word) continue;
        sql_ask(
            db, "SELECT bore.test_becomes($1, $2, $3, $4)", instance, words[i].status, words[i].actor, words[i].server);
        return;
    }
    assert_int_equal(word, 'R');
    assert_string_equal(sql_ask(db, "SELECT success FROM bore.instance_delete($1, $2)", user, instance), "t");
}

static const char *told(void) {
    char text[32];
    snprintf(text, sizeof text, "%.3f", begun);
    return sql_ask(db,
        "SELECT coalesce(string_agg(round(extract(epoch FROM sent_at) - $1::numeric) || ' ' || "
        "replace(replace(alert_type, 'Instance ', ''), 'High Error ', '') || ' ' || "
        "coalesce(name, (SELECT string_agg(coalesce(child.name, 'gone'), '+' ORDER BY length(child.name), child.name) "
        "FROM bore.alert_history AS "
        "part "
        "LEFT JOIN bore.instances AS child ON child.id = part.instance_id WHERE part_of = told.id), 'gone'), ', ' "
        "ORDER BY sent_at, length(name) NULLS FIRST, name, alert_type), '') "
        "FROM bore.alert_history AS told LEFT JOIN bore.instances AS own ON own.id = told.instance_id "
        "WHERE part_of IS NULL",
        text);
}

static void play(const char *script) {
    _cleanup_free_ char *words = xstrdup(script);
    char *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (*word == '+' || *word == '~') {
            pass(atof(word + 1), *word == '+');
            continue;
        }
        char *end;
        long number = strtol(word, &end, 10);
        become(instances[number ? number : 1], *end);
    }
}

struct script {
    const char *words;
    const char *told;
};

static void play_all(const struct script *scripts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        setup(NULL);
        play(scripts[i].words);
        if (strcmp(told(), scripts[i].told) != 0)
            fail_msg("%s: tells \"%s\", not \"%s\"", scripts[i].words, told(), scripts[i].told);
    }
}

#define PLAY(...)                                        \
    do {                                                 \
        static const struct script list[] = __VA_ARGS__; \
        play_all(list, ARRAY_SIZE(list));                \
    } while (0)

/* --- problems and recoveries -------------------------------------------------------------------------------------- */

static void test_problems(void **state) {
    (void)state;
    PLAY({
        { "A +10", "" },
        { "A O +2", "" },
        { "A O +3", "3 Offline 1" },
        { "A O +20", "3 Offline 1" },
        { "S E +5", "3 Offline 1" },
        { "A N D +5", "3 Degraded 1" },
        { "A N I +5", "3 Idle 1" },
        { "A 2A O 2O +5", "3 Offline 1, 3 Offline 2" },
        /* over before it settled */
        { "A O +1 A +10", "" },
        { "A N D +2 N +10", "" },
        /* all of it heard late: what no longer holds is not told, what does is */
        { "A O ~60 A +1", "" },
        { "A O ~60 +1", "61 Offline 1" },
        { "A O ~60 A O +1 +3", "63 Offline 1" },
        /* offline that becomes error is one problem */
        { "A O +5 S +5 E +20", "3 Offline 1" },
        /* while it is being opened nothing is known; the problem waits */
        { "A O +1 S +30", "" },
        { "A O +1 S +30 A +5", "" },
        { "A O +1 S +30 E +5", "34 Offline 1" },
        { "A O +1 S +30 X +5", "" },
        /* degraded that becomes offline is worse */
        { "A N D +5 O +5", "3 Degraded 1, 8 Offline 1" },
        { "A N D +1 O +5", "4 Offline 1" },
    });
}

static void test_own_disconnect(void **state) {
    (void)state;
    PLAY({
        { "A X +10", "" },
        { "A O X +10", "" },
        { "A O +2 X +10", "" },
    });
}

static void test_recoveries(void **state) {
    (void)state;
    PLAY({
        { "A O +5 A +1", "3 Offline 1, 6 Recovered 1" },
        { "A O +5 S +1 A +1", "3 Offline 1, 7 Recovered 1" },
        { "A O +5 A +1 N +5", "3 Offline 1, 6 Recovered 1" },
        { "A N D +5 N +5", "3 Degraded 1, 6 Recovered 1" },
        { "A N I +5 N +5", "3 Idle 1, 6 Recovered 1" },
        /* idle is well after offline, and an alert of its own */
        { "A N O +5 I +5", "3 Offline 1, 6 Recovered 1, 8 Idle 1" },
        /* once for all */
        { "A N D +5 O +5 A +5", "3 Degraded 1, 8 Offline 1, 11 Recovered 1" },
        { "A N O +5 D +5 N +5", "3 Offline 1, 8 Degraded 1, 11 Recovered 1" },
        /* never told, nothing to recover from */
        { "A O +2 A +5", "" },
        /* its user gives up: no recovery, and later ones are not owed */
        { "A O +5 X +5 S A +5", "3 Offline 1" },
        /* a recovery heard late, with a new problem behind it */
        { "A O +5 A O +2", "3 Offline 1, 6 Recovered 1" },
        { "A O +5 R +5", "3 Offline gone" },
        { "A O R +5", "" },
    });
}

static void test_cooldown(void **state) {
    (void)state;
    PLAY({
        /* held back, still true: told when it ends */
        { "A O +5 A +5 O +280", "3 Offline 1, 6 Recovered 1" },
        { "A O +5 A +5 O +300", "3 Offline 1, 6 Recovered 1, 303 Offline 1" },
        { "A O +5 A +5 O +300 A +5", "3 Offline 1, 6 Recovered 1, 303 Offline 1, 311 Recovered 1" },
        /* held back, over: neither it nor its recovery */
        { "A O +5 A +5 O +100 A +300", "3 Offline 1, 6 Recovered 1" },
        /* other types and instances have their own */
        { "A O +5 A +5 D +5 N +1", "3 Offline 1, 6 Recovered 1, 13 Degraded 1, 16 Recovered 1" },
        { "A 2A O +5 A +5 2O +5", "3 Offline 1, 6 Recovered 1, 13 Offline 2" },
        { "A O +5 A +300 O +5", "3 Offline 1, 6 Recovered 1, 308 Offline 1" },
        /* again after something else, never well: as soon as the cooldown allows */
        { "A O +5 D +5 O +5", "3 Offline 1, 8 Degraded 1" },
        { "A O +5 D +5 O +300 A +1", "3 Offline 1, 8 Degraded 1, 303 Offline 1, 311 Recovered 1" },
    });
}

static void test_error_rate(void **state) {
    (void)state;
    PLAY({
        /* faster than anything settles */
        { "A O +1 A O +1 A O +1 A O +1 A O +1 A +10", "7 Rate 1" },
        { "A O +1 A O +1 A O +1 A O +1 A +10", "" },
        { "A D +1 A E +1 A O +1 A D +1 A O +1 A +10", "7 Rate 1" },
        { "A I +1 A I +1 A I +1 A I +1 A I +1 A +10", "" },
        { "A O +200 A O +200 A O +200 A O +1 A O +1 A +10",
            "3 Offline 1, 201 Recovered 1, 303 Offline 1, 401 Recovered 1" },
        /* its user's own disconnects are none, even where the bore-server's report came first */
        { "A O +1 X S A O +1 X S A O +1 X S A O +1 X S A O +1 X +10", "" },
        /* its end, when the rate has fallen and the instance is well */
        { "A O +1 A O +1 A O +1 A O +1 A O +1 A +620", "7 Rate 1, 600 Recovered 1" },
        { "A O +1 A O +1 A O +1 A O +1 A O +620 A +5", "7 Rate 1, 7 Offline 1, 625 Recovered 1, 625 Recovered 1" },
        { "A O +1 A O +1 A O +1 A O +1 A O +1 A +1 X +700", "" },
        { "A O +1 A O +1 A O +1 A O +1 A O +1 A +10 X +700", "7 Rate 1" },
    });
}

/* --- outages ------------------------------------------------------------------------------------------------------ */

static void test_outages(void **state) {
    (void)state;
    PLAY({
        { "1A 2A 3A 1M 2M 3M +5", "3 Offline 1+2+3" },
        { "1A 1M +5", "3 Offline 1" },
        /* those that come a moment later are waited for, but not for ever */
        { "1A 2A 3A 1M +1 2M +1 3M +5", "5 Offline 1+2+3" },
        { "1A 2A 3A 1M +2 2M +2 3M +2 4M +2 5M +2 6M +2 7M +2 8M +2 9M +2 +5",
            "13 Offline 1+2+3+4+5+6, 19 Offline 7+8+9" },
        /* what came back meanwhile is not in it */
        { "1A 2A 3A 1M 2M 3M +1 2A +5", "3 Offline 1+3" },
        { "1A 2A 3A 1M 2M 3M +1 2S +1 2X +5", "3 Offline 1+3" },
        { "1A 2A 3A 1M 2M 3M +1 2R +5", "3 Offline 1+3" },
        /* those that end otherwise are told alone */
        { "1A 2A 3A 1M 2M 3O +5", "3 Offline 1+2, 3 Offline 3" },
        /* the recovery likewise */
        { "1A 2A 3A 1M 2M 3M +5 1A +1 2A +1 3A +5", "3 Offline 1+2+3, 10 Recovered 1+2+3" },
        { "1A 2A 3A 1M 2M 3M +5 1A +5 2A +5", "3 Offline 1+2+3, 8 Recovered 1, 13 Recovered 2" },
        /* well for a moment */
        { "1A 2A 1M 2M +5 1A +1 1O +5", "3 Offline 1+2, 7 Recovered 1" },
        { "1A 2A 1M 2M +5 1A +1 1X +5", "3 Offline 1+2, 8 Recovered 1" },
        { "1A 2A 1M 2M +5 1A 2A +1 1R +5", "3 Offline 2+gone, 8 Recovered 2" },
        /* cooldown is each instance's own */
        { "1A 2A 3A 1O +5 1A 1M 2M 3M +5", "3 Offline 1, 6 Recovered 1, 8 Offline 2+3" },
        { "1A 2A 3A 1O +5 1A 1M 2M 3M +300", "3 Offline 1, 6 Recovered 1, 8 Offline 2+3, 303 Offline 1" },
    });
}

static void test_outage_words(void **state) {
    (void)state;
    play("1A 2A 3A 4A 5A 6A 7A 8A 9A 10A 11A 12A 1M 2M 3M 4M 5M 6M 7M 8M 9M 10M 11M 12M +5");
    assert_string_equal(sql_ask(db, "SELECT message FROM bore.alert_history WHERE part_of IS NULL"),
        "bore-server \"s1\" took 12 instances offline (it was so): \"1\", \"10\", \"11\", \"12\", \"2\", \"3\", \"4\", "
        "\"5\", \"6\", \"7\" and 2 more.");
    const char *head = sql_ask(db, "SELECT id FROM bore.alert_history WHERE part_of IS NULL");
    sql_ask(db, "SELECT bore.alert_delivered($1, 'slack')", head);
    /* its own part, with the whole's delivery, is in an instance's list */
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(alert_type || ' ' || message || ' ' || deliveries, ', ') "
                            "FROM bore.instance_alert_list($1, $2, 10, NULL)",
                            user, instances[2]),
        "Instance Offline \"2\" is offline since 2027-01-15 08:00:00 UTC: it was so. "
        "[{\"channel\" : \"slack\", \"state\" : \"delivered\", \"attempts\" : 0, \"last_error\" : null}]");
    /* one event for each, and one for the whole, which is nobody's */
    assert_string_equal(
        sql_ask(db, "SELECT count(user_id) || ' ' || count(*) FROM bore.events WHERE kind = 'alert.sent'"), "12 13");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_deliveries"), 1);
}

/* --- the log ------------------------------------------------------------------------------------------------------ */

static void test_gap(void **state) {
    (void)state;
    /* offline: told; degraded: told, over; idle: told, goes on */
    play("1A 2A 3A 4A 5A 1O 2D 3I +5");
    assert_string_equal(told(), "3 Offline 1, 3 Degraded 2, 3 Idle 3");
    play("2N 4O 5O +1 5R ~60");
    sql_run(db, "DELETE FROM bore.events WHERE id < (SELECT max(id) FROM bore.events);"
                "UPDATE bore.alert_cursor SET id = 1");
    assert_string_equal(sql_ask(db, "SELECT gap FROM bore.alerter_step('3 seconds', '300 seconds', 5, '600 seconds', "
                                    "'{slack}', 2)"),
        "t");
    for (int i = 0; i < 5; i++)
        step();
    assert_string_equal(told(), "3 Offline 1, 3 Degraded 2, 3 Idle 3, 6 Recovered 2, 66 Offline 4");
    assert_string_equal(sql_ask(db, "SELECT gap FROM bore.alerter_step('3 seconds', '300 seconds', 5, '600 seconds', "
                                    "'{slack}', 2)"),
        "f");
    /* a new epoch, its ids from the beginning */
    sql_run(db, "TRUNCATE bore.events; UPDATE bore.event_epoch SET epoch = 'other'");
    play("4A 1N ~1");
    for (int i = 0; i < 5; i++)
        step();
    assert_string_equal(
        told(), "3 Offline 1, 3 Degraded 2, 3 Idle 3, 6 Recovered 2, 66 Offline 4, 67 Recovered 1, 67 Recovered 4");
}

/* More events than one step hears. */
static void test_backlog(void **state) {
    (void)state;
    play("A O A O A O A O A O A O A O A O A O A O A O A O A O A O A O");
    set_clock(now + 3);
    for (int i = 0; i < 3; i++)
        step();
    assert_string_equal(told(), "3 Rate 1, 3 Offline 1");
}

static void test_one_at_a_time(void **state) {
    (void)state;
    struct db *other = sql_open();
    play("A O ~3");
    sql_run(other, "SET test.clock = '1800000003'");
    sql_run(db, "BEGIN");
    assert_string_equal(sql_ask(db, STEP("{}")), "1");
    assert_string_equal(
        sql_ask(other, "SELECT is_mine FROM bore.alerter_step('3 s', '300 s', 5, '600 s', '{}', 20)"), "f");
    sql_run(db, "COMMIT");
    assert_string_equal(sql_ask(other, "SELECT is_mine || ' ' || alerts FROM bore.alerter_step('3 s', '300 s', 5, "
                                       "'600 s', '{}', 20)"),
        "true 0");
    db_free(other);
    /* without channels it is recorded, and delivered nowhere */
    assert_string_equal(told(), "3 Offline 1");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.alert_deliveries"), 0);
}

static void test_words(void **state) {
    (void)state;
    static const struct {
        const char *script, *message;
    } cases[] = {
        { "A O +3", "\"1\" is offline since 2027-01-15 08:00:00 UTC: it was so." },
        { "A E +3", "\"1\" has no tunnel since 2027-01-15 08:00:00 UTC: it was so." },
        { "A D +3", "\"1\" is degraded since 2027-01-15 08:00:00 UTC: it was so." },
        { "A I +3", "\"1\" is idle since 2027-01-15 08:00:00 UTC: it was so. Consider hibernating it: disconnect its "
                    "tunnel until it is needed again." },
        { "A O +5 D +5 A +1", "\"1\" is active again, after 10 s: it was offline, then degraded." },
        { "A O +5 I +1", "\"1\" is connected (and idle) again, after 5 s: it was offline." },
        { "A O A O A O A O A O A +3", "\"1\" changed for the worse 5 times within 10 min (offline, error or degraded); "
                                      "last: offline, it was so." },
        { "A O A O A O A O A O A +700", "\"1\" is steady again: fewer than 5 bad changes within 10 min." },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(NULL);
        play(cases[i].script);
        assert_string_equal(
            sql_ask(db, "SELECT message FROM bore.alert_history ORDER BY sent_at DESC LIMIT 1"), cases[i].message);
    }
    assert_string_equal(sql_ask(db, "SELECT string_agg(bore.duration_text(make_interval(secs => s)), ', ') "
                                    "FROM unnest(ARRAY [0, 59.9, 60, 3599, 3660, 86399, 90000, -5]) AS s"),
        "0 s, 59 s, 1 min, 59 min, 1 h 1 min, 23 h 59 min, 1 d 1 h, 0 s");
    assert_int_equal(sql_number(db, "SELECT octet_length(bore.bounded_text(repeat('\U0001F600', 900)))"), 1999);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
#define TEST(function) cmocka_unit_test_setup(function, setup)
    const struct CMUnitTest tests[] = {
        TEST(test_problems),
        TEST(test_own_disconnect),
        TEST(test_recoveries),
        TEST(test_cooldown),
        TEST(test_error_rate),
        TEST(test_outages),
        TEST(test_outage_words),
        TEST(test_gap),
        TEST(test_backlog),
        TEST(test_one_at_a_time),
        TEST(test_words),
    };
    return cmocka_run_group_tests(tests, setup_group, sql_teardown);
}
