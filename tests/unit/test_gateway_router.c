/* test_gateway_router.c: the table of routes makes sense, every path of the interface leads where it should. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/openapi.h"
#include "services/gateway/route.h"

static struct router *router;

static int set_up(void **state) {
    (void)state;
    char *complaint = NULL;
    router = router_new(routes, &complaint);
    if (router == NULL) print_error("%s\n", complaint);
    return router == NULL;
}

static int tear_down(void **state) {
    (void)state;
    router_free(router);
    return 0;
}

/* The message that "METHOD /path" leads to; 0 for a function; a negative error. */
static int find(const char *text, struct route_match *ret_match) {
    *ret_match = (struct route_match){ .route = NULL };
    static struct path path;
    char method[16];
    size_t size = strcspn(text, " ");
    snprintf(method, sizeof(method), "%.*s", (int)size, text);
    const char *target = text + size + 1;
    if (path_parse(target, strlen(target), &path) != 0) return ERR_NOT_FOUND;
    bool is_head;
    int error = router_find(router, &path, http_method_find(method, &is_head), ret_match);
    return error != 0 ? error : ret_match->route->route->message;
}

static void assert_leads_to(const char *text, int expected) {
    struct route_match match;
    int found = find(text, &match);
    if (found != expected) fail_msg("%s leads to %d instead of %d", text, found, expected);
}

static void test_paths(void **state) {
    (void)state;
    assert_leads_to("POST /api/auth/signup", MSG_SIGNUP);
    assert_leads_to("POST /api/v1/auth/login", MSG_LOGIN);
    assert_leads_to("GET /api/instances", MSG_INSTANCE_LIST);
    assert_leads_to("HEAD /api/instances", MSG_INSTANCE_LIST);
    assert_leads_to("POST /api/instances", MSG_INSTANCE_CREATE);
    assert_leads_to("GET /api/instances/status-strips", MSG_STATUS_STRIPS);
    assert_leads_to("GET /api/instances/inst_1", MSG_INSTANCE_GET);
    assert_leads_to("PATCH /api/instances/inst_1", MSG_INSTANCE_RENAME);
    assert_leads_to("POST /api/v1/instances/inst_1/connect", MSG_INSTANCE_CONNECT);
    assert_leads_to("DELETE /api/admin/users/user_1", MSG_ADMIN_USER_ACTION);
    assert_leads_to("POST /api/internal/servers", MSG_SERVER_RENEW);
    assert_leads_to("GET /health", 0);
    assert_leads_to("GET /livez", 0);
    assert_leads_to("GET /api/openapi.json", 0);
    assert_leads_to("GET /api/v1/openapi.json", 0);
}

static void test_other_names(void **state) {
    (void)state;
    assert_leads_to("GET /api/user/instances", MSG_INSTANCE_LIST);
    assert_leads_to("POST /api/v1/user/instances/i/connect", MSG_INSTANCE_CONNECT);
    assert_leads_to("GET /api/user/profile", MSG_ME);
    assert_leads_to("POST /api/v1/user/claim-plan", MSG_CLAIM_PLAN);
    assert_leads_to("GET /api/user/me", ERR_NOT_FOUND);
    assert_leads_to("GET /api/user/profile/x", ERR_NOT_FOUND);
    assert_leads_to("GET /api/user", ERR_NOT_FOUND);
    assert_leads_to("GET /api/user/user/instances", ERR_NOT_FOUND);
}

static void test_unknown_paths(void **state) {
    (void)state;
    static const char *const paths[] = { "GET /", "GET /api", "GET /api/v1", "GET /api/v1/v1/instances",
        "GET /api/v2/instances", "GET /instances", "GET /api/health", "GET /api/metrics", "GET /API/instances",
        "GET /api/instances/a/b/c", "POST /api/admin/users/u/destroy", "GET /api/auth" };
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_leads_to(paths[i], ERR_NOT_FOUND);
}

static void test_wrong_methods(void **state) {
    (void)state;
    struct route_match match;
    assert_int_equal(find("PUT /api/instances", &match), ERR_METHOD_NOT_ALLOWED);
    assert_int_equal(match.methods, 1u << HTTP_GET | 1u << HTTP_POST);
    assert_int_equal(find("BREW /api/instances/x", &match), ERR_METHOD_NOT_ALLOWED);
    assert_int_equal(match.methods, 1u << HTTP_GET | 1u << HTTP_PATCH | 1u << HTTP_DELETE);
    assert_int_equal(find("OPTIONS /api/auth/login", &match), ERR_METHOD_NOT_ALLOWED);
}

static void test_parameters(void **state) {
    (void)state;
    struct route_match match;
    find("POST /api/v1/user/instances/inst_7/connect", &match);
    if (match.route == NULL) abort();
    assert_string_equal(match.route->parts[1].field->name, "instance_id");
    assert_string_equal(match.segments[1], "inst_7");
    assert_string_equal(match.route->path, "/api/instances/{instance_id}/connect");
    find("POST /api/admin/users/u/disable", &match);
    if (match.route == NULL) abort();
    assert_string_equal(match.route->fixed_field->name, "action");
    assert_string_equal(match.route->route->fixed_value, "disable");
}

static void assert_refused(const struct route *table, const char *why) {
    char *complaint = NULL;
    assert_null(router_new(table, &complaint));
    if (strstr(complaint, why) == NULL) fail_msg("\"%s\" says nothing of \"%s\"", complaint, why);
    free(complaint);
}

static void test_senseless_tables(void **state) {
    (void)state;
    assert_refused((const struct route[]){ { .pattern = "/a" }, { .pattern = NULL } }, "neither");
    assert_refused(
        (const struct route[]){ { .pattern = "/a/{nothing}", .message = MSG_INSTANCE_GET }, { .pattern = NULL } },
        "no PATH field");
    assert_refused(
        (const struct route[]){ { .pattern = "/a/{user_id}", .message = MSG_INSTANCE_GET }, { .pattern = NULL } },
        "no PATH field");
    assert_refused((const struct route[]){ { .pattern = "/a", .message = MSG_INSTANCE_GET }, { .pattern = NULL } },
        "nothing fills");
    assert_refused(
        (const struct route[]){ { .pattern = "/a", .message = MSG_ME, .flags = UNWRAP }, { .pattern = NULL } },
        "no object");
}

/* The description is JSON, has every route, and every reference in it leads somewhere. */
static void check_references(const json_t *document, json_t *value) {
    const char *reference = json_string_value(json_object_get(value, "$ref"));
    if (reference != NULL) {
        char kind[32], name[80];
        assert_int_equal(sscanf(reference, "#/components/%31[^/]/%79s", kind, name), 2);
        json_t *components = json_object_get(json_object_get(document, "components"), kind);
        if (json_object_get(components, name) == NULL) fail_msg("%s leads nowhere", reference);
    }
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member) check_references(document, member);
    for (size_t i = 0; i < json_array_size(value); i++)
        check_references(document, json_array_get(value, i));
}

static void test_description(void **state) {
    (void)state;
    struct openapi *openapi = openapi_new(router);
    json_t *document = json_loads(openapi_text(openapi), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    size_t operations = 0;
    const char *key;
    json_t *path;
    json_object_foreach(json_object_get(document, "paths"), key, path) operations += json_object_size(path);
    size_t listed = 1; /* the event stream, which another process serves */
    for (size_t i = 0; i < router_size(router); i++)
        if ((router_route(router, i)->route->flags & UNLISTED) == 0) listed++;
    assert_int_equal(operations, listed);
    check_references(document, document);
    json_decref(document);
    openapi_free(openapi);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_wrong_methods),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_senseless_tables),
        cmocka_unit_test(test_description),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
