/*
 * test_gateway_serve.c: whole exchanges without a socket and without a bus: this file is the bus. What a request
 * becomes as a message, what a reply becomes as an answer, who is let in, what cookies are set, what is counted.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"
#include "services/gateway/openapi.h"

static const char secret[] = "a test's key of more than 32 characters";

static struct gateway gateway;
static struct exchange exchange;
static json_t *body; /* of the last answer */

/* --- the bus ------------------------------------------------------------------------------------------------------ */

static struct {
    int calls;
    int method;
    struct strbuf request; /* as message_debug shows it */
    int error;
    struct error_reply refusal;
    void (*fill)(void *reply);
} bus;

int bus_call(struct bus_client *self, int request_id_of_message, const void *request, const struct bus_call *call,
    void *ret_reply, struct error_reply *ret_error) {
    (void)self;
    assert_non_null(call->request_id);
    const struct method *method = method_find(request_id_of_message);
    bus.calls++;
    bus.method = request_id_of_message;
    strbuf_clear(&bus.request);
    message_debug(method->request, request, &bus.request);
    if (bus.error != 0) {
        if (ret_error != NULL) message_copy(&error_reply_descriptor, &bus.refusal, ret_error);
        return bus.error;
    }
    memset(ret_reply, 0, method->reply->size);
    if (bus.fill != NULL) bus.fill(ret_reply);
    return 0;
}

static int revocation_error;

int revocations_check(struct revocation_set *self, const struct token_claims *claims, int64_t deadline_ms) {
    (void)self;
    (void)claims;
    (void)deadline_ms;
    return revocation_error;
}

/* --- exchanges ---------------------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    char *complaint = NULL;
    const char *bad;
    gateway = (struct gateway){ .edge_secret = "edge", .internal_api_key = "internal key", .threads = 8 };
    gateway.router = router_new(routes, &complaint);
    gateway.cors = cors_new("https://app.example", &bad);
    gateway.pages = pages_new("/nonexistent");
    gateway.openapi = openapi_new(gateway.router);
    gateway.health = health_new();
    gateway.others = counters_view_new();
    gateway.tokens = token_cache_new(secret, 100);
    exchange_init(&exchange, &gateway);
    strbuf_init(&bus.request);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    json_decref(body);
    body = NULL;
    strbuf_release(&bus.request);
    exchange_release(&exchange);
    token_cache_free(gateway.tokens);
    counters_view_free(gateway.others);
    health_free(gateway.health);
    openapi_free(gateway.openapi);
    pages_free(gateway.pages);
    cors_free(gateway.cors);
    router_free(gateway.router);
    return 0;
}

static int reset(void **state) {
    (void)state;
    bus.calls = bus.method = bus.error = 0;
    bus.fill = NULL;
    bus.refusal = (struct error_reply){ .message = NULL };
    revocation_error = 0;
    return 0;
}

static char *make_token(bool is_admin) {
    const struct token_claims claims = { .user_id = "user_1",
        .email = "u@bore.com",
        .session_id = "sess_1",
        .is_admin = is_admin,
        .issued_at = time(NULL),
        .expires_at = time(NULL) + 1000 };
    return token_issue(secret, &claims);
}

/* Serves "METHOD /path" with these headers and body; the status. */
static int serve(const char *line, const struct headers *headers, const char *text) {
    struct request *request = &exchange.request;
    exchange_begin(&exchange);
    request->method_name = line;
    char method[16];
    snprintf(method, sizeof(method), "%.*s", (int)strcspn(line, " "), line);
    request->method = http_method_find(method, &request->is_head);
    request->peer = "127.0.0.1";
    request->headers = *headers;
    strbuf_append_text(&request->body, text);
    exchange_set_request_id(&exchange, headers->request_id);
    struct target target;
    assert_true(target_parse(strchr(line, '/'), &target));
    assert_int_equal(path_parse(target.path, target.path_size, &request->path), 0);
    request->query = target.query;
    exchange_serve(&exchange);
    exchange_end(&exchange);
    assert_int_equal(atomic_load(&gateway.in_flight), 0);
    json_decref(body);
    body = json_loads(exchange.answer.body.data, 0, NULL);
    return exchange.answer.status;
}

static int serve_as_user(const char *line, const char *text) {
    _cleanup_free_ char *token = make_token(false);
    _cleanup_free_ char *authorization = xasprintf("Bearer %s", token);
    return serve(line, &(struct headers){ .authorization = authorization }, text);
}

static void assert_error(const char *code) {
    assert_string_equal(json_string_value(json_object_get(body, "error")), code);
    assert_string_equal(json_string_value(json_object_get(body, "request_id")), exchange.request.id);
}

static void assert_request(const char *text) {
    if (strstr(bus.request.data, text) == NULL) fail_msg("no %s in %s", text, bus.request.data);
}

static bool has_header(const char *text) {
    return strstr(exchange.answer.headers.data, text) != NULL;
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static void fill_instance(void *reply) {
    struct instance_reply *message = reply;
    message->instance = xcalloc(1, sizeof(*message->instance));
    message->instance->id = xstrdup("inst_1");
    message->instance->user_id = xstrdup("user_1");
    message->instance->name = xstrdup("<b>");
    message->instance->region = xstrdup("local");
    message->instance->status = xstrdup("inactive");
    message->instance->local_port = 80;
}

static void test_body_path_and_caller_become_the_message(void **state) {
    (void)state;
    bus.fill = fill_instance;
    assert_int_equal(
        serve_as_user("POST /api/instances", "{\"name\":\"n\",\"localPort\":80,\"user_id\":\"other\",\"x\":[]}"), 201);
    assert_int_equal(bus.method, MSG_INSTANCE_CREATE);
    assert_request("user_id=\"user_1\"");
    assert_request("local_port=80");
    assert_string_equal(json_string_value(json_object_get(body, "id")), "inst_1");
    assert_int_equal(json_integer_value(json_object_get(body, "localPort")), 80);
    assert_true(json_is_null(json_object_get(body, "remote_port")));
    assert_int_equal(serve_as_user("GET /api/v1/user/instances/inst_1", ""), 200);
    assert_request("instance_id=\"inst_1\"");
    assert_int_equal(serve_as_user("HEAD /api/instances/inst_1", ""), 200);
}

static void test_query_becomes_the_message(void **state) {
    (void)state;
    assert_int_equal(serve_as_user("GET /api/auth/sessions?limit=7&cursor=a%2Bb&nothing=1&user_id=x", ""), 200);
    assert_request("limit=7");
    assert_request("cursor=\"a+b\"");
    assert_request("user_id=\"user_1\"");
    assert_request("token_session=\"sess_1\"");
    assert_int_equal(serve_as_user("GET /api/auth/sessions?limit=0&cursor=%ff", ""), 400);
    assert_error("validation_error");
    assert_int_equal(json_array_size(json_object_get(body, "details")), 2);
}

static void test_the_route_itself_fills_a_field(void **state) {
    (void)state;
    assert_int_equal(serve_as_user("POST /api/admin/users/user_2/make-admin", "{\"action\":\"delete\"}"), 200);
    assert_int_equal(bus.method, MSG_ADMIN_USER_ACTION);
    assert_request("target_id=\"user_2\"");
    assert_request("action=\"make-admin\"");
}

static void test_complaints(void **state) {
    (void)state;
    assert_int_equal(serve_as_user("POST /api/instances", "{\"name\":7,\"local_port\":99999}"), 400);
    assert_error("validation_error");
    assert_int_equal(json_array_size(json_object_get(body, "details")), 2);
    assert_int_equal(serve_as_user("POST /api/instances", "{"), 400);
    assert_error("invalid_json");
    assert_null(json_object_get(body, "details"));
    assert_int_equal(serve_as_user("POST /api/instances", ""), 400);
    assert_error("validation_error");
    assert_int_equal(bus.calls, 0);
    _cleanup_free_ char *path = xasprintf("GET /api/instances/%0*d", 65, 0);
    assert_int_equal(serve_as_user(path, ""), 404);
    assert_error("instance_not_found");
    assert_int_equal(
        serve_as_user("DELETE /api/admin/users/00000000000000000000000000000000000000000000000000000000000000000", ""),
        404);
    assert_error("user_not_found");
}

static void test_refusals(void **state) {
    (void)state;
    bus.error = ERR_TUNNEL_LIMIT_REACHED;
    bus.refusal.message = (char[]){ "All 5." };
    assert_int_equal(serve_as_user("POST /api/instances/inst_1/connect", ""), 403);
    assert_error("tunnel_limit_reached");
    assert_string_equal(json_string_value(json_object_get(body, "message")), "All 5.");
    bus.refusal.message = NULL;
    bus.error = ERR_TIMEOUT;
    assert_int_equal(serve_as_user("GET /api/instances", ""), 504);
    assert_error("timeout");
    bus.error = ERR_UNAVAILABLE;
    assert_int_equal(serve_as_user("GET /api/instances", ""), 503);
    assert_true(has_header("Retry-After: 1\r\n"));
}

static void test_types_of_bodies(void **state) {
    (void)state;
    static const char *const good[] = { "application/json", "Application/JSON;charset=utf-8", NULL };
    static const char *const bad[] = { "text/plain", "application/jsonx", "", "application/x-www-form-urlencoded" };
    struct headers headers = { .internal_api_key = "internal key" };
    const char line[] = "POST /api/internal/validate-key";
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        headers.content_type = good[i];
        assert_int_equal(serve(line, &headers, "{\"api_key\":\"tk_1\"}"), 200);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        headers.content_type = bad[i];
        assert_int_equal(serve(line, &headers, "{\"api_key\":\"tk_1\"}"), 415);
        assert_error("unsupported_media_type");
        assert_int_equal(serve("POST /api/internal/instances/i/tunnel-disconnected", &headers, ""), 200);
    }
    headers.content_type = good[0];
    headers.content_encoding = "gzip";
    assert_int_equal(serve(line, &headers, "{}"), 415);
}

/* --- callers ------------------------------------------------------------------------------------------------------ */

static void test_who_is_let_in(void **state) {
    (void)state;
    struct headers headers = { .bytes = 0 };
    assert_int_equal(serve("GET /api/auth/me", &headers, ""), 401);
    assert_error("unauthorized");
    assert_true(has_header("WWW-Authenticate: Bearer\r\n"));
    headers.authorization = "Bearer a.b.c";
    assert_int_equal(serve("GET /api/auth/me", &headers, ""), 401);
    headers.authorization = "Basic abc";
    assert_int_equal(serve("GET /api/auth/me", &headers, ""), 401);
    assert_int_equal(bus.calls, 0);
    assert_int_equal(serve_as_user("GET /api/auth/me", ""), 200);
    revocation_error = ERR_UNAUTHORIZED;
    assert_int_equal(serve_as_user("GET /api/auth/me", ""), 401);
    revocation_error = ERR_UNAVAILABLE;
    assert_int_equal(serve_as_user("GET /api/auth/me", ""), 503);
    assert_error("unavailable");
    assert_int_equal(bus.calls, 1);
}

static void test_bore_servers(void **state) {
    (void)state;
    struct headers headers = { .bytes = 0 };
    static const char *const wrong[] = { NULL, "", "internal", "internal keyx", "Internal key" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        headers.internal_api_key = wrong[i];
        gateway.internal_api_key_previous = i % 2 ? "" : "former key";
        assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"session_id\":\"s\"}"), 401);
        assert_error("unauthorized");
    }
    headers.internal_api_key = "internal key";
    assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"sessionId\":\"s\"}"), 200);
    _cleanup_free_ char *token = make_token(true);
    _cleanup_free_ char *authorization = xasprintf("Bearer %s", token);
    headers = (struct headers){ .authorization = authorization };
    assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"session_id\":\"s\"}"), 401);

    /* two keys while bore-servers change over, one afterwards */
    headers = (struct headers){ .internal_api_key = "former key" };
    gateway.internal_api_key_previous = NULL;
    assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"session_id\":\"s\"}"), 401);
    gateway.internal_api_key_previous = "former key";
    assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"session_id\":\"s\"}"), 200);
    headers.internal_api_key = "internal key";
    assert_int_equal(serve("POST /api/internal/tunnel/end", &headers, "{\"session_id\":\"s\"}"), 200);
}

static void test_the_cookie(void **state) {
    (void)state;
    _cleanup_free_ char *token = make_token(false);
    _cleanup_free_ char *cookie = xasprintf("a=b; bore_session=%s", token);
    struct headers headers = { .cookie = cookie, .host = "bore.example" };
    assert_int_equal(serve("GET /api/auth/me", &headers, ""), 200);
    assert_int_equal(serve("POST /api/instances/i/connect", &headers, ""), 403);
    assert_error("forbidden");
    headers.origin = "https://evil.example";
    assert_int_equal(serve("DELETE /api/instances/i", &headers, ""), 403);
    headers.origin = "https://bore.example";
    assert_int_equal(serve("DELETE /api/instances/i", &headers, ""), 200);
    assert_int_equal(serve("POST /api/auth/logout", &headers, ""), 200);
    assert_true(has_header("Set-Cookie: bore_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\n"));
    headers.cookie = "bore_session=old";
    assert_int_equal(serve("GET /api/auth/me", &headers, ""), 401);
    assert_true(has_header("Set-Cookie: bore_session=; Path=/; Max-Age=0"));
}

static void fill_sign_in(void *reply) {
    struct signed_in_reply *message = reply;
    message->token = make_token(false);
    message->user_id = xstrdup("user_1");
    message->refresh_token = xstrdup("rt_1");
    message->user = xcalloc(1, sizeof(*message->user));
    message->user->id = xstrdup("user_1");
    message->user->email = xstrdup("u@bore.com");
    message->user->name = xstrdup("U");
    message->user->plan = xstrdup("trial");
}

static void test_signing_in_sets_the_cookie(void **state) {
    (void)state;
    bus.fill = fill_sign_in;
    const char text[] = "{\"email\":\"u@bore.com\",\"password\":\"test123\"}";
    struct headers headers = { .host = "h", .forwarded_for = "203.0.113.9", .user_agent = "curl/8\x01" };
    assert_int_equal(serve("POST /api/auth/login", &headers, text), 200);
    assert_request("address=\"127.0.0.1\"");
    assert_request("user_agent=\"curl/8?\"");
    assert_request("password=***");
    assert_true(has_header("Set-Cookie: bore_session=ey"));
    assert_true(has_header("; Path=/; Max-Age=1000; HttpOnly; SameSite=Strict\r\n"));
    headers.edge_secret = "edge";
    headers.forwarded_proto = "https";
    headers.origin = "https://h";
    assert_int_equal(serve("POST /api/auth/login", &headers, text), 200);
    assert_request("address=\"203.0.113.9\"");
    assert_true(has_header("; SameSite=Strict; Secure\r\n"));
    headers.origin = "https://evil.example";
    assert_int_equal(serve("POST /api/auth/login", &headers, text), 200);
    assert_false(has_header("Set-Cookie"));
}

static void fill_refresh(void *reply) {
    struct refresh_reply *message = reply;
    message->token = make_token(false);
    message->refresh_token = xstrdup("rt_2");
}

static void test_refreshing_renews_a_cookie_that_was_there(void **state) {
    (void)state;
    bus.fill = fill_refresh;
    struct headers headers = { .host = "h" };
    assert_int_equal(serve("POST /api/auth/refresh", &headers, "{\"refresh_token\":\"rt_1\"}"), 200);
    assert_false(has_header("Set-Cookie"));
    headers.cookie = "bore_session=whatever";
    assert_int_equal(serve("POST /api/auth/refresh", &headers, "{\"refresh_token\":\"rt_1\"}"), 200);
    assert_true(has_header("Set-Cookie: bore_session=ey"));
}

static void test_idempotency_keys(void **state) {
    (void)state;
    struct headers headers = { .idempotency_key = "k-1" };
    const char text[] = "{\"name\":\"n\",\"email\":\"u@bore.com\",\"password\":\"test123\"}";
    bus.fill = fill_sign_in;
    assert_int_equal(serve("POST /api/auth/signup", &headers, text), 201);
    assert_request("idempotency_key=\"k-1\"");
    static const char *const bad[] = { "", "a b", "\xc3\xa4", "a\tb" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        headers.idempotency_key = bad[i];
        assert_int_equal(serve("POST /api/auth/signup", &headers, text), 400);
        assert_error("validation_error");
    }
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

static void test_methods_and_paths(void **state) {
    (void)state;
    struct headers headers = { .bytes = 0 };
    assert_int_equal(serve("PUT /api/instances", &headers, ""), 405);
    assert_error("method_not_allowed");
    assert_true(has_header("Allow: GET, HEAD, POST, OPTIONS\r\n"));
    assert_int_equal(serve("GET /nothing", &headers, ""), 404);
    assert_error("not_found");
    assert_int_equal(serve("OPTIONS /api/instances", &headers, ""), 204);
    assert_true(has_header("Allow: GET, HEAD, POST, OPTIONS\r\n"));
    headers.origin = "https://app.example";
    headers.access_request_method = "POST";
    assert_int_equal(serve("OPTIONS /api/instances", &headers, ""), 204);
    assert_true(has_header("Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"));
    headers.origin = "https://evil.example";
    assert_int_equal(serve("OPTIONS /api/instances", &headers, ""), 204);
    assert_false(has_header("Access-Control"));
}

/* The value of a counter, or -1; of a histogram, how often it was told. */
static double counted(const char *name, const char *labels) {
    struct counters counters;
    double value = -1;
    counters_snapshot("gateway", 1, &counters);
    for (size_t i = 0; i < counters.values_count; i++) {
        const struct counter_value *one = &counters.values[i];
        if (strcmp(one->name, name) != 0 || strcmp(one->labels, labels) != 0) continue;
        value = one->buckets != NULL ? strtod(strrchr(one->buckets, ':') + 1, NULL) : one->value;
    }
    message_release(&counters_descriptor, &counters);
    return value;
}

static void test_counting(void **state) {
    (void)state;
    static const char total[] = "bore_api_requests_total";
    static const char route[] = "method=\"DELETE\",route=\"/api/auth/sessions/{session_id}\",status=\"401\"";
    static const char unknown[] = "method=\"OTHER\",route=\"unmatched\",status=\"404\"";
    const struct headers headers = { .bytes = 0 };
    assert_true(counted(total, route) < 0);
    for (int i = 0; i < 3; i++)
        serve("DELETE /api/v1/auth/sessions/sess_1", &headers, "");
    assert_true(counted(total, route) == 3);
    assert_true(counted("bore_api_response_time_seconds", "route=\"/api/auth/sessions/{session_id}\"") == 3);
    serve("BREW /some/path", &headers, "");
    serve("BREW /another/path", &headers, "");
    assert_true(counted(total, unknown) == 2);
    serve("GET /livez", &headers, "");
    assert_true(counted(total, "method=\"GET\",route=\"/livez\",status=\"200\"") < 0);
}

static void test_request_ids(void **state) {
    (void)state;
    struct headers headers = { .request_id = "mine-1" };
    serve("GET /nothing", &headers, "");
    assert_string_equal(exchange.request.id, "mine-1");
    headers.request_id = "not sane";
    serve("GET /nothing", &headers, "");
    assert_int_equal(strlen(exchange.request.id), 24);
}

static void test_a_class_keeps_to_its_limit(void **state) {
    (void)state;
    const struct headers headers = { .bytes = 0 };
    const char text[] = "{\"email\":\"u@bore.com\",\"password\":\"test123\"}";
    bus.fill = fill_sign_in;
    atomic_store(&gateway.held[LIMIT_PASSWORD], 3);
    assert_int_equal(serve("POST /api/auth/login", &headers, text), 503);
    assert_error("overloaded");
    assert_int_equal(bus.calls, 0);
    atomic_store(&gateway.held[LIMIT_PASSWORD], 2);
    assert_int_equal(serve("POST /api/auth/login", &headers, text), 200);
    assert_int_equal(atomic_load(&gateway.held[LIMIT_PASSWORD]), 2);
    atomic_store(&gateway.held[LIMIT_PASSWORD], 0);
}

static void fill_everything_healthy(void *reply) {
    if (bus.method != MSG_BUS_STATUS) {
        ((struct ping_reply *)reply)->database = true;
        return;
    }
    struct bus_status_reply *status = reply;
    const struct field *lanes = message_field(&bus_status_reply_descriptor, "lanes");
    for (const struct method *method = methods; method->request_id != 0; method++) {
        struct lane_status *lane = message_list_add(lanes, status);
        lane->lane = xstrdup(method->lane);
        lane->workers = 1;
    }
}

static void test_health(void **state) {
    (void)state;
    const struct headers headers = { .bytes = 0 };
    bus.fill = fill_everything_healthy;
    assert_int_equal(serve("GET /health", &headers, ""), 200);
    assert_string_equal(json_string_value(json_object_get(body, "status")), "degraded"); /* no stream was heard of */
    json_t *checks = json_object_get(body, "checks");
    static const char *const healthy[] = { "bus", "auth", "registry", "database" };
    for (size_t i = 0; i < ARRAY_SIZE(healthy); i++)
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(checks, healthy[i]), "status")), "healthy");
    assert_string_equal(json_string_value(json_object_get(json_object_get(checks, "stream"), "status")), "unhealthy");
    int calls = bus.calls;
    assert_int_equal(serve("GET /health", &headers, ""), 200);
    assert_int_equal(bus.calls, calls); /* the findings are still fresh */
    nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
    bus.error = ERR_UNAVAILABLE;
    assert_int_equal(serve("GET /health", &headers, ""), 503);
    assert_error("unavailable");
    assert_true(has_header("Retry-After: 1\r\n"));
    assert_int_equal(serve("GET /livez", &headers, ""), 200);
    atomic_store(&gateway.is_stopping, true);
    assert_int_equal(serve("GET /livez", &headers, ""), 503);
    atomic_store(&gateway.is_stopping, false);
}

static void test_statistics(void **state) {
    (void)state;
    assert_int_equal(serve_as_user("GET /api/admin/stats", ""), 200);
    assert_int_equal(bus.calls, 2);
    json_t *streams = json_object_get(body, "active_streams");
    assert_int_equal(json_integer_value(json_object_get(streams, "sse")), 0);
    assert_true(json_is_number(json_object_get(body, "heartbeats_per_second")));
    assert_true(json_is_number(json_object_get(body, "uptime")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_body_path_and_caller_become_the_message, reset),
        cmocka_unit_test_setup(test_query_becomes_the_message, reset),
        cmocka_unit_test_setup(test_the_route_itself_fills_a_field, reset),
        cmocka_unit_test_setup(test_complaints, reset),
        cmocka_unit_test_setup(test_refusals, reset),
        cmocka_unit_test_setup(test_types_of_bodies, reset),
        cmocka_unit_test_setup(test_who_is_let_in, reset),
        cmocka_unit_test_setup(test_bore_servers, reset),
        cmocka_unit_test_setup(test_the_cookie, reset),
        cmocka_unit_test_setup(test_signing_in_sets_the_cookie, reset),
        cmocka_unit_test_setup(test_refreshing_renews_a_cookie_that_was_there, reset),
        cmocka_unit_test_setup(test_idempotency_keys, reset),
        cmocka_unit_test_setup(test_methods_and_paths, reset),
        cmocka_unit_test_setup(test_counting, reset),
        cmocka_unit_test_setup(test_request_ids, reset),
        cmocka_unit_test_setup(test_a_class_keeps_to_its_limit, reset),
        cmocka_unit_test_setup(test_health, reset),
        cmocka_unit_test_setup(test_statistics, reset),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
