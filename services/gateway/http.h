/*
 * http.h: the gateway's HTTP server: civetweb's threads, each with an exchange of its own.
 *
 * Settings used: GATEWAY_LISTEN, GATEWAY_THREADS. Thread rule: start and stop from one thread.
 */
#ifndef BORE_GATEWAY_HTTP_H
#define BORE_GATEWAY_HTTP_H

struct gateway;
struct http_server;

/* Listens on `listen`, address:port or unix:PATH, and serves from now on; gateway stays borrowed until http_stop. NULL
 * after writing one line to *ret_complaint (heap). */
struct http_server *http_start(struct gateway *gateway, const char *listen, int threads, char **ret_complaint);

/* The port it listens on; 0 with a unix socket. */
int http_port(const struct http_server *self);

/* Nobody can connect from now on; connections that are open go on. For the time in which requests may end. */
void http_stop_listening(struct http_server *self);

/* Ends idle connections and joins all threads. What is being served then, or arrives, gets no answer any more. */
void http_stop(struct http_server *self);

#endif
