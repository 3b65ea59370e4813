/*
 * message_json.c: messages from JSON and from query parameters, checked strictly, with complaints for a person.
 *
 * All complaints of a body are collected before it is refused. Nested records are read the same way; their fields are
 * named like `details[2].field`. The JSON text itself is parsed, and its size and depth bounded, by the caller.
 */
#include "proto/message_json.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"
#include "proto/utf8.h"

#define NAME_MAX_SIZE 64 /* of a field's name and of the path to it */

/* Where complaints go, and what stands before the names of fields. */
struct reader {
    struct field_errors *errors;
    const char *prefix;
};

static void complain(const struct reader *reader, const struct field *field, const char *sentence) {
    char path[NAME_MAX_SIZE];
    snprintf(path, sizeof(path), "%s%s", reader->prefix, field->name);
    field_errors_add(reader->errors, path, "%s", sentence);
}

/* "must be a whole number from 1 to 65535", with as much of the range as there is. */
static void complain_of_number(const struct reader *reader, const struct field *field, const char *what) {
    double widest = field->kind == FIELD_INT ? 0x1p63 : DBL_MAX;
    bool has_minimum = field->minimum > -widest;
    bool has_maximum = field->maximum < widest;
    char sentence[128];
    int precision = field->kind == FIELD_INT ? 17 : 6;
    if (has_minimum && has_maximum) {
        snprintf(sentence, sizeof(sentence), "must be %s from %.*g to %.*g", what, precision, field->minimum, precision,
            field->maximum);
    } else if (has_minimum) {
        snprintf(sentence, sizeof(sentence), "must be %s, at least %.*g", what, precision, field->minimum);
    } else if (has_maximum) {
        snprintf(sentence, sizeof(sentence), "must be %s, at most %.*g", what, precision, field->maximum);
    } else {
        snprintf(sentence, sizeof(sentence), "must be %s", what);
    }
    complain(reader, field, sentence);
}

static void complain_of_text(const struct reader *reader, const struct field *field, const char *text, size_t size) {
    size_t length;
    char sentence[128];
    if (!utf8_length(text, size, &length)) {
        snprintf(sentence, sizeof(sentence), "must be valid UTF-8 without NUL characters");
    } else if ((double)length > field->maximum) {
        snprintf(sentence, sizeof(sentence), "must have at most %.0f characters", field->maximum);
    } else if (length == 0 && field->minimum <= 1) {
        snprintf(sentence, sizeof(sentence), "must not be empty");
    } else {
        snprintf(sentence, sizeof(sentence), "must have at least %.0f characters", field->minimum);
    }
    complain(reader, field, sentence);
}

static void complain_of_value(const struct reader *reader, const struct field *field) {
    char sentence[128];
    switch (field->kind) {
    case FIELD_INT:
        complain_of_number(reader, field, "a whole number");
        return;
    case FIELD_DOUBLE:
        complain_of_number(reader, field, "a number");
        return;
    case FIELD_BOOL:
        complain(reader, field, "must be true or false");
        return;
    case FIELD_TIME:
        complain(reader, field, "must be a time such as 2026-01-31T12:00:00Z");
        return;
    case FIELD_STRINGS:
        snprintf(sentence, sizeof(sentence), "must be a list of at most %.0f strings of at most %d characters each",
            field->maximum, STRINGS_TEXT_MAX);
        break;
    case FIELD_OBJECT:
        snprintf(sentence, sizeof(sentence), "must be an object");
        break;
    case FIELD_LIST:
        snprintf(sentence, sizeof(sentence), "must be a list of at most %.0f objects", field->maximum);
        break;
    default:
        snprintf(sentence, sizeof(sentence), "must be a string");
        break;
    }
    complain(reader, field, sentence);
}

bool json_key_matches(const char *name, const char *key) {
    if (strcmp(name, key) == 0) return true;
    for (; *name != '\0'; name++, key++) {
        char expected = *name;
        if (expected == '_' && name[1] != '\0') expected = (char)toupper((unsigned char)*++name);
        if (*key != expected) return false;
    }
    return *key == '\0';
}

/* The member under the field's own name or, failing that, its camelCase form. */
static const json_t *find_member(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    if (value != NULL || strchr(name, '_') == NULL) return value;
    char camel[NAME_MAX_SIZE];
    size_t size = 0;
    for (const char *from = name; *from != '\0' && size < sizeof(camel) - 1; from++) {
        char next = *from;
        if (next == '_' && from[1] != '\0') next = (char)toupper((unsigned char)*++from);
        camel[size++] = next;
    }
    camel[size] = '\0';
    return json_object_get(object, camel);
}

static bool is_of_body(const struct field *field) {
    return (field->flags & (CALLER | PATH)) == 0 && field->kind != FIELD_BIN;
}

static void read_object(
    const struct reader *reader, const struct message_descriptor *descriptor, const json_t *object, void *message);

static void read_str(const struct reader *reader, const struct field *field, const json_t *value, void *message) {
    const char *text = json_string_value(value);
    size_t size = json_string_length(value);
    if (text == NULL) {
        complain_of_value(reader, field);
    } else if (!field_fits_text(field, text, size)) {
        complain_of_text(reader, field, text, size);
    } else {
        field_put_text(field, message, text, size);
    }
}

/* RFC 3339, or milliseconds as the database's JSON has them. */
static bool read_time(const json_t *value, int64_t *ret_milliseconds) {
    if (json_is_integer(value)) *ret_milliseconds = json_integer_value(value);
    if (json_is_integer(value)) return true;
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value) &&
           time_from_rfc3339(json_string_value(value), ret_milliseconds) == 0;
}

static bool read_scalar(const struct field *field, const json_t *value, void *message) {
    int64_t time;
    switch (field->kind) {
    case FIELD_INT:
        if (!json_is_integer(value) || !field_fits_int(field, json_integer_value(value))) return false;
        field_put_int(field, message, json_integer_value(value));
        return true;
    case FIELD_DOUBLE:
        if (!json_is_number(value) || !field_fits_double(field, json_number_value(value))) return false;
        field_put_double(field, message, json_number_value(value));
        return true;
    case FIELD_BOOL:
        if (!json_is_boolean(value)) return false;
        field_put_bool(field, message, json_is_true(value));
        return true;
    default:
        if (!read_time(value, &time) || !field_fits_int(field, time)) return false;
        field_put_int(field, message, time);
        return true;
    }
}

static void read_strings(const struct reader *reader, const struct field *field, const json_t *value, void *message) {
    bool fits = json_is_array(value) && field_fits_count(field, json_array_size(value));
    for (size_t i = 0; fits && i < json_array_size(value); i++) {
        const json_t *text = json_array_get(value, i);
        fits = json_is_string(text) && strings_text_fits(json_string_value(text), json_string_length(text));
        if (fits) field_add_string(field, message, json_string_value(text), json_string_length(text));
    }
    if (!fits) complain_of_value(reader, field);
}

static void read_record(const struct reader *reader, const struct field *field, const json_t *value, void *message) {
    if (!json_is_object(value)) {
        complain_of_value(reader, field);
        return;
    }
    char prefix[NAME_MAX_SIZE];
    snprintf(prefix, sizeof(prefix), "%s%s.", reader->prefix, field->name);
    void *record = xcalloc(1, field->record->size);
    field_put_pointer(field, message, record);
    read_object(&(struct reader){ reader->errors, prefix }, field->record, value, record);
}

static void read_list(const struct reader *reader, const struct field *field, const json_t *value, void *message) {
    if (!json_is_array(value) || !field_fits_count(field, json_array_size(value))) {
        complain_of_value(reader, field);
        return;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *element = json_array_get(value, i);
        char prefix[NAME_MAX_SIZE];
        snprintf(prefix, sizeof(prefix), "%s%s[%zu].", reader->prefix, field->name, i);
        if (!json_is_object(element)) {
            complain_of_value(reader, field);
            return;
        }
        read_object(
            &(struct reader){ reader->errors, prefix }, field->record, element, message_list_add(field, message));
    }
}

static void read_value(const struct reader *reader, const struct field *field, const json_t *value, void *message) {
    switch (field->kind) {
    case FIELD_STR:
        read_str(reader, field, value, message);
        return;
    case FIELD_STRINGS:
        read_strings(reader, field, value, message);
        return;
    case FIELD_OBJECT:
        read_record(reader, field, value, message);
        return;
    case FIELD_LIST:
        read_list(reader, field, value, message);
        return;
    default:
        if (!read_scalar(field, value, message)) {
            complain_of_value(reader, field);
        } else if (field_is_optional(field)) {
            field_put_has(field, message, true);
        }
        return;
    }
}

/* Of a LENIENT field: what does not fit is left out and named in `ignored`. */
static void read_leniently(
    const struct message_descriptor *descriptor, const struct field *field, const json_t *value, void *message) {
    struct field_errors errors = { .count = 0 };
    read_value(&(struct reader){ &errors, "" }, field, value, message);
    if (errors.count == 0) return;
    field_clear(field, message);
    const struct field *ignored = message_field(descriptor, "ignored");
    if (ignored != NULL) message_strings_add(ignored, message, field->name);
}

static void read_object(
    const struct reader *reader, const struct message_descriptor *descriptor, const json_t *object, void *message) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!is_of_body(field)) continue;
        const json_t *value = find_member(object, field->name);
        bool is_lenient = (field->flags & LENIENT) != 0;
        if (value != NULL && is_lenient) {
            read_leniently(descriptor, field, value, message);
        } else if (value != NULL && !json_is_null(value)) {
            read_value(reader, field, value, message);
        } else if (!field_is_optional(field) && field->kind != FIELD_LIST && field->kind != FIELD_STRINGS) {
            complain(reader, field, "is required");
        }
    }
}

int message_from_json(const struct message_descriptor *descriptor, const json_t *object, void *ret_message,
    struct field_errors *ret_errors) {
    memset(ret_message, 0, descriptor->size);
    ret_errors->count = 0;
    if (!json_is_object(object)) {
        field_errors_add(ret_errors, "", "must be an object");
        return -EINVAL;
    }
    read_object(&(struct reader){ ret_errors, "" }, descriptor, object, ret_message);
    if (ret_errors->count == 0) return 0;
    message_release(descriptor, ret_message);
    return -EINVAL;
}

static const struct field *find_parameter(const struct message_descriptor *descriptor, const char *name) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        bool is_single = field->kind == FIELD_STR || field_is_scalar(field);
        if (is_single && is_of_body(field) && json_key_matches(field->name, name)) return field;
    }
    return NULL;
}

int message_from_query(const struct message_descriptor *descriptor, const char *name, const char *text, void *message,
    struct field_errors *errors) {
    const struct field *field = find_parameter(descriptor, name);
    if (field == NULL) return -ENOENT;
    char milliseconds[32];
    const char *value = text;
    if (field->kind == FIELD_TIME) {
        int64_t time = 0;
        bool is_time = time_from_rfc3339(text, &time) == 0;
        snprintf(milliseconds, sizeof(milliseconds), "%lld", (long long)time);
        value = is_time ? milliseconds : "";
    }
    if (message_set_text(field, message, value) == 0) return 0;
    struct reader reader = { errors, "" };
    if (field->kind == FIELD_STR) {
        complain_of_text(&reader, field, text, strlen(text));
    } else {
        complain_of_value(&reader, field);
    }
    return -EINVAL;
}

int message_check(const struct message_descriptor *descriptor, const void *message, struct field_errors *errors) {
    int result = 0;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (field_is_optional(field)) continue;
        bool is_missing = !message_is_set(field, message);
        if (!is_missing && field->kind == FIELD_STR) {
            size_t length = 0;
            const char *text = field_text(field, message);
            is_missing = !utf8_length(text, strlen(text), &length) || (double)length < field->minimum;
        }
        if (!is_missing) continue;
        field_errors_add(errors, field->name, "is required");
        result = -EINVAL;
    }
    return result;
}
