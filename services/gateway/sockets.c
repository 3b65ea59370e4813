/*
 * sockets.c: see sockets.h.
 *
 * shutdown(2) makes the kernel refuse connections at once and wakes the server's poll; dup2(2) puts the eventfd in the
 * socket's place. A poll that is woken looks its descriptors up again but goes on waiting for what it found first: so
 * it gets a moment to return before dup2 (were that too short, stopping would take the rest of its 2 s). For a
 * connection, SHUT_RD leaves what has arrived and what is still to be sent alone: a thread that waits for a request
 * reads the end, one that serves is not disturbed.
 */
#include "services/gateway/sockets.h"

#include <dirent.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LISTENING_MAX = 8, CONNECTIONS_MAX = 1024, POLL_RETURNS_NS = 5000000 };

static int local_port(int descriptor) {
    struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
    socklen_t size = sizeof(address);
    if (getsockname(descriptor, (struct sockaddr *)&address, &size) != 0) return -1;
    if (address.ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    return -1;
}

static bool is_listening(int descriptor) {
    int listens = 0;
    socklen_t size = sizeof(listens);
    return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

/* The sockets of that port that listen, or do not, at most maximum; how many. */
static int find_sockets(int port, bool listens, int *found, int maximum) {
    DIR *descriptors = opendir("/proc/self/fd");
    if (descriptors == NULL) return 0;
    int count = 0;
    const struct dirent *entry;
    while (count < maximum && (entry = readdir(descriptors)) != NULL) {
        int descriptor = (int)strtol(entry->d_name, NULL, 10);
        if (entry->d_name[0] == '.' || local_port(descriptor) != port || is_listening(descriptor) != listens) continue;
        found[count++] = descriptor;
    }
    closedir(descriptors);
    return count;
}

int sockets_stop_listening(int port) {
    int listening[LISTENING_MAX];
    int count = find_sockets(port, true, listening, LISTENING_MAX);
    int quiet = count > 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (quiet < 0) return -1;
    for (int i = 0; i < count; i++)
        shutdown(listening[i], SHUT_RDWR);
    nanosleep(&(struct timespec){ .tv_nsec = POLL_RETURNS_NS }, NULL);
    for (int i = 0; i < count; i++)
        dup2(quiet, listening[i]);
    return quiet;
}

void sockets_end_reading(int port) {
    int connections[CONNECTIONS_MAX];
    int count = find_sockets(port, false, connections, CONNECTIONS_MAX);
    for (int i = 0; i < count; i++)
        shutdown(connections[i], SHUT_RD);
}
