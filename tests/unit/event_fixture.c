/* event_fixture.c: see event_fixture.h. */
#include "tests/unit/event_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "tests/unit/database.h"

static char directory[] = "/tmp/bore-events.XXXXXX";
static char url[100];
struct db *events_db;
static void *context, *publisher;
struct bus_client *events_bus;
struct event_reader *events_reader;

/* --- what the reader handed out ---------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
int64_t events_seen[EVENTS_SEEN_MAX];
size_t events_seen_count;
int64_t events_reset_head;
size_t events_reset_count;
static bool paused;

void events_on_event(void *user_data, const struct event *event) {
    assert_ptr_equal(user_data, events_seen);
    for (bool wait = true; wait;) {
        pthread_mutex_lock(&mutex);
        wait = paused;
        if (!wait && events_seen_count < EVENTS_SEEN_MAX && event->kind && event->payload)
            events_seen[events_seen_count++] = event->id;
        pthread_mutex_unlock(&mutex);
        if (wait) usleep(1000);
    }
}

static void events_on_reset(void *user_data, int64_t head) {
    assert_ptr_equal(user_data, events_seen);
    pthread_mutex_lock(&mutex);
    events_reset_head = head;
    events_reset_count++;
    pthread_mutex_unlock(&mutex);
}

void events_set_paused(bool value) {
    pthread_mutex_lock(&mutex);
    paused = value;
    pthread_mutex_unlock(&mutex);
}

size_t events_count_seen(void) {
    pthread_mutex_lock(&mutex);
    size_t count = events_seen_count;
    pthread_mutex_unlock(&mutex);
    return count;
}

size_t events_count_resets(void) {
    pthread_mutex_lock(&mutex);
    size_t count = events_reset_count;
    pthread_mutex_unlock(&mutex);
    return count;
}

/* Milliseconds until so many were seen; the test fails after `limit`. */
int64_t events_wait_for(size_t count, int64_t limit) {
    int64_t start = clock_monotonic_ms();
    while (events_count_seen() < count) {
        if (clock_monotonic_ms() - start > limit)
            fail_msg("%zu events of %zu after %lld ms", events_count_seen(), count, (long long)limit);
        usleep(1000);
    }
    return clock_monotonic_ms() - start;
}

void events_wait_for_reset(size_t count, int64_t limit) {
    int64_t start = clock_monotonic_ms();
    while (events_count_resets() < count) {
        assert_true(clock_monotonic_ms() - start <= limit);
        usleep(1000);
    }
}

void events_assert_seen_in_order(int64_t first) {
    for (size_t i = 0; i < events_seen_count; i++)
        assert_true(events_seen[i] == first + (int64_t)i);
}

/* --- the log and the bus ----------------------------------------------------------------------------------------- */

char *events_ask(const char *name, const char *sql) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_statement statement = { .name = name, .sql = sql };
    int error = db_run(events_db, &statement, NULL, &result);
    if (error) print_error("%s\n", db_error_message(events_db));
    assert_int_equal(error, 0);
    return db_result_rows(result) ? xstrdup_or_null(db_result_text(result, 0, 0)) : NULL;
}

void events_run(const char *sql) {
    assert_int_equal(db_run_script(events_db, sql), 0);
}

/* Appends `count` events; returns their JSON. */
json_t *events_append(int count) {
    char sql[300];
    snprintf(sql, sizeof sql,
        "SELECT bore.append_events((SELECT array_agg(ROW('status', 'user_' || n, 'inst', '{}', NULL)::bore.new_event) "
        "FROM generate_series(1, %d) AS n))",
        count);
    char name[32];
    snprintf(name, sizeof name, "append%d", count);
    _cleanup_free_ char *text = events_ask(name, sql);
    json_t *events = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(events), count);
    return events;
}

void events_publish(json_t *object) {
    struct event event = {
        .id = json_integer_value(json_object_get(object, "id")), .at = 1, .kind = "status", .payload = "{}"
    };
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    assert_int_equal(message_encode_frame(&event_descriptor, &event, &frame), 0);
    zmq_send(publisher, "event.status", 12, ZMQ_SNDMORE);
    zmq_send(publisher, frame.data, frame.size, 0);
}

void events_append_and_publish(int count) {
    json_t *events = events_append(count);
    for (size_t i = 0; i < json_array_size(events); i++)
        events_publish(json_array_get(events, i));
    json_decref(events);
}

void events_append_only(int count) {
    json_decref(events_append(count));
}

void events_start_reader(int64_t start, const char *epoch) {
    struct db_options options = test_database_options();
    options.application_name = "reader";
    events_reader = event_reader_new(&(struct event_reader_options){ .bus = events_bus,
        .database = &options,
        .start = start,
        .epoch = epoch,
        .on_event = events_on_event,
        .on_reset = events_on_reset,
        .user_data = events_seen });
}

/* Until the log was read and PUB arrives. */
void events_wait_until_following(void) {
    int64_t start = clock_monotonic_ms();
    char epoch[40] = "";
    while (!*epoch) {
        event_reader_epoch(events_reader, epoch, sizeof epoch);
        assert_true(clock_monotonic_ms() - start < 5000);
        usleep(1000);
    }
    usleep(200000); /* for the subscription to arrive */
}

static void run_file(const char *path) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got;
    while ((got = fread(strbuf_reserve(&text, 4096), 1, 4096, file)) > 0)
        strbuf_add_size(&text, got);
    fclose(file);
    events_run(text.data);
}

int events_setup(void **state) {
    (void)state;
    events_set_paused(false);
    events_seen_count = events_reset_count = 0;
    events_run("DROP SCHEMA IF EXISTS bore CASCADE; CREATE SCHEMA bore");
    run_file("sql/001_schema.sql");
    run_file("sql/002_events.sql");
    events_bus = bus_client_new(url, "");
    return events_bus ? 0 : -1;
}

int events_teardown(void **state) {
    (void)state;
    kill(test_database_postmaster(), SIGCONT);
    events_set_paused(false);
    event_reader_free(events_reader);
    events_reader = NULL;
    bus_client_free(events_bus);
    return 0;
}

int events_main(char **argv, int (*run_all)(void)) {
    test_database_require(argv);
    if (!mkdtemp(directory)) return 1;
    char endpoint[150];
    snprintf(url, sizeof url, "ipc://%s/bus", directory);
    snprintf(endpoint, sizeof endpoint, "%s.subscribe", url);
    log_init("test", 1, "error", "text");
    context = zmq_ctx_new();
    publisher = zmq_socket(context, ZMQ_PUB);
    int unlimited = 0;
    zmq_setsockopt(publisher, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
    if (zmq_bind(publisher, endpoint) != 0) return 1;
    struct db_options options = test_database_options();
    events_db = db_new(&options);
    int failed = run_all();
    db_free(events_db);
    zmq_close(publisher);
    zmq_ctx_term(context);
    unlink(endpoint + strlen("ipc://"));
    rmdir(directory);
    return failed;
}
