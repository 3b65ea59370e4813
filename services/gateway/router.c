/*
 * router.c: from a path to its line in the table of routes.
 *
 * At start each line is compiled: its pattern split, its fields looked up, so that a request compares a few strings and
 * looks nothing up by name. A line that makes no sense (a `{name}` that is no PATH field, a PATH or CALLER field that
 * nothing fills) stops the process at start, with a sentence that names it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/gateway/route.h"

struct router {
    size_t count;
    struct compiled_route *routes;
    struct compiled_route *by_parts[ROUTE_PARTS_MAX + 1]; /* lists by the number of parts */
    size_t message_size;
};

static const char *const method_names[] = {
    [HTTP_GET] = "GET",
    [HTTP_POST] = "POST",
    [HTTP_PATCH] = "PATCH",
    [HTTP_PUT] = "PUT",
    [HTTP_DELETE] = "DELETE",
    [HTTP_OPTIONS] = "OPTIONS",
    [HTTP_OTHER] = "OTHER",
};

const char *http_method_name(enum http_method method) {
    return method_names[method];
}

enum http_method http_method_find(const char *name, bool *ret_is_head) {
    *ret_is_head = strcmp(name, "HEAD") == 0;
    if (*ret_is_head) return HTTP_GET;
    for (int method = HTTP_GET; method < HTTP_OTHER; method++) {
        if (strcmp(method_names[method], name) == 0) return (enum http_method)method;
    }
    return HTTP_OTHER;
}

/* --- compiling ---------------------------------------------------------------------------------------------------- */

static const struct field *path_field(const struct compiled_route *compiled, const char *name) {
    const struct field *field = compiled->method != NULL ? message_field(compiled->method->request, name) : NULL;
    return field != NULL && (field->flags & PATH) != 0 ? field : NULL;
}

static const char *compile_pattern(struct compiled_route *compiled) {
    const char *at = compiled->route->pattern;
    if (*at != '/') return "the pattern must begin with a slash";
    while (*at == '/') {
        size_t size = strcspn(++at, "/");
        if (compiled->parts_count == ROUTE_PARTS_MAX) return "the pattern has too many parts";
        struct route_part *part = &compiled->parts[compiled->parts_count++];
        part->literal = xasprintf("%.*s", (int)size, at);
        if (*at == '{') {
            _cleanup_free_ char *name = xasprintf("%.*s", (int)size - 2, at + 1);
            part->field = path_field(compiled, name);
            free(TAKE_PTR(part->literal));
            if (part->field == NULL) return "a name in braces is no PATH field of its message";
        }
        at += size;
    }
    return NULL;
}

static bool is_filled_by_path(const struct compiled_route *compiled, const struct field *field) {
    for (size_t i = 0; i < compiled->parts_count; i++) {
        if (compiled->parts[i].field == field) return true;
    }
    return compiled->fixed_field == field;
}

static const char *compile_fields(struct compiled_route *compiled) {
    const struct route *route = compiled->route;
    if (route->fixed_field != NULL) {
        compiled->fixed_field = path_field(compiled, route->fixed_field);
        if (compiled->fixed_field == NULL) return "its fixed field is no PATH field of its message";
    }
    for (const struct field *field = compiled->method->request->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & PATH) != 0 && !is_filled_by_path(compiled, field)) return "nothing fills a PATH field";
        if ((field->flags & CALLER) == 0) continue;
        if (strcmp(field->name, "ignored") == 0) continue; /* filled when the body is read: see LENIENT */
        int value = caller_value_find(field->name);
        if (value < 0) return "a CALLER field has a name that no caller has";
        if (compiled->caller_count == ROUTE_FIELDS_MAX) return "its message has too many CALLER fields";
        compiled->caller_fields[compiled->caller_count++] =
            (struct route_caller_field){ field, (enum caller_value)value };
    }
    if ((route->flags & UNWRAP) != 0) {
        compiled->unwrapped = compiled->method->reply->fields;
        if (compiled->unwrapped->kind != FIELD_OBJECT) return "its reply has no object to unwrap";
    }
    return NULL;
}

/* NULL, or what is wrong with the line. */
static const char *compile(struct compiled_route *compiled, const struct route *route) {
    compiled->route = route;
    compiled->method = route->message != 0 ? method_find(route->message) : NULL;
    compiled->path = xasprintf("%s%s", (route->flags & ROOT) != 0 ? "" : "/api", route->pattern);
    if (compiled->method == NULL && route->serve == NULL) return "it has neither a method of the bus nor a function";
    const char *wrong = compile_pattern(compiled);
    if (wrong == NULL && compiled->method != NULL) wrong = compile_fields(compiled);
    return wrong;
}

static size_t larger(size_t left, size_t right) {
    return left > right ? left : right;
}

/* Each list in the order of the table, where the first that matches counts. */
static void link_routes(struct router *self) {
    for (size_t i = self->count; i > 0; i--) {
        struct compiled_route *compiled = &self->routes[i - 1];
        struct compiled_route **list = &self->by_parts[compiled->parts_count];
        compiled->next = *list;
        *list = compiled;
    }
}

struct router *router_new(const struct route *table, char **ret_complaint) {
    struct router *self = xcalloc(1, sizeof(*self));
    size_t count = 0;
    while (table[count].pattern != NULL)
        count++;
    self->routes = xcalloc(count, sizeof(*self->routes));
    for (; self->count < count; self->count++) {
        struct compiled_route *compiled = &self->routes[self->count];
        const char *wrong = compile(compiled, &table[self->count]);
        if (wrong != NULL) {
            *ret_complaint = xasprintf(
                "the route %s %s: %s", http_method_name(table[self->count].method), table[self->count].pattern, wrong);
            self->count++;
            router_free(self);
            return NULL;
        }
        if (compiled->method == NULL) continue;
        self->message_size = larger(self->message_size, compiled->method->request->size);
        self->message_size = larger(self->message_size, compiled->method->reply->size);
    }
    link_routes(self);
    return self;
}

void router_free(struct router *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++) {
        for (size_t part = 0; part < self->routes[i].parts_count; part++)
            free(self->routes[i].parts[part].literal);
        free(self->routes[i].path);
    }
    free(self->routes);
    free(self);
}

size_t router_message_size(const struct router *self) {
    return self->message_size;
}

size_t router_size(const struct router *self) {
    return self->count;
}

struct compiled_route *router_route(struct router *self, size_t index) {
    return &self->routes[index];
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

bool path_is_api(const struct path *path) {
    return path->count > 0 && strcmp(path->segments[0], "api") == 0;
}

static bool segment_is(const struct path *path, size_t index, const char *text) {
    return index < path->count && strcmp(path->segments[index], text) == 0;
}

/* The segments behind /api or /api/v1, with the other names of some paths replaced: how many are to be skipped. */
static size_t skip_prefix(struct path *path) {
    size_t first = segment_is(path, 1, "v1") ? 2 : 1;
    if (!segment_is(path, first, "user")) return first;
    bool is_last = path->count == first + 2;
    if (segment_is(path, first + 1, "instances")) return first + 1;
    bool is_profile = is_last && segment_is(path, first + 1, "profile");
    if (is_profile) path->segments[first + 1] = "me";
    if (is_profile || (is_last && segment_is(path, first + 1, "claim-plan"))) path->segments[first] = "auth";
    return first;
}

/* Last parts differ most. */
static bool matches(const struct compiled_route *compiled, const char *const *segments) {
    for (size_t i = compiled->parts_count; i > 0; i--) {
        const char *literal = compiled->parts[i - 1].literal;
        if (literal != NULL && strcmp(literal, segments[i - 1]) != 0) return false;
    }
    return true;
}

int router_find(struct router *self, struct path *path, enum http_method method, struct route_match *ret_match) {
    bool is_api = path_is_api(path);
    size_t skipped = is_api ? skip_prefix(path) : 0;
    *ret_match = (struct route_match){ .segments = path->segments + skipped };
    struct compiled_route *compiled = self->by_parts[path->count - skipped];
    for (; compiled != NULL; compiled = compiled->next) {
        if (((compiled->route->flags & ROOT) != 0) == is_api) continue;
        if (!matches(compiled, ret_match->segments)) continue;
        ret_match->methods |= 1u << compiled->route->method;
        if (compiled->route->method == method && ret_match->route == NULL) ret_match->route = compiled;
    }
    if (ret_match->route != NULL) return 0;
    return ret_match->methods != 0 ? ERR_METHOD_NOT_ALLOWED : ERR_NOT_FOUND;
}
