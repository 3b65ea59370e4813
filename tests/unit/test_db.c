/*
 * test_db.c: values in and out, errors and refusals, pipelines and scripts, against a real PostgreSQL.
 *
 * What happens when the server dies or freezes is in test_db_failures.c.
 */
#include <errno.h>
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/db.h"
#include "common/memory.h"
#include "tests/unit/database.h"

static struct db *db;

static int setup(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    db = db_new(&options);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    db_free(db);
    db = NULL;
    return 0;
}

/* One row, one column, no parameters; name and sql are one. */
static const char *ask(const char *sql, struct db_result **ret_result) {
    struct db_statement statement = { .name = sql, .sql = sql };
    int error = db_run(db, &statement, NULL, ret_result);
    if (error < 0) fail_msg("%s: %d %s", sql, error, db_error_message(db));
    return db_result_text(*ret_result, 0, 0);
}

static void run(const char *sql) {
    if (db_run_script(db, sql) < 0) fail_msg("%s: %s", sql, db_error_message(db));
}

static void test_connects_when_needed(void **state) {
    (void)state;
    assert_false(db_is_connected(db));
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_string_equal(ask("SELECT 1", &result), "1");
    assert_true(db_is_connected(db));
    assert_int_equal(db_connect(db, clock_monotonic_ms() + 1000), 0);
    struct db_statistics statistics;
    db_statistics(db, &statistics);
    assert_int_equal(statistics.connects, 1);
    assert_int_equal(statistics.calls, 1);
    assert_int_equal(statistics.errors, 0);
    assert_true(statistics.microseconds > 0);
}

static void test_session(void **state) {
    (void)state;
    static const char *const expected[][2] = {
        { "SHOW statement_timeout", "2s" },
        { "SHOW search_path", "pg_catalog" },
        { "SHOW client_min_messages", "warning" },
        { "SHOW timezone", "UTC" },
        { "SHOW client_encoding", "UTF8" },
        { "SHOW idle_in_transaction_session_timeout", "10s" },
        { "SHOW application_name", "unit test" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        _cleanup_db_result_ struct db_result *result = NULL;
        assert_string_equal(ask(expected[i][0], &result), expected[i][1]);
    }
}

static void test_values(void **state) {
    (void)state;
    static const struct db_statement statement = {
        .name = "values",
        .sql =
            "SELECT $1::text AS text, $2::bigint AS number, $3::float8 AS real, $4::boolean AS yes, $5::boolean AS no,"
            " $6::text AS nothing, $2::bigint + 1 AS \"Mixed Case\"",
    };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, "h\xc3\xa9 ' \" \\ $1 \n");
    db_params_add_int(&params, INT64_MIN);
    db_params_add_double(&params, DBL_MAX);
    db_params_add_bool(&params, true);
    db_params_add_bool(&params, false);
    db_params_add_null(&params);
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_int_equal(db_run(db, &statement, &params, &result), 0);
    assert_int_equal(db_result_rows(result), 1);
    assert_int_equal(db_result_columns(result), 7);
    assert_string_equal(db_result_text(result, 0, 0), "h\xc3\xa9 ' \" \\ $1 \n");
    assert_true(db_result_int(result, 0, 1, 0) == INT64_MIN);
    assert_true(strtod(db_result_text(result, 0, 2), NULL) >= DBL_MAX);
    assert_true(db_result_bool(result, 0, 3, false));
    assert_false(db_result_bool(result, 0, 4, true));
    assert_null(db_result_text(result, 0, 5));
    assert_int_equal(db_result_int(result, 0, 5, 77), 77);
    assert_true(db_result_bool(result, 0, 5, true));
    assert_string_equal(db_result_column_name(result, 6), "Mixed Case");
    assert_int_equal(db_result_column(result, "Mixed Case"), 6);
    assert_int_equal(db_result_column(result, "mixed case"), -1);
    assert_int_equal(db_result_column(result, "number"), 1);
}

static void test_arrays(void **state) {
    (void)state;
    static const struct db_statement statement = {
        .name = "arrays",
        .sql = "SELECT ord, value FROM unnest($1::text[]) WITH ORDINALITY AS x(value, ord) ORDER BY ord",
    };
    static const char *const texts[] = { "plain", "", "a,b", "{x}", "quote\"", "back\\slash", "\\\"", NULL, "NULL",
        "null", " blanks ", "line\nend", "\xe2\x82\xac", "'", "(1,2)" };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_array(&params, texts, ARRAY_SIZE(texts));
    _cleanup_db_result_ struct db_result *result = NULL;
    assert_int_equal(db_run(db, &statement, &params, &result), 0);
    assert_int_equal(db_result_rows(result), ARRAY_SIZE(texts));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const char *value = db_result_text(result, i, 1);
        assert_int_equal(db_result_int(result, i, 0, 0), i + 1);
        if (!texts[i]) {
            assert_null(value);
        } else {
            assert_string_equal(value, texts[i]);
        }
    }
    _cleanup_db_params_ struct db_params empty;
    db_params_init(&empty);
    db_params_add_array(&empty, NULL, 0);
    _cleanup_db_result_ struct db_result *nothing = NULL;
    assert_int_equal(db_run(db, &statement, &empty, &nothing), 0);
    assert_int_equal(db_result_rows(nothing), 0);
}

static void test_errors(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.once (id int PRIMARY KEY, small int CHECK (small < 10));"
        "INSERT INTO t.once VALUES (1, 1)");
    static const struct {
        const char *sql;
        int error;
        const char *message;
    } cases[] = {
        { "INSERT INTO t.once VALUES (1, 2)", -EEXIST, "a constraint does not hold: once_pkey (SQLSTATE 23505)" },
        { "INSERT INTO t.once VALUES (2, 10)", -EIO, "a constraint does not hold: once_small_check (SQLSTATE 23514)" },
        { "SELECT 'hush'::int", -EINVAL, "a value does not fit its type (SQLSTATE 22P02)" },
        { "SELECT 1/0", -EINVAL, "a value does not fit its type (SQLSTATE 22012)" },
        { "SELECT * FROM t.missing", -EIO, "relation \"t.missing\" does not exist (SQLSTATE 42P01)" },
        { "SELECT pg_sleep(9)", -ETIMEDOUT, "canceling statement due to statement timeout (SQLSTATE 57014)" },
        { "COPY t.once TO STDOUT", -EIO, "COPY is not possible here" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct db_statement statement = { .name = "failing", .sql = cases[i].sql };
        teardown(NULL);
        setup(NULL);
        struct db_result *result = (struct db_result *)&cases;
        assert_int_equal(db_run(db, &statement, NULL, &result), cases[i].error);
        assert_string_equal(db_error_message(db), cases[i].message);
        assert_ptr_equal(result, &cases);
        _cleanup_db_result_ struct db_result *after = NULL;
        assert_string_equal(ask("SELECT 2", &after), "2");
        assert_string_equal(db_error_message(db), "");
        struct db_statistics statistics;
        db_statistics(db, &statistics);
        assert_int_equal(statistics.errors, 1);
    }
}

/* Also in parameters of prepared statements, where the server would quote them. */
static void test_no_values_in_messages(void **state) {
    (void)state;
    static const struct db_statement statement = { .name = "to_int", .sql = "SELECT $1::text::int" };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, "password123");
    assert_int_equal(db_run(db, &statement, &params, NULL), -EINVAL);
    assert_null(strstr(db_error_message(db), "password123"));
}

static void test_refusals(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t;"
        "CREATE OR REPLACE FUNCTION t.refuse(detail text, col text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF col = '' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'plan_expired'; END IF;"
        " RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'validation_error', DETAIL = detail, COLUMN = col;"
        " END $$");
    static const struct db_statement statement = { .name = "refuse", .sql = "SELECT t.refuse($1, $2)" };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, "It is \"too\" long: \xe2\x82\xac.");
    db_params_add_text(&params, "name");
    assert_int_equal(db_run(db, &statement, &params, NULL), -EPERM);
    assert_string_equal(db_refusal(db), "validation_error");
    assert_string_equal(db_refusal_detail(db), "It is \"too\" long: \xe2\x82\xac.");
    assert_string_equal(db_refusal_column(db), "name");
    assert_non_null(strstr(db_error_message(db), "in t.refuse(text,text) line "));

    _cleanup_db_params_ struct db_params bare;
    db_params_init(&bare);
    db_params_add_text(&bare, "");
    db_params_add_text(&bare, "");
    assert_int_equal(db_run(db, &statement, &bare, NULL), -EPERM);
    assert_string_equal(db_refusal(db), "plan_expired");
    assert_string_equal(db_refusal_detail(db), "");
    assert_string_equal(db_refusal_column(db), "");

    /* A sentence that is too long is cut at a whole character. */
    char detail[1000];
    memset(detail, 'x', sizeof(detail));
    for (size_t i = 1; i + 3 < sizeof(detail); i += 3)
        memcpy(detail + i, "\xe2\x82\xac", 4);
    bare.values[0] = detail;
    bare.values[1] = "name";
    assert_int_equal(db_run(db, &statement, &bare, NULL), -EPERM);
    size_t size = strlen(db_refusal_detail(db));
    assert_true(size > 500 && size < 512 && (size - 1) % 3 == 0);

    _cleanup_db_result_ struct db_result *after = NULL;
    ask("SELECT 1", &after);
    assert_string_equal(db_refusal(db), "");
    struct db_statistics statistics;
    db_statistics(db, &statistics);
    assert_int_equal(statistics.errors, 0);
}

/* COMMIT itself can fail: then it is no success, although rows came. */
static void test_failing_commit(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.parent (id int PRIMARY KEY); CREATE TABLE t.child (id int"
        " REFERENCES t.parent DEFERRABLE INITIALLY DEFERRED)");
    static const struct db_statement orphan = { .name = "orphan",
        .sql = "INSERT INTO t.child VALUES (1) RETURNING id" };
    static const struct db_statement count = { .name = "count", .sql = "SELECT count(*) FROM t.child" };
    struct db_result *result = NULL;
    assert_int_equal(db_run(db, &orphan, NULL, &result), -EIO);
    assert_null(result);
    assert_non_null(strstr(db_error_message(db), "SQLSTATE 23503"));
    assert_int_equal(db_run(db, &count, NULL, &result), 0);
    assert_int_equal(db_result_int(result, 0, 0, -1), 0);
    db_result_free(result);
}

static void test_pipeline(void **state) {
    (void)state;
    static const struct db_statement number = { .name = "number", .sql = "SELECT $1::int AS n" };
    static const struct db_statement many = { .name = "many", .sql = "SELECT generate_series(1, 20000) AS n" };
    struct db_params params[16];
    struct db_call calls[16];
    struct db_result *results[16];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 16; i++) {
            db_params_init(&params[i]);
            db_params_add_int(&params[i], i);
            calls[i] = (struct db_call){ .statement = &number, .params = &params[i] };
        }
        calls[7] = (struct db_call){ .statement = &many };
        assert_int_equal(db_run_many(db, calls, 16, results), 0);
        for (int i = 0; i < 16; i++) {
            assert_int_equal(db_result_rows(results[i]), i == 7 ? 20000 : 1);
            assert_int_equal(db_result_int(results[i], 0, 0, -1), i == 7 ? 1 : i);
            db_result_free(results[i]);
            db_params_release(&params[i]);
        }
    }
    assert_int_equal(db_run_many(db, calls, 0, results), 0);
    _cleanup_db_result_ struct db_result *after = NULL;
    assert_string_equal(ask("SELECT 3", &after), "3");
}

static void test_failing_pipeline(void **state) {
    (void)state;
    static const struct db_statement good = { .name = "good", .sql = "SELECT 1" };
    static const struct db_statement bad = { .name = "bad", .sql = "SELECT 1 / (random() * 0)::int" };
    static const struct db_statement wrong = { .name = "wrong", .sql = "SELECT FROM WHERE" };
    struct db_result *results[3] = { NULL };
    struct db_call calls[] = { { &good, NULL }, { &bad, NULL }, { &good, NULL } };
    assert_int_equal(db_run_many(db, calls, 3, results), -EINVAL);
    for (size_t i = 0; i < 3; i++)
        assert_null(results[i]);
    assert_true(db_is_connected(db));
    calls[2].statement = &wrong;
    assert_int_equal(db_run_many(db, calls, 3, results), -EIO);
    assert_non_null(strstr(db_error_message(db), "syntax error"));
    calls[1].statement = calls[2].statement = &good;
    assert_int_equal(db_run_many(db, calls, 3, results), 0);
    for (size_t i = 0; i < 3; i++)
        db_result_free(results[i]);
}

static void test_scripts(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.script (id int); INSERT INTO t.script VALUES (1), (2);"
        "SELECT * FROM t.script");
    _cleanup_db_result_ struct db_result *count = NULL;
    assert_string_equal(ask("SELECT count(*) FROM t.script", &count), "2");
    /* One that fails leaves nothing, not even an open transaction. */
    assert_int_equal(db_run_script(db, "BEGIN; INSERT INTO t.script VALUES (3); SELECT 1/0; COMMIT"), -EINVAL);
    _cleanup_db_result_ struct db_result *again = NULL;
    assert_string_equal(ask("SELECT count(*) FROM t.script", &again), "2");
    run("");
    run("-- only a comment");
}

/* A transaction may be opened and closed by scripts. */
static void test_transaction_of_scripts(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.both (id int)");
    run("BEGIN");
    static const struct db_statement insert = { .name = "insert_both", .sql = "INSERT INTO t.both VALUES (1)" };
    assert_int_equal(db_run(db, &insert, NULL, NULL), 0);
    run("ROLLBACK");
    _cleanup_db_result_ struct db_result *count = NULL;
    assert_string_equal(ask("SELECT count(*) FROM t.both", &count), "0");
}

/* A migration may change what a prepared statement returns. */
static void test_prepared_again_after_change(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE TABLE t.changing (id int); INSERT INTO t.changing VALUES (1)");
    static const struct db_statement all = { .name = "changing", .sql = "SELECT * FROM t.changing" };
    _cleanup_db_result_ struct db_result *before = NULL;
    assert_int_equal(db_run(db, &all, NULL, &before), 0);
    run("ALTER TABLE t.changing ADD COLUMN more text DEFAULT 'x'");
    _cleanup_db_result_ struct db_result *after = NULL;
    assert_int_equal(db_run(db, &all, NULL, &after), 0);
    assert_int_equal(db_result_columns(after), 2);

    run("ALTER TABLE t.changing ALTER COLUMN more DROP DEFAULT, ALTER COLUMN more TYPE int USING 1");
    struct db_result *results[2];
    struct db_call calls[] = { { &all, NULL }, { &all, NULL } };
    assert_int_equal(db_run_many(db, calls, 2, results), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(db_result_text(results[i], 0, 1), "1");
        db_result_free(results[i]);
    }
    run("DEALLOCATE ALL");
    assert_int_equal(db_run(db, &all, NULL, NULL), 0);
}

/* What looks like a changed result type and is none is tried once more, not for ever. */
static void test_not_supported(void **state) {
    (void)state;
    run("CREATE SCHEMA IF NOT EXISTS t; CREATE SEQUENCE t.not_supported;"
        "CREATE FUNCTION t.not_supported() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('t.not_supported'); RAISE feature_not_supported; END $$");
    static const struct db_statement statement = { .name = "not_supported", .sql = "SELECT t.not_supported()" };
    assert_int_equal(db_run(db, &statement, NULL, NULL), -EIO);
    assert_non_null(strstr(db_error_message(db), "SQLSTATE 0A000"));
    _cleanup_db_result_ struct db_result *attempts = NULL;
    assert_string_equal(ask("SELECT last_value FROM t.not_supported", &attempts), "2");
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connects_when_needed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_session, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arrays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_values_in_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scripts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transaction_of_scripts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prepared_again_after_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_supported, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
