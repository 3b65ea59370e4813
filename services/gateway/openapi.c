/*
 * openapi.c: see openapi.h.
 *
 * One operation for each line of the table of routes; what all have in common under components.
 * https://spec.openapis.org/oas/v3.1.0
 */
#include "services/gateway/openapi.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "gen/version.h"
#include "services/gateway/exchange.h"
#include "services/gateway/openapi_schema.h"

struct openapi {
    char *text;
    size_t size;
};

static const char description[] =
    "Control plane for bore TCP tunnels. Every path under /api answers under /api/v1 too; /api/user/instances… is "
    "/api/instances…, /api/user/profile is /api/auth/me, /api/user/claim-plan is /api/auth/claim-plan. Requests accept "
    "each field in snake_case or camelCase and ignore unknown ones; types are strict. Answers are snake_case; some "
    "repeat fields in camelCase. With the cookie, a request that changes something needs an Origin equal to the host.";

/* --- operations --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *prefix; /* of the patterns; the last one takes the rest */
    const char *name;
    const char *description;
} tag_list[] = {
    { "/auth/", "Accounts", "Sign up, sign in, plans, sessions." },
    { "/instances", "Instances", "What the caller has registered, its tunnels and its history." },
    { "/admin/", "Administration", "Everything, for admins." },
    { "/internal/", "Bore-servers", "What bore-servers ask and report." },
    { "/", "System", "The system itself." },
};

static const char *tag_of(const struct route *route) {
    size_t i = 0;
    while (strncmp(route->pattern, tag_list[i].prefix, strlen(tag_list[i].prefix)) != 0)
        i++;
    return tag_list[i].name;
}

static json_t *operation_id(const struct compiled_route *compiled) {
    const struct route *route = compiled->route;
    if (compiled->method == NULL) return json_string(route->pattern + 1);
    const char *name = compiled->method->request->name;
    return route->fixed_value != NULL ? json_sprintf("%s.%s", name, route->fixed_value) : json_string(name);
}

static json_t *security_of(const struct route *route) {
    if (route->access == PUBLIC) return json_array();
    if (route->access == SCRAPER) return json_pack("[{},{s:[]}]", "metricsToken");
    if (route->access == INTERNAL) return json_pack("[{s:[]}]", "internalKey");
    return json_pack("[{s:[]},{s:[]}]", "bearer", "cookie");
}

static void add_parameter(json_t *parameters, const char *place, const char *name, bool is_required, json_t *schema) {
    json_array_append_new(parameters,
        json_pack("{s:s,s:s,s:b,s:o}", "name", name, "in", place, "required", is_required, "schema", schema));
}

static json_t *parameters_of(const struct compiled_route *compiled) {
    json_t *parameters = json_array();
    if (compiled->method == NULL) return parameters;
    bool has_body = http_method_has_body(compiled->route->method);
    for (const struct field *field = compiled->method->request->fields; field->kind != FIELD_END; field++) {
        bool is_key = (field->flags & CALLER) != 0 && strcmp(field->name, "idempotency_key") == 0;
        if (is_key) {
            add_parameter(parameters, "header", "Idempotency-Key", false, schema_of_field(field));
        } else if ((field->flags & PATH) != 0 && field != compiled->fixed_field) {
            add_parameter(parameters, "path", field->name, true, schema_of_field(field));
        } else if ((field->flags & (CALLER | PATH)) == 0 && !has_body) {
            add_parameter(
                parameters, "query", field->name, (field->flags & FIELD_OPTIONAL) == 0, schema_of_field(field));
        }
    }
    return parameters;
}

static bool has_body_fields(const struct message_descriptor *descriptor) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & (CALLER | PATH)) == 0) return true;
    }
    return false;
}

static json_t *content_of(const char *type, json_t *schema) {
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *json_content(json_t *schema) {
    return content_of("application/json", schema);
}

static void add_request_body(json_t *operation, json_t *schemas, const struct compiled_route *compiled) {
    const struct message_descriptor *descriptor = compiled->method != NULL ? compiled->method->request : NULL;
    if (descriptor == NULL || !http_method_has_body(compiled->route->method) || !has_body_fields(descriptor)) return;
    _cleanup_free_ char *name = schema_name(descriptor->name);
    json_t *schema = schema_of_request(descriptor);
    bool is_required = json_object_get(schema, "required") != NULL;
    json_object_set_new(schemas, name, schema);
    json_object_set_new(operation, "requestBody",
        json_pack("{s:b,s:o}", "required", is_required, "content", json_content(schema_component("schemas", name))));
}

static void add_error(json_t *responses, const char *status, const char *name, bool is_possible) {
    if (is_possible) json_object_set_new(responses, status, schema_component("responses", name));
}

static json_t *success_schema(json_t *schemas, const struct compiled_route *compiled) {
    if (compiled->method == NULL) return json_loads(compiled->route->answer_schema, 0, NULL);
    const struct message_descriptor *reply =
        compiled->unwrapped != NULL ? compiled->unwrapped->record : compiled->method->reply;
    schema_add_answer(schemas, reply);
    return schema_reference(reply);
}

static json_t *responses_of(json_t *schemas, const struct compiled_route *compiled) {
    const struct route *route = compiled->route;
    json_t *responses = json_object();
    json_t *schema = success_schema(schemas, compiled);
    char status[16];
    snprintf(status, sizeof(status), "%d", route->status);
    json_object_set_new(responses, status,
        json_pack("{s:s,s:o}", "description", "Done.", "content",
            content_of(route->answer_type != NULL ? route->answer_type : "application/json", json_incref(schema))));
    if (compiled->method == NULL && (route->flags & ROOT) != 0 && route->answer_type == NULL)
        json_object_set_new(responses, "503",
            json_pack("{s:s,s:o}", "description", "Not now.", "content", json_content(json_incref(schema))));
    json_decref(schema);
    bool is_on_bus = compiled->method != NULL;
    bool is_public = route->access == PUBLIC;
    add_error(responses, "400", "Invalid", is_on_bus);
    add_error(responses, "401", "Unauthorized", !is_public || (route->flags & (SETS_COOKIE | RENEWS_COOKIE)) != 0);
    add_error(responses, "403", "Forbidden", is_on_bus && route->access != INTERNAL);
    add_error(responses, "404", "NotFound", strchr(route->pattern, '{') != NULL);
    add_error(responses, "409", "Conflict", http_method_has_body(route->method) && route->access != INTERNAL);
    add_error(responses, "413", "TooLarge", http_method_has_body(route->method));
    add_error(responses, "415", "UnsupportedType", http_method_has_body(route->method));
    add_error(responses, "429", "TooManyRequests", is_on_bus);
    add_error(responses, "503", "Unavailable", is_on_bus || route->access == SCRAPER);
    add_error(responses, "504", "Timeout", is_on_bus || route->access == SCRAPER);
    return responses;
}

static void add_operation(json_t *paths, json_t *schemas, const struct compiled_route *compiled) {
    const struct route *route = compiled->route;
    json_t *operation = json_pack("{s:o,s:s,s:[s],s:o}", "operationId", operation_id(compiled), "summary",
        route->summary, "tags", tag_of(route), "security", security_of(route));
    if (route->access == ADMIN) json_object_set_new(operation, "description", json_string("For admins only."));
    json_t *parameters = parameters_of(compiled);
    if (json_array_size(parameters) > 0) json_object_set(operation, "parameters", parameters);
    json_decref(parameters);
    add_request_body(operation, schemas, compiled);
    json_object_set_new(operation, "responses", responses_of(schemas, compiled));

    char method[16];
    snprintf(method, sizeof(method), "%s", http_method_name(route->method));
    for (char *at = method; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    json_t *path = json_object_get(paths, compiled->path);
    if (path == NULL) {
        path = json_object();
        json_object_set_new(paths, compiled->path, path);
    }
    json_object_set_new(path, method, operation);
}

/* --- the rest of the document ------------------------------------------------------------------------------------- */

static json_t *error_schema(void) {
    json_t *codes = json_array();
    json_t *seen = json_object();
#define ERROR(number, NAME, wire, status, sentence)      \
    if (json_object_get(seen, wire) == NULL) {           \
        json_object_set_new(seen, wire, json_true());    \
        json_array_append_new(codes, json_string(wire)); \
    }
#include "proto/errors.def"
#undef ERROR
    json_decref(seen);
    json_t *detail = json_pack("{s:s,s:[s,s],s:{s:{s:s},s:{s:s}}}", "type", "object", "required", "field", "message",
        "properties", "field", "type", "string", "message", "type", "string");
    json_t *details = json_pack("{s:s,s:s,s:o}", "type", "array", "description",
        "Only with validation_error: every field that is wrong.", "items", detail);
    return json_pack("{s:s,s:[s,s,s],s:{s:{s:o},s:{s:s,s:s},s:o,s:{s:s}}}", "type", "object", "required", "error",
        "message", "request_id", "properties", "error", "enum", codes, "message", "type", "string", "description",
        "A sentence for a person.", "details", details, "request_id", "type", "string");
}

static json_t *error_responses(void) {
    static const struct {
        const char *name;
        const char *description;
        const char *header;
    } errors[] = {
        { "Invalid", "invalid_json, validation_error, invalid_plan: the request is wrong.", NULL },
        { "Unauthorized", "unauthorized, invalid_credentials: sign in first.", "WWW-Authenticate" },
        { "Forbidden", "forbidden, plan_expired, tunnel_limit_reached, signup_closed.", NULL },
        { "NotFound", "not_found, instance_not_found, user_not_found; somebody else's instance too.", NULL },
        { "Conflict", "user_exists, trial_used, last_admin, idempotency_conflict, conflict.", NULL },
        { "TooLarge", "payload_too_large: a body over 64 KiB.", NULL },
        { "UnsupportedType", "unsupported_media_type: a body that is not application/json.", NULL },
        { "TooManyRequests", "too_many_requests: wait as long as Retry-After says.", "Retry-After" },
        { "Unavailable", "unavailable, overloaded, no_servers_available: try again.", "Retry-After" },
        { "Timeout", "timeout: no answer in time; whether it happened is not known.", NULL },
    };
    json_t *responses = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        json_t *response = json_pack("{s:s,s:o}", "description", errors[i].description, "content",
            json_content(schema_component("schemas", "Error")));
        if (errors[i].header != NULL)
            json_object_set_new(
                response, "headers", json_pack("{s:{s:{s:s}}}", errors[i].header, "schema", "type", "string"));
        json_object_set_new(responses, errors[i].name, response);
    }
    return responses;
}

static json_t *security_schemes(void) {
    return json_pack("{s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s}}", "bearer", "type",
        "http", "scheme", "bearer", "bearerFormat", "JWT", "description", "The token of signup, login or refresh.",
        "cookie", "type", "apiKey", "in", "cookie", "name", SESSION_COOKIE, "description",
        "What signup and login set in a browser.", "internalKey", "type", "apiKey", "in", "header", "name",
        "X-Internal-API-Key", "description", "The key of the bore-servers (INTERNAL_API_KEY).", "metricsToken", "type",
        "http", "scheme", "bearer", "description", "METRICS_TOKEN, when it is set.");
}

/* The edge gives this path to the process `stream`, so no line of the table of routes has it. */
static void add_events(json_t *paths) {
    json_t *parameters = json_array();
    add_parameter(parameters, "header", "Last-Event-ID", false, json_pack("{s:s}", "type", "string"));
    add_parameter(parameters, "query", "last_event_id", false, json_pack("{s:s}", "type", "string"));
    add_parameter(parameters, "query", "scope", false, json_pack("{s:s,s:[s]}", "type", "string", "enum", "all"));
    json_t *responses = json_pack("{s:{s:s,s:{s:{s:{s:s}}}}}", "200", "description",
        "Without end: `id:` (the cursor), `data:` (JSON), and an `event:` name for what is no change of status.",
        "content", "text/event-stream", "schema", "type", "string");
    add_error(responses, "401", "Unauthorized", true);
    add_error(responses, "403", "Forbidden", true);
    add_error(responses, "429", "TooManyRequests", true);
    add_error(responses, "503", "Unavailable", true);
    json_object_set_new(paths, "/api/events/status",
        json_pack("{s:{s:s,s:s,s:s,s:[s],s:[{s:[]},{s:[]}],s:o,s:o}}", "get", "operationId", "events", "summary",
            "Changes as they happen (server-sent events), from the cursor of the last one seen.", "description",
            "The caller's own instances; for admins, scope=all is everybody's.", "tags", "Instances", "security",
            "bearer", "cookie", "parameters", parameters, "responses", responses));
}

static json_t *compose(struct router *router) {
    json_t *paths = json_object();
    json_t *schemas = json_pack("{s:o}", "Error", error_schema());
    for (size_t i = 0; i < router_size(router); i++) {
        const struct compiled_route *compiled = router_route(router, i);
        if ((compiled->route->flags & UNLISTED) == 0) add_operation(paths, schemas, compiled);
    }
    add_events(paths);
    json_t *info = json_pack("{s:s,s:s,s:s,s:{s:s,s:s}}", "title", "Bore Backend", "version", BORE_VERSION,
        "description", description, "license", "name", "MIT", "identifier", "MIT");
    json_t *tags = json_array();
    for (size_t i = 0; i < ARRAY_SIZE(tag_list); i++)
        json_array_append_new(
            tags, json_pack("{s:s,s:s}", "name", tag_list[i].name, "description", tag_list[i].description));
    return json_pack("{s:s,s:o,s:[{s:s}],s:o,s:o,s:{s:o,s:o,s:o}}", "openapi", "3.1.0", "info", info, "servers", "url",
        "/", "tags", tags, "paths", paths, "components", "schemas", schemas, "responses", error_responses(),
        "securitySchemes", security_schemes());
}

struct openapi *openapi_new(struct router *router) {
    struct openapi *self = xcalloc(1, sizeof(*self));
    json_t *document = compose(router);
    self->text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    if (self->text == NULL) self->text = xstrdup("{}");
    self->size = strlen(self->text);
    return self;
}

void openapi_free(struct openapi *self) {
    if (self == NULL) return;
    free(self->text);
    free(self);
}

const char *openapi_text(const struct openapi *self) {
    return self->text;
}

void openapi_serve(struct exchange *exchange) {
    const struct openapi *self = exchange->gateway->openapi;
    answer_json(&exchange->answer, 200);
    exchange->answer.content = self->text;
    exchange->answer.content_size = self->size;
}
