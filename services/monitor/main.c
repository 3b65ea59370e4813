/*
 * main.c: monitor: heartbeats, health samples, the rules of status that time alone makes true. Its tables and their
 * wiring; see services/lib/service.h.
 *
 * Serves API.md's heartbeat and health, and the canaries (rules.h). Heartbeats have a lane of their own with one
 * thread: it takes what waits, and the next batch forms during the commit, so hundreds share one call and one flush.
 * The logic is in sql/040 to 049. Emits `status` through the event log. Settings: those marked MONITOR in config.def.
 * When the database is gone, every answer is `unavailable`.
 */
#include "services/lib/service.h"
#include "services/monitor/rules.h"

enum { BATCH_MAX = 256, BATCH_CREDITS = 1024 };

static const struct service_query queries[] = {
    { .method = MSG_INSTANCE_HEALTH,
        .sql = "SELECT * FROM bore.instance_health(:user_id, :instance_id, coalesce(:samples::integer, 100))" },
    { .method = MSG_CANARY, .sql = "SELECT * FROM bore.canary_hear(:sender, :sent, :after_sender, :after_sent)" },
    { 0 },
};

static const int heartbeat_methods[] = { MSG_HEARTBEAT, 0 };

#define HEARTBEATS                                                                                                    \
    "(:user_id[], :instance_id[], :vscode_responsive[]::boolean[], :has_code_server[]::boolean[], "                   \
    ":cpu_usage[]::double precision[], :memory_usage[]::double precision[], :last_activity[]::bigint[], :ignored[], " \
    "bore.duration(:config.idle_timeout_ms))"

static const struct service_batch batches[] = {
    { .methods = heartbeat_methods,
        .lane = "monitor.heartbeats",
        .sql = "SELECT * FROM bore.heartbeats_steady" HEARTBEATS,
        .rest = "SELECT * FROM bore.heartbeats_hear" HEARTBEATS,
        .maximum = BATCH_MAX,
        .counter = "bore_heartbeats_total" },
    { 0 },
};

static const struct service_timer timers[] = {
    { .interval_ms = 1000, .function = rules_tick, .name = "rules" },
    { 0 },
};

static const struct service_lane *lanes(void) {
    static const struct service_lane table[] = {
        { .name = "monitor", .threads = 1, .credits = 64 },
        { .name = "monitor.heartbeats", .threads = 1, .credits = BATCH_CREDITS },
        { 0 },
    };
    return table;
}

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){
            .name = "monitor",
            .purpose = "Heartbeats, health samples, and what time alone changes.",
            .process = MONITOR,
            .database = true,
            .ping_method = MSG_PING_MONITOR,
            .lanes = lanes,
            .queries = queries,
            .batches = batches,
            .timers = timers,
            .init = rules_init,
            .release = rules_release,
        });
}
