/*
 * clients.h: thousands of clients of stream: SSE and Socket.IO over WebSockets. They come back when they lose their
 * connection, with their cursor, and tell of each event that reaches them. One set of them in a process, in one thread.
 */
#ifndef BORE_TESTS_BENCH_STREAMS_CLIENTS_H
#define BORE_TESTS_BENCH_STREAMS_CLIENTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct clients_figures {
    size_t count, open;
    /* what happened; whoever reads it may set it to 0 */
    unsigned long doubles; /* events that a client had already */
    unsigned long resets, recoveries;
    unsigned long refusals; /* connections that ended before they were open */
    unsigned long losses;   /* and after */
};
extern struct clients_figures clients;

/* At most `most` clients. Their sockets join epoll, with pointers for clients_ready. on_event: a client got an event of
 * the log, so long after its `timestamp`, which the database took before COMMIT. */
void clients_init(
    int epoll, const struct sockaddr_in *address, size_t most, void (*on_event)(long id, double delay_ms));
/* One more, for clients_open_more to open; is_lazy: it never reads. Copies the token. */
void clients_add(bool is_websocket, bool is_lazy, const char *token);
/* Connects those that are not, a bounded number at once. To be called often. */
void clients_open_more(void);
/* What epoll reported for a client. */
void clients_ready(void *client, unsigned events);

#endif
