/*
 * json_write.c: messages as JSON, written straight into a strbuf by descriptor.
 *
 * No tree is built. An alias repeats the bytes that its field has just written, which is why ALIAS stands right after
 * its field in messages.def. Strings are escaped so that the text is also safe inside HTML and JavaScript.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/field.h"
#include "proto/message_json.h"

#define NUMBER_MAX 32 /* bytes of the longest number or time */

/* Whether a byte ends a run that can be copied as it is: controls, quote, backslash, '<', and the first byte of
 * U+2028 and U+2029. */
static bool is_special(unsigned char byte) {
    return byte < 0x20 || byte == '"' || byte == '\\' || byte == '<' || byte == 0xe2;
}

static void append_escaped(struct strbuf *out, unsigned character) {
    switch (character) {
    case '"':
        strbuf_append(out, "\\\"", 2);
        break;
    case '\\':
        strbuf_append(out, "\\\\", 2);
        break;
    case '\n':
        strbuf_append(out, "\\n", 2);
        break;
    case '\r':
        strbuf_append(out, "\\r", 2);
        break;
    case '\t':
        strbuf_append(out, "\\t", 2);
        break;
    default:
        strbuf_append_format(out, "\\u%04x", character);
        break;
    }
}

void json_append_string(struct strbuf *out, const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t start = 0;
    size_t at = 0;
    strbuf_append_char(out, '"');
    for (; bytes[at] != '\0'; at++) {
        if (!is_special(bytes[at])) continue;
        unsigned character = bytes[at];
        size_t size = 1;
        if (character == 0xe2) {
            if (bytes[at + 1] != 0x80 || (bytes[at + 2] & 0xfe) != 0xa8) continue;
            character = 0x2000u + (bytes[at + 2] & 0x3f);
            size = 3;
        }
        strbuf_append(out, text + start, at - start);
        append_escaped(out, character);
        start = at + size;
        at = start - 1;
    }
    strbuf_append(out, text + start, at - start);
    strbuf_append_char(out, '"');
}

/* The shorter of 15 and 17 digits that reads back as the same double. */
static void append_double(struct strbuf *out, double value) {
    if (fabs(value) < 0x1p53 && value == (double)(int64_t)value) {
        if (value == 0 && signbit(value) != 0) {
            strbuf_append(out, "-0.0", 4);
        } else {
            strbuf_append_int(out, (int64_t)value);
        }
        return;
    }
    char text[NUMBER_MAX];
    snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value) snprintf(text, sizeof(text), "%.17g", value);
    strbuf_append_text(out, text);
}

static void append_time(struct strbuf *out, int64_t milliseconds) {
    char text[NUMBER_MAX];
    time_to_rfc3339(milliseconds, text, sizeof(text));
    strbuf_append_char(out, '"');
    strbuf_append_text(out, text);
    strbuf_append_char(out, '"');
}

static void append_strings(struct strbuf *out, const struct field *field, const void *message) {
    char **strings = field_strings(field, message);
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < field_count(field, message); i++) {
        if (i > 0) strbuf_append_char(out, ',');
        json_append_string(out, strings[i]);
    }
    strbuf_append_char(out, ']');
}

static void append_list(struct strbuf *out, const struct field *field, const void *message) {
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < field_count(field, message); i++) {
        if (i > 0) strbuf_append_char(out, ',');
        message_to_json(field->record, field_element(field, message, i), out);
    }
    strbuf_append_char(out, ']');
}

static void append_value(struct strbuf *out, const struct field *field, const void *message) {
    if (!message_is_set(field, message)) {
        strbuf_append(out, "null", 4);
        return;
    }
    switch (field->kind) {
    case FIELD_STR:
        json_append_string(out, field_text(field, message));
        break;
    case FIELD_INT:
        strbuf_append_int(out, field_int(field, message));
        break;
    case FIELD_DOUBLE:
        append_double(out, field_double(field, message));
        break;
    case FIELD_BOOL:
        strbuf_append_text(out, field_bool(field, message) ? "true" : "false");
        break;
    case FIELD_TIME:
        append_time(out, field_int(field, message));
        break;
    case FIELD_STRINGS:
        append_strings(out, field, message);
        break;
    case FIELD_OBJECT:
        message_to_json(field->record, field_pointer(field, message), out);
        break;
    case FIELD_LIST:
        append_list(out, field, message);
        break;
    default:
        break;
    }
}

static bool is_written(const struct field *field, const void *message) {
    if (field->kind == FIELD_BIN || (field->flags & HIDDEN) != 0) return false;
    if ((field->flags & OMIT) == 0) return true;
    if (field->kind == FIELD_LIST || field->kind == FIELD_STRINGS) return field_count(field, message) > 0;
    return message_is_set(field, message);
}

/* `,"name":` with the first comma replaced by nothing; names need no escaping. */
static void append_key(struct strbuf *out, const char *name, bool is_first) {
    size_t size = strlen(name);
    char *to = strbuf_reserve(out, size + 4);
    char *end = to;
    if (!is_first) *end++ = ',';
    *end++ = '"';
    end = mempcpy(end, name, size);
    *end++ = '"';
    *end++ = ':';
    strbuf_add_size(out, (size_t)(end - to));
}

void message_to_json(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    const struct field_alias *alias = descriptor->aliases;
    bool is_first = true;
    strbuf_append_char(out, '{');
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        bool written = is_written(field, message);
        size_t start = 0;
        size_t size = 0;
        if (written) {
            append_key(out, field->name, is_first);
            is_first = false;
            start = out->size;
            append_value(out, field, message);
            size = out->size - start;
        }
        for (; alias->name != NULL && strcmp(alias->source, field->name) == 0; alias++) {
            if (!written) continue;
            append_key(out, alias->name, false);
            char *to = strbuf_reserve(out, size);
            memcpy(to, out->data + start, size);
            strbuf_add_size(out, size);
        }
    }
    strbuf_append_char(out, '}');
}
