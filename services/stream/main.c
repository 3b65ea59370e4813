/*
 * main.c: `stream`: open streams to browsers and programs, SSE and Socket.IO (ARCHITECTURE §1, §5).
 *
 * Threads: the lws loop (main), the event log's reader, the revocations' poll, admission, the bus client, signals.
 * Settings: STREAM_*, SOCKETIO_*, EDGE_SECRET, JWT_SECRET, ALLOWED_ORIGINS, DB_*, BUS_*. When the database is away,
 * open streams go on (what is published is used while contiguous) and new ones open; resuming from before the memory
 * waits. When auth is away, new streams are refused with 503 rather than trusting a stale list of revoked sessions.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/log.h"
#include "services/lib/config.h"
#include "services/lib/counters_publisher.h"
#include "services/lib/event_log.h"
#include "services/lib/service.h"
#include "services/stream/server.h"

static struct server *server; /* one a process */
static struct event_reader *reader;

static void on_event(void *user_data, const struct event *event) {
    (void)user_data;
    inbox_post_event(server->inbox, event);
}

static void on_reset(void *user_data, int64_t head) {
    (void)user_data;
    inbox_post_reset(server->inbox, head);
}

static void on_caught_up(void *user_data) {
    (void)user_data;
    inbox_post_caught_up(server->inbox);
}

static void on_revoked(void *user_data, const char *session_id) {
    (void)user_data;
    inbox_post_revoked(server->inbox, session_id);
}

static void on_admitted(void *user_data, struct admission_job *job) {
    (void)user_data;
    inbox_post_admitted(server->inbox, job);
}

static void read_epoch(char *ret_epoch, size_t size) {
    event_reader_epoch(reader, ret_epoch, size);
}

static void *wait_for_signal(void *set) {
    int signal_number = 0;
    pthread_setname_np(pthread_self(), "signals");
    sigwait(set, &signal_number);
    log_info("ending: signal %d", signal_number);
    inbox_post_stop(server->inbox);
    return NULL;
}

/* "127.0.0.1:8081" into its parts; 0 or -EINVAL. */
static int parse_listen(const char *text, char *ret_address, size_t size, int *ret_port) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || (size_t)(colon - text) >= size) return -EINVAL;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (*end || port < 1 || port > 65535) return -EINVAL;
    snprintf(ret_address, size, "%.*s", (int)(colon - text), text);
    *ret_port = (int)port;
    return 0;
}

/* As many open files as streams need; says so when the system grants fewer. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rlim_t wanted = (rlim_t)config.stream_max + 200;
    if (limit.rlim_max < wanted) {
        config.stream_max = (int64_t)limit.rlim_max - 200;
        log_warning("only %lu files may be open: at most %lld streams", (unsigned long)limit.rlim_max,
            (long long)config.stream_max);
    }
}

static int run(struct bus_client *bus) {
    struct db_options database;
    service_database_options("stream", &database);
    char address[100];
    struct server_options options = { .address = address,
        .jwt_secret = config.jwt_secret,
        .jwt_secret_previous = config.jwt_secret_previous,
        .allowed_origins = config.allowed_origins,
        .edge_secret = config.edge_secret,
        .most_an_address = (unsigned)config.stream_max_per_address,
        .ping_interval_ms = config.socketio_ping_interval_ms,
        .ping_timeout_ms = config.socketio_ping_timeout_ms,
        .hub = { .queue_bytes = (size_t)config.stream_queue_bytes,
            .most = (unsigned)config.stream_max,
            .most_a_user = (unsigned)config.stream_max_per_user } };
    if (parse_listen(config.stream_listen, address, sizeof address, &options.port) != 0) {
        log_error("STREAM_LISTEN must be address:port, not \"%s\"", config.stream_listen);
        return 2;
    }
    server = server_new(&options);
    if (!server) {
        log_error("cannot listen on %s", config.stream_listen);
        return 1;
    }
    server->read_epoch = read_epoch;
    server->revocations = revocations_new(bus, on_revoked, NULL);
    server->admission = admission_new(&(struct admission_options){
        .bus = bus, .revocations = server->revocations, .database = &database, .on_done = on_admitted });
    reader = event_reader_new(&(struct event_reader_options){ .bus = bus,
        .database = &database,
        .start = -1,
        .history = SERVER_RECENT_EVENTS, /* so that clients of the process before this one resume from memory */
        .on_event = on_event,
        .on_reset = on_reset,
        .on_caught_up = on_caught_up });
    struct counters_publisher *publisher = counters_publisher_new(bus, "stream", (int)config.instance);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_t signal_thread;
    pthread_create(&signal_thread, NULL, wait_for_signal, &signals);

    log_info("listening on %s", config.stream_listen);
    server_run(server);

    pthread_join(signal_thread, NULL);
    counters_publisher_free(publisher);
    admission_free(server->admission);
    event_reader_free(reader);
    revocations_free(server->revocations);
    server_free(server);
    log_info("ended");
    return 0;
}

int main(int argc, char **argv) {
    int loaded = config_load(STREAM, "stream", "holds the open event streams of browsers and programs", argc, argv);
    if (loaded != 0) return loaded > 0 ? 0 : 2;
    if (strlen(config.jwt_secret) == 0) {
        log_error("JWT_SECRET is not set");
        return 2;
    }
    /* signals are taken by their own thread; all others are made with these blocked */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();

    struct bus_client *bus = bus_client_new(config.bus_url, config.bus_curve_dir);
    if (!bus) {
        log_error("the bus at %s cannot be used: %s", config.bus_url, strerror(errno));
        return 2;
    }
    int status = run(bus);
    bus_client_free(bus);
    config_release();
    return status;
}
