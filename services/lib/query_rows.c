/*
 * query_rows.c: rows of a result become messages, by the names of their columns.
 *
 * Numbers, booleans, times (milliseconds) and strings are set as text through the descriptor, so their bounds hold; a
 * text[] column fills a STRINGS field; a column of JSON text fills an OBJECT or a LIST through the record's descriptor
 * (times inside it are milliseconds or RFC 3339). What does not fit is -EBADMSG: a bug of the SQL, which the caller
 * logs.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "proto/message_json.h"
#include "services/lib/query.h"

/* --- arrays ------------------------------------------------------------------------------------------------------ */

/* Reads one element at text (behind "{" or ","); returns what follows it, or NULL when malformed. */
static const char *read_element(const char *text, struct strbuf *ret_element, bool *ret_null) {
    bool quoted = *text == '"';
    if (quoted) text++;
    while (*text && (quoted ? *text != '"' : *text != ',' && *text != '}')) {
        if (*text == '\\' && text[1]) text++;
        strbuf_append_char(ret_element, *text++);
    }
    if (!*text) return NULL;
    *ret_null = !quoted && strcmp(ret_element->data, "NULL") == 0;
    return quoted ? text + 1 : text;
}

int strings_from_array(const struct field *field, void *message, const char *text) {
    if (*text++ != '{') return -EBADMSG;
    if (strcmp(text, "}") == 0) return 0;
    _cleanup_strbuf_ struct strbuf element = STRBUF_INIT;
    for (;;) {
        bool null = false;
        strbuf_clear(&element);
        text = read_element(text, &element, &null);
        if (!text) return -EBADMSG;
        if (!null && message_strings_add(field, message, element.data) < 0) return -EBADMSG;
        if (*text == '}' && !text[1]) return 0;
        if (*text++ != ',') return -EBADMSG;
    }
}

/* --- JSON -------------------------------------------------------------------------------------------------------- */

static int record_from_json(const struct field *field, const json_t *value, void *record) {
    struct field_errors errors = { 0 };
    int error = message_from_json(field->record, value, record, &errors);
    for (size_t i = 0; error && i < errors.count; i++)
        log_debug("JSON of column %s: %s %s", field->name, errors.items[i].field, errors.items[i].message);
    return error ? -EBADMSG : 0;
}

static int list_from_json(const struct field *field, const json_t *array, void *message) {
    if (!json_is_array(array)) return -EBADMSG;
    for (size_t i = 0; i < json_array_size(array); i++) {
        void *element = message_list_add(field, message);
        if (!element || record_from_json(field, json_array_get(array, i), element) < 0) return -EBADMSG;
    }
    return 0;
}

static int object_from_json(const struct field *field, const json_t *object, void *message) {
    void **place = (void **)(void *)((char *)message + field->offset);
    if (!json_is_object(object) || *place) return -EBADMSG;
    *place = xcalloc(1, field->record->size);
    return record_from_json(field, object, *place);
}

static int nested_from_json(const struct field *field, void *message, const char *text) {
    json_t *value =
        json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL); /* NULL is neither list nor object */
    int error = 0;
    if (!json_is_null(value))
        error =
            field->kind == FIELD_LIST ? list_from_json(field, value, message) : object_from_json(field, value, message);
    json_decref(value);
    return error;
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

void row_mapping_init(struct row_mapping *self, const struct db_result *result,
    const struct message_descriptor *descriptor, const struct message_descriptor *except) {
    *self = (struct row_mapping){ .descriptor = descriptor, .result = result };
    for (size_t column = 0; column < db_result_columns(result) && self->count < ROW_COLUMNS_MAX; column++) {
        const char *name = db_result_column_name(result, column);
        const struct field *field = message_field(descriptor, name);
        if (!field || field->kind == FIELD_BIN || (except && message_field(except, name))) continue;
        self->columns[self->count].column = column;
        self->columns[self->count++].field = field;
    }
}

bool row_mapping_is_null(const struct row_mapping *self, size_t row) {
    for (size_t i = 0; i < self->count; i++)
        if (db_result_text(self->result, row, self->columns[i].column)) return false;
    return true;
}

static int set_field(const struct field *field, void *message, const char *text) {
    switch (field->kind) {
    case FIELD_STRINGS:
        return strings_from_array(field, message, text);
    case FIELD_OBJECT:
    case FIELD_LIST:
        return nested_from_json(field, message, text);
    default:
        return message_set_text(field, message, text) < 0 ? -EBADMSG : 0;
    }
}

int row_mapping_apply(const struct row_mapping *self, size_t row, void *message) {
    for (size_t i = 0; i < self->count; i++) {
        const struct field *field = self->columns[i].field;
        const char *text = db_result_text(self->result, row, self->columns[i].column);
        if (!text || set_field(field, message, text) == 0) continue;
        log_debug("column %s does not fit %s", field->name, self->descriptor->name);
        return -EBADMSG;
    }
    return 0;
}

int query_row_to_message(
    const struct db_result *result, size_t row, const struct message_descriptor *descriptor, void *message) {
    struct row_mapping mapping;
    row_mapping_init(&mapping, result, descriptor, NULL);
    return row_mapping_apply(&mapping, row, message);
}
