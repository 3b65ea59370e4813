/* sql_client.c: see sql_client.h. */
#include "tests/unit/sql_client.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "services/lib/migrate.h"
#include "tests/unit/database.h"

const char sql_end[] = "end";
struct db *db;

struct db *sql_open(void) {
    struct db_options options = test_database_options();
    struct db *connection = db_new(&options);
    if (migrate(connection) < 0) fail_msg("migrate: %s", db_error_message(connection));
    return connection;
}

int sql_setup(void **state) {
    (void)state;
    db = sql_open();
    return 0;
}

int sql_teardown(void **state) {
    (void)state;
    db_free(db);
    return 0;
}

static int run(struct db *connection, const char *sql, const char *const *parameters, struct db_result **ret_result) {
    char name[65];
    sha256_hex(sql, strlen(sql), name);
    name[32] = '\0'; /* PostgreSQL's names have at most 63 bytes */
    struct db_statement statement = { .name = name, .sql = sql };
    struct db_params params;
    db_params_init(&params);
    for (; *parameters != sql_end; parameters++)
        db_params_add_text(&params, *parameters);
    int error = db_run(connection, &statement, &params, ret_result);
    db_params_release(&params);
    return error;
}

static const char *first(const struct db_result *result) {
    return db_result_rows(result) > 0 ? db_result_text(result, 0, 0) : NULL;
}

const char *sql_ask_parameters(struct db *connection, const char *sql, const char *const *parameters) {
    static char buffers[256][SQL_TEXT_MAX];
    static size_t next;
    _cleanup_db_result_ struct db_result *result = NULL;
    if (run(connection, sql, parameters, &result) < 0) fail_msg("%s: %s", sql, db_error_message(connection));
    const char *text = first(result);
    if (!text) return NULL;
    char *buffer = buffers[next++ % ARRAY_SIZE(buffers)];
    snprintf(buffer, SQL_TEXT_MAX, "%s", text);
    return buffer;
}

const char *sql_refusal_parameters(struct db *connection, const char *sql, const char *const *parameters) {
    _cleanup_db_result_ struct db_result *result = NULL;
    int error = run(connection, sql, parameters, &result);
    if (error == -EPERM) return db_refusal(connection);
    if (error) fail_msg("%s: %s", sql, db_error_message(connection));
    return "";
}

long long sql_to_number(const char *text) {
    return text ? atoll(text) : -1;
}

void sql_run(struct db *connection, const char *sql) {
    if (db_run_script(connection, sql) < 0) fail_msg("%s: %s", sql, db_error_message(connection));
}

/* --- races -------------------------------------------------------------------------------------------------------- */

struct lane {
    struct sql_racer *racer;
    pthread_barrier_t *barrier;
    pthread_t thread;
    struct db *db;
};

static void *run_racer(void *argument) {
    struct lane *lane = argument;
    struct sql_racer *racer = lane->racer;
    struct db_result *result = NULL;
    pthread_barrier_wait(lane->barrier);
    racer->error = run(lane->db, racer->sql, racer->parameters, &result);
    const char *text = racer->error ? NULL : first(result);
    const char *refusal = racer->error == -EPERM ? db_refusal(lane->db)
                          : racer->error         ? db_error_message(lane->db)
                                                 : "";
    snprintf(racer->answer, sizeof racer->answer, "%s", text ? text : "");
    snprintf(racer->refusal, sizeof racer->refusal, "%s", refusal);
    db_result_free(result);
    return NULL;
}

void sql_race(struct sql_racer *racers, size_t count) {
    enum { LANES_MAX = 32 };
    static struct lane lanes[LANES_MAX]; /* connections are kept from race to race */
    pthread_barrier_t barrier;
    assert_true(count <= LANES_MAX);
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        if (!lanes[i].db) lanes[i].db = sql_open();
        lanes[i].racer = &racers[i];
        lanes[i].barrier = &barrier;
        assert_int_equal(pthread_create(&lanes[i].thread, NULL, run_racer, &lanes[i]), 0);
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(lanes[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}
