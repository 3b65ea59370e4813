/*
 * main.c: bore-migrate: brings the database to this program's version and ends.
 *
 * Every service does the same when it starts; this is for those who want it as a step of its own (an upgrade, a job in
 * a cluster). Waits up to CONNECT_MS for the database. Settings: those marked IMPORT in config.def. Exit status: 0 the
 * schema is at this version, 1 not (the log says why), 2 wrong settings.
 */
#include <time.h>

#include "common/clock.h"
#include "common/db.h"
#include "common/log.h"
#include "services/lib/config.h"
#include "services/lib/migrate.h"
#include "services/lib/service.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { CONNECT_MS = 60000, TRY_MS = 2000, PAUSE_MS = 200, MIGRATION_MS = 30 * 60 * 1000 };

/* A database that starts at the same time is waited for. */
static int connect_patiently(struct db *db) {
    int64_t latest_ms = clock_monotonic_ms() + CONNECT_MS;
    for (;;) {
        int error = db_connect(db, clock_monotonic_ms() + TRY_MS);
        if (!error || clock_monotonic_ms() >= latest_ms) return error;
        nanosleep(&(struct timespec){ .tv_nsec = PAUSE_MS * 1000000L }, NULL);
    }
}

int main(int argc, char **argv) {
    int loaded = config_load(IMPORT, "migrate", "brings the database to this version", argc, argv);
    if (loaded != 0) return loaded > 0 ? EXIT_OK : EXIT_USAGE;
    struct db_options options;
    service_database_options("migrate", &options);
    options.statement_timeout_ms = MIGRATION_MS;
    struct db *db = db_new(&options);
    int error = connect_patiently(db);
    if (error) {
        log_error("the database does not answer: %s", db_error_message(db));
    } else {
        error = migrate(db);
        if (!error) log_info("the database is at this version");
    }
    db_free(db);
    config_release();
    return error ? EXIT_FAILED : EXIT_OK;
}
