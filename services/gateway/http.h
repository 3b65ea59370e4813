/*
 * http.h: the gateway's HTTP server: civetweb's threads, each with an exchange of its own.
 *
 * Settings used: GATEWAY_LISTEN, GATEWAY_THREADS. Thread rule: start and stop from one thread.
 */
#ifndef BORE_GATEWAY_HTTP_H
#define BORE_GATEWAY_HTTP_H

struct gateway;
struct http_server;

/* Listens and serves from now on; gateway stays borrowed until http_stop. NULL after writing one line to *ret_complaint
 * (heap). */
struct http_server *http_start(struct gateway *gateway, const char *listen, int threads, char **ret_complaint);

/* Closes the listening socket, lets handlers that run finish, joins all threads. Idle connections are closed; a thread
 * that waits on one notices within 2 s. */
void http_stop(struct http_server *self);

#endif
