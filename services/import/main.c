/*
 * main.c: bore-import (./bore import): users and instances of an older installation in the same database.
 *
 * All of the work is bore.import_older() in sql/030_import.sql, one call and one transaction; this prints what became
 * of each row: sums, and by its id whatever was not simply copied. Nothing that could be a secret is printed. Safe to
 * run again, and while everything runs. Settings: those marked IMPORT in config.def. Exit status: 0 done, 1 nothing
 * was changed (no older tables, no database, a schema newer than this program), 2 wrong usage.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/db.h"
#include "common/memory.h"
#include "services/lib/config.h"
#include "services/lib/migrate.h"
#include "services/lib/service.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { CONNECT_MS = 10000, IMPORT_MS = 30 * 60 * 1000 };
enum { KIND, OLD_ID, NEW_ID, OUTCOME, REASON }; /* columns of the answer */

static const struct db_statement import_statement = {
    .name = "import",
    .sql = "SELECT kind, old_id, new_id, outcome, reason FROM bore.import_older()",
};

static void cleanup_db(struct db **self) {
    db_free(*self);
}

static bool is(const struct db_result *rows, size_t row, int column, const char *text) {
    const char *value = db_result_text(rows, row, (size_t)column);
    return value && strcmp(value, text) == 0;
}

static size_t count(const struct db_result *rows, const char *kind, const char *outcome) {
    size_t found = 0;
    for (size_t row = 0; row < db_result_rows(rows); row++)
        if (is(rows, row, KIND, kind) && is(rows, row, OUTCOME, outcome)) found++;
    return found;
}

/* The copied rows that could not keep their id. */
static size_t count_renamed(const struct db_result *rows, const char *kind) {
    size_t found = 0;
    for (size_t row = 0; row < db_result_rows(rows); row++) {
        const char *old_id = db_result_text(rows, row, OLD_ID);
        if (is(rows, row, KIND, kind) && is(rows, row, OUTCOME, "copied") && !is(rows, row, NEW_ID, old_id)) found++;
    }
    return found;
}

static void print_kind(const struct db_result *rows, const char *kind) {
    printf("%ss: %zu copied (%zu with a new id), %zu copied before, %zu joined, %zu skipped\n", kind,
        count(rows, kind, "copied"), count_renamed(rows, kind), count(rows, kind, "present"),
        count(rows, kind, "joined"), count(rows, kind, "skipped"));
    for (size_t row = 0; row < db_result_rows(rows); row++) {
        const char *reason = db_result_text(rows, row, REASON), *old_id = db_result_text(rows, row, OLD_ID);
        if (!is(rows, row, KIND, kind) || !reason) continue;
        printf("  %s %s %s: %s\n", kind, old_id ? old_id : "?", db_result_text(rows, row, OUTCOME), reason);
    }
}

static int fail(const struct db *db, const char *what) {
    const char *sentence = db_refusal_detail(db);
    if (!sentence || !*sentence) sentence = db_error_message(db);
    fprintf(stderr, "bore-import: %s: %s\n", what, sentence);
    return EXIT_FAILED;
}

static int import(void) {
    struct db_options options;
    service_database_options("import", &options);
    options.statement_timeout_ms = IMPORT_MS;
    __attribute__((cleanup(cleanup_db))) struct db *db = db_new(&options);
    if (db_connect(db, clock_monotonic_ms() + CONNECT_MS)) return fail(db, "the database does not answer");
    int error = migrate(db);
    if (error == -ENOTSUP) return EXIT_FAILED; /* migrate has said why */
    if (error) return fail(db, "the schema could not be prepared");
    _cleanup_db_result_ struct db_result *rows = NULL;
    if (db_run(db, &import_statement, NULL, &rows)) return fail(db, "nothing was copied");
    print_kind(rows, "user");
    print_kind(rows, "instance");
    return EXIT_OK;
}

int main(int argc, char **argv) {
    int status = config_load(IMPORT, "import",
        "Copies users and instances of an older installation (tables users and instances of the schema public).", argc,
        argv);
    if (status != 0) return status > 0 ? EXIT_OK : EXIT_USAGE;
    status = import();
    config_release();
    return status;
}
