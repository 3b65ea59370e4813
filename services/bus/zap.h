/*
 * zap.h: who may connect, when the bus has CURVE keys: ZeroMQ's authentication protocol,
 * https://rfc.zeromq.org/spec/27/.
 *
 * Every connection to a socket of the bus asks here before its first message; whoever has not proved to own the secret
 * of client.key is turned away. Thread rule: the bus's one thread.
 */
#ifndef BORE_SERVICES_BUS_ZAP_H
#define BORE_SERVICES_BUS_ZAP_H

#include <stdbool.h>

#include "services/lib/bus_socket.h"

/* The socket that ZeroMQ asks; to be made before any other is bound. NULL with errno. Close it with zmq_close. */
void *zap_socket_new(void *context);
/* Answers one question. False when there is none. */
bool zap_answer(void *socket, const struct bus_keys *keys);

#endif
