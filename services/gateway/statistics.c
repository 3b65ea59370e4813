/*
 * statistics.c: see statistics.h.
 *
 * Streams and heartbeats are summed from what all processes publish; uptime is the bus's, the one process that all
 * others need. When the bus does not say, uptime stays null.
 */
#include "services/gateway/statistics.h"

#include "common/memory.h"
#include "services/gateway/exchange.h"

void statistics_complete(struct exchange *exchange, void *reply) {
    struct gateway *gateway = exchange->gateway;
    struct admin_stats_reply *statistics = reply;
    if (statistics->active_streams == NULL)
        statistics->active_streams = xcalloc(1, sizeof(*statistics->active_streams));
    statistics->active_streams->sse = (int64_t)counters_view_sum(gateway->others, "bore_active_sse_connections");
    statistics->active_streams->socketio =
        (int64_t)counters_view_sum(gateway->others, "bore_active_socketio_connections");
    statistics->heartbeats_per_second = counters_view_rate(gateway->others, "bore_heartbeats_total");
    statistics->has_heartbeats_per_second = true;

    const struct bus_call call = { .deadline_ms = exchange->deadline_ms, .request_id = exchange->request.id };
    const struct bus_status request = {};
    struct bus_status_reply status;
    if (bus_call(gateway->bus, MSG_BUS_STATUS, &request, &call, &status, NULL) != 0) return;
    statistics->uptime = (double)status.uptime_ms / 1000;
    statistics->has_uptime = true;
    message_release(&bus_status_reply_descriptor, &status);
}
