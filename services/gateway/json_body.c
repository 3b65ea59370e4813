/*
 * json_body.c: see json_body.h.
 *
 * One walk over the text before it is parsed: it counts brackets outside of strings and looks at numbers. It need not
 * be exact about anything else, since the parser comes after it.
 */
#include "services/gateway/json_body.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/utf8.h"

/* The index after the string whose opening quote is at index at. */
static size_t skip_string(const char *data, size_t size, size_t at) {
    for (at++; at < size && data[at] != '"'; at++) {
        if (data[at] == '\\') at++;
    }
    return at + 1;
}

static size_t skip_digits(const char *data, size_t size, size_t at) {
    while (at < size && data[at] >= '0' && data[at] <= '9')
        at++;
    return at;
}

/* The index after the number (RFC 8259 §6) at index at; at itself when there is none. */
static size_t skip_number(const char *data, size_t size, size_t at, bool *ret_is_whole) {
    size_t digits = at + (data[at] == '-' ? 1 : 0);
    size_t end = skip_digits(data, size, digits);
    *ret_is_whole = true;
    if (end == digits || (data[digits] == '0' && end > digits + 1)) return at;
    if (end + 1 < size && data[end] == '.' && skip_digits(data, size, end + 1) > end + 1) {
        end = skip_digits(data, size, end + 1);
        *ret_is_whole = false;
    }
    if (end + 1 < size && (data[end] == 'e' || data[end] == 'E')) {
        size_t exponent = end + (data[end + 1] == '+' || data[end + 1] == '-' ? 2 : 1);
        if (skip_digits(data, size, exponent) > exponent) {
            end = skip_digits(data, size, exponent);
            *ret_is_whole = false;
        }
    }
    return end;
}

static bool is_too_big(const char *data, size_t length, bool is_whole) {
    char number[400];
    if (length < 5) return false;
    if (length >= sizeof(number)) return true;
    memcpy(number, data, length);
    number[length] = '\0';
    if (!is_whole) return isinf(strtod(number, NULL));
    errno = 0;
    (void)strtoll(number, NULL, 10);
    return errno == ERANGE;
}

/* Makes the number at index at finite, in place; the index after it. The shortest number that is too big ("2e308") is
 * as long as its replacement. */
static size_t soften_number(char *data, size_t size, size_t at) {
    bool is_whole;
    size_t end = skip_number(data, size, at, &is_whole);
    if (end == at) return at + 1;
    if (!is_too_big(data + at, end - at, is_whole)) return end;
    bool is_negative = data[at] == '-';
    memset(data + at, ' ', end - at);
    memcpy(data + at, is_negative ? "-1e300" : "1e300", is_negative ? 6 : 5);
    return end;
}

/* Softens numbers; false when brackets nest too deep. */
static bool prepare(char *data, size_t size) {
    size_t depth = 0;
    for (size_t at = 0; at < size;) {
        char byte = data[at];
        if (byte == '"') {
            at = skip_string(data, size, at);
        } else if (byte == '-' || (byte >= '0' && byte <= '9')) {
            at = soften_number(data, size, at);
        } else {
            if ((byte == '{' || byte == '[') && ++depth > JSON_DEPTH_MAX) return false;
            if ((byte == '}' || byte == ']') && depth > 0) depth--;
            at++;
        }
    }
    return true;
}

json_t *json_body_parse(char *data, size_t size, char *complaint) {
    if (size == 0) return json_object();
    size_t length;
    if (!utf8_length(data, size, &length)) {
        snprintf(complaint, JSON_COMPLAINT_MAX, "The body is not valid UTF-8, or has a NUL.");
        return NULL;
    }
    if (!prepare(data, size)) {
        snprintf(complaint, JSON_COMPLAINT_MAX, "The body nests deeper than %d levels.", JSON_DEPTH_MAX);
        return NULL;
    }
    json_error_t error;
    json_t *value = json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (value == NULL) {
        bool is_duplicate = json_error_code(&error) == json_error_duplicate_key;
        snprintf(complaint, JSON_COMPLAINT_MAX, "The body is not valid JSON: %s at line %d, column %d.",
            is_duplicate ? "a key stands twice" : "a mistake", error.line, error.column);
    } else if (!json_is_object(value)) {
        snprintf(complaint, JSON_COMPLAINT_MAX, "The body must be a JSON object.");
        json_decref(value);
        value = NULL;
    }
    return value;
}
