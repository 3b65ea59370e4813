/*
 * bus_echo.c: what a request costs on the bus: an echo worker and a caller through the real bore-bus, over ipc.
 *
 *   build/bench/bus_echo [seconds]
 *
 * First the bus by itself: prepared batches of 1, 8, 32 and 256 requests, a few of them under way at a time. Then the
 * whole path: 1, 16 and 64 threads that each wait for their answer, through the bus client. Printed: requests/s, the
 * processor time of the bus and of this process a request, and how many requests a batch had. "Paced" callers pause 5
 * ms after each answer, as those of a process that has other things to do.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <zmq.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "services/lib/bus_socket.h"
#include "tests/unit/bus_worker.h"
#include "tests/unit/process.h"

enum { BODY_SIZE = 150, WINDOW_REQUESTS = 512, THREADS_MAX = 64 };

static const struct method echo = { .request_id = MSG_PING_AUTH, .lane = "bench", .idempotent = true };
static int64_t run_ms = 3000;
static pid_t bus_process;
static struct bus_worker *worker;

static double process_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double bus_seconds(void) {
    clockid_t clock;
    struct timespec time = { 0 };
    if (clock_getcpuclockid(bus_process, &clock) == 0) clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct measure {
    double bus, own, wall;
    uint64_t requests, batches;
};

static void begin(struct measure *self) {
    *self = (struct measure){ bus_seconds(), process_seconds(), (double)clock_monotonic_us() / 1e6,
        bus_worker_requests(worker), bus_worker_batches(worker) };
}

static void end(const struct measure *self, const char *label, int64_t latency_us) {
    double requests = (double)(bus_worker_requests(worker) - self->requests);
    double batches = (double)(bus_worker_batches(worker) - self->batches);
    double wall = (double)clock_monotonic_us() / 1e6 - self->wall;
    if (requests < 1) requests = 1;
    printf("%-24s %9.0f requests/s   bus %6.2f us   here %6.2f us   %6.1f requests/batch", label, requests / wall,
        (bus_seconds() - self->bus) * 1e6 / requests, (process_seconds() - self->own) * 1e6 / requests,
        batches > 0 ? requests / batches : 0);
    if (latency_us >= 0) printf("   mean %lld us", (long long)latency_us);
    printf("\n");
    fflush(stdout);
}

/* --- the bus by itself ----------------------------------------------------------------------------------------------
 */

static void send_batch(void *socket, size_t count, int64_t *correlation) {
    static unsigned char body[BODY_SIZE];
    struct bus_request requests[BUS_BATCH_MAX];
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    for (size_t i = 0; i < count; i++)
        requests[i] = (struct bus_request){ .correlation = ++*correlation,
            .method = echo.request_id,
            .budget_ms = 2500,
            .request_id = (char *)(uintptr_t) "0123456789abcdef",
            .body = body,
            .body_size = sizeof(body) };
    struct request_batch batch = {
        .lane = (char *)(uintptr_t)echo.lane, .requests = requests, .requests_count = count
    };
    message_encode_frame(&request_batch_descriptor, &batch, &frame);
    zmq_send(socket, frame.data, frame.size, 0);
}

static void measure_batches(void *socket, size_t count) {
    int64_t correlation = 1;
    char label[40];
    struct measure measure;
    size_t window = WINDOW_REQUESTS / count > 1 ? WINDOW_REQUESTS / count : 2;
    if (window > 64) window = 64;
    begin(&measure);
    for (size_t i = 0; i < window; i++)
        send_batch(socket, count, &correlation);
    int64_t end_ms = clock_monotonic_ms() + run_ms;
    while (clock_monotonic_ms() < end_ms) {
        zmq_msg_t reply;
        zmq_msg_init(&reply);
        zmq_msg_recv(&reply, socket, 0);
        zmq_msg_close(&reply);
        send_batch(socket, count, &correlation);
    }
    snprintf(label, sizeof(label), "bus alone, batches of %zu", count);
    end(&measure, label, -1);
    int timeout = 100;
    char rest[16];
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
    while (zmq_recv(socket, rest, sizeof(rest), 0) >= 0)
        continue;
    timeout = -1;
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
}

static void measure_bus(const char *url) {
    static const size_t sizes[] = { 1, 8, 32, 256 };
    char endpoint[300];
    void *context = zmq_ctx_new();
    bus_endpoint_url(url, BUS_CALLERS, endpoint, sizeof(endpoint));
    void *socket = bus_socket_new(context, ZMQ_DEALER, endpoint, false, NULL);
    sleep_ms(300);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        measure_batches(socket, sizes[i]);
    zmq_close(socket);
    zmq_ctx_term(context);
}

/* --- the whole path -------------------------------------------------------------------------------------------------
 */

struct caller {
    pthread_t thread;
    struct bus_client *client;
    int64_t end_ms;
    int64_t pause_ms;
    uint64_t calls;
    uint64_t failures;
    int64_t waited_us;
};

static void *call_on(void *argument) {
    struct caller *self = argument;
    static const unsigned char body[BODY_SIZE];
    while (clock_monotonic_ms() < self->end_ms) {
        unsigned char *reply;
        size_t size;
        int64_t start_us = clock_monotonic_us();
        struct bus_call call = { .request_id = "0123456789abcdef" };
        if (bus_call_raw(self->client, &echo, body, sizeof(body), &call, &reply, &size, NULL) == 0) {
            free(reply);
        } else {
            self->failures++;
        }
        self->calls++;
        self->waited_us += clock_monotonic_us() - start_us;
        if (self->pause_ms > 0) sleep_ms(self->pause_ms);
    }
    return NULL;
}

static void measure_client(const char *url, int threads, int64_t pause_ms) {
    static struct caller callers[THREADS_MAX];
    struct bus_client *client = bus_client_new(url, "");
    struct measure measure;
    char label[40];
    uint64_t calls = 0, failures = 0;
    int64_t waited_us = 0;
    sleep_ms(200);
    begin(&measure);
    for (int i = 0; i < threads; i++) {
        callers[i] = (struct caller){ .client = client, .end_ms = clock_monotonic_ms() + run_ms, .pause_ms = pause_ms };
        pthread_create(&callers[i].thread, NULL, call_on, &callers[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(callers[i].thread, NULL);
        calls += callers[i].calls;
        failures += callers[i].failures;
        waited_us += callers[i].waited_us;
    }
    snprintf(label, sizeof(label), "client, %d threads%s", threads, pause_ms > 0 ? ", paced" : "");
    end(&measure, label, calls > 0 ? waited_us / (int64_t)calls : 0);
    if (failures > 0) printf("  %llu of %llu calls failed\n", (unsigned long long)failures, (unsigned long long)calls);
    bus_client_free(client);
}

int main(int argc, char **argv) {
    static const int threads[] = { 1, 16, 64 };
    if (argc > 1) run_ms = atoll(argv[1]) * 1000;
    char *url = bus_url_new();
    char *setting = xasprintf("BUS_URL=%s", url);
    bus_process = process_start("bore-bus", (const char *const[]){ setting, NULL }, "/dev/stderr");
    worker =
        bus_worker_new(&(struct bus_worker_options){ .url = url, .lane = echo.lane, .instance = 1, .credits = 4096 });
    sleep_ms(500);
    measure_bus(url);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        measure_client(url, threads[i], 0);
    measure_client(url, THREADS_MAX, 5);
    bus_worker_free(worker);
    process_end(bus_process, SIGTERM);
    bus_url_free(url);
    free(setting);
    return EXIT_SUCCESS;
}
