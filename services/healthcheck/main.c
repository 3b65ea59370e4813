/*
 * main.c: bore-healthcheck: whether the process of this container works, for a container engine that asks.
 *
 *   bore-healthcheck [--live] http://127.0.0.1:8080/livez    a process that speaks HTTP: 200 within 2 s
 *   bore-healthcheck [--live] registry                       any other: what it counts is heard on the bus
 *
 * Every process publishes its counters once a second from its main loop, so hearing those of this process and
 * BORE_INSTANCE proves the loop, its connection, its keys and the bus at once. --live asks only whether the process
 * itself is stuck: it fails when others are heard and this one is not, and passes when nobody is heard, since then the
 * bus is to blame and restarting this process would help nobody.
 * Settings: BUS_URL (a bus's own `*` or 0.0.0.0 becomes loopback), BUS_CURVE_DIR, BORE_INSTANCE. Exit status: 0 works,
 * 1 does not (one line says why), 2 usage.
 */
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "proto/protocol.h"
#include "proto/topics.h"
#include "services/lib/bus_client.h"
#include "services/lib/config.h"

enum { EXIT_HEALTHY = 0, EXIT_UNHEALTHY = 1, EXIT_USAGE = 2 };
enum { HTTP_MS = 2000, LISTEN_MS = 4000 };

struct listener {
    const char *process;
    int found_fd; /* eventfd */
    atomic_bool heard_anybody;
};

static int unhealthy(const char *sentence) {
    printf("%s\n", sentence);
    return EXIT_UNHEALTHY;
}

static size_t discard(const char *data, size_t size, size_t count, void *user_data) {
    (void)data;
    (void)user_data;
    return size * count;
}

static int check_http(const char *url) {
    CURL *curl = curl_easy_init();
    if (!curl) return unhealthy("no memory");
    long status = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)HTTP_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
    CURLcode error = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (error != CURLE_OK) return unhealthy(curl_easy_strerror(error));
    return status == 200 ? EXIT_HEALTHY : unhealthy("it does not answer 200");
}

/* In the bus client's thread. */
static void on_counters(void *user_data, const char *topic, const void *frame, size_t size) {
    struct listener *self = user_data;
    atomic_store(&self->heard_anybody, true);
    if (strcmp(topic + strlen(TOPIC_COUNTERS), self->process) != 0) return;
    struct counters counters;
    if (message_decode_frame(&counters_descriptor, frame, size, &counters) != 0) return;
    if (strcmp(counters.process, self->process) == 0 && counters.instance == config.instance)
        eventfd_write(self->found_fd, 1);
    message_release(&counters_descriptor, &counters);
}

/* The address where a bus that listens everywhere is reached from beside it. Heap. */
static char *bus_address(void) {
    static const char *const everywhere[] = { "tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:" };
    for (size_t i = 0; i < ARRAY_SIZE(everywhere); i++) {
        size_t size = strlen(everywhere[i]);
        if (strncmp(config.bus_url, everywhere[i], size) == 0)
            return xasprintf("tcp://127.0.0.1:%s", config.bus_url + size);
    }
    return xstrdup(config.bus_url);
}

static int check_bus(const char *process, bool live) {
    struct listener listener = { .process = process, .found_fd = eventfd(0, EFD_CLOEXEC) };
    _cleanup_free_ char *url = bus_address();
    struct bus_client *bus = bus_client_new(url, config.bus_curve_dir);
    if (!bus) return unhealthy("BUS_URL or BUS_CURVE_DIR cannot be used");
    bus_subscribe(bus, TOPIC_COUNTERS, on_counters, &listener);
    struct pollfd item = { .fd = listener.found_fd, .events = POLLIN };
    bool found = poll(&item, 1, LISTEN_MS) == 1;
    bus_client_free(bus);
    close(listener.found_fd);
    if (found || (live && !atomic_load(&listener.heard_anybody))) return EXIT_HEALTHY;
    return unhealthy(
        atomic_load(&listener.heard_anybody) ? "others are heard on the bus, it is not" : "nobody is heard on the bus");
}

int main(int argc, char **argv) {
    bool live = argc == 3 && strcmp(argv[1], "--live") == 0;
    if (argc != (live ? 3 : 2) || argv[argc - 1][0] == '-') {
        fprintf(stderr, "Usage: bore-healthcheck [--live] PROCESS|URL\n");
        return EXIT_USAGE;
    }
    const char *what = argv[argc - 1];
    if (strncmp(what, "http://", 7) == 0) return check_http(what);
    if (config_load(BUS, "healthcheck", "", 1, argv) != 0) return EXIT_USAGE;
    int status = check_bus(what, live);
    config_release();
    return status;
}
