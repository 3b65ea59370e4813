/*
 * message_fields.c: single fields of a message, for those who map rows, paths, queries and log lines onto them.
 *
 * Setters check the same bounds as the codec does and leave the field as it was when they refuse.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"
#include "proto/utf8.h"

#define DEBUG_TEXT_MAX 64 /* bytes of a string in message_debug */

bool field_fits_text(const struct field *field, const char *text, size_t size) {
    size_t length;
    return utf8_length(text, size, &length) && field_fits_count(field, length);
}

bool strings_text_fits(const char *text, size_t size) {
    size_t length;
    return utf8_length(text, size, &length) && length <= STRINGS_TEXT_MAX;
}

static char *duplicate(const char *text, size_t size) {
    char *copy = xmalloc(size + 1);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

void field_put_text(const struct field *field, void *message, const char *text, size_t size) {
    char *copy = duplicate(text, size);
    free(field_text(field, message));
    field_put_pointer(field, message, copy);
}

/* Room for one more element of the given size. The allocator knows how much is there, so that no capacity has to be
 * kept in the struct and an array that somebody else allocated is as good as ours. */
static void *grow(void *array, size_t count, size_t element_size) {
    if (malloc_usable_size(array) / element_size > count) return array;
    return xreallocarray(array, count < 4 ? 4 : count * 2, element_size);
}

void *message_list_add(const struct field *field, void *message) {
    size_t count = field_count(field, message);
    if ((double)count + 1 > field->maximum) return NULL;
    field_put_pointer(field, message, grow(field_pointer(field, message), count, field->record->size));
    field_put_count(field, message, count + 1);
    void *element = field_element(field, message, count);
    memset(element, 0, field->record->size);
    return element;
}

int field_add_string(const struct field *field, void *message, const char *text, size_t size) {
    size_t count = field_count(field, message);
    if ((double)count + 1 > field->maximum) return -ERANGE;
    char **strings = grow(field_strings(field, message), count, sizeof(*strings));
    strings[count] = duplicate(text, size);
    field_put_pointer(field, message, strings);
    field_put_count(field, message, count + 1);
    return 0;
}

int message_strings_add(const struct field *field, void *message, const char *text) {
    if (field->kind != FIELD_STRINGS) return -EINVAL;
    size_t size = strlen(text);
    if (!strings_text_fits(text, size)) return -ERANGE;
    return field_add_string(field, message, text, size);
}

static int parse_int(const char *text, int64_t *ret_value) {
    size_t digits = text[0] == '-' ? 1 : 0;
    if (text[digits] == '\0' || text[digits + strspn(text + digits, "0123456789")] != '\0') return -EINVAL;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0) return -ERANGE;
    *ret_value = value;
    return 0;
}

static int parse_double(const char *text, double *ret_value) {
    if (strpbrk(text, "0123456789") == NULL || text[strspn(text, "0123456789+-.eE")] != '\0') return -EINVAL;
    char *end;
    double value = strtod(text, &end);
    if (*end != '\0') return -EINVAL;
    *ret_value = value;
    return 0;
}

static int parse_bool(const char *text, bool *ret_value) {
    bool is_true = strcmp(text, "true") == 0 || strcmp(text, "t") == 0;
    if (!is_true && strcmp(text, "false") != 0 && strcmp(text, "f") != 0) return -EINVAL;
    *ret_value = is_true;
    return 0;
}

static int set_int(const struct field *field, void *message, const char *text) {
    int64_t value;
    int error = parse_int(text, &value);
    if (error != 0) return error;
    if (!field_fits_int(field, value)) return -ERANGE;
    field_put_int(field, message, value);
    return 0;
}

static int set_double(const struct field *field, void *message, const char *text) {
    double value;
    int error = parse_double(text, &value);
    if (error != 0) return error;
    if (!field_fits_double(field, value)) return -ERANGE;
    field_put_double(field, message, value);
    return 0;
}

static int set_bool(const struct field *field, void *message, const char *text) {
    bool value;
    int error = parse_bool(text, &value);
    if (error != 0) return error;
    field_put_bool(field, message, value);
    return 0;
}

static int set_str(const struct field *field, void *message, const char *text) {
    size_t size = strlen(text);
    if (!field_fits_text(field, text, size)) return -ERANGE;
    field_put_text(field, message, text, size);
    return 0;
}

int message_set_text(const struct field *field, void *message, const char *text) {
    int error;
    switch (field->kind) {
    case FIELD_STR:
        return set_str(field, message, text);
    case FIELD_INT:
    case FIELD_TIME:
        error = set_int(field, message, text);
        break;
    case FIELD_DOUBLE:
        error = set_double(field, message, text);
        break;
    case FIELD_BOOL:
        error = set_bool(field, message, text);
        break;
    default:
        return -EINVAL;
    }
    if (error == 0 && field_is_optional(field)) field_put_has(field, message, true);
    return error;
}

bool message_is_set(const struct field *field, const void *message) {
    switch (field->kind) {
    case FIELD_STR:
    case FIELD_OBJECT:
        return field_pointer(field, message) != NULL;
    case FIELD_INT:
    case FIELD_DOUBLE:
    case FIELD_BOOL:
    case FIELD_TIME:
        return !field_is_optional(field) || *(const bool *)field_extra_in(field, message);
    default:
        return true;
    }
}

void message_get_text(const struct field *field, const void *message, struct strbuf *out) {
    if (!message_is_set(field, message)) return;
    switch (field->kind) {
    case FIELD_STR:
        strbuf_append_text(out, field_text(field, message));
        break;
    case FIELD_INT:
    case FIELD_TIME:
        strbuf_append_int(out, field_int(field, message));
        break;
    case FIELD_DOUBLE:
        strbuf_append_format(out, "%.17g", field_double(field, message));
        break;
    case FIELD_BOOL:
        strbuf_append_text(out, field_bool(field, message) ? "true" : "false");
        break;
    default:
        break;
    }
}

static void debug_text(const char *text, struct strbuf *out) {
    size_t size = strlen(text);
    size_t shown = utf8_cut(text, size, DEBUG_TEXT_MAX);
    strbuf_append_char(out, '"');
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < 0x20 || byte == 0x7f) {
            strbuf_append_format(out, "\\x%02x", (unsigned)byte);
        } else {
            if (byte == '"' || byte == '\\') strbuf_append_char(out, '\\');
            strbuf_append_char(out, text[i]);
        }
    }
    strbuf_append_text(out, shown < size ? "…\"" : "\"");
}

static void debug_value(const struct field *field, const void *message, struct strbuf *out) {
    if ((field->flags & SECRET) != 0) {
        strbuf_append_text(out, "***");
        return;
    }
    switch (field->kind) {
    case FIELD_STR:
        debug_text(field_text(field, message), out);
        break;
    case FIELD_BIN:
        strbuf_append_format(out, "<%zu bytes>", field_count(field, message));
        break;
    case FIELD_STRINGS:
    case FIELD_LIST:
        strbuf_append_format(out, "[%zu]", field_count(field, message));
        break;
    case FIELD_OBJECT:
        message_debug(field->record, field_pointer(field, message), out);
        break;
    default:
        message_get_text(field, message, out);
        break;
    }
}

void message_debug(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    strbuf_append_text(out, descriptor->name);
    strbuf_append_char(out, '{');
    const char *separator = "";
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!message_is_set(field, message)) continue;
        strbuf_append_format(out, "%s%s=", separator, field->name);
        debug_value(field, message, out);
        separator = " ";
    }
    strbuf_append_char(out, '}');
}
