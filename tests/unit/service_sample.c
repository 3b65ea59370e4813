/* service_sample.c: see service_sample.h. What a request is answered with is named by its instance's id. */
#include "tests/unit/service_sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"

static const struct service_lane *lanes(void) {
    static struct service_lane table[] = { { .name = "registry", .threads = 0, .credits = 6 },
        { .name = "registry.reports", .threads = 1, .credits = 300, .nice = 1 }, { 0 } };
    table[0].threads = service_database_share(2);
    return table;
}

static void fill_instance(struct instance *instance, const char *id) {
    *instance = (struct instance){ .id = xstrdup(id),
        .user_id = xstrdup("user"),
        .name = xstrdup("name"),
        .region = xstrdup(""),
        .status = xstrdup("inactive") };
}

/* What the instance's id asks for. */
HANDLER(on_get, instance_get, instance_reply) {
    const char *wish = request->instance_id;
    if (strcmp(wish, "missing") == 0) return service_fail(context, ERR_INSTANCE_NOT_FOUND, "Not that one.", 7);
    if (strcmp(wish, "fields") == 0) {
        service_fail_field(context, "name", "is too long");
        return service_fail_field(context, "local_port", "is no port");
    }
    if (strcmp(wish, "errno") == 0) return -EIO;
    if (strcmp(wish, "state") == 0 && strcmp(context->state, "the state") != 0) return ERR_CONFLICT;
    if (strcmp(wish, "deadline") == 0 && context->deadline_ms - clock_monotonic_ms() > 1000) return ERR_CONFLICT;
    if (strcmp(wish, "id") == 0 && strcmp(context->request_id, "req-test") != 0) return ERR_CONFLICT;
    if (strncmp(wish, "sleep", 5) == 0) usleep(400000);
    if (strcmp(wish, "database") == 0) {
        static const struct db_statement statement = { .name = "sleep", .sql = "SELECT 1" };
        int error = db_run(context->db, &statement, NULL, NULL);
        if (error) return service_fail_database(context, error);
    }
    ret_reply->instance = xcalloc(1, sizeof *ret_reply->instance);
    if (strcmp(wish, "incomplete") == 0) return 0;
    fill_instance(ret_reply->instance, wish);
    return 0;
}

static const struct service_handler handlers[] = { { MSG_INSTANCE_GET, on_get }, { 0 } };

static const struct service_query queries[] = {
    { .method = MSG_INSTANCE_RENAME,
        .sql =
            "SELECT true AS success, 'inst_1' AS id, :user_id::text AS user_id, :name::text AS name, 80 AS local_port, "
            "'' AS region, 'online' AS status, true AS tunnel_connected, 1::bigint AS created_at, 2::bigint AS "
            "updated_at, "
            "'[{\"id\":41,\"at\":5,\"kind\":\"instance.renamed\",\"user_id\":\"u\",\"instance_id\":\"i\",\"payload\":"
            "\"{}\"},"
            "{\"id\":42,\"at\":5,\"kind\":\"status\",\"user_id\":null,\"instance_id\":null,\"payload\":{\"a\":1}}]' AS "
            "events "
            "WHERE :instance_id::text <> 'none'",
        .into = "instance",
        .none = ERR_INSTANCE_NOT_FOUND },
    { .method = MSG_TUNNEL_SESSION_LIST,
        .sql = "SELECT x.id, x.state, x.created_at, 'next' AS next_cursor FROM (SELECT 1) one LEFT JOIN "
               "(SELECT 'ts_' || n AS id, 'open' AS state, n::bigint AS created_at FROM generate_series(1, "
               "coalesce(:limit::integer, 3)) AS n WHERE :instance_id::text <> 'empty') x ON true ORDER BY created_at",
        .list = "sessions" },
    { .method = MSG_INSTANCE_DELETE, .sql = "SELECT true AS success FROM test.refuse(:instance_id::text)" },
    { .method = MSG_STATUS_STRIPS, .sql = "SELECT 5 AS hours WHERE false" },
    { 0 },
};

static const int report_methods[] = { MSG_TUNNEL_CONNECTED, MSG_TUNNEL_DISCONNECTED, MSG_TUNNEL_START, 0 };

/* `poison` breaks the statement, `refused` is answered with an error, `silent` with nothing; each call is noted. */
static const struct service_batch batches[] = {
    { .methods = report_methods,
        .lane = "registry.reports",
        .maximum = 100,
        .sql = "WITH asked AS (SELECT * FROM unnest(:method[]::integer[], :instance_id[]::text[], "
               ":remote_port[]::integer[]) "
               "WITH ORDINALITY AS r(method, instance, port, ord)), "
               "noted AS (INSERT INTO test.calls (size) SELECT count(*) FROM asked) "
               "SELECT ord, CASE instance WHEN 'poison' THEN (1 / (port - port))::text = '1' ELSE true END AS success, "
               "'ts_' || ord AS session_id, CASE instance WHEN 'refused' THEN 'instance_not_found' WHEN 'odd' THEN "
               "'no_such' END AS "
               "error, 'Gone.' AS error_message, CASE WHEN ord = 1 AND instance = 'event' THEN "
               "'[{\"id\":43,\"at\":5,\"kind\":\"tunnel.connected\",\"payload\":\"{}\"}]' END AS events "
               "FROM asked WHERE instance IS DISTINCT FROM 'silent' ORDER BY ord DESC" },
    { 0 },
};

static void on_tick(struct service_context *context) {
    static const struct db_statement statement = { .name = "tick", .sql = "INSERT INTO test.ticks VALUES (1)" };
    db_run(context->db, &statement, NULL, NULL);
}

static const struct service_timer timers[] = { { .interval_ms = 50, .function = on_tick, .name = "tick" }, { 0 } };

/* Several tests run one after another in one database. */
static int init(struct service_context *context, void **ret_state) {
    static const char script[] =
        "CREATE SCHEMA IF NOT EXISTS test; CREATE TABLE IF NOT EXISTS test.calls (size integer); "
        "CREATE TABLE IF NOT EXISTS test.ticks (x integer);"
        "CREATE OR REPLACE FUNCTION test.refuse(wish text) RETURNS SETOF integer LANGUAGE plpgsql AS $$ BEGIN "
        "IF wish = 'refused' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'conflict', DETAIL = 'Twice.'; "
        "END IF; "
        "IF wish = 'field' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'validation_error', DETAIL = 'bad "
        "name', "
        "COLUMN = 'name'; END IF; "
        "IF wish = 'unknown' THEN RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = 'no_such_code'; END IF; "
        "IF wish = 'broken' THEN PERFORM 1 / 0; END IF; "
        "IF wish = 'slow' THEN PERFORM pg_sleep(10); END IF; RETURN NEXT 1; END $$;";
    int error = db_run_script(context->db, script);
    if (!error) *ret_state = xstrdup("the state");
    return error;
}

const struct service service_sample = { .name = "registry",
    .purpose = "a worker for tests",
    .process = REGISTRY,
    .database = true,
    .ping_method = MSG_PING_REGISTRY,
    .lanes = lanes,
    .handlers = handlers,
    .queries = queries,
    .batches = batches,
    .timers = timers,
    .init = init,
    .release = free };
