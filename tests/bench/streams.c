/*
 * streams.c: thousands of clients of stream in one process: SSE and Socket.IO over WebSockets, which measure when
 * events reach them, come back when they lose their connection, and check that nothing is missed or doubled.
 *
 * streams STREAM_ADDRESS STREAM_PORT API_ADDRESS API_PORT; commands on stdin, each answered by a line of JSON:
 *   open FILE              lines `sse|ws TAB token TAB 0|1` (1: never reads); answered when all are open
 *   clear                  forgets what was measured
 *   fire FILE RATE COUNT   lines `method TAB path TAB header TAB body`: COUNT requests in turn, RATE a second, each #
 * in a body another number; answered when all are and nothing has arrived for half a second stats EXPECTED         what
 * was measured; an event that was not delivered EXPECTED times is `wrong` lost                   answered when a stream
 * has lost its connection back                   answered when all streams are open again An event's delay counts from
 * its `timestamp`, which the database took before COMMIT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/strbuf.h"

enum { CONNECTING_MAX = 256, CALLERS = 32, QUIET_MS = 500, HISTOGRAM = 600000, RETRY_MS = 1000, TOKEN_MAX = 1000 };

enum state { CLOSED, CONNECTING, ASKED, OPEN };

struct stream {
    bool is_websocket, is_lazy, was_open;
    enum state state;
    int fd;
    char *token;
    struct strbuf in;
    char cursor[40], pid[64];
    long last_id;
    double retry_at;
};

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

static struct sockaddr_in stream_address, api_address;
static int poller;
static struct stream *streams;
static size_t stream_count, open_count, connecting_count;
static struct seen *seen;
static size_t seen_size;
static unsigned delays[HISTOGRAM]; /* of 0.1 ms */
static unsigned long deliveries, doubles, resets, recoveries, refusals, losses;
static double last_delivery;

static struct caller callers[CALLERS];
struct request {
    char *method, *path, *header, *body;
};
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

static double now_ms(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double random_ms(double most) {
    return most * (double)random() / (double)RAND_MAX;
}

/* ---- what arrives ---- */

static void note_event(struct stream *self, long id, double delay) {
    if (id <= self->last_id) doubles++;
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
    last_delivery = now_ms(CLOCK_MONOTONIC);
    if (stream_count == 1 && lag_count < lag_room) lags[lag_count++] = (float)(last_delivery - latest_request);
}

/* One message of either kind: its cursor, and whether it is an event of the log. */
static void note_message(struct stream *self, const char *text, const char *cursor) {
    size_t size = strspn(cursor, "0123456789abcdef-");
    if (size == 0 || size >= sizeof self->cursor) return;
    memcpy(self->cursor, cursor, size);
    self->cursor[size] = '\0';
    const char *dash = strchr(self->cursor, '-');
    long id = dash ? strtol(dash + 1, NULL, 10) : 0;
    const char *at = strstr(text, "\"timestamp\":");
    if (at && strstr(text, "\"eventId\":")) note_event(self, id, now_ms(CLOCK_REALTIME) - strtod(at + 12, NULL));
    if (strstr(text, "\"type\":\"reset\"")) resets++;
    self->last_id = id;
}

static void set_open(struct stream *self) {
    if (self->state == OPEN) return;
    self->state = OPEN;
    self->was_open = true;
    connecting_count--;
    open_count++;
}

static void lose(struct stream *self) {
    if (self->state == CLOSED) return;
    if (self->state == OPEN) {
        open_count--;
        losses++;
    } else {
        connecting_count--;
        refusals++;
    }
    close(self->fd);
    self->state = CLOSED;
    strbuf_release(&self->in);
    strbuf_init(&self->in);
    self->retry_at = now_ms(CLOCK_MONOTONIC) + 50 + random_ms(RETRY_MS);
}

/* A masked frame whose mask is zero. */
static void send_frame(struct stream *self, const char *text) {
    unsigned char frame[2000];
    size_t size = strlen(text), head = size < 126 ? 2 : 4;
    frame[0] = 0x81;
    frame[1] = (unsigned char)(0x80 | (size < 126 ? size : 126));
    if (head == 4) {
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
    }
    memset(frame + head, 0, 4);
    if (size + head + 4 > sizeof frame) abort();
    memcpy(frame + head + 4, text, size);
    if (send(self->fd, frame, head + 4 + size, MSG_NOSIGNAL) < 0) lose(self);
}

static void send_connect(struct stream *self) {
    char text[1500];
    if (self->pid[0])
        snprintf(text, sizeof text, "40{\"pid\":\"%s\",\"offset\":\"%s\",\"token\":\"%s\"}", self->pid, self->cursor,
            self->token);
    else
        snprintf(text, sizeof text, "40{\"token\":\"%s\"}", self->token);
    send_frame(self, text);
}

static void take_packet(struct stream *self, char *text, size_t size) {
    if (text[0] == '0') {
        send_connect(self);
    } else if (strcmp(text, "2") == 0) {
        send_frame(self, "3");
    } else if (strncmp(text, "40{", 3) == 0) {
        const char *pid = strstr(text, "\"pid\":\"");
        size_t length = pid ? strcspn(pid + 7, "\"") : 0;
        if (length == 0 || length >= sizeof self->pid) abort();
        if (strncmp(self->pid, pid + 7, length) == 0 && self->pid[0]) recoveries++;
        memcpy(self->pid, pid + 7, length);
        self->pid[length] = '\0';
        set_open(self);
    } else if (strncmp(text, "42[", 3) == 0) {
        char *cursor = text + size;
        while (cursor > text && !(cursor[0] == '"' && cursor[-1] == ','))
            cursor--;
        note_message(self, text, cursor + 1);
    } else if (strncmp(text, "44", 2) == 0) {
        fprintf(stderr, "streams: refused: %s\n", text);
        lose(self);
    }
}

/* How many of these bytes were a whole frame, now dealt with; 0: not yet one, or the stream was lost. */
static size_t take_frame(struct stream *self, char *text, size_t available) {
    unsigned char *data = (unsigned char *)text;
    if (available < 2) return 0;
    size_t size = data[1] & 0x7f, head = 2;
    if (size == 126) {
        if (available < 4) return 0;
        size = (size_t)data[2] << 8 | data[3];
        head = 4;
    }
    if (available < head + size) return 0;
    if ((data[0] & 0x0f) == 8) {
        lose(self);
        return 0;
    }
    char saved = text[head + size];
    text[head + size] = '\0';
    take_packet(self, text + head, size);
    if (self->state == CLOSED) return 0;
    text[head + size] = saved;
    return head + size;
}

static size_t take_block(struct stream *self, char *text, size_t available) {
    char *end = memmem(text, available, "\n\n", 2);
    if (!end) return 0;
    *end = '\0';
    const char *id = strstr(text, "id: ");
    if (id) note_message(self, text, id + 4);
    set_open(self);
    return (size_t)(end - text) + 2;
}

static void take_answer(struct stream *self) {
    char *end = strstr(self->in.data, "\r\n\r\n");
    if (!end) return;
    int status = self->in.size > 12 ? atoi(self->in.data + 9) : 0;
    if (status != (self->is_websocket ? 101 : 200)) {
        lose(self);
        return;
    }
    size_t used = (size_t)(end - self->in.data) + 4;
    memmove(self->in.data, self->in.data + used, self->in.size - used + 1);
    strbuf_truncate(&self->in, self->in.size - used);
    self->state = ASKED;
}

static void take(struct stream *self) {
    if (self->state == CONNECTING) take_answer(self);
    if (self->state != ASKED && self->state != OPEN) return;
    size_t used, all = 0;
    do {
        char *text = self->in.data + all;
        size_t size = self->in.size - all;
        used = self->is_websocket ? take_frame(self, text, size) : take_block(self, text, size);
        if (self->state == CLOSED) return;
        all += used;
    } while (used > 0);
    memmove(self->in.data, self->in.data + all, self->in.size - all + 1);
    strbuf_truncate(&self->in, self->in.size - all);
    if (self->in.size > 0) return;
    strbuf_release(&self->in); /* thousands of idle streams keep no buffers */
    strbuf_init(&self->in);
}

static void read_stream(struct stream *self) {
    ssize_t size = recv(self->fd, strbuf_reserve(&self->in, 4096), 4096, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
        lose(self);
        return;
    }
    strbuf_add_size(&self->in, (size_t)size);
    take(self);
}

/* ---- connecting ---- */

static int connect_to(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno != EINPROGRESS)) {
        if (fd >= 0) close(fd);
        return -1;
    }
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void open_stream(struct stream *self) {
    self->fd = connect_to(&stream_address);
    if (self->fd < 0) {
        self->retry_at = now_ms(CLOCK_MONOTONIC) + 50 + random_ms(RETRY_MS);
        return;
    }
    if (self->is_lazy) {
        int size = 4096;
        setsockopt(self->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    self->state = CONNECTING;
    connecting_count++;
    struct epoll_event event = { .events = EPOLLOUT, .data.ptr = self };
    epoll_ctl(poller, EPOLL_CTL_ADD, self->fd, &event);
}

static void ask(struct stream *self) {
    char text[3000];
    if (self->is_websocket)
        snprintf(text, sizeof text,
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    else
        snprintf(text, sizeof text,
            "GET /api/events/status%s%s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n",
            self->cursor[0] ? "?last_event_id=" : "", self->cursor, self->token);
    if (send(self->fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
        lose(self);
        return;
    }
    struct epoll_event event = { .events = self->is_lazy && !self->is_websocket ? 0 : EPOLLIN, .data.ptr = self };
    epoll_ctl(poller, EPOLL_CTL_MOD, self->fd, &event);
    if (self->is_lazy && !self->is_websocket) set_open(self);
}

static void on_stream(struct stream *self, unsigned events) {
    if (self->state == CONNECTING && (events & EPOLLOUT)) {
        ask(self);
        return;
    }
    if (self->is_lazy && self->state == OPEN) { /* it ends, or it does not: it reads nothing */
        if (events & (EPOLLHUP | EPOLLERR)) lose(self);
        return;
    }
    read_stream(self);
    if (self->is_lazy && self->state == OPEN) {
        struct epoll_event event = { .events = 0, .data.ptr = self };
        epoll_ctl(poller, EPOLL_CTL_MOD, self->fd, &event);
    }
}

static void open_more(void) {
    static size_t next;
    double now = now_ms(CLOCK_MONOTONIC);
    for (size_t i = 0; i < stream_count && connecting_count < CONNECTING_MAX; i++) {
        struct stream *stream = &streams[next++ % stream_count];
        bool comes_back = !(stream->is_lazy && stream->was_open);
        if (stream->state == CLOSED && comes_back && now >= stream->retry_at) open_stream(stream);
    }
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
    fire_times[fire_done++] = (float)(now_ms(CLOCK_MONOTONIC) - self->started);
    strbuf_clear(&self->in);
    self->is_busy = false;
}

static void fire(void) {
    double now = now_ms(CLOCK_MONOTONIC);
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

static void read_streams(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) exit(1);
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) {
        char *rest = line;
        const char *kind = field(&rest), *token = field(&rest), *lazy = field(&rest);
        if (strlen(token) > TOKEN_MAX) exit(1);
        /* epoll holds pointers to those that are there: room for all was made at the start */
        struct stream *stream = &streams[stream_count++];
        *stream = (struct stream){
            .is_websocket = strcmp(kind, "ws") == 0, .is_lazy = *lazy == '1', .token = xstrdup(token), .last_id = -1
        };
        strbuf_init(&stream->in);
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
        events, deliveries, wrong, doubles, resets, recoveries, refusals, losses, delay_share(0.5), delay_share(0.99),
        share(lasts, events, 0.5), share(lasts, events, 0.99));
    free(lasts);
}

static void clear_stats(void) {
    if (seen) memset(seen, 0, seen_size * sizeof *seen);
    memset(delays, 0, sizeof delays);
    deliveries = doubles = resets = recoveries = refusals = losses = 0;
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
    fire_start = last_delivery = now_ms(CLOCK_MONOTONIC);
    task = FIRING;
}

static void on_command(void) {
    static char line[1000];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    line[strcspn(line, "\n")] = '\0';
    task_start = now_ms(CLOCK_MONOTONIC);
    if (strncmp(line, "open ", 5) == 0) {
        read_streams(line + 5);
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
        return open_count == stream_count;
    case FIRING:
        return fire_done == fire_goal && now - last_delivery > QUIET_MS;
    case AWAITING_LOSS:
        return losses > 0;
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
        printf("{\"open\":%zu,\"ms\":%.0f}\n", open_count, now - task_start);
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
        else if (((struct stream *)who)->state != CLOSED)
            on_stream(who, events[i].events);
    }
    if (open_count + connecting_count < stream_count) open_more();
    if (task == FIRING) fire();
    double now = now_ms(CLOCK_MONOTONIC);
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
    stream_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
    api_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4])) };
    inet_pton(AF_INET, argv[1], &stream_address.sin_addr);
    inet_pton(AF_INET, argv[3], &api_address.sin_addr);
    streams = xcalloc(limit.rlim_max < 100000 ? limit.rlim_max : 100000, sizeof *streams);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (size_t i = 0; i < CALLERS; i++)
        strbuf_init(&callers[i].in);
    poller = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    for (;;)
        turn();
}
