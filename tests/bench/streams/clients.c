/*
 * clients.c: see clients.h.
 */
#include "tests/bench/streams/clients.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/strbuf.h"

enum { CONNECTING_MAX = 256, RETRY_MS = 1000, TOKEN_MAX = 1000 };

enum state { CLOSED, CONNECTING, ASKED, OPEN };

struct client {
    bool is_websocket, is_lazy, was_open;
    enum state state;
    int fd;
    char *token;
    struct strbuf in;
    char cursor[40], pid[64];
    long last_id;
    int64_t retry_at_ms;
};

struct clients_figures clients;

static int poller;
static struct sockaddr_in server;
static struct client *table; /* epoll holds pointers to those that are there: room for all was made at the start */
static size_t connecting_count;
static void (*tell_event)(long id, double delay_ms);

static double wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int64_t retry_time_ms(void) {
    return clock_monotonic_ms() + 50 + random() % RETRY_MS;
}

/* ---- what arrives ---- */

/* One message of either kind: its cursor, and whether it is an event of the log. */
static void note_message(struct client *self, const char *text, const char *cursor) {
    size_t size = strspn(cursor, "0123456789abcdef-");
    if (size == 0 || size >= sizeof self->cursor) return;
    memcpy(self->cursor, cursor, size);
    self->cursor[size] = '\0';
    const char *dash = strchr(self->cursor, '-');
    long id = dash ? strtol(dash + 1, NULL, 10) : 0;
    const char *at = strstr(text, "\"timestamp\":");
    if (at && strstr(text, "\"eventId\":")) {
        clients.doubles += id <= self->last_id;
        tell_event(id, wall_ms() - strtod(at + 12, NULL));
    }
    if (strstr(text, "\"type\":\"reset\"")) clients.resets++;
    self->last_id = id;
}

static void set_open(struct client *self) {
    if (self->state == OPEN) return;
    self->state = OPEN;
    self->was_open = true;
    connecting_count--;
    clients.open++;
}

static void lose(struct client *self) {
    if (self->state == CLOSED) return;
    if (self->state == OPEN) {
        clients.open--;
        clients.losses++;
    } else {
        connecting_count--;
        clients.refusals++;
    }
    close(self->fd);
    self->state = CLOSED;
    strbuf_release(&self->in);
    strbuf_init(&self->in);
    self->retry_at_ms = retry_time_ms();
}

/* A masked frame whose mask is zero. */
static void send_frame(struct client *self, const char *text) {
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

static void send_connect(struct client *self) {
    char text[1500];
    if (self->pid[0])
        snprintf(text, sizeof text, "40{\"pid\":\"%s\",\"offset\":\"%s\",\"token\":\"%s\"}", self->pid, self->cursor,
            self->token);
    else
        snprintf(text, sizeof text, "40{\"token\":\"%s\"}", self->token);
    send_frame(self, text);
}

static void take_packet(struct client *self, char *text, size_t size) {
    if (text[0] == '0') {
        send_connect(self);
    } else if (strcmp(text, "2") == 0) {
        send_frame(self, "3");
    } else if (strncmp(text, "40{", 3) == 0) {
        const char *pid = strstr(text, "\"pid\":\"");
        size_t length = pid ? strcspn(pid + 7, "\"") : 0;
        if (length == 0 || length >= sizeof self->pid) abort();
        if (strncmp(self->pid, pid + 7, length) == 0 && self->pid[0]) clients.recoveries++;
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

/* How many of these bytes were a whole frame, now dealt with; 0: not yet one, or the client was lost. */
static size_t take_frame(struct client *self, char *text, size_t available) {
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

static size_t take_block(struct client *self, char *text, size_t available) {
    char *end = memmem(text, available, "\n\n", 2);
    if (!end) return 0;
    *end = '\0';
    const char *id = strstr(text, "id: ");
    if (id) note_message(self, text, id + 4);
    set_open(self);
    return (size_t)(end - text) + 2;
}

static void take_answer(struct client *self) {
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

static void take(struct client *self) {
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
    strbuf_release(&self->in); /* thousands of idle clients keep no buffers */
    strbuf_init(&self->in);
}

static void read_client(struct client *self) {
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

static void open_client(struct client *self) {
    self->fd = connect_to(&server);
    if (self->fd < 0) {
        self->retry_at_ms = retry_time_ms();
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

static void ask(struct client *self) {
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

void clients_ready(void *client, unsigned events) {
    struct client *self = client;
    if (self->state == CLOSED) return;
    if (self->state == CONNECTING && (events & EPOLLOUT)) {
        ask(self);
        return;
    }
    if (self->is_lazy && self->state == OPEN) { /* it ends, or it does not: it reads nothing */
        if (events & (EPOLLHUP | EPOLLERR)) lose(self);
        return;
    }
    read_client(self);
    if (self->is_lazy && self->state == OPEN) {
        struct epoll_event event = { .events = 0, .data.ptr = self };
        epoll_ctl(poller, EPOLL_CTL_MOD, self->fd, &event);
    }
}

void clients_open_more(void) {
    static size_t next;
    if (clients.open + connecting_count == clients.count) return;
    int64_t now = clock_monotonic_ms();
    for (size_t i = 0; i < clients.count && connecting_count < CONNECTING_MAX; i++) {
        struct client *client = &table[next++ % clients.count];
        bool comes_back = !(client->is_lazy && client->was_open);
        if (client->state == CLOSED && comes_back && now >= client->retry_at_ms) open_client(client);
    }
}

/* ---- all of them ---- */

void clients_init(
    int epoll, const struct sockaddr_in *address, size_t most, void (*on_event)(long id, double delay_ms)) {
    poller = epoll;
    server = *address;
    table = xcalloc(most, sizeof *table);
    tell_event = on_event;
}

void clients_add(bool is_websocket, bool is_lazy, const char *token) {
    if (strlen(token) > TOKEN_MAX) exit(1);
    struct client *self = &table[clients.count++];
    *self = (struct client){ .is_websocket = is_websocket, .is_lazy = is_lazy, .token = xstrdup(token), .last_id = -1 };
    strbuf_init(&self->in);
}
