/*
 * bus_socket.h: endpoints of BUS_URL and sockets set up as ARCHITECTURE §2 asks: explicit high-water marks and linger,
 * ROUTER_MANDATORY, bounded message size, CURVE when keys are given.
 *
 * CURVE key files are czmq certificates (`zcert`): the bus reads bus.key_secret and accepts the one public key of
 * client.key (it answers ZeroMQ's authentication requests, ZAP, itself); clients read client.key_secret and bus.key.
 * No send on these sockets waits (ZMQ_SNDTIMEO 0). A DEALER has ZMQ_IMMEDIATE: without a connection a send is EAGAIN,
 * and what was under way when a connection broke is never sent again by ZeroMQ. Lost connections come back
 * after 50..500 ms.
 */
#ifndef BORE_SERVICES_LIB_BUS_SOCKET_H
#define BORE_SERVICES_LIB_BUS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

enum bus_endpoint { BUS_CALLERS = 0, BUS_WORKERS = 1, BUS_PUBLISH = 2, BUS_SUBSCRIBE = 3 };

/* Writes the endpoint of a url ("ipc:///dir/bus" -> "ipc:///dir/bus.callers"; "tcp://host:5550" -> "tcp://host:5551"
 * …). 0, or -EINVAL with nothing written (unknown scheme, no port, ipc path over 100 bytes). */
int bus_endpoint_url(const char *url, enum bus_endpoint endpoint, char *ret_text, size_t size);
bool bus_url_is_tcp(const char *url);
/* tcp on 127.0.0.0/8, ::1 or localhost */
bool bus_url_is_loopback(const char *url);

struct bus_keys; /* loaded CURVE keys */
/* NULL and errno on failure; directory "" gives NULL with errno 0. server: the bus's own side. */
struct bus_keys *bus_keys_load(const char *directory, bool server);
void bus_keys_free(struct bus_keys *self);
/* Whether the bus lets in who proved to have this public key. */
bool bus_keys_accept(const struct bus_keys *self, const void *public_key, size_t size);

/* A raw libzmq socket of a context, configured; bind for the bus, connect for all others. NULL with errno. */
void *bus_socket_new(void *context, int type, const char *endpoint, bool bind, const struct bus_keys *keys);
/* The same, neither bound nor connected yet: for what must be set up before. endpoint: where it will be. */
void *bus_socket_new_idle(void *context, int type, const char *endpoint, const struct bus_keys *keys);

#endif
