/*
 * test_metrics_sql.c: who is active, what is stored, and the event log counted once, against a real PostgreSQL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/metrics/store.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"

static int setup(void **state) {
    sql_setup(state);
    sql_run(db, "TRUNCATE bore.events; TRUNCATE bore.metrics_events; "
                "UPDATE bore.metrics_state SET writer = '', state = DEFAULT, event_id = 0;");
    return 0;
}

static const char save[] = "SELECT concat_ws(' ', outcome, state) FROM bore.metrics_store($1, $2)";
static const char adopt[] = "SELECT concat_ws(' ', outcome, state) FROM bore.metrics_store($1, NULL)";

/* Until a session's lock is gone after its connection was closed. */
static const char *adopt_soon(struct db *other, const char *writer) {
    const char *answer = "";
    for (int i = 0; i < 3000 && strncmp(answer, "adopted", 7) != 0; i++) {
        answer = sql_ask(other, adopt, writer);
        usleep(10000);
    }
    return answer;
}

static void test_one_is_active(void **state) {
    (void)state;
    struct db *other = sql_open();
    assert_string_equal(sql_ask(db, adopt, "a"), "adopted {\"totals\":[],\"processes\":[],\"folded\":[]}");
    assert_string_equal(sql_ask(other, adopt, "b"), "waiting");
    assert_string_equal(sql_ask(other, save, "b", "{}"), "waiting");
    assert_string_equal(sql_ask(db, save, "a", "{\"a\":1}"), "stored");
    assert_string_equal(sql_ask(db, save, "a", "{\"a\":2}"), "stored");
    db_free(db); /* its end is the end of its lock */
    assert_string_equal(adopt_soon(other, "b"), "adopted {\"a\":2}");
    db = sql_open();
    assert_string_equal(sql_ask(db, save, "a", "{\"a\":3}"), "waiting");
    db_free(other);
    /* back, but another one was active meanwhile: what it has in memory is void */
    const char *answer = "";
    for (int i = 0; i < 3000 && strncmp(answer, "adopted", 7) != 0; i++) {
        answer = sql_ask(db, save, "a", "{\"a\":3}");
        usleep(10000);
    }
    assert_string_equal(answer, "adopted {\"a\":2}");
    assert_string_equal(sql_ask(db, save, "a", "{\"a\":4}"), "stored");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.metrics_state WHERE state = '{\"a\":4}'"), 1);
    assert_string_equal(sql_ask(db, "SHOW idle_session_timeout"), "15s");
}

/* The connection broke and nobody else was active: what is in memory is newer than what is stored. */
static void test_a_new_connection(void **state) {
    (void)state;
    sql_ask(db, adopt, "a");
    db_free(db);
    db = sql_open();
    const char *answer = "waiting";
    for (int i = 0; i < 3000 && strcmp(answer, "waiting") == 0; i++) {
        answer = sql_ask(db, save, "a", "{\"a\":5}");
        usleep(10000);
    }
    assert_string_equal(answer, "stored");
}

static void append(const char *kind, const char *payload) {
    sql_ask(db, "SELECT bore.append_events(ARRAY[ROW($1, 'u', 'i', $2::jsonb, NULL)::bore.new_event])", kind, payload);
}

static const char *counted(int most) {
    char text[20];
    snprintf(text, sizeof(text), "%d", most);
    sql_ask(db, "SELECT outcome FROM bore.metrics_store('a', '{}', $1)", text);
    return sql_ask(db, "SELECT coalesce(string_agg(concat_ws(' ', kind, nullif(status, ''), count), ', ' "
                       "ORDER BY kind, status), '') FROM bore.metrics_events");
}

static void test_events(void **state) {
    (void)state;
    assert_string_equal(counted(100), "");
    append("tunnel.connected", "{}");
    append("status", "{\"status\": \"active\"}");
    append("status", "{\"status\": \"offline\"}");
    append("status", "{\"status\": \"active\"}");
    append("tunnel.disconnected", "{}");
    assert_string_equal(counted(2), "status active 1, tunnel.connected 1");
    assert_string_equal(counted(2), "status active 2, status offline 1, tunnel.connected 1");
    assert_string_equal(counted(2), "status active 2, status offline 1, tunnel.connected 1, tunnel.disconnected 1");
    assert_string_equal(counted(2), "status active 2, status offline 1, tunnel.connected 1, tunnel.disconnected 1");
    append("tunnel.connected", "{}");
    append("tunnel.connected", "{}");
    append("tunnel.connected", "{}");
    sql_run(db, "DELETE FROM bore.events WHERE id <= 7"); /* trimmed before it was counted */
    const char *after = "status active 2, status offline 1, tunnel.connected 2, tunnel.disconnected 1";
    assert_string_equal(counted(100), after);
    sql_run(db, "UPDATE bore.metrics_state SET event_id = 900"); /* beyond the head: from another time */
    assert_string_equal(counted(100), after);
    append("tunnel.disconnected", "{}");
    assert_string_equal(counted(100), "status active 2, status offline 1, tunnel.connected 2, tunnel.disconnected 2");
}

/* Only what is new is read, however long the log is. */
static void test_events_cost(void **state) {
    (void)state;
    sql_run(db, "INSERT INTO bore.events (id, at, kind) SELECT n, now(), 'status' FROM generate_series(1, 30000) AS n; "
                "ANALYZE bore.events; UPDATE bore.metrics_state SET event_id = 30000;");
    sql_ask(db, "SELECT pg_stat_force_next_flush()");
    long long before = sql_number(db, "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relid = "
                                      "'bore.events'::regclass");
    for (int i = 0; i < 10; i++)
        counted(20000);
    sql_ask(db, "SELECT pg_stat_force_next_flush()");
    long long after = sql_number(db, "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relid = "
                                     "'bore.events'::regclass");
    assert_in_range(after - before, 0, 100);
}

/* What store.c sends and reads. */
static void test_store(void **state) {
    (void)state;
    struct counter_value value = { (char[]){ "bore_heartbeats_total" }, (char[]){ "" }, COUNTER, 0.1, NULL };
    struct metrics_state given = { .totals = &value, .totals_count = 1 }, kept;
    struct series_list events = { .count = 0 };
    append("tunnel.connected", "{}");
    append("status", "{\"status\": \"active\"}");
    assert_int_equal(store_save(db, "a", NULL, &kept, &events), STORE_ADOPTED);
    assert_int_equal(kept.totals_count, 0);
    message_release(&metrics_state_descriptor, &kept);
    assert_int_equal(events.count, 4);
    series_list_release(&events);
    assert_int_equal(store_save(db, "a", &given, &kept, &events), STORE_STORED);
    assert_int_equal(store_save(db, "a", NULL, &kept, &events), STORE_ADOPTED);
    assert_true(message_equal(&metrics_state_descriptor, &given, &kept));
    message_release(&metrics_state_descriptor, &kept);
    series_list_release(&events);
    sql_run(db, "UPDATE bore.metrics_state SET state = '{\"totals\":7}'");
    assert_int_equal(store_save(db, "a", NULL, &kept, &events), -5); /* EIO: nothing is overwritten */
    series_list_release(&events);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_is_active, setup, sql_teardown),
        cmocka_unit_test_setup_teardown(test_a_new_connection, setup, sql_teardown),
        cmocka_unit_test_setup_teardown(test_events, setup, sql_teardown),
        cmocka_unit_test_setup_teardown(test_events_cost, setup, sql_teardown),
        cmocka_unit_test_setup_teardown(test_store, setup, sql_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
