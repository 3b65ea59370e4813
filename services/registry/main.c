/*
 * main.c: registry: instances, tunnel tokens, tunnel sessions, bore-servers. Its tables and their wiring; see
 * services/lib/service.h.
 *
 * Serves API.md "Instances" (all but heartbeats and health), "Internal" and, of "Admin", instances and stats. Every
 * method is one call of a function in sql/017 to 029, where the logic is. What can come in storms has a lane of its
 * own, and there one call and one commit for hundreds: connect, validate-key, and the reports of bore-servers, whose
 * order of arrival is kept, because one thread takes them. Emits `status`, `instance.*` and `tunnel.*` through the
 * event log. Settings: those marked REGISTRY in config.def. When the database is gone, every answer is `unavailable`.
 */
#include "services/lib/service.h"
#include "services/registry/upkeep.h"

enum { BATCH_MAX = 256, BATCH_CREDITS = 1024 };

static const struct service_query queries[] = {
    { .method = MSG_INSTANCE_LIST,
        .sql = "SELECT total, cursor, next_cursor, (instance).* "
               "FROM bore.instance_list(:user_id, :limit::integer, :cursor)",
        .list = "instances" },
    { .method = MSG_INSTANCE_CREATE,
        .sql = "SELECT (instance).*, events FROM bore.instance_create(:user_id, :name, :local_port, :region, "
               ":server_host, :idempotency_key)",
        .into = "instance" },
    { .method = MSG_INSTANCE_GET,
        .sql = "SELECT * FROM bore.instance_row WHERE id = :instance_id AND user_id = :user_id",
        .into = "instance",
        .none = ERR_INSTANCE_NOT_FOUND },
    { .method = MSG_INSTANCE_RENAME,
        .sql = "SELECT success, (instance).*, events FROM bore.instance_rename(:user_id, :instance_id, :name)",
        .into = "instance" },
    { .method = MSG_INSTANCE_DELETE, .sql = "SELECT * FROM bore.instance_delete(:user_id, :instance_id)" },
    { .method = MSG_INSTANCE_DISCONNECT,
        .sql = "SELECT * FROM bore.instance_disconnect(:user_id, :instance_id, "
               "bore.duration(:config.idle_timeout_ms))" },
    { .method = MSG_INSTANCE_CONNECTION,
        .sql = "SELECT success, (instance).*, events FROM bore.instance_connection(:user_id, :instance_id, :status, "
               ":public_url, :remote_port, bore.duration(:config.idle_timeout_ms))",
        .into = "instance" },
    { .method = MSG_STATUS_HISTORY,
        .sql = "SELECT * FROM bore.instance_history(:user_id, :instance_id, coalesce(:limit::integer, 100), :cursor, "
               ":window)",
        .list = "status_history" },
    { .method = MSG_TUNNEL_SESSION_LIST,
        .sql = "SELECT * FROM bore.tunnel_session_list(:user_id, :instance_id, coalesce(:limit::integer, 100), "
               ":cursor)",
        .list = "sessions" },
    { .method = MSG_INSTANCE_ALERT_LIST,
        .sql = "SELECT * FROM bore.instance_alert_list(:user_id, :instance_id, coalesce(:limit::integer, 100), "
               ":cursor)",
        .list = "alerts" },
    { .method = MSG_STATUS_STRIPS,
        .sql = "SELECT * FROM bore.status_strips(:user_id, coalesce(:hours::integer, 24))",
        .list = "strips" },
    { .method = MSG_SERVER_RENEW,
        .sql = "SELECT * FROM bore.server_renew(:id, :host, :port, :region, :max_tunnels, :active, "
               ":config.server_lease_ms)" },
    { .method = MSG_ADMIN_INSTANCE_LIST,
        .sql = "SELECT total, cursor, next_cursor, (instance).* FROM bore.admin_instance_list(:user_id, :status, :q, "
               "coalesce(:limit::integer, 100), :cursor)",
        .list = "instances" },
    { .method = MSG_ADMIN_STATS, .sql = "SELECT * FROM bore.admin_stats(:user_id)" },
    { .method = MSG_INSTANCE_OWNER,
        .sql = "SELECT user_id FROM bore.instances WHERE id = :instance_id",
        .none = ERR_INSTANCE_NOT_FOUND },
    { 0 },
};

static const int connect_methods[] = { MSG_INSTANCE_CONNECT, 0 };
static const int validate_methods[] = { MSG_VALIDATE_KEY, 0 };
static const int report_methods[] = { MSG_TUNNEL_CONNECTED, MSG_TUNNEL_DISCONNECTED, MSG_TUNNEL_START, MSG_TUNNEL_END,
    MSG_TUNNEL_USAGE, 0 };

static const struct service_batch batches[] = {
    { .methods = connect_methods,
        .lane = "registry.connect",
        .sql = "SELECT * FROM bore.instances_connect(:user_id[], :instance_id[], :config.tunnel_token_ttl_ms, "
               ":config.bore_server_host, :config.bore_server_port, bore.duration(:config.starting_timeout_ms), "
               "bore.duration(:config.idle_timeout_ms))",
        .maximum = BATCH_MAX },
    { .methods = validate_methods,
        .lane = "registry.validate",
        .sql = "SELECT * FROM bore.validate_keys(:api_key[], bore.duration(:config.starting_timeout_ms))",
        .maximum = BATCH_MAX },
    { .methods = report_methods,
        .lane = "registry.reports",
        .sql =
            "SELECT * FROM bore.tunnel_reports(ARRAY ("
            "SELECT ROW (ord, bore.report_kind(method), instance_id, remote_port, public_url, session_id, server_id, "
            "sequence, reason, user_id, public_port, local_port, bytes_in, bytes_out, bytes_transferred)"
            "::bore.batch_report "
            "FROM unnest(:method[]::integer[], :instance_id[]::text[], :remote_port[]::integer[], "
            ":public_url[]::text[], :session_id[]::text[], :server_id[]::text[], :sequence[]::bigint[], "
            ":reason[]::text[], :user_id[]::text[], :public_port[]::integer[], :local_port[]::integer[], "
            ":bytes_in[]::bigint[], :bytes_out[]::bigint[], :bytes_transferred[]::bigint[]) WITH ORDINALITY AS given "
            "(method, instance_id, remote_port, public_url, session_id, server_id, sequence, reason, user_id, "
            "public_port, local_port, bytes_in, bytes_out, bytes_transferred, ord) ORDER BY ord), "
            ":config.bore_server_host, bore.duration(:config.starting_timeout_ms), "
            "bore.duration(:config.idle_timeout_ms))",
        .maximum = BATCH_MAX },
    { 0 },
};

static const struct service_timer timers[] = {
    { .interval_ms = 1000, .function = registry_settle_doubts, .name = "doubts" },
    { .interval_ms = 60 * 1000, .function = registry_sweep, .name = "sweep" },
    { 0 },
};

static const struct service_lane *lanes(void) {
    static struct service_lane table[] = {
        { .name = "registry", .credits = 256 },
        { .name = "registry.connect", .threads = 1, .credits = BATCH_CREDITS },
        { .name = "registry.validate", .threads = 1, .credits = BATCH_CREDITS },
        { .name = "registry.reports", .threads = 1, .credits = BATCH_CREDITS },
        { 0 },
    };
    table[0].threads = service_database_share(4);
    return table;
}

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){
            .name = "registry",
            .purpose = "Instances, tunnel tokens, tunnel sessions and bore-servers.",
            .process = REGISTRY,
            .database = true,
            .ping_method = MSG_PING_REGISTRY,
            .lanes = lanes,
            .queries = queries,
            .batches = batches,
            .timers = timers,
        });
}
