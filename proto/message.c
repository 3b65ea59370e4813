/*
 * message.c: the life of a message's struct: find a field, copy, compare, release.
 *
 * Every function walks the descriptor; recursion is as deep as records are nested in messages.def.
 */
#include "proto/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"

void field_errors_add(struct field_errors *self, const char *field, const char *format, ...) {
    if (self->count >= ARRAY_SIZE(self->items)) return;
    struct field_error *error = &self->items[self->count++];
    snprintf(error->field, sizeof(error->field), "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
}

const struct field *message_field(const struct message_descriptor *descriptor, const char *name) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (strcmp(field->name, name) == 0) return field;
    }
    return NULL;
}

static void release_records(const struct field *field, void *message, size_t count) {
    for (size_t i = 0; i < count; i++)
        message_release(field->record, field_element(field, message, i));
    free(field_pointer(field, message));
}

static void release_strings(const struct field *field, void *message) {
    char **strings = field_strings(field, message);
    for (size_t i = 0; i < field_count(field, message); i++)
        free(strings[i]);
    free(strings);
}

/* A secret shall not stay behind in freed memory. */
static void release_text(const struct field *field, void *message) {
    char *text = field_text(field, message);
    if (text != NULL && (field->flags & SECRET) != 0) memory_wipe(text, strlen(text));
    free(text);
}

void field_clear(const struct field *field, void *message) {
    switch (field->kind) {
    case FIELD_STR:
        release_text(field, message);
        field_put_pointer(field, message, NULL);
        break;
    case FIELD_BIN:
        free(field_pointer(field, message));
        field_put_pointer(field, message, NULL);
        field_put_count(field, message, 0);
        break;
    case FIELD_STRINGS:
        release_strings(field, message);
        field_put_pointer(field, message, NULL);
        field_put_count(field, message, 0);
        break;
    case FIELD_OBJECT:
        if (field_pointer(field, message) != NULL) release_records(field, message, 1);
        field_put_pointer(field, message, NULL);
        break;
    case FIELD_LIST:
        release_records(field, message, field_count(field, message));
        field_put_pointer(field, message, NULL);
        field_put_count(field, message, 0);
        break;
    default:
        memset(field_at(field, message), 0, field_scalar_size(field));
        break;
    }
    if (field_is_scalar(field) && field_is_optional(field)) field_put_has(field, message, false);
}

void message_release(const struct message_descriptor *descriptor, void *message) {
    if (message == NULL) return;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!field_is_scalar(field)) field_clear(field, message);
    }
    memset(message, 0, descriptor->size);
}

static void copy_strings(const struct field *field, const void *message, void *copy) {
    size_t count = field_count(field, message);
    char **strings = field_strings(field, message);
    char **copies = count > 0 ? xcalloc(count, sizeof(*copies)) : NULL;
    for (size_t i = 0; i < count; i++)
        copies[i] = xstrdup(strings[i]);
    field_put_pointer(field, copy, copies);
}

static void copy_records(const struct field *field, const void *message, void *copy, size_t count) {
    field_put_pointer(field, copy, count > 0 ? xcalloc(count, field->record->size) : NULL);
    for (size_t i = 0; i < count; i++)
        message_copy(field->record, field_element(field, message, i), field_element(field, copy, i));
}

void message_copy(const struct message_descriptor *descriptor, const void *message, void *ret_copy) {
    memcpy(ret_copy, message, descriptor->size);
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        switch (field->kind) {
        case FIELD_STR:
            field_put_pointer(field, ret_copy, xstrdup_or_null(field_text(field, message)));
            break;
        case FIELD_BIN: {
            size_t size = field_count(field, message);
            field_put_pointer(field, ret_copy, size > 0 ? xmemdup(field_pointer(field, message), size) : NULL);
            break;
        }
        case FIELD_STRINGS:
            copy_strings(field, message, ret_copy);
            break;
        case FIELD_OBJECT:
            copy_records(field, message, ret_copy, field_pointer(field, message) != NULL);
            break;
        case FIELD_LIST:
            copy_records(field, message, ret_copy, field_count(field, message));
            break;
        default: /* a scalar: copied with the struct */
            break;
        }
    }
}

static bool texts_equal(const char *left, const char *right) {
    return left == NULL || right == NULL ? left == right : strcmp(left, right) == 0;
}

static bool strings_equal(const struct field *field, const void *left, const void *right) {
    size_t count = field_count(field, left);
    if (count != field_count(field, right)) return false;
    for (size_t i = 0; i < count; i++) {
        if (!texts_equal(field_strings(field, left)[i], field_strings(field, right)[i])) return false;
    }
    return true;
}

static bool lists_equal(const struct field *field, const void *left, const void *right) {
    size_t count = field_count(field, left);
    if (count != field_count(field, right)) return false;
    for (size_t i = 0; i < count; i++) {
        if (!message_equal(field->record, field_element(field, left, i), field_element(field, right, i))) return false;
    }
    return true;
}

static bool objects_equal(const struct field *field, const void *left, const void *right) {
    const void *a = field_pointer(field, left);
    const void *b = field_pointer(field, right);
    return a == NULL || b == NULL ? a == b : message_equal(field->record, a, b);
}

static bool bytes_equal(const struct field *field, const void *left, const void *right) {
    size_t size = field_count(field, left);
    return size == field_count(field, right) &&
           (size == 0 || memcmp(field_pointer(field, left), field_pointer(field, right), size) == 0);
}

static bool scalars_equal(const struct field *field, const void *left, const void *right) {
    bool is_set = message_is_set(field, left);
    if (is_set != message_is_set(field, right)) return false;
    if (!is_set) return true;
    return memcmp(field_in(field, left), field_in(field, right), field_scalar_size(field)) == 0;
}

static bool field_equal(const struct field *field, const void *left, const void *right) {
    switch (field->kind) {
    case FIELD_STR:
        return texts_equal(field_text(field, left), field_text(field, right));
    case FIELD_BIN:
        return bytes_equal(field, left, right);
    case FIELD_STRINGS:
        return strings_equal(field, left, right);
    case FIELD_OBJECT:
        return objects_equal(field, left, right);
    case FIELD_LIST:
        return lists_equal(field, left, right);
    default:
        return scalars_equal(field, left, right);
    }
}

bool message_equal(const struct message_descriptor *descriptor, const void *left, const void *right) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!field_equal(field, left, right)) return false;
    }
    return true;
}
