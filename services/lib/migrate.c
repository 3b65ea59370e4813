/*
 * migrate.c: applies the embedded sql/NNN_name.sql that a database has not had yet.
 *
 * bore.schema_migrations keeps what was applied; each migration and its row commit together. Every process does this at
 * start: the first one takes the advisory lock and works, the others wait for it and find nothing left to do. A
 * database that has a migration which this program does not know belongs to a newer program, and is left alone.
 */
#include "services/lib/migrate.h"

#include <errno.h>
#include <poll.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/strbuf.h"

/* The lock's key is "borm" in ASCII; events use another one. */
#define LOCK_KEY "1651470957"

enum { LOCK_RETRY_MS = 100, LOCK_LOG_MS = 5000, LOCK_PATIENCE_MS = 60000, MIGRATIONS_MAX = 9999 };

static const struct db_statement table_statement = { .name = "migrate table",
    .sql = "SELECT pg_catalog.to_regclass('bore.schema_migrations') IS NOT NULL" };
static const struct db_statement newest_statement = { .name = "migrate newest",
    .sql = "SELECT coalesce(max(number), 0) FROM bore.schema_migrations" };
static const struct db_statement applied_statement = { .name = "migrate applied",
    .sql = "SELECT EXISTS (SELECT FROM bore.schema_migrations WHERE number = $1::integer)" };
static const struct db_statement lock_statement = { .name = "migrate lock",
    .sql = "SELECT pg_catalog.pg_try_advisory_lock(" LOCK_KEY ")" };
static const struct db_statement unlock_statement = { .name = "migrate unlock",
    .sql = "SELECT pg_catalog.pg_advisory_unlock(" LOCK_KEY ")" };

static const char create_table[] = "BEGIN;\n"
                                   "CREATE SCHEMA IF NOT EXISTS bore;\n"
                                   "CREATE TABLE IF NOT EXISTS bore.schema_migrations (\n"
                                   "    number     integer PRIMARY KEY,\n"
                                   "    name       text NOT NULL,\n"
                                   "    applied_at timestamptz NOT NULL DEFAULT clock_timestamp());\n"
                                   "COMMIT;";

static int ask_bool(struct db *db, const struct db_statement *statement, bool *ret_answer) {
    _cleanup_db_result_ struct db_result *result = NULL;
    int error = db_run(db, statement, NULL, &result);
    if (!error) *ret_answer = db_result_bool(result, 0, 0, false);
    return error;
}

static int ask_applied(struct db *db, int number, bool *ret_applied) {
    _cleanup_db_params_ struct db_params params;
    _cleanup_db_result_ struct db_result *result = NULL;
    db_params_init(&params);
    db_params_add_int(&params, number);
    int error = db_run(db, &applied_statement, &params, &result);
    if (!error) *ret_applied = db_result_bool(result, 0, 0, false);
    return error;
}

/* The highest number applied; 0 for a database that never had any. */
static int ask_newest(struct db *db, int *ret_number) {
    bool exists = false;
    *ret_number = 0;
    int error = ask_bool(db, &table_statement, &exists);
    if (error || !exists) return error;
    _cleanup_db_result_ struct db_result *result = NULL;
    error = db_run(db, &newest_statement, NULL, &result);
    if (!error) *ret_number = (int)db_result_int(result, 0, 0, 0);
    return error;
}

static int wait_for_lock(struct db *db) {
    int64_t start = clock_monotonic_ms(), next_line_ms = start + LOCK_LOG_MS;
    for (;;) {
        bool locked = false;
        int error = ask_bool(db, &lock_statement, &locked);
        int64_t now = clock_monotonic_ms();
        if (error || locked) return error;
        if (now - start >= LOCK_PATIENCE_MS) return -ETIMEDOUT;
        if (now >= next_line_ms) {
            log_info("waiting for another process that migrates the schema");
            next_line_ms = now + LOCK_LOG_MS;
        }
        poll(NULL, 0, LOCK_RETRY_MS);
    }
}

static int apply(struct db *db, const struct migration *migration) {
    bool applied = false;
    int error = ask_applied(db, migration->number, &applied);
    if (error || applied) return error;
    _cleanup_strbuf_ struct strbuf script = STRBUF_INIT;
    strbuf_append_format(&script,
        "BEGIN;\n%s\n;INSERT INTO bore.schema_migrations (number, name) VALUES (%d, '%s');\nCOMMIT;", migration->sql,
        migration->number, migration->name);
    error = db_run_script(db, script.data);
    if (error) {
        log_error("migration %03d %s failed: %s", migration->number, migration->name, db_error_message(db));
    } else {
        log_info("migration %03d %s applied", migration->number, migration->name);
    }
    return error;
}

/* Under the lock. */
static int apply_missing(struct db *db, const struct migration *list, size_t count) {
    int error = db_run_script(db, create_table);
    if (error) log_error("the schema bore cannot be made: %s", db_error_message(db));
    for (size_t i = 0; !error && i < count; i++)
        error = apply(db, &list[i]);
    return error;
}

int migrate_with(struct db *db, const struct migration *list, size_t count) {
    int known = count ? list[count - 1].number : 0;
    int newest;
    int error = ask_newest(db, &newest);
    if (!error && newest > known) {
        log_error("the database's schema has version %d, this program knows %d: start a newer program", newest, known);
        return -ENOTSUP;
    }
    if (error || newest == known) return error;
    error = wait_for_lock(db);
    if (error) return error;
    error = apply_missing(db, list, count);
    if (db_is_connected(db)) (void)db_run(db, &unlock_statement, NULL, NULL); /* a lost connection has no lock */
    return error;
}

int migrate(struct db *db) {
    return migrate_with(db, migrations, migrations_count);
}
