/* test_migrate.c: migrations are applied once, whole, in order, by one process at a time; those in sql/ apply at all.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/migrate.h"
#include "tests/unit/database.h"

static struct db *db;

static const struct migration sample[] = {
    { .number = 1, .name = "one", .sql = "CREATE TABLE bore.one (x integer);\nINSERT INTO bore.one VALUES (1)" },
    { .number = 2,
        .name = "two",
        .sql = "CREATE FUNCTION bore.two() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN 2; END $$;\n"
               "INSERT INTO bore.one VALUES (bore.two()); -- a comment at the end" },
    { .number = 5, .name = "broken", .sql = "INSERT INTO bore.one VALUES (5);\nSELECT no_such_function();" },
};
static const struct migration mended[] = {
    { .number = 1, .name = "one", .sql = "SELECT never_run()" },
    { .number = 2, .name = "two", .sql = "SELECT never_run()" },
    { .number = 5, .name = "mended", .sql = "INSERT INTO bore.one VALUES (6);" },
};

static int setup(void **state) {
    (void)state;
    struct db_options options = test_database_options();
    log_init("test", 1, "error", "text");
    db = db_new(&options);
    return db_run_script(db, "DROP SCHEMA IF EXISTS bore CASCADE");
}

static int teardown(void **state) {
    (void)state;
    db_free(db);
    return 0;
}

static int64_t ask(const char *name, const char *sql) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_statement statement = { .name = name, .sql = sql };
    assert_int_equal(db_run(db, &statement, NULL, &result), 0);
    return db_result_int(result, 0, 0, -1);
}

static void test_applied_once_in_order(void **state) {
    (void)state;
    for (int repeat = 0; repeat < 3; repeat++)
        assert_int_equal(migrate_with(db, sample, 2), 0);
    assert_int_equal(ask("sum", "SELECT sum(x) FROM bore.one"), 3);
    assert_int_equal(ask("rows", "SELECT count(*) FROM bore.schema_migrations WHERE name IN ('one', 'two')"), 2);
    assert_int_equal(ask("locks", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0);
}

static void test_a_broken_one_leaves_nothing_behind(void **state) {
    (void)state;
    assert_true(migrate_with(db, sample, 3) < 0);
    assert_int_equal(ask("sum", "SELECT sum(x) FROM bore.one"), 3);
    assert_int_equal(ask("newest", "SELECT max(number) FROM bore.schema_migrations"), 2);
    assert_int_equal(migrate_with(db, mended, 3), 0);
    assert_int_equal(ask("sum", "SELECT sum(x) FROM bore.one"), 9);
    assert_int_equal(ask("newest", "SELECT max(number) FROM bore.schema_migrations"), 5);
}

static void test_a_newer_database_is_refused(void **state) {
    (void)state;
    assert_int_equal(migrate_with(db, mended + 2, 0), 0); /* nothing there, nothing known */
    assert_int_equal(migrate_with(db, sample, 2), 0);
    assert_int_equal(migrate_with(db, sample, 1), -ENOTSUP);
    assert_int_equal(migrate_with(db, sample, 2), 0);
}

/* Returns the exit status of one of several processes that migrate at once. */
static int migrate_in_child(void) {
    struct db_options options = test_database_options();
    struct db *own = db_new(&options);
    static const struct migration slow[] = {
        { .number = 1, .name = "slow", .sql = "CREATE TABLE bore.slow (x integer); SELECT pg_sleep(0.3);" },
        { .number = 2, .name = "next", .sql = "INSERT INTO bore.slow VALUES (1);" },
    };
    int error = migrate_with(own, slow, ARRAY_SIZE(slow));
    db_free(own);
    return error ? 1 : 0;
}

static void test_several_processes_at_once(void **state) {
    (void)state;
    pid_t children[5];
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(migrate_in_child());
    }
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
        int status;
        waitpid(children[i], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(ask("slow", "SELECT count(*) FROM bore.slow"), 1);
}

static void test_those_of_the_program(void **state) {
    (void)state;
    assert_int_equal(migrate(db), 0);
    assert_int_equal(migrate(db), 0);
    assert_true(ask("count", "SELECT count(*) FROM bore.schema_migrations") == (int64_t)migrations_count);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_applied_once_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_broken_one_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_newer_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_processes_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_those_of_the_program, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
