/*
 * listen.c: see listen.h. libzmq removes a socket file that it finds at its place, dead or not, hence the lock.
 */
#include "services/bus/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "services/lib/bus_socket.h"

static int check_tcp(const char *url, bool has_keys, bool allow_plaintext) {
    if (has_keys || bus_url_is_loopback(url)) return 0;
    if (allow_plaintext) {
        log_warning("BUS_URL %s listens beyond this machine without encryption (BUS_ALLOW_PLAINTEXT)", url);
        return 0;
    }
    log_error("BUS_URL %s would listen beyond this machine without encryption: give keys in BUS_CURVE_DIR, or set "
              "BUS_ALLOW_PLAINTEXT=true in a network that you trust",
        url);
    return -EPERM;
}

static int check_directory(const char *directory) {
    struct stat status;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        int error = errno;
        log_error("cannot create %s: %s", directory, strerror(error));
        return -error;
    }
    if (stat(directory, &status) != 0 || !S_ISDIR(status.st_mode)) {
        log_error("%s is no directory", directory);
        return -ENOTDIR;
    }
    if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
        log_error("the bus's directory %s must belong to this user alone: chmod 700, and no other owner", directory);
        return -EPERM;
    }
    return 0;
}

static int take_lock(const char *path, int *ret_lock) {
    char name[PATH_MAX];
    snprintf(name, sizeof(name), "%s.lock", path);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        int error = errno;
        log_error("cannot open %s: %s", name, strerror(error));
        return -error;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        close(lock);
        log_error("another bus already serves ipc://%s", path);
        return -EADDRINUSE;
    }
    *ret_lock = lock;
    return 0;
}

int bus_listen_prepare(const char *url, bool has_keys, bool allow_plaintext, int *ret_lock) {
    char endpoint[PATH_MAX];
    if (bus_endpoint_url(url, BUS_SUBSCRIBE, endpoint, sizeof(endpoint)) != 0) {
        log_error("BUS_URL %s is neither ipc:///directory/name (at most 90 bytes of path) nor tcp://host:port", url);
        return -EINVAL;
    }
    *ret_lock = -1;
    if (bus_url_is_tcp(url)) return check_tcp(url, has_keys, allow_plaintext);
    char directory[PATH_MAX];
    snprintf(directory, sizeof(directory), "%s", url + strlen("ipc://"));
    *strrchr(directory, '/') = '\0';
    int error = directory[0] != '\0' ? check_directory(directory) : -EPERM;
    return error != 0 ? error : take_lock(url + strlen("ipc://"), ret_lock);
}
