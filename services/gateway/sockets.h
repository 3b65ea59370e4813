/*
 * sockets.h: what civetweb 1.15 does not offer: to stop listening while it goes on serving, and to end idle connections
 * at once instead of at the end of a two-second poll, during which it would drop what arrives.
 *
 * Found by port among the process's own descriptors (Linux's /proc/self/fd). Thread rule: one thread, while the server
 * runs.
 */
#ifndef BORE_GATEWAY_SOCKETS_H
#define BORE_GATEWAY_SOCKETS_H

/* Nobody can connect to that port from now on. The listening descriptors become copies of an eventfd, so that the
 * server's poll has something quiet to wait for; returns that eventfd (the caller closes it), or -1 when there was
 * nothing to close. Writing to it wakes the server. */
int sockets_stop_listening(int port);

/* Every connection to that port ends when what has arrived on it is served. */
void sockets_end_reading(int port);

#endif
