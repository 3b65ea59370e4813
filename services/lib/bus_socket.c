/*
 * bus_socket.c: see bus_socket.h.
 *
 * Every socket on the bus is made here, so limits, reconnection and encryption are the same in all processes. Key files
 * are read by czmq's zcert, which neither starts threads nor touches signal handlers.
 */
#include "services/lib/bus_socket.h"

#include <arpa/inet.h>
#include <czmq.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "common/memory.h"
#include "proto/protocol.h"

enum {
    KEY_SIZE = 32,
    IPC_PATH_MAX = 100,
    LINGER_MS = 500,
    QUEUE_MESSAGES = 10000, /* in each direction of each connection */
    ROUTER_RECEIVE_MESSAGES = 1000,
    RECONNECT_MS = 50,
    RECONNECT_MAX_MS = 500,
    HANDSHAKE_MS = 3000,
    HEARTBEAT_MS = 1000,
    HEARTBEAT_TIMEOUT_MS = 3000,
};

struct bus_keys {
    bool server;
    unsigned char public_key[KEY_SIZE];
    unsigned char secret_key[KEY_SIZE];
    unsigned char peer_key[KEY_SIZE]; /* the bus's for a client, the clients' for the bus */
};

static const char *const ipc_suffixes[] = { ".callers", ".workers", ".publish", ".subscribe" };

bool bus_url_is_tcp(const char *url) {
    return strncmp(url, "tcp://", 6) == 0;
}

/* Splits "tcp://host:port": the host's bounds and the port, or false. */
static bool split_tcp(const char *url, const char **ret_host, size_t *ret_size, int *ret_port) {
    const char *host = url + strlen("tcp://");
    const char *colon = strrchr(host, ':');
    if (colon == NULL || colon == host || colon[1] < '1' || colon[1] > '9') return false;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (*end != '\0' || port > 65535 - BUS_SUBSCRIBE) return false;
    *ret_host = host;
    *ret_size = (size_t)(colon - host);
    *ret_port = (int)port;
    return true;
}

static int format_endpoint(char *ret_text, size_t size, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(text) || (size_t)length >= size) return -EINVAL;
    memcpy(ret_text, text, (size_t)length + 1);
    return 0;
}

int bus_endpoint_url(const char *url, enum bus_endpoint endpoint, char *ret_text, size_t size) {
    const char *host;
    size_t host_size;
    int port;
    if (bus_url_is_tcp(url)) {
        if (!split_tcp(url, &host, &host_size, &port)) return -EINVAL;
        return format_endpoint(ret_text, size, "tcp://%.*s:%d", (int)host_size, host, port + (int)endpoint);
    }
    if (strncmp(url, "ipc:///", 7) != 0 || url[7] == '\0') return -EINVAL;
    const char *path = url + strlen("ipc://");
    if (strlen(path) + strlen(ipc_suffixes[endpoint]) > IPC_PATH_MAX) return -EINVAL;
    return format_endpoint(ret_text, size, "%s%s", url, ipc_suffixes[endpoint]);
}

bool bus_url_is_loopback(const char *url) {
    const char *host;
    size_t size;
    int port;
    char text[64];
    struct in_addr address;
    if (!bus_url_is_tcp(url) || !split_tcp(url, &host, &size, &port) || size >= sizeof(text)) return false;
    memcpy(text, host, size);
    text[size] = '\0';
    if (strcmp(text, "localhost") == 0 || strcmp(text, "[::1]") == 0 || strcmp(text, "::1") == 0) return true;
    return inet_pton(AF_INET, text, &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

/* Reads one certificate; its secret part only where ret_secret is given. Sets errno. */
static bool load_certificate(
    const char *directory, const char *name, unsigned char *ret_public, unsigned char *ret_secret) {
    static const unsigned char no_key[KEY_SIZE];
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/%s%s", directory, name, ret_secret != NULL ? "_secret" : "");
    if (length < 0 || (size_t)length >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (access(path, R_OK) != 0) return false;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    zcert_t *certificate = zcert_load(path);
    bool usable = certificate != NULL && memcmp(zcert_public_key(certificate), no_key, KEY_SIZE) != 0;
    if (usable && ret_secret != NULL) usable = memcmp(zcert_secret_key(certificate), no_key, KEY_SIZE) != 0;
    if (usable) {
        memcpy(ret_public, zcert_public_key(certificate), KEY_SIZE);
        if (ret_secret != NULL) memcpy(ret_secret, zcert_secret_key(certificate), KEY_SIZE);
    }
    zcert_destroy(&certificate);
    if (!usable) errno = EKEYREJECTED;
    return usable;
}

struct bus_keys *bus_keys_load(const char *directory, bool server) {
    if (directory == NULL || directory[0] == '\0') {
        errno = 0;
        return NULL;
    }
    struct bus_keys *self = xcalloc(1, sizeof(*self));
    self->server = server;
    if (!load_certificate(directory, server ? "bus.key" : "client.key", self->public_key, self->secret_key) ||
        !load_certificate(directory, server ? "client.key" : "bus.key", self->peer_key, NULL)) {
        int error = errno;
        bus_keys_free(self);
        errno = error;
        return NULL;
    }
    return self;
}

void bus_keys_free(struct bus_keys *self) {
    if (self == NULL) return;
    memory_wipe(self, sizeof(*self));
    free(self);
}

bool bus_keys_accept(const struct bus_keys *self, const void *public_key, size_t size) {
    return self->server && size == KEY_SIZE && memcmp(public_key, self->peer_key, KEY_SIZE) == 0;
}

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

static bool set_key(void *socket, int option, const unsigned char *key) {
    return zmq_setsockopt(socket, option, key, KEY_SIZE) == 0;
}

/* The domain makes ZeroMQ ask who may come in (services/bus/zap.h). */
static bool set_server_keys(void *socket, const struct bus_keys *keys) {
    return zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, "bore", 4) == 0 && set_int(socket, ZMQ_CURVE_SERVER, 1) &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, keys->secret_key);
}

static bool set_client_keys(void *socket, const struct bus_keys *keys) {
    return set_key(socket, ZMQ_CURVE_PUBLICKEY, keys->public_key) &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, keys->secret_key) &&
           set_key(socket, ZMQ_CURVE_SERVERKEY, keys->peer_key);
}

static bool set_keys(void *socket, const struct bus_keys *keys) {
    if (keys == NULL) return true;
    return keys->server ? set_server_keys(socket, keys) : set_client_keys(socket, keys);
}

/* A peer on another machine may vanish without a word; on this one the kernel tells at once. */
static bool set_tcp(void *socket) {
    return set_int(socket, ZMQ_IPV6, 1) && set_int(socket, ZMQ_CONNECT_TIMEOUT, HANDSHAKE_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
}

static bool configure(void *socket, int type, bool tcp) {
    int64_t largest = BUS_MESSAGE_MAX;
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &largest, sizeof(largest)) != 0) return false;
    if (!set_int(socket, ZMQ_LINGER, LINGER_MS) || !set_int(socket, ZMQ_SNDTIMEO, 0)) return false;
    if (!set_int(socket, ZMQ_SNDHWM, QUEUE_MESSAGES)) return false;
    if (!set_int(socket, ZMQ_RCVHWM, type == ZMQ_ROUTER ? ROUTER_RECEIVE_MESSAGES : QUEUE_MESSAGES)) return false;
    if (!set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS)) return false;
    if (!set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS)) return false;
    if (!set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS)) return false;
    if (type == ZMQ_ROUTER && !(set_int(socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(socket, ZMQ_ROUTER_HANDOVER, 1)))
        return false;
    if (type == ZMQ_DEALER && !set_int(socket, ZMQ_IMMEDIATE, 1)) return false;
    return !tcp || set_tcp(socket);
}

static void *close_failed(void *socket) {
    int error = errno;
    zmq_close(socket);
    errno = error;
    return NULL;
}

void *bus_socket_new_idle(void *context, int type, const char *endpoint, const struct bus_keys *keys) {
    void *socket = zmq_socket(context, type);
    if (socket == NULL) return NULL;
    return configure(socket, type, bus_url_is_tcp(endpoint)) && set_keys(socket, keys) ? socket : close_failed(socket);
}

void *bus_socket_new(void *context, int type, const char *endpoint, bool bind, const struct bus_keys *keys) {
    void *socket = bus_socket_new_idle(context, type, endpoint, keys);
    if (socket == NULL) return NULL;
    int result = bind ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint);
    return result == 0 ? socket : close_failed(socket);
}
