/*
 * test_monitor_heartbeats_sql.c: heartbeats of a batch (sql/041) and the health they leave (sql/043).
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

static const char *user, *instance;

/* The phase of an instance, as bore-servers' reports would have left it. */
static void set_phase(const char *id, const char *phase) {
    sql_ask(db,
        "WITH own AS (SELECT instances FROM bore.instances WHERE id = $1 FOR NO KEY UPDATE) "
        "SELECT bore.append_events(bore.settle(ARRAY [ROW (bore.with_phase(instances, $2, 'said so', bore.clock()), "
        "'server', NULL, NULL)::bore.step], interval '30 minutes')) FROM own",
        id, phase);
}

/* Heartbeats are told as "instance vscode code activity", one a line of the array; NULL is -. Activity is in seconds
 * before now. Answers the places that `way` answered, and the statuses or errors. */
static const char hear_function[] =
    "CREATE FUNCTION public.hear(way text, account text, lines text[], places bigint[]) "
    "RETURNS TABLE (place bigint, answer text) LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE format("
    "'WITH told AS ("
    "  SELECT n, string_to_array($2[n], '' '', ''-'') AS word FROM unnest($3) AS n), "
    "given AS ("
    "  SELECT array_agg(n ORDER BY n) AS n, array_agg($1 ORDER BY n) AS account, array_agg(word[1] ORDER BY n) AS id, "
    "    array_agg(word[2]::boolean ORDER BY n) AS vscode, array_agg(word[3]::boolean ORDER BY n) AS code, "
    "    array_agg(n::double precision ORDER BY n) AS cpu, array_agg(NULL::double precision) AS memory, "
    "    array_agg(extract(epoch FROM now())::bigint - word[4]::bigint ORDER BY n) AS activity, "
    "    array_agg(NULL::text) AS unfit FROM told) "
    "SELECT n[ord], coalesce(error, status) FROM given, bore.%I(account, id, vscode, code, cpu, memory, activity, "
    "unfit, "
    "  interval ''30 minutes'') WHERE ord IS NOT NULL', way) USING account, lines, places; END $$";

static int setup(void **state) {
    (void)state;
    fixture_clear_all(db);
    sql_run(db, "DROP FUNCTION IF EXISTS public.hear");
    sql_run(db, hear_function);
    sql_run(db, "UPDATE bore.coverage SET covered = 5000, sender = 's', sent = 1, at = bore.clock()");
    user = fixture_make_user(db, "a@example.org");
    instance = fixture_make_instance(db, user, "one");
    set_phase(instance, "connected");
    return 0;
}

/* Both ways, each a transaction's first and last statement. */
static const char steady[] = "SELECT count(*) FROM public.hear('heartbeats_steady', $1, $2, ARRAY (SELECT "
                             "generate_series(1, cardinality($2::text[]))))";
static const char hear[] = "SELECT count(*) FROM public.hear('heartbeats_hear', $1, $2, ARRAY (SELECT "
                           "generate_series(1, cardinality($2::text[]))))";

/* One way after the other, as the service does it: the answers in order, those of the first way with a mark. */
static const char *heard_how(const char *account, const char *lines) {
    const char *answers = sql_ask(db,
        "SELECT jsonb_object_agg(place, answer || '=') FROM public.hear('heartbeats_steady', $1, $2, "
        "ARRAY (SELECT generate_series(1, cardinality($2::text[]))))",
        account, lines);
    const char *left = sql_ask(db,
        "SELECT ARRAY (SELECT n FROM generate_series(1, cardinality($2::text[])) AS n WHERE NOT coalesce($1::jsonb, "
        "'{}') "
        "? n::text)::text",
        answers, lines);
    if (strcmp(left, "{}") != 0)
        answers = sql_ask(db,
            "SELECT coalesce($4::jsonb, '{}') || (SELECT jsonb_object_agg(place, answer) FROM "
            "public.hear('heartbeats_hear', $1, $2, $3::bigint[]))",
            account, lines, left, answers);
    return sql_ask(db, "SELECT string_agg(value, ' ' ORDER BY key::integer) FROM jsonb_each_text($1::jsonb)", answers);
}

static const char *heard(const char *account, const char *lines) {
    return sql_ask(db, "SELECT replace($1, '=', '')", heard_how(account, lines));
}

static const char *line(const char *id, const char *rest) {
    static char text[8][200];
    static size_t next;
    char *place = text[next++ % 8];
    snprintf(place, 200, "{\"%s %s\"}", id, rest);
    return place;
}

static const char *events_of(const char *id) {
    return sql_ask(db,
        "SELECT string_agg(payload ->> 'status', ' ' ORDER BY id) FROM bore.events WHERE instance_id = $1 AND kind = "
        "'status'",
        id);
}

static void test_common(void **state) {
    (void)state;
    assert_string_equal(heard(user, line(instance, "- - -")), "online");
    assert_string_equal(events_of(instance), "active online");
    const char *version = sql_ask(db, "SELECT xmin || ' ' || ctid FROM bore.instances WHERE id = $1", instance);
    for (int i = 0; i < 3; i++)
        assert_string_equal(heard(user, line(instance, "- - -")), "online");
    /* one that changes nothing writes the instance's row not at all */
    assert_string_equal(sql_ask(db, "SELECT xmin || ' ' || ctid FROM bore.instances WHERE id = $1", instance), version);
    assert_string_equal(events_of(instance), "active online");
    assert_string_equal(
        sql_ask(db,
            "SELECT concat_ws(' ', samples, watched, inactive, cpu_usage, covered BETWEEN 5000 AND 7500, at > now() - "
            "interval '5 seconds') FROM bore.heartbeats WHERE instance_id = $1",
            instance),
        "4 t f 1 t t");
}

static void test_evidence(void **state) {
    (void)state;
    static const char *const told[][2] = {
        { "- - -", "online" },
        { "f - -", "online" },   /* no code-server is known of */
        { "- t -", "degraded" }, /* both are remembered */
        { "- - 9999", "degraded" },
        { "t - -", "idle" },
        { "- - 10", "online" },
        { "- - -", "online" },
        { "- - 1900", "idle" },
        { "f f 0", "online" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(told); i++)
        assert_string_equal(heard(user, line(instance, told[i][0])), told[i][1]);
    assert_string_equal(events_of(instance), "active online degraded idle online idle online");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history WHERE instance_id = $1", instance), 8);
}

/* Several of one instance, and others in between, in the order of arrival. */
static void test_folded(void **state) {
    (void)state;
    const char *other = fixture_make_instance(db, user, "two");
    set_phase(other, "connected");
    char lines[800];
    snprintf(lines, sizeof lines, "{%s - - -,%s f t -,%s - - -,inst_none - - -,%s t - -,%s - - 5,%s f - -}", instance,
        instance, other, instance, instance, instance);
    assert_string_equal(heard(user, lines), "online degraded online instance_not_found online online degraded");
    assert_string_equal(events_of(instance), "active online degraded online degraded");
    assert_string_equal(events_of(other), "active online");
    assert_int_equal(sql_number(db, "SELECT max(id) - count(*) FROM bore.events"), 0);
    /* each is a sample: cpu_usage is the place in the batch */
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(value ->> 'cpu_usage', ' ') FROM bore.instance_health($1, $2, 10), "
                            "json_array_elements(samples::json) AS value",
                            user, instance),
        "7 6 5 2 1");
}

static void test_owner(void **state) {
    (void)state;
    const char *other = fixture_make_user(db, "b@example.org");
    assert_string_equal(heard(other, line(instance, "- - -")), "instance_not_found");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.heartbeats"), 0);
    assert_string_equal(
        sql_refusal(db, "SELECT * FROM bore.instance_health($1, $2, 10)", other, instance), "instance_not_found");
}

/* Which heartbeats need not look at their instance, in the order told: those that change nothing. */
static void test_steady(void **state) {
    (void)state;
    static const char *const told[][2] = {
        { "- - -", "online" }, /* the first one of the session */
        { "- - -", "online=" },
        { "t - -", "online" }, /* now VSCode is known of */
        { "t - -", "online=" },
        { "- - 9", "online=" }, /* an activity is known of */
        { "t f 5", "online" },
        { "- - 1900", "idle" },
        { "- - 1900", "idle=" },
        { "t f -", "idle=" },
        { "- - 3", "online" },
        { "f t 3", "degraded" },
        { "- - 1900", "degraded=" }, /* no worse by that */
        { "f - 1", "degraded=" },
        { "t - 1", "online" },
        { "t t 1", "online=" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(told); i++) {
        const char *how = heard_how(user, line(instance, told[i][0]));
        if (strcmp(how, told[i][1]) != 0) fail_msg("%zu: %s is %s", i, told[i][0], how);
    }
    assert_string_equal(events_of(instance), "active online idle online degraded online");
    assert_int_equal(sql_number(db, "SELECT samples FROM bore.heartbeats"), ARRAY_SIZE(told));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics"), ARRAY_SIZE(told));
    char twice[200];
    snprintf(twice, sizeof twice, "{%s - - 1,%s f - 1,inst_none - - -,%s t - 1}", instance, instance, instance);
    assert_string_equal(heard_how(user, twice), "online= degraded instance_not_found online");
    assert_string_equal(
        heard_how(fixture_make_user(db, "c@example.org"), line(instance, "- - -")), "instance_not_found");
    /* after a new tunnel session, silence, or without a tunnel each one looks */
    set_phase(instance, "disconnected");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "offline");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "offline");
    set_phase(instance, "connected");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "online");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "online=");
    sql_run(db, "UPDATE bore.coverage SET covered = 100000");
    sql_ask(db, "SELECT bore.time_rules(30000, 60000, 1800000, 100)");
    assert_string_equal(sql_ask(db, "SELECT status FROM bore.instances"), "offline");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "online");
    assert_string_equal(heard_how(user, line(instance, "- - -")), "online=");
}

/* Without a tunnel a heartbeat is noted, and is no evidence, not even when the tunnel comes. */
static void test_without_tunnel(void **state) {
    (void)state;
    static const char *const phases[][2] = { { "inactive", "inactive" }, { "disconnected", "offline" },
        { "starting", "starting" }, { "failed", "error" } };
    for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
        set_phase(instance, phases[i][0]);
        assert_string_equal(heard(user, line(instance, "f t 9999")), phases[i][1]);
        assert_int_equal(sql_number(db, "SELECT samples FROM bore.heartbeats"), i + 1);
    }
    set_phase(instance, "connected");
    assert_string_equal(sql_ask(db, "SELECT status FROM bore.instances WHERE id = $1", instance), "active");
    assert_string_equal(heard(user, line(instance, "t - -")), "online"); /* that activity was of no session */
}

/* A new session begins: what was said in the one before is forgotten. */
static void test_new_session(void **state) {
    (void)state;
    assert_string_equal(heard(user, line(instance, "f t 9999")), "degraded");
    sql_ask(db,
        "SELECT bore.settle(ARRAY [ROW (bore.forget_heartbeats(own), 'server', NULL, NULL)::bore.step], "
        "interval '30 minutes') FROM bore.instances AS own WHERE id = $1",
        instance);
    assert_string_equal(heard(user, line(instance, "- - -")), "online");
    assert_null(sql_ask(db, "SELECT last_activity::text FROM bore.heartbeats"));
}

static void test_recovery(void **state) {
    (void)state;
    heard(user, line(instance, "- - -"));
    sql_run(db, "UPDATE bore.coverage SET covered = 100000");
    sql_ask(db, "SELECT bore.time_rules(30000, 60000, 1800000, 100)");
    assert_string_equal(sql_ask(db, "SELECT status FROM bore.instances"), "offline");
    assert_string_equal(heard(user, line(instance, "- - -")), "online");
    assert_string_equal(sql_ask(db, "SELECT silent::text FROM bore.instances WHERE id = $1", instance), "false");
}

/* Heartbeats number `from` to `to` by one of the ways: each tells its number. */
static void fill_ring(const char *way, const char *from, const char *to) {
    char sql[500];
    snprintf(sql, sizeof sql,
        "SELECT count(*) FROM generate_series($3::integer, $4::integer) AS n, bore.%s(ARRAY [$1], ARRAY [$2], ARRAY "
        "[NULL::boolean], ARRAY [NULL::boolean], ARRAY [NULL::double precision], ARRAY [n::double precision], ARRAY "
        "[NULL::bigint], ARRAY [NULL], interval '1 hour')",
        way);
    sql_ask(db, sql, user, instance, from, to);
}

/* Of 1005 the last 1000, newest first; the ring is written in place. */
static void test_ring(void **state) {
    (void)state;
    fill_ring("heartbeats_hear", "1", "500");
    fill_ring("heartbeats_steady", "501", "1002");
    fill_ring("heartbeats_hear", "1003", "1004");
    fill_ring("heartbeats_steady", "1005", "1005");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics"), 1000);
    static const char samples[] = "SELECT concat_ws(' ', count(*), min((value ->> 'memory_usage')::integer), "
                                  "max((value ->> 'memory_usage')::integer), (samples::json -> 0 ->> 'memory_usage')) "
                                  "FROM bore.instance_health($1, $2, $3::integer) CROSS JOIN LATERAL "
                                  "json_array_elements(samples::json) AS value GROUP BY samples";
    assert_string_equal(sql_ask(db, samples, user, instance, "1000"), "1000 6 1005 1005");
    assert_string_equal(sql_ask(db, samples, user, instance, "3"), "3 1003 1005 1005");
    assert_string_equal(sql_ask(db, "SELECT samples FROM bore.instance_health($1, $2, 0)", user, instance), "[]");
    sql_ask(db, "SELECT bore.instance_delete($1, $2)", user, instance);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics"), 0);
}

/* Waits, 30 s at most, until there is such a lock. */
static const char await_function[] =
    "CREATE FUNCTION public.await(condition text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE found boolean; BEGIN "
    "FOR i IN 1 .. 3000 LOOP EXECUTE 'SELECT EXISTS (SELECT FROM pg_locks WHERE ' || condition || ')' INTO found; "
    "IF found THEN RETURN; END IF; PERFORM pg_sleep(0.01); END LOOP; RAISE EXCEPTION 'no lock: %', condition; END $$";

/* A tunnel ends while a steady heartbeat of its instance is about to commit: the next one must look at the instance. */
static void test_end_meanwhile(void **state) {
    (void)state;
    heard(user, line(instance, "- - -"));
    sql_run(db, "DROP FUNCTION IF EXISTS public.await");
    sql_run(db, await_function);
    struct sql_racer racers[] = {
        { .sql = "SELECT (SELECT count(*) FROM public.hear('heartbeats_steady', $1, $2, ARRAY [1])), "
                 "pg_advisory_xact_lock(7), public.await('NOT granted')",
            .parameters = { user, line(instance, "- - -"), sql_end } },
        { .sql = "SELECT public.await('locktype = ''advisory'' AND objid = 7'), bore.append_events(bore.settle(ARRAY "
                 "[ROW (bore.with_phase(instances, 'disconnected', 'said so', bore.clock()), 'server', NULL, "
                 "NULL)::bore.step], interval '30 minutes')) FROM bore.instances WHERE id = $1",
            .parameters = { instance, sql_end } },
    };
    sql_race(racers, ARRAY_SIZE(racers));
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        if (racers[i].error) fail_msg("racer %zu: %d %s", i, racers[i].error, racers[i].refusal);
    assert_int_equal(sql_number(db, "SELECT samples FROM bore.heartbeats"), 2);
    assert_string_equal(heard_how(user, line(instance, "- - -")), "offline");
}

/* An instance is deleted while a steady heartbeat of it is about to commit its sample: nothing of it is left. */
static void test_delete_meanwhile(void **state) {
    (void)state;
    heard(user, line(instance, "- - -"));
    sql_run(db, "DROP FUNCTION IF EXISTS public.await");
    sql_run(db, await_function);
    struct sql_racer racers[] = {
        { .sql = "SELECT (SELECT count(*) FROM public.hear('heartbeats_steady', $1, $2, ARRAY [1])), "
                 "pg_advisory_xact_lock(7), public.await('NOT granted')",
            .parameters = { user, line(instance, "- - -"), sql_end } },
        { .sql = "DELETE FROM bore.instances WHERE id = $1 AND "
                 "public.await('locktype = ''advisory'' AND objid = 7') IS NOT NULL",
            .parameters = { instance, sql_end } },
    };
    sql_race(racers, ARRAY_SIZE(racers));
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        if (racers[i].error) fail_msg("racer %zu: %d %s", i, racers[i].error, racers[i].refusal);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.heartbeats"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics"), 0);
}

/* Batches of the same instances in opposite orders, and their tunnels' reports, disconnects and deletions, all at once.
 */
static void test_races(void **state) {
    (void)state;
    enum { RACERS = 12 };
    const char *second = fixture_make_instance(db, user, "two"), *doomed = fixture_make_instance(db, user, "three");
    set_phase(second, "connected");
    set_phase(doomed, "connected");
    char there[300], back[300];
    snprintf(there, sizeof there, "{%s - - -,%s f t -,%s t t 1}", instance, second, doomed);
    snprintf(back, sizeof back, "{%s t t 1,%s f t -,%s - - -}", doomed, second, instance);
    for (int round = 0; round < 6; round++) {
        struct sql_racer racers[RACERS];
        for (size_t i = 0; i < RACERS; i++)
            racers[i] = (struct sql_racer){ .sql = i % 3 ? hear : steady,
                .parameters = { user, i % 2 ? there : back, sql_end } };
        racers[1] = (struct sql_racer){ .sql = "SELECT bore.instance_disconnect($1, $2, interval '1 hour')",
            .parameters = { user, second, sql_end } };
        racers[2] = (struct sql_racer){ .sql = "SELECT bore.time_rules(0, 0, 0, 100)", .parameters = { sql_end } };
        if (round == 4)
            racers[3] = (struct sql_racer){ .sql = "SELECT bore.instance_delete($1, $2)",
                .parameters = { user, doomed, sql_end } };
        sql_race(racers, RACERS);
        for (size_t i = 0; i < RACERS; i++)
            if (racers[i].error) fail_msg("racer %zu: %d %s", i, racers[i].error, racers[i].refusal);
        set_phase(second, "connected");
    }
    assert_int_equal(sql_number(db, "SELECT max(id) - count(*) FROM bore.events"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.health_metrics WHERE instance_id = $1", doomed), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history WHERE instance_id = $1", doomed), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history AS h JOIN bore.status_history AS later "
                                    "ON later.instance_id = h.instance_id AND later.id > h.id AND later.at < h.at"),
        0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.heartbeats AS h WHERE samples <> (SELECT count(*) FROM "
                                    "bore.health_metrics AS m WHERE m.instance_id = h.instance_id)"),
        0);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_common, setup),
        cmocka_unit_test_setup(test_evidence, setup),
        cmocka_unit_test_setup(test_folded, setup),
        cmocka_unit_test_setup(test_owner, setup),
        cmocka_unit_test_setup(test_steady, setup),
        cmocka_unit_test_setup(test_without_tunnel, setup),
        cmocka_unit_test_setup(test_new_session, setup),
        cmocka_unit_test_setup(test_recovery, setup),
        cmocka_unit_test_setup(test_ring, setup),
        cmocka_unit_test_setup(test_end_meanwhile, setup),
        cmocka_unit_test_setup(test_delete_meanwhile, setup),
        cmocka_unit_test_setup(test_races, setup),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
