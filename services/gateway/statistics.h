/* statistics.h: what the gateway adds to GET /admin/stats: open streams, heartbeats a second, uptime of the system. */
#ifndef BORE_GATEWAY_STATISTICS_H
#define BORE_GATEWAY_STATISTICS_H

struct exchange;

/* For a route's `complete`: reply is a struct admin_stats_reply. May ask the bus for its uptime. */
void statistics_complete(struct exchange *exchange, void *reply);

#endif
