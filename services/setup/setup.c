/*
 * setup.c: see setup.h.
 *
 * Files are written under another name, flushed and renamed, so a setup that was interrupted is simply run again. The
 * CURVE keys are made as a whole, in the bus's directory; the clients' directory gets copies of its three.
 */
#include "services/setup/setup.h"

#include <czmq.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "services/lib/config.h"

enum { RANDOM_BYTES = 32, VALUE_MAX = 400, KEY_FILE_MAX = 4096 };

struct secret {
    const char *name;    /* environment variable */
    const char *path;    /* below the directory */
    size_t minimum;      /* characters of a value that is given */
    mode_t mode;         /* of the file */
    bool is_made;        /* when it is not given and not there; else it is empty then */
    bool is_forgettable; /* emptied when it is not given (any more) */
};

static const struct secret secrets[] = {
    { "JWT_SECRET", "tokens/jwt_secret", 32, 0400, true, false },
    { "JWT_SECRET_PREVIOUS", "tokens/jwt_secret_previous", 32, 0400, false, true },
    { "INTERNAL_API_KEY", "tokens/internal_api_key", 16, 0400, true, false },
    { "INTERNAL_API_KEY_PREVIOUS", "tokens/internal_api_key_previous", 16, 0400, false, true },
    { "ADMIN_PASSWORD", "admin/admin_password", 0, 0400, true, false },
    { "EDGE_SECRET", "edge/edge_secret", 16, 0400, true, false },
    /* read by Prometheus's own user, then by PostgreSQL's, in directories that only their containers and ours have */
    { "METRICS_TOKEN", "metrics/metrics_token", 16, 0444, false, true },
    { "POSTGRES_PASSWORD", "database/postgres_password", 8, 0444, true, false },
    { "DB_PASSWORD", "database/db_password", 8, 0444, true, false },
};

static const struct {
    const char *name;
    mode_t mode;
} directories[] = { { "tokens", 0700 }, { "admin", 0700 }, { "edge", 0700 }, { "metrics", 0755 }, { "database", 0755 },
    { "bus", 0700 }, { "client", 0700 } };
static const char *const client_files[] = { "bus.key", "client.key", "client.key_secret" };

static int complain(const char *path, int error) {
    fprintf(stderr, "bore-setup: %s: %s\n", path, strerror(-error));
    return error;
}

static const char *given(const struct secret *secret) {
    const char *value = getenv(secret->name);
    return value && *value ? value : NULL;
}

static int check_given(void) {
    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
        const char *value = given(&secrets[i]);
        const char *weakness = value && secrets[i].minimum ? config_secret_weakness(value, secrets[i].minimum) : NULL;
        if (value && !weakness && (strlen(value) > VALUE_MAX || strpbrk(value, "\r\n")))
            weakness = "is too long, or has more than one line";
        if (!weakness) continue;
        fprintf(stderr, "bore-setup: %s %s; make one with: openssl rand -hex 32\n", secrets[i].name, weakness);
        return -EINVAL;
    }
    return 0;
}

static int make_directories(const char *directory) {
    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        _cleanup_free_ char *path = xasprintf("%s/%s", directory, directories[i].name);
        if (mkdir(path, 0700) != 0 && errno != EEXIST) return complain(path, -errno);
        /* whatever the umask is; a volume's own directory may belong to somebody else and has its mode already */
        if (chmod(path, directories[i].mode) != 0 && errno != EPERM) return complain(path, -errno);
    }
    return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int write_all(int file, const char *data, size_t size) {
    while (size) {
        ssize_t written = write(file, data, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        data += written;
        size -= (size_t)written;
    }
    return fsync(file) < 0 ? -errno : 0;
}

/* Replaces the file as a whole. */
static int write_file(const char *path, const char *data, size_t size, mode_t mode) {
    _cleanup_free_ char *fresh = xasprintf("%s.new", path);
    unlink(fresh);
    int file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return complain(fresh, -errno);
    int error = write_all(file, data, size);
    if (!error && fchmod(file, mode) < 0) error = -errno;
    close(file);
    if (!error && rename(fresh, path) < 0) error = -errno;
    if (error) {
        unlink(fresh);
        return complain(path, error);
    }
    return 0;
}

/* Up to room bytes of a file; how many, or a negative errno. */
static ssize_t read_file(const char *path, char *ret_data, size_t room) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    ssize_t size = read(file, ret_data, room);
    if (size < 0) size = -errno;
    close(file);
    return size;
}

static bool has(const char *path, const char *value) {
    char data[VALUE_MAX + 1];
    ssize_t size = read_file(path, data, sizeof data);
    bool same = size >= 0 && (size_t)size == strlen(value) && memcmp(data, value, (size_t)size) == 0;
    memory_wipe(data, sizeof data);
    return same;
}

static int put(const struct secret *secret, const char *path, const char *value) {
    if (has(path, value)) return 0;
    int error = write_file(path, value, strlen(value), secret->mode);
    if (!error) printf("bore-setup: %s %s\n", secret->path, *value ? "written" : "empty");
    return error;
}

static int make_secret(const char *directory, const struct secret *secret) {
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, secret->path);
    const char *value = given(secret);
    if (value) return put(secret, path, value);
    if (access(path, F_OK) == 0 && !secret->is_forgettable) return 0;
    char made[2 * RANDOM_BYTES + 1] = "";
    if (secret->is_made) random_hex(RANDOM_BYTES, made);
    int error = put(secret, path, made);
    memory_wipe(made, sizeof made);
    return error;
}

/* --- CURVE keys -------------------------------------------------------------------------------------------------- */

/* A certificate and its secret part, unless both are there. */
static int make_key(const char *directory, const char *name) {
    _cleanup_free_ char *path = xasprintf("%s/bus/%s", directory, name);
    _cleanup_free_ char *secret_path = xasprintf("%s_secret", path);
    if (access(path, F_OK) == 0 && access(secret_path, F_OK) == 0) return 0;
    zcert_t *certificate = zcert_new();
    if (!certificate) return complain(path, -ENOTSUP);
    int error = zcert_save(certificate, path) == 0 ? 0 : -EIO;
    zcert_destroy(&certificate);
    if (error) return complain(path, error);
    printf("bore-setup: bus/%s written\n", name);
    return 0;
}

static int copy_for_clients(const char *directory, const char *name) {
    _cleanup_free_ char *from = xasprintf("%s/bus/%s", directory, name);
    _cleanup_free_ char *to = xasprintf("%s/client/%s", directory, name);
    char data[KEY_FILE_MAX];
    ssize_t size = read_file(from, data, sizeof data);
    if (size < 0) return complain(from, (int)size);
    int error = write_file(to, data, (size_t)size, 0400);
    memory_wipe(data, sizeof data);
    return error;
}

static int make_keys(const char *directory) {
    int error = make_key(directory, "bus.key");
    if (!error) error = make_key(directory, "client.key");
    for (size_t i = 0; !error && i < ARRAY_SIZE(client_files); i++)
        error = copy_for_clients(directory, client_files[i]);
    return error;
}

int setup_run(const char *directory) {
    int error = check_given();
    if (!error) error = make_directories(directory);
    for (size_t i = 0; !error && i < ARRAY_SIZE(secrets); i++)
        error = make_secret(directory, &secrets[i]);
    return error ? error : make_keys(directory);
}
