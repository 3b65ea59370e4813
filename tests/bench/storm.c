/*
 * storm.c: many requests at once over keep-alive connections, one outstanding on each: what bore-servers do when all
 * their tunnels come back together. A load driver that costs little, so that the time measured is the system's.
 *
 * storm PORT CONNECTIONS FILE: FILE has one request a line as load.lua reads them (METHOD, path, body, headers as
 * name=value, separated by tabs); each is sent once, to 127.0.0.1, as soon as a connection is free. Prints one line of
 * JSON: milliseconds from the start until half of the answers and until the last one were there, how many were not 200
 * or said "valid":false, and the first of those.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/strbuf.h"

enum { CONNECTIONS_MAX = 4096, EVENTS = 256, PATIENCE_MS = 20000, READ_SIZE = 16384 };

struct connection {
    int socket;
    size_t request;       /* the one that is under way, or the number of requests when there is none */
    struct strbuf answer; /* what came of its answer */
};

struct storm {
    size_t count, sent, answered, bad;
    struct strbuf *requests;
    double *times_ms;
    int64_t started_us;
    int poll;
    char first_bad[200];
};

static void fail(const char *what) {
    fprintf(stderr, "storm: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- the requests ------------------------------------------------------------------------------------------------- */

static char *next_field(char **rest) {
    char *field = strsep(rest, "\t");
    return field != NULL ? field : "";
}

static void add_request(struct storm *self, char *line) {
    char *method = next_field(&line), *path = next_field(&line), *body = next_field(&line);
    self->requests = xreallocarray(self->requests, self->count + 1, sizeof(*self->requests));
    struct strbuf *text = &self->requests[self->count++];
    strbuf_init(text);
    strbuf_append_format(text, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path);
    for (char *header = next_field(&line); *header != '\0'; header = next_field(&line)) {
        char *value = strchr(header, '=');
        if (value != NULL) strbuf_append_format(text, "%.*s: %s\r\n", (int)(value - header), header, value + 1);
    }
    strbuf_append_format(text, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
}

static void read_requests(struct storm *self, const char *name) {
    FILE *file = fopen(name, "re");
    if (file == NULL) fail(name);
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        add_request(self, line);
    }
    free(line);
    fclose(file);
    self->times_ms = xcalloc(self->count + 1, sizeof(*self->times_ms));
}

/* --- connections -------------------------------------------------------------------------------------------------- */

/* Small requests into an empty socket: they go out whole. */
static void send_next(struct storm *self, struct connection *connection) {
    connection->request = self->sent < self->count ? self->sent++ : self->count;
    strbuf_clear(&connection->answer);
    if (connection->request == self->count) return;
    const struct strbuf *text = &self->requests[connection->request];
    if (send(connection->socket, text->data, text->size, MSG_NOSIGNAL) != (ssize_t)text->size) fail("send");
}

static void open_connection(struct storm *self, struct connection *connection, int port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->socket < 0) fail("socket");
    if (connect(connection->socket, (struct sockaddr *)&address, sizeof(address)) != 0) fail("connect");
    strbuf_init(&connection->answer);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
    if (epoll_ctl(self->poll, EPOLL_CTL_ADD, connection->socket, &event) != 0) fail("epoll_ctl");
    send_next(self, connection);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static bool is_complete(const struct strbuf *answer) {
    const char *end = strstr(answer->data, "\r\n\r\n");
    const char *length = strcasestr(answer->data, "\r\ncontent-length:");
    if (end == NULL || length == NULL || length > end) return false;
    size_t size = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    return answer->size >= (size_t)(end + 4 - answer->data) + size;
}

static void judge(struct storm *self, const struct strbuf *answer) {
    bool is_good = strncmp(answer->data, "HTTP/1.1 200 ", 13) == 0 && strstr(answer->data, "\"valid\":false") == NULL;
    if (is_good) return;
    const char *body = strstr(answer->data, "\r\n\r\n");
    if (self->bad++ > 0) return;
    snprintf(self->first_bad, sizeof(self->first_bad), "%.12s %s", answer->data, body != NULL ? body + 4 : "");
    for (char *c = self->first_bad; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20) *c = '\'';
    }
}

static void receive(struct storm *self, struct connection *connection) {
    struct strbuf *answer = &connection->answer;
    ssize_t got = recv(connection->socket, strbuf_reserve(answer, READ_SIZE), READ_SIZE, 0);
    if (got <= 0 || connection->request == self->count) fail("a connection ended");
    strbuf_add_size(answer, (size_t)got);
    if (!is_complete(answer)) return;
    self->times_ms[self->answered++] = (double)(clock_monotonic_us() - self->started_us) / 1000;
    judge(self, answer);
    send_next(self, connection);
}

static void run(struct storm *self, struct connection *connections, size_t count, int port) {
    struct epoll_event events[EVENTS];
    self->poll = epoll_create1(EPOLL_CLOEXEC);
    self->started_us = clock_monotonic_us();
    for (size_t i = 0; i < count; i++)
        open_connection(self, &connections[i], port);
    while (self->answered < self->count) {
        int ready = epoll_wait(self->poll, events, EVENTS, PATIENCE_MS);
        if (ready == 0) errno = ETIMEDOUT;
        if (ready <= 0) fail("no answer");
        for (int i = 0; i < ready; i++)
            receive(self, events[i].data.ptr);
    }
}

int main(int argc, char **argv) {
    static struct connection connections[CONNECTIONS_MAX];
    struct storm storm = { .count = 0 };
    size_t count = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    if (count < 1 || count > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: storm PORT CONNECTIONS FILE\n");
        return 2;
    }
    read_requests(&storm, argv[3]);
    run(&storm, connections, count < storm.count ? count : storm.count, atoi(argv[1]));
    printf("{\"answers\":%zu,\"p50\":%.1f,\"last\":%.1f,\"bad\":%zu,\"first_bad\":\"%s\"}\n", storm.answered,
        storm.times_ms[storm.answered / 2], storm.times_ms[storm.answered - 1], storm.bad, storm.first_bad);
    for (size_t i = 0; i < storm.count; i++)
        strbuf_release(&storm.requests[i]);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (connections[i].socket > 0) strbuf_release(&connections[i].answer);
    }
    free(storm.requests);
    free(storm.times_ms);
    return 0;
}
