/*
 * service.c: the life of a service process, from main to its exit status.
 *
 * Start: settings, log, tables checked, bus client, database (waited for, with one line every few seconds), migrations,
 * service.init, lanes, timers, and only then the first HELLO. Run: main sleeps on signals and publishes the counters
 * once a second. End (SIGTERM, SIGINT, SIGHUP): HELLO "leaving", what is held is finished (5 s at most), threads are
 * joined, exit 0. A bus that refuses this process, a schema newer than the program, a failing init: one line, exit 1.
 * Wrong settings: exit 2. When the database dies later, requests are answered `unavailable` and the lanes stay
 * announced. Signals are blocked in every thread and read by main from a descriptor.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/counters_publisher.h"
#include "services/lib/migrate.h"
#include "services/lib/service_internal.h"

enum {
    DATABASE_TRY_MS = 1000,
    DATABASE_LOG_MS = 5000,
    COUNTERS_MS = 1000,
    SETTLE_MS = 300, /* requests that crossed our "leaving" still arrive */
    DRAIN_STEP_MS = 20,
    REFUSED_DELAY_MS = 1000,
    MIGRATION_TIMEOUT_MS = 600000,
    POOL_SIZE_STANDARD = 20,
};

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* --- offered to services ----------------------------------------------------------------------------------------- */

void service_database_options(const char *name, struct db_options *ret_options) {
    static char application_name[64];
    snprintf(application_name, sizeof application_name, "bore-%s-%d", name, (int)config.instance);
    *ret_options = (struct db_options){ .host = config.db_host,
        .port = (int)config.db_port,
        .name = config.db_name,
        .user = config.db_user,
        .password = config.db_password && *config.db_password ? config.db_password : NULL,
        .application_name = application_name,
        .statement_timeout_ms = STATEMENT_TIMEOUT_MS };
}

int service_database_share(int of_20) {
    int64_t share = of_20 * config.db_pool_size / POOL_SIZE_STANDARD;
    return share < 1 ? 1 : (int)share;
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static int open_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Waits for a signal, or for another thread's news on wake_fd (-1: none). True when a signal asks the process to end.
 */
static bool wait_for_end(int signal_fd, int wake_fd, int64_t milliseconds) {
    struct pollfd items[] = { { .fd = signal_fd, .events = POLLIN }, { .fd = wake_fd, .events = POLLIN } };
    if (poll(items, 2, milliseconds > 0 ? (int)milliseconds : 0) <= 0) return false;
    struct signalfd_siginfo information;
    eventfd_t ignored;
    if (items[1].revents) (void)!eventfd_read(wake_fd, &ignored);
    return items[0].revents && read(signal_fd, &information, sizeof information) == sizeof information;
}

/* --- start ------------------------------------------------------------------------------------------------------- */

enum { DATABASE_READY = 0, DATABASE_STOPPED = 1 };

static bool is_of_connection(int error) {
    return error == -ENOTCONN || error == -ECONNRESET || error == -ETIMEDOUT;
}

/* Until the schema is there: DATABASE_READY, DATABASE_STOPPED (a signal came first) or a negative error. */
static int prepare_database(struct service_run *run, int signal_fd) {
    service_database_options(run->service->name, &run->database);
    struct db_options options = run->database;
    options.statement_timeout_ms = MIGRATION_TIMEOUT_MS;
    struct db *db = db_new(&options);
    int64_t next_line_ms = 0;
    int error = -ENOTCONN;
    bool stopped = false;
    while (!stopped) {
        error = db_connect(db, clock_monotonic_ms() + DATABASE_TRY_MS);
        if (!error) error = migrate(db);
        if (!error || !is_of_connection(error)) break;
        if (clock_monotonic_ms() >= next_line_ms) {
            log_warning("waiting for the database: %s", db_error_message(db));
            next_line_ms = clock_monotonic_ms() + DATABASE_LOG_MS;
        }
        stopped = wait_for_end(signal_fd, -1, DRAIN_STEP_MS);
    }
    db_free(db);
    return stopped ? DATABASE_STOPPED : error;
}

static int run_init(struct service_run *run) {
    if (!run->service->init) return 0;
    struct worker worker;
    worker_init(&worker, run);
    int error = run->service->init(&worker.context, &run->state);
    if (error) log_error("cannot begin: %s", error_info(error)->name);
    worker_release(&worker);
    return error;
}

static int start_threads(struct service_run *run) {
    const struct service_lane *specs = run->service->lanes();
    size_t count = 0;
    while (specs[count].name)
        count++;
    run->lanes = xcalloc(count + 1, sizeof *run->lanes);
    int error = timers_start(run);
    while (!error && run->lane_count < count) {
        struct lane *lane = &run->lanes[run->lane_count++];
        error = lane_start(lane, run, &specs[run->lane_count - 1]);
    }
    if (!error) error = bus_thread_start(run);
    if (error) log_error("cannot start its threads: %s", strerror(-error));
    return error;
}

static int run_begin(struct service_run *run) {
    run->started_ms = clock_monotonic_ms();
    run->wake_main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = run->wake_main_fd < 0 ? -errno : outbox_init(&run->outbox);
    if (error) log_error("cannot begin: %s", strerror(-error));
    if (!error) error = routes_init(&run->routes, run->service);
    if (error) return error;
    run->bus = bus_client_new(config.bus_url, config.bus_curve_dir);
    if (!run->bus) {
        log_error("cannot use BUS_URL or BUS_CURVE_DIR: %s", strerror(errno));
        return -EINVAL;
    }
    return 0;
}

/* --- run and end ------------------------------------------------------------------------------------------------- */

static void publish_counters(struct service_run *run) {
    for (size_t i = 0; i < run->lane_count; i++)
        gauge_set(run->lanes[i].depth, (double)lane_held(&run->lanes[i]));
    counters_publish(run->bus, run->service->name, (int)config.instance);
}

/* Returns when the process shall end. */
static void run_loop(struct service_run *run, int signal_fd) {
    int64_t next_ms = clock_monotonic_ms();
    bool stopped = false;
    while (!stopped && !atomic_load(&run->refused)) {
        int64_t now = clock_monotonic_ms();
        if (now >= next_ms) {
            publish_counters(run);
            next_ms = now + COUNTERS_MS;
        }
        stopped = wait_for_end(signal_fd, run->wake_main_fd, next_ms - clock_monotonic_ms());
    }
    if (!stopped) wait_for_end(signal_fd, -1, REFUSED_DELAY_MS);
}

static bool holds_requests(struct service_run *run) {
    for (size_t i = 0; i < run->lane_count; i++)
        if (lane_held(&run->lanes[i])) return true;
    return false;
}

/* Tells the bus to send no more, and waits for what is held. */
static void drain(struct service_run *run) {
    int64_t now = clock_monotonic_ms();
    int64_t settled_ms = now + SETTLE_MS, latest_ms = now + SHUTDOWN_MS;
    atomic_store(&run->leaving, true);
    outbox_wake(&run->outbox);
    for (; now < latest_ms && (now < settled_ms || holds_requests(run)); now = clock_monotonic_ms())
        poll(NULL, 0, DRAIN_STEP_MS);
}

/* Ends every thread that handles requests. False when one does not end. */
static bool stop_threads(struct service_run *run) {
    bool joined = true;
    for (size_t i = 0; i < run->lane_count; i++)
        lane_stop(&run->lanes[i]);
    for (size_t i = 0; i < run->lane_count; i++)
        joined = lane_join(&run->lanes[i]) && joined;
    return timers_stop(run) && joined;
}

static void run_end(struct service_run *run) {
    if (run->has_bus_thread && !atomic_load(&run->refused)) drain(run);
    bool joined = stop_threads(run);
    bus_thread_stop(run);
    if (run->bus) counters_publish_last(run->bus, run->service->name, (int)config.instance);
    if (!joined) {
        log_warning("a request does not end; leaving without it");
        _exit(EXIT_OK);
    }
    if (run->service->release && run->state) run->service->release(run->state);
    bus_client_free(run->bus);
    for (size_t i = 0; i < run->lane_count; i++)
        lane_release(&run->lanes[i]);
    free(run->lanes);
    routes_release(&run->routes);
    outbox_release(&run->outbox);
    close(run->wake_main_fd);
}

static int run_service(struct service_run *run, int signal_fd) {
    int status = run_begin(run) < 0 ? EXIT_FAILED : EXIT_OK;
    if (status == EXIT_OK && run->service->database) {
        int state = prepare_database(run, signal_fd);
        if (state == DATABASE_STOPPED) {
            run_end(run);
            return EXIT_OK;
        }
        if (state < 0) status = EXIT_FAILED;
    }
    if (status == EXIT_OK && (run_init(run) || start_threads(run))) status = EXIT_FAILED;
    if (status == EXIT_OK) {
        log_info("ready");
        run_loop(run, signal_fd);
        if (atomic_load(&run->refused)) status = EXIT_FAILED;
    }
    log_info("ending");
    run_end(run);
    return status;
}

int service_main(int argc, char **argv, const struct service *service) {
    int loaded = config_load(service->process, service->name, service->purpose, argc, argv);
    if (loaded != 0) return loaded > 0 ? EXIT_OK : EXIT_USAGE;
    int signal_fd = open_signals();
    struct service_run run = { .service = service, .outbox.event_fd = -1, .wake_main_fd = -1 };
    int status = signal_fd < 0 ? EXIT_FAILED : run_service(&run, signal_fd);
    log_info("ended with status %d", status);
    close(signal_fd);
    config_release();
    return status;
}
