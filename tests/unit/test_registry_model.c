/*
 * test_registry_model.c: whatever bore-servers report, in whatever order, the status ends as the truth.
 *
 * Hundreds of small worlds (tunnel_world.h) of each kind run side by side against the real SQL functions on a real
 * PostgreSQL, their requests mixed into the same batches. The database's bore.clock() follows the worlds' time.
 * Whenever a world is quiet, and at its end, its instance must be what it truly is. A world that is not prints its seed
 * and all that happened in it; MODEL_SEED and MODEL_WORLDS (of each kind, default 150) choose others, MODEL_KIND a
 * single kind.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"
#include "tests/unit/tunnel_world.h"

enum { TICK_MS = 50, BATCH_MAX = 256, DOUBTS_MS = 1000 };

static size_t world_count;
static struct world *worlds;
static char (*instances)[40]; /* ids, parallel to worlds */
static size_t failures;
static size_t checks;

/* --- the database ------------------------------------------------------------------------------------------------- */

static int setup_group(void **state) {
    sql_setup(state);
    sql_run(db, "CREATE OR REPLACE FUNCTION bore.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$"
                " SELECT timestamptz '2030-01-01' + current_setting('test.clock')::bigint * interval '1 ms' $$;"
                "SET test.clock = 0");
    return 0;
}

static void set_clock(int64_t now) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, now);
    sql_ask(db, "SELECT set_config('test.clock', $1, false)", text);
}

/* Requests of one kind that wait for the next batch. */
struct queue {
    size_t count;
    size_t worlds[BATCH_MAX];
    struct world_event events[BATCH_MAX];
};

static struct db_result *run(const char *name, const char *sql, const struct db_params *params) {
    struct db_statement statement = { name, sql };
    struct db_result *result;
    if (db_run(db, &statement, params, &result) < 0) fail_msg("%s: %s", name, db_error_message(db));
    return result;
}

static size_t row_request(const struct db_result *result, size_t row) {
    return (size_t)db_result_int(result, row, (size_t)db_result_column(result, "ord"), 0) - 1;
}

static const char *row_text(const struct db_result *result, size_t row, const char *column) {
    return db_result_text(result, row, (size_t)db_result_column(result, column));
}

static void connect_all(struct queue *queue, int64_t now) {
    const char *users[BATCH_MAX], *ids[BATCH_MAX];
    for (size_t i = 0; i < queue->count; i++)
        users[i] = ids[i] = instances[queue->worlds[i]];
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_array(&params, users, queue->count);
    db_params_add_array(&params, ids, queue->count);
    _cleanup_db_result_ struct db_result *result = run("connect",
        "SELECT * FROM bore.instances_connect($1, $2, 3600000, 'host', 7835, interval '1 minute', interval '30 "
        "minutes')",
        &params);
    for (size_t row = 0; row < db_result_rows(result); row++) {
        size_t request = row_request(result, row);
        if (row_text(result, row, "error")) fail_msg("connect: %s", row_text(result, row, "error"));
        world_token(&worlds[queue->worlds[request]], queue->events[request].session, now,
            row_text(result, row, "tunnel_token"));
    }
}

static void validate_all(struct queue *queue, int64_t now) {
    const char *tokens[BATCH_MAX];
    for (size_t i = 0; i < queue->count; i++)
        tokens[i] = worlds[queue->worlds[i]].sessions[queue->events[i].session].token;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_array(&params, tokens, queue->count);
    _cleanup_db_result_ struct db_result *result =
        run("validate", "SELECT * FROM bore.validate_keys($1, interval '1 minute')", &params);
    for (size_t row = 0; row < db_result_rows(result); row++) {
        size_t request = row_request(result, row);
        struct world *world = &worlds[queue->worlds[request]];
        bool valid = strcmp(row_text(result, row, "valid"), "t") == 0;
        world_trace(world, now, "  session %d: %s", queue->events[request].session, row_text(result, row, "message"));
        world_validated(world, queue->events[request].session, now, valid);
    }
}

static void disconnect_all(struct queue *queue, int64_t now) {
    (void)now;
    for (size_t i = 0; i < queue->count; i++) {
        const char *id = instances[queue->worlds[i]];
        sql_ask(db, "SELECT success FROM bore.instance_disconnect($1, $2, interval '30 minutes')", id, id);
    }
}

/* The arrays of a batch of reports. */
enum { KIND, INSTANCE, PORT, NAME, SEQUENCE, USER, PUBLIC_PORT, BYTES, REPORT_FIELDS };
struct report_texts {
    char numbers[REPORT_FIELDS][BATCH_MAX][32];
    const char *fields[REPORT_FIELDS][BATCH_MAX];
};

static const char *number_text(struct report_texts *texts, int field, size_t index, int64_t value) {
    char *text = texts->numbers[field][index];
    snprintf(text, sizeof texts->numbers[0][0], "%" PRId64, value);
    return text;
}

static void describe_report(struct report_texts *texts, size_t index, size_t world, const struct world_event *event) {
    static const char *const kinds[] = { [WORLD_CONNECTED] = "connected",
        [WORLD_DISCONNECTED] = "disconnected",
        [WORLD_START] = "start",
        [WORLD_END] = "end" };
    const struct world_session *session = &worlds[world].sessions[event->session];
    texts->fields[KIND][index] = kinds[event->kind];
    if (event->kind == WORLD_CONNECTED || event->kind == WORLD_DISCONNECTED) {
        texts->fields[INSTANCE][index] = instances[world];
        if (worlds[world].kind == WORLD_NAMED) {
            snprintf(texts->numbers[NAME][index], 32, "tunnel-%d", event->session);
            texts->fields[NAME][index] = texts->numbers[NAME][index];
        }
        if (worlds[world].kind == WORLD_NUMBERED)
            texts->fields[SEQUENCE][index] = number_text(texts, SEQUENCE, index, event->session + 100);
    }
    if (event->kind == WORLD_CONNECTED) texts->fields[PORT][index] = number_text(texts, PORT, index, session->port);
    if (event->kind == WORLD_START) {
        texts->fields[USER][index] = instances[world];
        texts->fields[PUBLIC_PORT][index] = number_text(texts, PUBLIC_PORT, index, session->port);
    }
    if (event->kind == WORLD_END) {
        texts->fields[NAME][index] = session->usage;
        texts->fields[BYTES][index] = "1000";
    }
}

static void report_all(struct queue *queue, int64_t now) {
    static const char sql[] =
        "SELECT * FROM bore.tunnel_reports(ARRAY (SELECT ROW (ord, kind, instance, port, NULL, name, 'server', "
        "sequence, NULL, account, public_port, 80, NULL, NULL, bytes)::bore.batch_report "
        "FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], "
        "$8::bigint[]) WITH ORDINALITY AS given (kind, instance, port, name, sequence, account, public_port, bytes, "
        "ord) "
        "ORDER BY ord), 'host', interval '1 minute', interval '30 minutes')";
    _cleanup_free_ struct report_texts *texts = xcalloc(1, sizeof *texts);
    for (size_t i = 0; i < queue->count; i++)
        describe_report(texts, i, queue->worlds[i], &queue->events[i]);
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    for (int field = 0; field < REPORT_FIELDS; field++)
        db_params_add_array(&params, texts->fields[field], queue->count);
    _cleanup_db_result_ struct db_result *result = run("reports", sql, &params);
    assert_int_equal(db_result_rows(result), queue->count);
    for (size_t row = 0; row < db_result_rows(result); row++) {
        size_t request = row_request(result, row);
        if (row_text(result, row, "error")) fail_msg("report: %s", row_text(result, row, "error"));
        if (queue->events[request].kind == WORLD_START)
            world_started(&worlds[queue->worlds[request]], queue->events[request].session, now,
                row_text(result, row, "session_id"));
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

typedef void serve_fn(struct queue *queue, int64_t now);

static void flush(struct queue *queue, int64_t now, serve_fn *serve) {
    if (queue->count) serve(queue, now);
    queue->count = 0;
}

static void add(struct queue *queue, int64_t now, serve_fn *serve, size_t world, const struct world_event *event) {
    if (queue->count == BATCH_MAX) flush(queue, now, serve);
    queue->worlds[queue->count] = world;
    queue->events[queue->count++] = *event;
}

static void tick(int64_t now) {
    static const char *const names[] = { "connect", "validate-key", "user disconnects", "connected", "disconnected",
        "tunnel/start", "tunnel/end", "", "" };
    static struct queue disconnects, connects, validations, reports;
    for (size_t i = 0; i < world_count; i++) {
        struct world_event event;
        while (world_next(&worlds[i], now, &event)) {
            world_trace(&worlds[i], now, "%s (session %d)", names[event.kind], event.session);
            if (event.kind == WORLD_USER_DISCONNECT) {
                add(&disconnects, now, disconnect_all, i, &event);
            } else if (event.kind == WORLD_CONNECT) {
                add(&connects, now, connect_all, i, &event);
            } else if (event.kind == WORLD_VALIDATE) {
                add(&validations, now, validate_all, i, &event);
            } else {
                add(&reports, now, report_all, i, &event);
            }
        }
    }
    flush(&disconnects, now, disconnect_all);
    flush(&connects, now, connect_all);
    flush(&validations, now, validate_all);
    flush(&reports, now, report_all);
    if (now % DOUBTS_MS == 0) sql_ask(db, "SELECT bore.tunnel_doubts(1000, interval '30 minutes')");
}

/* --- truth -------------------------------------------------------------------------------------------------------- */

static void fail_world(size_t index, const char *status, const char *port) {
    static const char *const kinds[] = { "named", "numbered", "usage", "plain" };
    const struct world *world = &worlds[index];
    bool connected = world_is_connected(world);
    if (worlds[index].lied) return;
    worlds[index].lied = true;
    if (failures++ >= 3) return;
    printf("MODEL_KIND=%s MODEL_SEED=%" PRIu64 ": the status is %s (port %s); the truth is %s\n%s", kinds[world->kind],
        world->seed, status, port, connected ? "a tunnel is open" : "no tunnel is open", world->trace);
    printf("%s\n",
        sql_ask(db,
            "SELECT string_agg(concat_ws(' ', state, remote_port, 'closed by', closed_by, doubtful_until), E'\\n' "
            "ORDER BY created_at) FROM bore.tunnel_sessions WHERE instance_id = $1",
            instances[index]));
}

static void check_world(size_t index, const char *status, const char *port) {
    const struct world *world = &worlds[index];
    bool is_connected = strcmp(status, "active") == 0;
    bool good = is_connected == world_is_connected(world);
    if (good && world->disconnected) good = strcmp(status, "inactive") == 0;
    if (good && !world->disconnected && world_has_ended(world)) good = strcmp(status, "offline") == 0;
    /* Which of two tunnels is the later one, nobody can tell when their reports are reordered and name nothing. */
    if (good && is_connected && world->kind != WORLD_PLAIN) good = world_has_port(world, atoi(port));
    checks++;
    if (!good) fail_world(index, status, port);
}

static void check_quiet(int64_t now, bool all) {
    static const struct db_statement statement = { "statuses",
        "SELECT id, status, coalesce(remote_port, 0) FROM bore.instances ORDER BY id" };
    _cleanup_db_result_ struct db_result *result = NULL;
    if (db_run(db, &statement, NULL, &result) < 0) fail_msg("%s", db_error_message(db));
    assert_int_equal(db_result_rows(result), world_count);
    for (size_t i = 0; i < world_count; i++) {
        assert_string_equal(db_result_text(result, i, 0), instances[i]);
        if (!all && !world_is_quiet(&worlds[i], now)) continue;
        check_world(i, db_result_text(result, i, 1), db_result_text(result, i, 2));
    }
}

/* A session that is truly open has a token that is valid, unless it was replaced; a closed one's is not. */
static void check_bookkeeping(void) {
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances AS i WHERE status <> coalesce((SELECT status "
                                    "FROM bore.status_history WHERE instance_id = i.id ORDER BY at DESC, id DESC "
                                    "LIMIT 1), 'inactive')"),
        0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM (SELECT at < lag(at) OVER (PARTITION BY instance_id "
                                    "ORDER BY id) AS back, status = lag(status) OVER (PARTITION BY instance_id "
                                    "ORDER BY id) AS same FROM bore.status_history) AS h WHERE back OR same"),
        0);
    assert_int_equal(sql_number(db, "SELECT max(id) - count(*) FROM bore.events"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.status_history"),
        sql_number(db, "SELECT count(*) FROM bore.events WHERE kind = 'status'"));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances AS i WHERE phase = 'connected' AND NOT EXISTS "
                                    "(SELECT 1 FROM bore.tunnel_sessions WHERE id = i.current_session AND "
                                    "state = 'open')"),
        0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances WHERE status = 'active' AND "
                                    "public_url IS DISTINCT FROM 'host:' || remote_port"),
        0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.tunnel_sessions WHERE doubtful_until IS NOT NULL"), 0);
}

static void make_world(size_t index, enum world_kind kind, uint64_t seed) {
    world_init(&worlds[index], kind, seed);
    snprintf(instances[index], sizeof instances[0], "world_%06zu", index);
    sql_ask(db,
        "WITH u AS (INSERT INTO bore.users (id, email, name, password_hash, plan) "
        "VALUES ($1, $1 || '@example.org', 'Test', 'x', 'pro')) "
        "INSERT INTO bore.instances (id, user_id, name, local_port, created_at, phase_since, status_since) "
        "VALUES ($1, $1, 'Test', 80, bore.clock(), bore.clock(), bore.clock())",
        instances[index]);
}

static void run_worlds(enum world_kind kind, uint64_t seed, size_t count) {
    world_count = count;
    worlds = xcalloc(count, sizeof *worlds);
    instances = xcalloc(count, sizeof *instances);
    failures = checks = 0;
    set_clock(0);
    sql_run(db, "TRUNCATE bore.users, bore.events, bore.status_history, bore.waiting, bore.heartbeats, "
                "bore.tunnel_tokens, bore.tunnel_sessions CASCADE");
    for (size_t i = 0; i < count; i++)
        make_world(i, kind, seed + i);
    int64_t now = 0;
    size_t over = 0;
    while (over < count && now < WORLD_DURATION_MS) {
        now += TICK_MS;
        set_clock(now);
        tick(now);
        if (now % 500 == 0) check_quiet(now, false);
        over = 0;
        for (size_t i = 0; i < count; i++)
            over += world_is_over(&worlds[i]) ? 1 : 0;
    }
    now += 6000;
    set_clock(now);
    sql_ask(db, "SELECT bore.tunnel_doubts(1000, interval '30 minutes')");
    check_quiet(now, true);
    check_bookkeeping();
    print_message("%zu worlds, %zu checks, %zu lies\n", count, checks, failures);
    free(worlds);
    free(instances);
    assert_int_equal(failures, 0);
}

static void run_kind(enum world_kind kind, const char *name) {
    const char *only = getenv("MODEL_KIND"), *seed = getenv("MODEL_SEED"), *count = getenv("MODEL_WORLDS");
    if (only && strcmp(only, name) != 0) skip();
    run_worlds(kind, seed ? strtoull(seed, NULL, 10) : 1, count ? strtoul(count, NULL, 10) : seed ? 1 : 150);
}

static void test_named(void **state) {
    (void)state;
    run_kind(WORLD_NAMED, "named");
}

static void test_numbered(void **state) {
    (void)state;
    run_kind(WORLD_NUMBERED, "numbered");
}

static void test_usage(void **state) {
    (void)state;
    run_kind(WORLD_USAGE, "usage");
}

static void test_plain(void **state) {
    (void)state;
    run_kind(WORLD_PLAIN, "plain");
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_numbered),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, setup_group, sql_teardown);
}
