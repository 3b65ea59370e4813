/*
 * sockets.h: what civetweb 1.15 does not offer: to listen on a unix socket, to stop listening while it goes on serving,
 * and to end idle connections at once instead of at the end of a two-second poll, during which it would drop what
 * arrives.
 *
 * An endpoint is ":PORT", whatever the address, or "unix:PATH". Its sockets are found among the process's own
 * descriptors (Linux's /proc/self/fd). Thread rule: one thread, while the server runs.
 */
#ifndef BORE_GATEWAY_SOCKETS_H
#define BORE_GATEWAY_SOCKETS_H

#include <stdbool.h>

/* Listens on the unix socket at that path, which only this user may connect to; one that nobody listens on any more is
 * replaced. The descriptor, the caller's to close, or a negative errno. */
int sockets_listen_unix(const char *path);

/* What listens at `endpoint` becomes a copy of `descriptor`, and nobody can connect to the endpoint from now on. The
 * server's poll finds the descriptor in its place. False when nothing listens there. */
bool sockets_replace_listening(const char *endpoint, int descriptor);

/* Nobody can connect to the endpoint from now on. Its listening descriptors become copies of an eventfd, so that the
 * server's poll has something quiet to wait for; returns that eventfd (the caller closes it), or -1 when there was
 * nothing to close. Writing to it wakes the server. */
int sockets_stop_listening(const char *endpoint);

/* Every connection to that endpoint ends when what has arrived on it is served. */
void sockets_end_reading(const char *endpoint);

#endif
