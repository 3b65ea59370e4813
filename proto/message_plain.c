/*
 * message_plain.c: the JSON that nearly every body is, straight into its message.
 *
 * Plain is one object of the message's own fields, each once, whose values are booleans, numbers without sign and
 * exponent, and ASCII strings without escapes, and fit. One walk reads it, without a tree: a twentieth of the
 * parser's time. Whatever else stands in a text (other scripts, nesting, null, an unknown or repeated key, a mistake)
 * it is not plain, and the parser and message_from_json decide about it: they alone complain.
 */
#include <string.h>

#include "proto/field.h"
#include "proto/message_json.h"

enum {
    KEY_SIZE = 64,
    DIGITS_MAX = 15, /* fewer than 2^53, so a double holds them */
};

/* Exact as doubles, and so the one rounding of a division by them gives the nearest double. */
static const double powers_of_ten[DIGITS_MAX + 1] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
    1e13, 1e14, 1e15 };

struct number {
    uint64_t digits; /* its value, but for the point */
    size_t decimals; /* digits behind the point */
};

/* In each of the following, *at is where to read in a text that ends with NUL, and moves on. */

static void skip_space(const char **at) {
    while (**at == ' ' || **at == '\t' || **at == '\n' || **at == '\r')
        (*at)++;
}

/* One of the characters that JSON consists of, after any space. */
static bool skip_mark(const char **at, char mark) {
    skip_space(at);
    if (**at != mark) return false;
    (*at)++;
    return true;
}

static bool skip_word(const char **at, const char *word) {
    size_t size = strlen(word);
    if (strncmp(*at, word, size) != 0) return false;
    *at += size;
    return true;
}

static bool is_plain(char character) {
    return character >= 0x20 && character < 0x7f && character != '"' && character != '\\';
}

static bool read_text(const char **at, const char **ret_text, size_t *ret_size) {
    if (!skip_mark(at, '"')) return false;
    const char *text = *at;
    while (is_plain(**at))
        (*at)++;
    *ret_text = text;
    *ret_size = (size_t)(*at - text);
    return skip_word(at, "\"");
}

/* How many there were. */
static size_t read_digits(const char **at, uint64_t *digits) {
    const char *start = *at;
    for (; **at >= '0' && **at <= '9'; (*at)++)
        *digits = *digits * 10 + (uint64_t)(**at - '0');
    return (size_t)(*at - start);
}

static bool read_number(const char **at, struct number *ret_number) {
    *ret_number = (struct number){ .digits = 0 };
    bool begins_with_zero = **at == '0';
    size_t whole = read_digits(at, &ret_number->digits);
    if (whole == 0 || (begins_with_zero && whole > 1)) return false;
    if (**at == '.') {
        (*at)++;
        ret_number->decimals = read_digits(at, &ret_number->digits);
        if (ret_number->decimals == 0) return false;
    }
    return whole + ret_number->decimals <= DIGITS_MAX;
}

static bool read_str(const char **at, const struct field *field, void *message) {
    const char *text;
    size_t size;
    if (!read_text(at, &text, &size) || !field_fits_count(field, size)) return false;
    field_put_text(field, message, text, size);
    return true;
}

static bool read_int(const char **at, const struct field *field, void *message) {
    struct number number;
    if (!read_number(at, &number) || number.decimals > 0) return false;
    if (!field_fits_int(field, (int64_t)number.digits)) return false;
    field_put_int(field, message, (int64_t)number.digits);
    return true;
}

static bool read_double(const char **at, const struct field *field, void *message) {
    struct number number;
    if (!read_number(at, &number)) return false;
    double value = (double)number.digits / powers_of_ten[number.decimals];
    if (!field_fits_double(field, value)) return false;
    field_put_double(field, message, value);
    return true;
}

static bool read_bool(const char **at, const struct field *field, void *message) {
    bool is_true = skip_word(at, "true");
    if (!is_true && !skip_word(at, "false")) return false;
    field_put_bool(field, message, is_true);
    return true;
}

static bool read_value(const char **at, const struct field *field, void *message) {
    bool fits = false;
    skip_space(at);
    switch (field->kind) {
    case FIELD_STR:
        return read_str(at, field, message);
    case FIELD_INT:
        fits = read_int(at, field, message);
        break;
    case FIELD_DOUBLE:
        fits = read_double(at, field, message);
        break;
    case FIELD_BOOL:
        fits = read_bool(at, field, message);
        break;
    default:
        break;
    }
    if (fits && field_is_optional(field)) field_put_has(field, message, true);
    return fits;
}

static bool has_name(const struct field *field, const char *key) {
    return field->kind != FIELD_END && field_is_of_body(field) && json_key_matches(field->name, key);
}

/* Clients mostly send the fields in our order, so the expected one is tried first. NULL when unknown. */
static const struct field *find_field(
    const struct message_descriptor *descriptor, const struct field *expected, const char *key) {
    if (has_name(expected, key)) return expected;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (has_name(field, key)) return field;
    }
    return NULL;
}

static const struct field *read_key(
    const char **at, const struct message_descriptor *descriptor, const struct field *expected) {
    const char *text;
    size_t size;
    char key[KEY_SIZE];
    if (!read_text(at, &text, &size) || size >= sizeof(key) || !skip_mark(at, ':')) return NULL;
    memcpy(key, text, size);
    key[size] = '\0';
    return find_field(descriptor, expected, key);
}

static bool has_required(const struct message_descriptor *descriptor, uint64_t seen) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        bool was_seen = (seen >> (field - descriptor->fields) & 1) != 0;
        if (!was_seen && field_is_of_body(field) && field_is_required(field)) return false;
    }
    return true;
}

static bool read_object(const char **at, const struct message_descriptor *descriptor, void *message) {
    uint64_t seen = 0; /* a bit for each field: FIELDS_MAX */
    const struct field *expected = descriptor->fields;
    if (!skip_mark(at, '{')) return false;
    if (skip_mark(at, '}')) return has_required(descriptor, seen);
    do {
        const struct field *field = read_key(at, descriptor, expected);
        if (field == NULL) return false;
        uint64_t bit = (uint64_t)1 << (field - descriptor->fields);
        if ((seen & bit) != 0 || !read_value(at, field, message)) return false;
        seen |= bit;
        expected = field + 1;
    } while (skip_mark(at, ','));
    return skip_mark(at, '}') && has_required(descriptor, seen);
}

bool message_from_plain_json(
    const struct message_descriptor *descriptor, const char *text, size_t size, void *ret_message) {
    const char *at = text;
    memset(ret_message, 0, descriptor->size);
    bool is_read = read_object(&at, descriptor, ret_message);
    skip_space(&at);
    if (is_read && at == text + size) return true;
    message_release(descriptor, ret_message);
    return false;
}
