/*
 * streams.c: thousands of clients of stream (streams/clients.h) in one process, and the requests that cause events:
 * measures when events reach the clients, and checks that nothing is missed or doubled.
 *
 * streams STREAM_ADDRESS STREAM_PORT API_ADDRESS API_PORT; commands on stdin, each answered by a line of JSON:
 *   open FILE              lines `sse|ws TAB token TAB 0|1` (1: never reads); answered when all are open
 *   clear                  forgets what was measured
 *   fire FILE RATE COUNT   lines `method TAB path TAB header TAB body`: COUNT requests in turn, RATE a second,
 *                          each # in a body another number; answered when all are, and half a second is quiet
 *   stats EXPECTED         what was measured; an event that was not delivered EXPECTED times is `wrong`
 *   lost                   answered when a client has lost its connection
 *   back                   answered when all clients are open again
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "tests/bench/streams/clients.h"

enum { CALLERS = 32, QUIET_MS = 500, HISTOGRAM = 600000, CLIENTS_MAX = 100000 };

struct caller {
    int fd;
    bool is_busy;
    double started;
    struct strbuf in;
};

struct seen {
    unsigned count;
    double last; /* the slowest delivery, ms */
};

struct request {
    char *method, *path, *header, *body;
};

static struct sockaddr_in api_address;
static int poller;
static struct seen *seen; /* by the event's id */
static size_t seen_size;
static unsigned delays[HISTOGRAM]; /* of 0.1 ms */
static unsigned long deliveries;
static double last_delivery;

static struct caller callers[CALLERS];
static struct request *requests;
static size_t request_count;
static double latest_request;
static float *lags; /* from the request to the event, of one client */
static size_t lag_count, lag_room;
static double fire_start, fire_rate;
static unsigned long fire_goal, fire_sent, fire_done, fire_errors;
static float *fire_times;
static enum { IDLE, OPENING, FIRING, AWAITING_LOSS, AWAITING_BACK } task;
static double task_start;

static double now_ms(void) {
    return (double)clock_monotonic_us() / 1e3;
}

/* ---- what arrives ---- */

static void on_event(long id, double delay) {
    if ((size_t)id >= seen_size) {
        size_t size = (size_t)id * 2 + 1000;
        seen = xreallocarray(seen, size, sizeof *seen);
        memset(seen + seen_size, 0, (size - seen_size) * sizeof *seen);
        seen_size = size;
    }
    seen[id].count++;
    if (delay > seen[id].last) seen[id].last = delay;
    size_t bucket = delay < 0 ? 0 : (size_t)(delay * 10);
    delays[bucket < HISTOGRAM ? bucket : HISTOGRAM - 1]++;
    deliveries++;
    last_delivery = now_ms();
    if (clients.count == 1 && lag_count < lag_room) lags[lag_count++] = (float)(last_delivery - latest_request);
}

/* ---- requests ---- */

/* One that was idle for long is closed by the other end, and opened anew when it is needed. */
static void open_caller(struct caller *self) {
    self->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(self->fd, (struct sockaddr *)&api_address, sizeof api_address) != 0) exit(1);
    fcntl(self->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = self };
    epoll_ctl(poller, EPOLL_CTL_ADD, self->fd, &event);
}

static void on_caller(struct caller *self) {
    ssize_t size = recv(self->fd, strbuf_reserve(&self->in, 4096), 4096, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (!self->is_busy) {
        close(self->fd);
        self->fd = 0;
        return;
    }
    if (size <= 0) {
        fprintf(stderr, "streams: the connection to the interface broke\n");
        exit(1);
    }
    strbuf_add_size(&self->in, (size_t)size);
    const char *end = strstr(self->in.data, "\r\n\r\n");
    const char *length = strcasestr(self->in.data, "content-length:");
    if (!end || !length || self->in.size < (size_t)(end - self->in.data) + 4 + strtoul(length + 15, NULL, 10)) return;
    if (strncmp(self->in.data + 9, "200", 3) != 0 && fire_errors++ == 0)
        fprintf(stderr, "streams: answered %.300s\n", self->in.data);
    fire_times[fire_done++] = (float)(now_ms() - self->started);
    strbuf_clear(&self->in);
    self->is_busy = false;
}

static void fire(void) {
    double now = now_ms();
    for (size_t i = 0; i < CALLERS && fire_sent < fire_goal; i++) {
        struct caller *caller = &callers[i];
        if ((now - fire_start) * fire_rate / 1000 < (double)fire_sent) return;
        if (caller->is_busy) continue;
        if (!caller->fd) open_caller(caller);
        char text[3000], body[300];
        const struct request *request = &requests[fire_sent % request_count];
        const char *hash = strchr(request->body, '#');
        int before = hash ? (int)(hash - request->body) : (int)strlen(request->body);
        snprintf(
            body, sizeof body, "%.*s%lu%s", before, request->body, 20000 + fire_sent++ % 40000, hash ? hash + 1 : "");
        int size = snprintf(text, sizeof text,
            "%s %s HTTP/1.1\r\nHost: bench\r\n%s\r\n"
            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            request->method, request->path, request->header, strlen(body), body);
        latest_request = now;
        caller->is_busy = true;
        caller->started = now;
        if (send(caller->fd, text, (size_t)size, MSG_NOSIGNAL) != size) exit(1);
    }
}

/* ---- commands ---- */

static char *field(char **line) {
    char *text = strsep(line, "\t\n");
    return text ? text : "";
}

static void read_clients(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) exit(1);
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) {
        char *rest = line;
        const char *kind = field(&rest), *token = field(&rest), *lazy = field(&rest);
        clients_add(strcmp(kind, "ws") == 0, *lazy == '1', token);
    }
    free(line);
    fclose(file);
}

static void read_requests(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) exit(1);
    char *line = NULL;
    size_t size = 0;
    request_count = 0;
    while (getline(&line, &size, file) > 0) {
        char *rest = line;
        requests = xreallocarray(requests, request_count + 1, sizeof *requests);
        struct request *request = &requests[request_count++];
        request->method = xstrdup(field(&rest));
        request->path = xstrdup(field(&rest));
        request->header = xstrdup(field(&rest));
        request->body = xstrdup(field(&rest));
    }
    free(line);
    fclose(file);
}

static int compare_float(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return a < b ? -1 : a > b;
}

static double share(float *numbers, size_t count, double part) {
    if (count == 0) return 0;
    qsort(numbers, count, sizeof *numbers, compare_float);
    size_t index = (size_t)(part * (double)count);
    return (double)numbers[index < count ? index : count - 1];
}

static double delay_share(double part) {
    unsigned long wanted = (unsigned long)(part * (double)deliveries), sum = 0;
    for (size_t i = 0; i < HISTOGRAM; i++) {
        sum += delays[i];
        if (sum > wanted) return (double)(i + 1) / 10;
    }
    return 0;
}

static void print_stats(unsigned expected) {
    float *lasts = xcalloc(seen_size + 1, sizeof *lasts);
    size_t events = 0, wrong = 0;
    for (size_t i = 0; i < seen_size; i++) {
        if (!seen[i].count) continue;
        lasts[events++] = (float)seen[i].last;
        wrong += seen[i].count != expected;
    }
    printf("{\"events\":%zu,\"deliveries\":%lu,\"wrong\":%zu,\"doubles\":%lu,\"resets\":%lu,\"recoveries\":%lu,"
           "\"refusals\":%lu,"
           "\"losses\":%lu,\"p50\":%.1f,\"p99\":%.1f,\"last_p50\":%.1f,\"last_p99\":%.1f}\n",
        events, deliveries, wrong, clients.doubles, clients.resets, clients.recoveries, clients.refusals,
        clients.losses, delay_share(0.5), delay_share(0.99), share(lasts, events, 0.5), share(lasts, events, 0.99));
    free(lasts);
}

static void clear_stats(void) {
    if (seen) memset(seen, 0, seen_size * sizeof *seen);
    memset(delays, 0, sizeof delays);
    deliveries = 0;
    clients = (struct clients_figures){ .count = clients.count, .open = clients.open };
    printf("{}\n");
}

static void begin_fire(const char *arguments) {
    char name[500];
    if (sscanf(arguments, "%499s %lf %lu", name, &fire_rate, &fire_goal) != 3) exit(2);
    read_requests(name);
    lags = xreallocarray(lags, fire_goal, sizeof *lags);
    lag_count = 0;
    lag_room = fire_goal;
    free(fire_times);
    fire_times = xcalloc(fire_goal, sizeof *fire_times);
    fire_sent = fire_done = fire_errors = 0;
    fire_start = last_delivery = now_ms();
    task = FIRING;
}

static void on_command(void) {
    static char line[1000];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    line[strcspn(line, "\n")] = '\0';
    task_start = now_ms();
    if (strncmp(line, "open ", 5) == 0) {
        read_clients(line + 5);
        task = OPENING;
    } else if (strcmp(line, "clear") == 0) {
        clear_stats();
    } else if (strncmp(line, "fire ", 5) == 0) {
        begin_fire(line + 5);
    } else if (strncmp(line, "stats ", 6) == 0) {
        print_stats((unsigned)atoi(line + 6));
    } else if (strcmp(line, "lost") == 0) {
        task = AWAITING_LOSS;
    } else if (strcmp(line, "back") == 0) {
        task = AWAITING_BACK;
    } else {
        exit(2);
    }
}

static bool is_done(double now) {
    switch (task) {
    case OPENING:
    case AWAITING_BACK:
        return clients.open == clients.count;
    case FIRING:
        return fire_done == fire_goal && now - last_delivery > QUIET_MS;
    case AWAITING_LOSS:
        return clients.losses > 0;
    case IDLE:
        break;
    }
    return false;
}

static void answer(double now) {
    if (task == FIRING)
        printf("{\"sent\":%lu,\"errors\":%lu,\"p50\":%.2f,\"p99\":%.2f,\"lag_p50\":%.2f,\"lag_p99\":%.2f}\n", fire_sent,
            fire_errors, share(fire_times, fire_done, 0.5), share(fire_times, fire_done, 0.99),
            share(lags, lag_count, 0.5), share(lags, lag_count, 0.99));
    else
        printf("{\"open\":%zu,\"ms\":%.0f}\n", clients.open, now - task_start);
    task = IDLE;
}

static void turn(void) {
    struct epoll_event events[512];
    int count = epoll_wait(poller, events, 512, task == FIRING && fire_sent < fire_goal ? 1 : 20);
    for (int i = 0; i < count; i++) {
        void *who = events[i].data.ptr;
        if (!who)
            on_command();
        else if (who >= (void *)callers && who < (void *)(callers + CALLERS))
            on_caller(who);
        else
            clients_ready(who, events[i].events);
    }
    clients_open_more();
    if (task == FIRING) fire();
    double now = now_ms();
    if (task != IDLE && is_done(now)) answer(now);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: streams STREAM_ADDRESS STREAM_PORT API_ADDRESS API_PORT\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in stream_address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
    api_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4])) };
    inet_pton(AF_INET, argv[1], &stream_address.sin_addr);
    inet_pton(AF_INET, argv[3], &api_address.sin_addr);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (size_t i = 0; i < CALLERS; i++)
        strbuf_init(&callers[i].in);
    poller = epoll_create1(0);
    clients_init(poller, &stream_address, limit.rlim_max < CLIENTS_MAX ? limit.rlim_max : CLIENTS_MAX, on_event);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    for (;;)
        turn();
}
