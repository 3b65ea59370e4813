/*
 * sockets.c: see sockets.h.
 *
 * civetweb keeps the number of its listening socket, and asks what it stands for each time it polls. shutdown(2) makes
 * the kernel refuse connections at once and wakes the server's poll; dup2(2) puts another socket, or an eventfd, in its
 * place. A poll that is woken looks its descriptors up again but goes on waiting for what it found first: so it gets a
 * moment to return before dup2 (were that too short, it would wait for the rest of its 2 s). For a connection, SHUT_RD
 * leaves what has arrived and what is still to be sent alone: a thread that waits for a request reads the end, one that
 * serves is not disturbed.
 */
#include "services/gateway/sockets.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LISTENING_MAX = 8, CONNECTIONS_MAX = 1024, POLL_RETURNS_NS = 5000000, ENDPOINT_MAX = 128 };

/* The endpoint that a socket belongs to; "" for anything else. A connection bears the name of what it was accepted on.
 */
static void name_endpoint(int descriptor, char name[ENDPOINT_MAX]) {
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un local;
    } address = { .any.sa_family = AF_UNSPEC };
    socklen_t size = sizeof(address);
    *name = '\0';
    if (getsockname(descriptor, &address.any, &size) != 0) return;
    switch (address.any.sa_family) {
    case AF_INET:
        snprintf(name, ENDPOINT_MAX, ":%d", ntohs(address.ip4.sin_port));
        break;
    case AF_INET6:
        snprintf(name, ENDPOINT_MAX, ":%d", ntohs(address.ip6.sin6_port));
        break;
    case AF_UNIX:
        snprintf(name, ENDPOINT_MAX, "unix:%.*s", (int)(size - offsetof(struct sockaddr_un, sun_path)),
            address.local.sun_path);
        break;
    default:
        break;
    }
}

static bool is_listening(int descriptor) {
    int listens = 0;
    socklen_t size = sizeof(listens);
    return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

/* The sockets of that endpoint that listen, or do not, at most maximum; how many. */
static int find_sockets(const char *endpoint, bool listens, int *found, int maximum) {
    DIR *descriptors = opendir("/proc/self/fd");
    if (descriptors == NULL) return 0;
    int count = 0;
    char name[ENDPOINT_MAX];
    const struct dirent *entry;
    while (count < maximum && (entry = readdir(descriptors)) != NULL) {
        int descriptor = (int)strtol(entry->d_name, NULL, 10);
        name_endpoint(descriptor, name);
        if (entry->d_name[0] == '.' || strcmp(name, endpoint) != 0 || is_listening(descriptor) != listens) continue;
        found[count++] = descriptor;
    }
    closedir(descriptors);
    return count;
}

int sockets_listen_unix(const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat status;
    if (strlen(path) >= sizeof(address.sun_path)) return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -errno;
    bool is_there = lstat(path, &status) == 0 && S_ISSOCK(status.st_mode);
    bool is_left = is_there && connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) != 0 &&
                   errno == ECONNREFUSED;
    if (is_left) unlink(path);
    if (is_there && !is_left) errno = EADDRINUSE;
    /* The mode is the one that bind gives to the file. */
    if (is_there == is_left && fchmod(descriptor, S_IRUSR | S_IWUSR) == 0 &&
        bind(descriptor, (const struct sockaddr *)&address, sizeof(address)) == 0 && listen(descriptor, SOMAXCONN) == 0)
        return descriptor;
    int error = -errno;
    close(descriptor);
    return error;
}

bool sockets_replace_listening(const char *endpoint, int descriptor) {
    int listening[LISTENING_MAX];
    int count = find_sockets(endpoint, true, listening, LISTENING_MAX);
    for (int i = 0; i < count; i++)
        shutdown(listening[i], SHUT_RDWR);
    nanosleep(&(struct timespec){ .tv_nsec = POLL_RETURNS_NS }, NULL);
    for (int i = 0; i < count; i++)
        dup2(descriptor, listening[i]);
    return count > 0;
}

int sockets_stop_listening(const char *endpoint) {
    int quiet = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (quiet < 0 || sockets_replace_listening(endpoint, quiet)) return quiet;
    close(quiet);
    return -1;
}

void sockets_end_reading(const char *endpoint) {
    int connections[CONNECTIONS_MAX];
    int count = find_sockets(endpoint, false, connections, CONNECTIONS_MAX);
    for (int i = 0; i < count; i++)
        shutdown(connections[i], SHUT_RD);
}
