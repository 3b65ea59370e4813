/*
 * fanout.c: the yardstick for one event to many streams: nothing but the system calls. One process sends the same bytes
 * to COUNT loopback connections, one after the other; another one reads them as they come, as the bench's clients do.
 *
 * fanout COUNT BYTES ROUNDS: prints one line of JSON: milliseconds from the first send of a round until the last
 * connection was read, half of the rounds and 99 % of them, and the microseconds of one send.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"

enum { BYTES_MAX = 4096, EVENTS = 512, PAUSE_US = 100000 };

static void fail(const char *what) {
    fprintf(stderr, "fanout: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listening(struct sockaddr_in *ret_address) {
    socklen_t size = sizeof *ret_address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (listener < 0 || bind(listener, (struct sockaddr *)ret_address, size) < 0 || listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)ret_address, &size) < 0)
        fail("listen");
    return listener;
}

/* Connects, then tells through `report` when each round's last byte was read (clock_monotonic_us). */
static void read_rounds(const struct sockaddr_in *address, size_t count, size_t bytes, int rounds, int report) {
    int poller = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < count; i++) {
        int stream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct epoll_event event = { .events = EPOLLIN, .data.fd = stream };
        if (stream < 0) fail("socket");
        if (connect(stream, (const struct sockaddr *)address, sizeof *address) < 0 && errno != EINPROGRESS)
            fail("connect");
        if (epoll_ctl(poller, EPOLL_CTL_ADD, stream, &event) < 0) fail("epoll_ctl");
    }
    for (int round = 0; round < rounds; round++) {
        struct epoll_event events[EVENTS];
        char buffer[BYTES_MAX];
        for (size_t left = count * bytes; left > 0;) {
            int ready = epoll_wait(poller, events, EVENTS, -1);
            for (int i = 0; i < ready; i++) {
                ssize_t got = recv(events[i].data.fd, buffer, sizeof buffer, 0);
                if (got > 0) left -= (size_t)got;
            }
        }
        int64_t now_us = clock_monotonic_us();
        if (write(report, &now_us, sizeof now_us) != sizeof now_us) fail("write");
    }
}

static int compare(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return difference < 0 ? -1 : difference > 0;
}

int main(int argc, char **argv) {
    size_t count = argc == 4 ? strtoul(argv[1], NULL, 10) : 0, bytes = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    int rounds = argc == 4 ? atoi(argv[3]) : 0;
    if (count == 0 || bytes == 0 || bytes > BYTES_MAX || rounds <= 0) {
        fprintf(stderr, "usage: fanout COUNT BYTES ROUNDS\n");
        return 2;
    }
    struct sockaddr_in address;
    int listener = listening(&address), report[2], one = 1;
    if (pipe(report) < 0) fail("pipe");
    pid_t reader = fork();
    if (reader < 0) fail("fork");
    if (reader == 0) {
        read_rounds(&address, count, bytes, rounds, report[1]);
        return 0;
    }
    int *streams = xcalloc(count, sizeof *streams);
    for (size_t i = 0; i < count; i++) {
        streams[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (streams[i] < 0) fail("accept");
        setsockopt(streams[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    double *lasts_ms = xcalloc((size_t)rounds, sizeof *lasts_ms), sends_us = 0;
    char text[BYTES_MAX];
    memset(text, 'x', sizeof text);
    for (int round = 0; round < rounds; round++) {
        int64_t last_us, started_us = clock_monotonic_us();
        for (size_t i = 0; i < count; i++)
            if (send(streams[i], text, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) fail("send");
        sends_us += (double)(clock_monotonic_us() - started_us);
        if (read(report[0], &last_us, sizeof last_us) != sizeof last_us) fail("read");
        lasts_ms[round] = (double)(last_us - started_us) / 1000;
        usleep(PAUSE_US);
    }
    waitpid(reader, NULL, 0);
    qsort(lasts_ms, (size_t)rounds, sizeof *lasts_ms, compare);
    printf("{\"p50\":%.1f,\"p99\":%.1f,\"send_us\":%.1f}\n", lasts_ms[rounds / 2], lasts_ms[rounds * 99 / 100],
        sends_us / (double)rounds / (double)count);
    free(streams);
    free(lasts_ms);
    return 0;
}
