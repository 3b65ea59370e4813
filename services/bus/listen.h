/*
 * listen.h: where the bus may listen, decided before anything is bound. Thread rule: once, at start.
 */
#ifndef BORE_SERVICES_BUS_LISTEN_H
#define BORE_SERVICES_BUS_LISTEN_H

#include <stdbool.h>

/* Refuses a tcp address beyond loopback without keys unless plaintext is allowed. For ipc: creates the directory with
 * mode 0700 if missing, refuses one that others can enter or that is not ours, and takes its lock, so that no second
 * bus steals the sockets of a running one. Returns 0 with the lock's descriptor (-1 for tcp; close it at the end), or a
 * negative errno after one log line. */
int bus_listen_prepare(const char *url, bool has_keys, bool allow_plaintext, int *ret_lock);

#endif
