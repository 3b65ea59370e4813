/*
 * openapi.c: see openapi.h.
 *
 * Schemas come from the descriptors that also check requests and write answers, so they cannot disagree with what the
 * gateway does. Requests and answers of one message differ in what may be left out, hence two kinds of schema.
 * https://spec.openapis.org/oas/v3.1.0
 */
#include "services/gateway/openapi.h"

#include <ctype.h>
#include <float.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "gen/version.h"
#include "services/gateway/exchange.h"

struct openapi {
    char *text;
    size_t size;
    char etag[40];
};

static const char description[] =
    "Control plane for bore TCP tunnels. Every path under /api answers under /api/v1 too; /api/user/instances… is "
    "/api/instances…, /api/user/profile is /api/auth/me, /api/user/claim-plan is /api/auth/claim-plan. Requests accept "
    "each field in snake_case or camelCase and ignore unknown ones; types are strict. Answers are snake_case; some "
    "repeat fields in camelCase. With the cookie, a request that changes something needs an Origin equal to the host.";

/* --- schemas ------------------------------------------------------------------------------------------------------ */

/* signed_in_reply -> SignedInReply */
static char *schema_name(const char *message) {
    struct strbuf name = STRBUF_INIT;
    bool raise = true;
    for (; *message != '\0'; message++) {
        if (*message != '_') strbuf_append_char(&name, raise ? (char)toupper((unsigned char)*message) : *message);
        raise = *message == '_';
    }
    return strbuf_detach(&name);
}

static json_t *reference(const char *kind, const char *name) {
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%s", kind, name));
}

static json_t *schema_reference(const struct message_descriptor *descriptor) {
    _cleanup_free_ char *name = schema_name(descriptor->name);
    return reference("schemas", name);
}

/* Bounds that a double holds exactly; the others say nothing that a reader needs. */
static bool is_telling(double bound) {
    return bound > -0x1p53 && bound < 0x1p53;
}

static void set_number(json_t *schema, const char *key, double value) {
    json_object_set_new(schema, key, json_integer((json_int_t)value));
}

static void set_bounds(json_t *schema, const struct field *field, const char *minimum, const char *maximum) {
    if (is_telling(field->minimum) && (field->minimum > 0 || field->kind != FIELD_STR))
        set_number(schema, minimum, field->minimum);
    if (is_telling(field->maximum)) set_number(schema, maximum, field->maximum);
}

static json_t *text_schema(const struct field *field) {
    json_t *schema = json_pack("{s:s}", "type", "string");
    set_bounds(schema, field, "minLength", "maxLength");
    if ((field->flags & SECRET) != 0) json_object_set_new(schema, "format", json_string("password"));
    return schema;
}

static json_t *list_schema(const struct field *field, json_t *items) {
    json_t *schema = json_pack("{s:s,s:o}", "type", "array", "items", items);
    set_number(schema, "maxItems", field->maximum);
    return schema;
}

static json_t *value_schema(const struct field *field) {
    json_t *schema;
    switch (field->kind) {
    case FIELD_INT:
        schema = json_pack("{s:s,s:s}", "type", "integer", "format", "int64");
        set_bounds(schema, field, "minimum", "maximum");
        return schema;
    case FIELD_DOUBLE:
        schema = json_pack("{s:s}", "type", "number");
        set_bounds(schema, field, "minimum", "maximum");
        return schema;
    case FIELD_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case FIELD_TIME:
        return json_pack("{s:s,s:s}", "type", "string", "format", "date-time");
    case FIELD_STRINGS:
        return list_schema(field, json_pack("{s:s}", "type", "string"));
    case FIELD_OBJECT:
        return schema_reference(field->record);
    case FIELD_LIST:
        return list_schema(field, schema_reference(field->record));
    default:
        return text_schema(field);
    }
}

static bool is_optional(const struct field *field) {
    return (field->flags & FIELD_OPTIONAL) != 0;
}

/* The same, or null. */
static json_t *nullable(json_t *schema) {
    json_t *type = json_object_get(schema, "type");
    if (type == NULL) return json_pack("{s:[o,{s:s}]}", "anyOf", schema, "type", "null");
    json_object_set_new(schema, "type", json_pack("[O,s]", type, "null"));
    return schema;
}

static void add_aliases(
    json_t *properties, json_t *required, const struct message_descriptor *descriptor, const struct field *field) {
    for (const struct field_alias *alias = descriptor->aliases; alias->name != NULL; alias++) {
        if (strcmp(alias->source, field->name) != 0) continue;
        json_t *schema = json_deep_copy(json_object_get(properties, field->name));
        json_object_set_new(schema, "description", json_sprintf("The same as %s.", field->name));
        json_object_set_new(properties, alias->name, schema);
        if ((field->flags & OMIT) == 0) json_array_append_new(required, json_string(alias->name));
    }
}

static json_t *object_schema(const struct message_descriptor *descriptor, json_t *properties, json_t *required) {
    json_t *schema =
        json_pack("{s:s,s:s,s:o}", "type", "object", "description", descriptor->description, "properties", properties);
    if (json_array_size(required) > 0) json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

/* As an answer: every field is there, unknown ones are null; only OMIT ones may be missing. */
static json_t *answer_schema(const struct message_descriptor *descriptor) {
    json_t *properties = json_object();
    json_t *required = json_array();
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & HIDDEN) != 0 || field->kind == FIELD_BIN) continue;
        bool is_omitted = (field->flags & OMIT) != 0;
        json_t *schema = value_schema(field);
        if (is_optional(field) && !is_omitted) schema = nullable(schema);
        json_object_set_new(properties, field->name, schema);
        if (!is_omitted) json_array_append_new(required, json_string(field->name));
        add_aliases(properties, required, descriptor, field);
    }
    return object_schema(descriptor, properties, required);
}

/* As a request's body: what the path and the caller fill is not in it. */
static json_t *request_schema(const struct message_descriptor *descriptor) {
    json_t *properties = json_object();
    json_t *required = json_array();
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & (CALLER | PATH)) != 0 || field->kind == FIELD_BIN) continue;
        bool is_list = field->kind == FIELD_LIST || field->kind == FIELD_STRINGS;
        json_t *schema = value_schema(field);
        if (is_optional(field)) schema = nullable(schema);
        json_object_set_new(properties, field->name, schema);
        if (!is_optional(field) && !is_list) json_array_append_new(required, json_string(field->name));
    }
    return object_schema(descriptor, properties, required);
}

/* Adds the schema of an answer and of all records in it. */
static void add_answer_schemas(json_t *schemas, const struct message_descriptor *descriptor) {
    _cleanup_free_ char *name = schema_name(descriptor->name);
    if (json_object_get(schemas, name) != NULL) return;
    json_object_set_new(schemas, name, answer_schema(descriptor));
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (field->record != NULL) add_answer_schemas(schemas, field->record);
    }
}

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
            add_parameter(parameters, "header", "Idempotency-Key", false, text_schema(field));
        } else if ((field->flags & PATH) != 0 && field != compiled->fixed_field) {
            add_parameter(parameters, "path", field->name, true, value_schema(field));
        } else if ((field->flags & (CALLER | PATH)) == 0 && !has_body) {
            add_parameter(parameters, "query", field->name, !is_optional(field), value_schema(field));
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

static json_t *json_content(json_t *schema) {
    return json_pack("{s:{s:o}}", "application/json", "schema", schema);
}

static void add_request_body(json_t *operation, json_t *schemas, const struct compiled_route *compiled) {
    const struct message_descriptor *descriptor = compiled->method != NULL ? compiled->method->request : NULL;
    if (descriptor == NULL || !http_method_has_body(compiled->route->method) || !has_body_fields(descriptor)) return;
    _cleanup_free_ char *name = schema_name(descriptor->name);
    json_t *schema = request_schema(descriptor);
    bool is_required = json_object_get(schema, "required") != NULL;
    json_object_set_new(schemas, name, schema);
    json_object_set_new(operation, "requestBody",
        json_pack("{s:b,s:o}", "required", is_required, "content", json_content(reference("schemas", name))));
}

static void add_error(json_t *responses, const char *status, const char *name, bool is_possible) {
    if (is_possible) json_object_set_new(responses, status, reference("responses", name));
}

static json_t *success_schema(json_t *schemas, const struct compiled_route *compiled) {
    if (compiled->method == NULL) return json_loads(compiled->route->answer_schema, 0, NULL);
    const struct message_descriptor *reply =
        compiled->unwrapped != NULL ? compiled->unwrapped->record : compiled->method->reply;
    add_answer_schemas(schemas, reply);
    return schema_reference(reply);
}

static json_t *responses_of(json_t *schemas, const struct compiled_route *compiled) {
    const struct route *route = compiled->route;
    json_t *responses = json_object();
    json_t *schema = success_schema(schemas, compiled);
    char status[16];
    snprintf(status, sizeof(status), "%d", route->status);
    json_object_set_new(responses, status,
        json_pack("{s:s,s:o}", "description", "Done.", "content", json_content(json_incref(schema))));
    if (compiled->method == NULL && (route->flags & ROOT) != 0)
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
    add_error(responses, "503", "Unavailable", is_on_bus);
    add_error(responses, "504", "Timeout", is_on_bus);
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
        json_t *response = json_pack(
            "{s:s,s:o}", "description", errors[i].description, "content", json_content(reference("schemas", "Error")));
        if (errors[i].header != NULL)
            json_object_set_new(
                response, "headers", json_pack("{s:{s:{s:s}}}", errors[i].header, "schema", "type", "string"));
        json_object_set_new(responses, errors[i].name, response);
    }
    return responses;
}

static json_t *security_schemes(void) {
    return json_pack("{s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s,s:s}}", "bearer", "type", "http",
        "scheme", "bearer", "bearerFormat", "JWT", "description", "The token of signup, login or refresh.", "cookie",
        "type", "apiKey", "in", "cookie", "name", SESSION_COOKIE, "description",
        "What signup and login set in a browser.", "internalKey", "type", "apiKey", "in", "header", "name",
        "X-Internal-API-Key", "description", "The key of the bore-servers (INTERNAL_API_KEY).");
}

static json_t *compose(struct router *router) {
    json_t *paths = json_object();
    json_t *schemas = json_pack("{s:o}", "Error", error_schema());
    for (size_t i = 0; i < router_size(router); i++)
        add_operation(paths, schemas, router_route(router, i));
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
    char hash[65];
    sha256_hex(self->text, self->size, hash);
    snprintf(self->etag, sizeof(self->etag), "\"%.32s\"", hash);
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
    answer_header(&exchange->answer, "ETag", self->etag);
    exchange->answer.content = self->text;
    exchange->answer.content_size = self->size;
}
