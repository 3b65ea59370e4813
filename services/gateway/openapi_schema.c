/*
 * openapi_schema.c: see openapi_schema.h.
 */
#include "services/gateway/openapi_schema.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "common/memory.h"

/* signed_in_reply -> SignedInReply */
char *schema_name(const char *message) {
    struct strbuf name = STRBUF_INIT;
    bool raise = true;
    for (; *message != '\0'; message++) {
        if (*message != '_') strbuf_append_char(&name, raise ? (char)toupper((unsigned char)*message) : *message);
        raise = *message == '_';
    }
    return strbuf_detach(&name);
}

json_t *schema_component(const char *kind, const char *name) {
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%s", kind, name));
}

json_t *schema_reference(const struct message_descriptor *descriptor) {
    _cleanup_free_ char *name = schema_name(descriptor->name);
    return schema_component("schemas", name);
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

json_t *schema_of_field(const struct field *field) {
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
        json_t *schema = schema_of_field(field);
        if (is_optional(field) && !is_omitted) schema = nullable(schema);
        json_object_set_new(properties, field->name, schema);
        if (!is_omitted) json_array_append_new(required, json_string(field->name));
        add_aliases(properties, required, descriptor, field);
    }
    return object_schema(descriptor, properties, required);
}

/* As a request's body: what the path and the caller fill is not in it. */
json_t *schema_of_request(const struct message_descriptor *descriptor) {
    json_t *properties = json_object();
    json_t *required = json_array();
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & (CALLER | PATH)) != 0 || field->kind == FIELD_BIN) continue;
        bool is_list = field->kind == FIELD_LIST || field->kind == FIELD_STRINGS;
        json_t *schema = schema_of_field(field);
        if (is_optional(field)) schema = nullable(schema);
        json_object_set_new(properties, field->name, schema);
        if (!is_optional(field) && !is_list) json_array_append_new(required, json_string(field->name));
    }
    return object_schema(descriptor, properties, required);
}

/* Adds the schema of an answer and of all records in it. */
void schema_add_answer(json_t *schemas, const struct message_descriptor *descriptor) {
    _cleanup_free_ char *name = schema_name(descriptor->name);
    if (json_object_get(schemas, name) != NULL) return;
    json_object_set_new(schemas, name, answer_schema(descriptor));
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (field->record != NULL) schema_add_answer(schemas, field->record);
    }
}
