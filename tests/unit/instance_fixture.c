/* instance_fixture.c: see instance_fixture.h. */
#include "tests/unit/instance_fixture.h"

#include "tests/unit/sql_client.h"

void fixture_clear_all(struct db *connection) {
    sql_run(connection,
        "TRUNCATE bore.users, bore.sessions, bore.refresh_tokens, bore.revoked_sessions, bore.login_throttle, "
        "bore.audit, bore.idempotency, bore.events, bore.servers, bore.instances, bore.heartbeats, "
        "bore.health_metrics, bore.status_history, bore.waiting, bore.tunnel_tokens, bore.tunnel_sessions, "
        "bore.alert_history CASCADE");
}

const char *fixture_make_instance(struct db *connection, const char *user, const char *name) {
    return sql_ask(
        connection, "SELECT (instance).id FROM bore.instance_create($1, $2, 3000, NULL, NULL, NULL)", user, name);
}

void fixture_set_history(struct db *connection, const char *instance, const char *history) {
    sql_ask(connection, "DELETE FROM bore.status_history WHERE instance_id = $1", instance);
    sql_ask(connection,
        "INSERT INTO bore.status_history (instance_id, status, reason, at) "
        "SELECT $1, split_part(entry, ' ', 1), 'told', now() - split_part(entry, ' ', 2)::numeric * interval '1 "
        "minute' "
        "FROM unnest(string_to_array($2, ', ')) WITH ORDINALITY AS told (entry, place) ORDER BY place",
        instance, history);
}
