/* database.c: see database.h. */
#include "tests/unit/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *required_environment(const char *name) {
    const char *value = getenv(name);
    if (value) return value;
    fprintf(stderr, "%s is not set: call test_database_require first\n", name);
    exit(1);
}

void test_database_require(char **argv) {
    if (getenv("TEST_POSTGRES_PID")) return;
    execl("tests/unit/postgres.sh", "tests/unit/postgres.sh", argv[0], (char *)NULL);
    perror("tests/unit/postgres.sh (run this in the root of the repository)");
    exit(1);
}

struct db_options test_database_options(void) {
    return (struct db_options){
        .host = required_environment("DB_HOST"),
        .port = atoi(required_environment("DB_PORT")),
        .name = required_environment("DB_NAME"),
        .user = required_environment("DB_USER"),
        .application_name = "unit test",
        .statement_timeout_ms = 2000,
    };
}

pid_t test_database_postmaster(void) {
    return (pid_t)atoi(required_environment("TEST_POSTGRES_PID"));
}

pid_t test_database_backend(struct db *db) {
    static const struct db_statement statement = { .name = "backend_pid", .sql = "SELECT pg_backend_pid()" };
    _cleanup_db_result_ struct db_result *result = NULL;
    if (db_run(db, &statement, NULL, &result) < 0) return -1;
    return (pid_t)db_result_int(result, 0, 0, -1);
}
