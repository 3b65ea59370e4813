/*
 * test_registry_instances_sql.c: instances made, listed and renamed: the SQL of registry against a real PostgreSQL.
 *
 * Each test begins with empty tables.
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

static const char *user, *other;

static int setup(void **state) {
    (void)state;
    fixture_clear_all(db);
    user = fixture_make_user(db, "a@example.org");
    other = fixture_make_user(db, "b@example.org");
    return 0;
}

/* --- create ------------------------------------------------------------------------------------------------------- */

static const char create[] = "SELECT (instance).id FROM bore.instance_create($1, $2, $3, $4, $5, $6)";

static void test_create(void **state) {
    (void)state;
    const char *id = sql_ask(db, create, user, "web", "3000", NULL, NULL, NULL);
    assert_memory_equal(id, "inst_", 5);
    assert_int_equal(strlen(id), 29);
    assert_string_equal(sql_ask(db,
                            "SELECT concat_ws(' ', name, local_port, region, coalesce(server_host, 'none'), "
                            "coalesce(remote_port::text, 'none'), status, status_reason, tunnel_connected, "
                            "coalesce(last_heartbeat::text, 'never'), coalesce(heartbeat_age_ms::text, 'none')) "
                            "FROM bore.instance_row WHERE id = $1 AND user_id = $2",
                            id, user),
        "web 3000 local none none inactive created f never none");
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(concat_ws(' ', history.status, reason, history.at = status_since, "
                            "created_at = status_since, updated_at = status_since, phase_since = status_since), ', ') "
                            "FROM bore.status_history AS history JOIN bore.instances ON instances.id = instance_id "
                            "WHERE instance_id = $1",
                            id),
        "inactive created t t t t");
    assert_string_equal(
        sql_ask(db,
            "SELECT string_agg(concat_ws(' ', id, kind, user_id = $1, instance_id = $2, payload), ', ') "
            "FROM bore.events",
            user, id),
        "1 instance.created t t {\"name\": \"web\", \"reason\": \"created\", \"status\": \"inactive\"}");
    const char *pinned = sql_ask(db, create, user, "far", "65535", "eu", "bore.example.org", NULL);
    assert_string_equal(sql_ask(db,
                            "SELECT concat_ws(' ', local_port, region, server_host, pinned_host) FROM bore.instances "
                            "WHERE id = $1",
                            pinned),
        "65535 eu bore.example.org bore.example.org");
}

static void test_create_refusals(void **state) {
    (void)state;
    static const char *const hosts[] = { "", "a b", "a/b", "a@b", "https://x", "h\n", "h;", "\xc3\xa4" };
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
        assert_string_equal(sql_refusal(db, create, user, "x", "1", NULL, hosts[i], NULL), "validation_error");
    static const char *const good[] = { "h", "192.0.2.1", "[2001:db8::1]", "2001:db8::1", "bore_server", "a-b.c" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_string_equal(sql_refusal(db, create, user, "x", "1", NULL, good[i], NULL), "");
    static const char *const names[] = { "", "  ", "a\nb", "\x7f", "\xc2\x85", "\xe2\x80\x8b \xe3\x80\x80" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_string_equal(sql_refusal(db, create, user, names[i], "1", NULL, NULL, NULL), "validation_error");
        assert_string_equal(db_refusal_column(db), "name");
        assert_string_equal(sql_refusal(db, create, user, "x", "1", names[i], NULL, NULL), "validation_error");
        assert_string_equal(db_refusal_column(db), "region");
    }
    assert_string_equal(sql_refusal(db, create, user, "\xf0\x9f\x9a\x80 a", "1", NULL, NULL, NULL), "");
    assert_string_equal(sql_refusal(db, create, "user_none", "x", "1", NULL, NULL, NULL), "unauthorized");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), ARRAY_SIZE(good) + 1);
}

static void test_idempotency(void **state) {
    (void)state;
    const char *first = sql_ask(db, create, user, "web", "3000", NULL, NULL, "key");
    assert_string_equal(sql_ask(db, create, user, "web", "3000", NULL, NULL, "key"), first);
    assert_string_equal(sql_ask(db, create, user, "web", "3000", "local", NULL, "key"), first);
    assert_string_equal(sql_refusal(db, create, user, "web2", "3000", NULL, NULL, "key"), "idempotency_conflict");
    assert_string_equal(sql_refusal(db, create, user, "web", "3001", NULL, NULL, "key"), "idempotency_conflict");
    assert_string_equal(sql_refusal(db, create, user, "web", "3000", "eu", NULL, "key"), "idempotency_conflict");
    assert_string_equal(sql_refusal(db, create, user, "web", "3000", NULL, "h", "key"), "idempotency_conflict");
    assert_string_not_equal(sql_ask(db, create, other, "web", "3000", NULL, NULL, "key"), first);
    assert_string_not_equal(sql_ask(db, create, user, "web", "3000", NULL, NULL, "KEY"), first);
    assert_string_not_equal(sql_ask(db, create, user, "web", "3000", NULL, NULL, ""),
        sql_ask(db, create, user, "web", "3000", NULL, NULL, ""));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), 5);
    /* renamed since: the same instance, as it is now */
    sql_ask(db, "SELECT success FROM bore.instance_rename($1, $2, 'new')", user, first);
    assert_string_equal(
        sql_ask(db, "SELECT (instance).name FROM bore.instance_create($1, 'web', 3000, NULL, NULL, 'key')", user),
        "new");
    /* deleted since: neither a ghost nor a second one */
    sql_ask(db, "DELETE FROM bore.instances WHERE id = $1", first);
    assert_string_equal(sql_refusal(db, create, user, "web", "3000", NULL, NULL, "key"), "conflict");
    sql_run(db, "UPDATE bore.idempotency SET created_at = created_at - interval '24 hours'");
    const char *second = sql_ask(db, create, user, "another", "3000", NULL, NULL, "key");
    assert_string_not_equal(second, first);
    assert_string_equal(sql_ask(db, create, user, "another", "3000", NULL, NULL, "key"), second);
}

static void test_idempotency_race(void **state) {
    (void)state;
    struct sql_racer racers[8];
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        racers[i] =
            (struct sql_racer){ .sql = create, .parameters = { user, "web", "80", NULL, NULL, "key", sql_end } };
    sql_race(racers, ARRAY_SIZE(racers));
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
        assert_int_equal(racers[i].error, 0);
        assert_string_equal(racers[i].answer, racers[0].answer);
    }
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances"), 1);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.events"), 1);
}

/* Instances of one moment; name as SQL, of the number n. */
static void fill(const char *count, const char *name) {
    char sql[300];
    snprintf(sql, sizeof sql,
        "INSERT INTO bore.instances (id, user_id, name, local_port) "
        "SELECT bore.new_id('inst'), $1, %s, 80 FROM generate_series(1, $2::integer) AS n",
        name);
    sql_ask(db, sql, user, count);
}

static void test_most_instances(void **state) {
    (void)state;
    fill("9995", "'n' || n");
    struct sql_racer racers[10];
    size_t made = 0;
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++)
        racers[i] = (struct sql_racer){ .sql = create, .parameters = { user, "web", "80", NULL, NULL, NULL, sql_end } };
    sql_race(racers, ARRAY_SIZE(racers));
    for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
        if (racers[i].error == 0) {
            made++;
        } else {
            assert_string_equal(racers[i].refusal, "conflict");
        }
    }
    assert_int_equal(made, 5);
    assert_string_equal(sql_refusal(db, create, other, "x", "1", NULL, NULL, NULL), "");
    assert_int_equal(
        sql_number(db, "SELECT count((instance).id) FROM bore.instance_list($1, NULL, NULL)", user), 10000);
    assert_null(sql_ask(db, "SELECT max(next_cursor) FROM bore.instance_list($1, NULL, NULL)", user));
}

/* --- list --------------------------------------------------------------------------------------------------------- */

static void test_list(void **state) {
    (void)state;
    static const char list[] = "SELECT concat_ws(' ', max(total), count((instance).id), max(next_cursor), "
                               "max(cursor) = bore.event_cursor()) FROM bore.instance_list($1, $2, $3)";
    assert_string_equal(sql_ask(db, list, user, NULL, NULL), "0 0 t");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instance_list($1, NULL, NULL)", user), 1);
    fixture_make_instance(db, user, "first");
    fixture_make_instance(db, other, "not mine");
    fixture_make_instance(db, user, "second");
    assert_string_equal(sql_ask(db, list, user, NULL, NULL), "2 2 t");
    assert_string_equal(
        sql_ask(db, "SELECT split_part(max(cursor), '-', 2) FROM bore.instance_list($1, 1, NULL)", user), "3");
    assert_string_equal(
        sql_ask(db,
            "SELECT string_agg((instance).name, ' ' ORDER BY n) FROM bore.instance_list($1, NULL, NULL) "
            "WITH ORDINALITY AS list (total, cursor, next_cursor, instance, n)",
            user),
        "second first");
    static const char *const unusable[] = { "", "x", "1", "1.", ".inst_1", "1.a b", "99999999999999999999.inst_1" };
    for (size_t i = 0; i < ARRAY_SIZE(unusable); i++)
        assert_string_equal(sql_refusal(db, list, user, "10", unusable[i]), "validation_error");
}

/* Pages cover everything once, also where many were made at the same moment. */
static void test_list_pages(void **state) {
    (void)state;
    fill("25", "'n' || n");
    sql_run(db, "UPDATE bore.instances SET created_at = date_trunc('hour', now()) - (right(name, 1)::integer % 2) * "
                "interval '1 second'");
    const char *mark = NULL;
    sql_run(db, "CREATE TEMP TABLE seen (id text PRIMARY KEY, place serial)");
    for (int page = 0; page < 4; page++) {
        sql_ask(db,
            "INSERT INTO seen (id) SELECT (instance).id FROM bore.instance_list($1, 7, $2) "
            "WHERE (instance).id IS NOT NULL",
            user, mark);
        mark = sql_ask(db, "SELECT next_cursor FROM bore.instance_list($1, 7, $2)", user, mark);
        assert_int_equal(mark != NULL, page < 3);
    }
    assert_int_equal(sql_number(db, "SELECT count(*) FROM seen"), 25);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM (SELECT place, row_number() OVER (ORDER BY created_at DESC, "
                                    "id DESC) AS due FROM seen JOIN bore.instances USING (id)) AS compared "
                                    "WHERE place <> due"),
        0);
    sql_run(db, "DROP TABLE seen");
}

/* A list that would not fit into a message is cut, and says so. */
static void test_list_of_long_names(void **state) {
    (void)state;
    fill("6000", "repeat(chr(120000), 255)");
    const char *mark = sql_ask(db, "SELECT next_cursor FROM bore.instance_list($1, NULL, NULL)", user);
    assert_non_null(mark);
    long long first = sql_number(db, "SELECT count((instance).id) FROM bore.instance_list($1, NULL, NULL)", user);
    assert_in_range(first, 5000, 5999);
    assert_int_equal(
        sql_number(db, "SELECT count((instance).id) FROM bore.instance_list($1, NULL, $2)", user, mark), 6000 - first);
}

/* --- rename ------------------------------------------------------------------------------------------------------- */

static void test_rename(void **state) {
    (void)state;
    const char *id = fixture_make_instance(db, user, "web");
    static const char rename[] = "SELECT concat_ws(' ', success, (instance).name, events IS NOT NULL) "
                                 "FROM bore.instance_rename($1, $2, $3)";
    assert_string_equal(sql_ask(db, rename, user, id, "new"), "t new t");
    assert_string_equal(sql_ask(db, rename, user, id, "new"), "t new f");
    assert_string_equal(sql_refusal(db, rename, user, id, " "), "validation_error");
    assert_string_equal(sql_refusal(db, rename, other, id, "stolen"), "instance_not_found");
    assert_string_equal(sql_refusal(db, rename, user, "inst_none", "x"), "instance_not_found");
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(concat_ws(' ', id, kind, payload ->> 'name', payload ->> 'status', "
                            "payload ->> 'reason', user_id = $1), ', ' ORDER BY id) FROM bore.events",
                            user),
        "1 instance.created web inactive created t, 2 instance.renamed new inactive created t");
    assert_string_equal(sql_ask(db, "SELECT updated_at > created_at FROM bore.instances WHERE id = $1", id), "t");
}

/* What a list answers and what its cursor stands for agree, whatever happens meanwhile. */
static void test_list_and_cursor(void **state) {
    (void)state;
    static const char list[] =
        "SELECT count((instance).id) - split_part(max(cursor), '-', 2)::bigint FROM bore.instance_list($1, NULL, NULL)";
    for (int round = 0; round < 20; round++) {
        struct sql_racer racers[8];
        for (size_t i = 0; i < ARRAY_SIZE(racers); i++) {
            racers[i] = i % 2 ? (struct sql_racer){ .sql = list, .parameters = { user, sql_end } }
                              : (struct sql_racer){ .sql = create,
                                    .parameters = { user, "web", "80", NULL, NULL, NULL, sql_end } };
        }
        sql_race(racers, ARRAY_SIZE(racers));
        for (size_t i = 1; i < ARRAY_SIZE(racers); i += 2)
            assert_string_equal(racers[i].answer, "0");
    }
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_create_refusals),
        TEST(test_idempotency),
        TEST(test_idempotency_race),
        TEST(test_most_instances),
        TEST(test_list),
        TEST(test_list_pages),
        TEST(test_list_of_long_names),
        TEST(test_rename),
        TEST(test_list_and_cursor),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
