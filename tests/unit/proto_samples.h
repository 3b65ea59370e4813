/*
 * proto_samples.h: messages of every descriptor, made by walking it: a canonical full one, a minimal one, random ones.
 *
 * For the tests and fuzzers of proto/. The canonical and minimal messages depend on nothing but the descriptor, so that
 * golden bytes stay the same; random ones depend on the seed alone.
 */
#ifndef BORE_TESTS_PROTO_SAMPLES_H
#define BORE_TESTS_PROTO_SAMPLES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"
#include "proto/protocol.h"

/* ---- random numbers (splitmix64) ---- */

/* A number from the environment: PROTO_SEED, PROTO_ROUNDS. */
static inline uint64_t sample_number(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

struct sample_random {
    uint64_t state;
};

static inline uint64_t sample_next(struct sample_random *self) {
    uint64_t z = (self->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline size_t sample_below(struct sample_random *self, size_t limit) {
    return limit == 0 ? 0 : (size_t)(sample_next(self) % limit);
}

/* ---- canonical and minimal ---- */

static inline size_t sample_length(const struct field *field, size_t wanted) {
    if ((double)wanted > field->maximum) wanted = (size_t)field->maximum;
    if ((double)wanted < field->minimum) wanted = (size_t)field->minimum;
    return wanted;
}

static inline void sample_fill_text(const struct field *field, void *message, bool full) {
    char text[4097];
    size_t length = sample_length(field, full ? strlen(field->name) + 2 : 0);
    for (size_t i = 0; i < length; i++)
        text[i] = "value_of_"[i % 9];
    if (full && length > strlen(field->name)) memcpy(text, field->name, strlen(field->name));
    field_put_text(field, message, text, length);
}

static inline int64_t sample_int(const struct field *field, bool full) {
    if (full && field->maximum >= 0x1p63) return 0x123456789abcdef;
    int64_t value = full ? (int64_t)field->maximum - 1 : 0;
    if (field->minimum > -0x1p63 && value < (int64_t)field->minimum) value = (int64_t)field->minimum;
    return value;
}

static inline void sample_fill(const struct message_descriptor *descriptor, void *message, bool full);

static inline void sample_fill_field(const struct field *field, void *message, bool full) {
    switch (field->kind) {
    case FIELD_STR:
        sample_fill_text(field, message, full);
        break;
    case FIELD_INT:
        field_put_int(field, message, sample_int(field, full));
        break;
    case FIELD_TIME:
        field_put_int(field, message, full ? 1769860800123 : 0);
        break;
    case FIELD_DOUBLE:
        field_put_double(field, message, full ? 37.25 : field->minimum > 0 ? field->minimum : 0);
        break;
    case FIELD_BOOL:
        field_put_bool(field, message, full);
        break;
    case FIELD_BIN:
        if (!full) break;
        field_put_pointer(field, message, xmemdup("\0\1\2\377", 4));
        field_put_count(field, message, 4);
        break;
    case FIELD_STRINGS:
        for (size_t i = 0; full && i < 3; i++)
            message_strings_add(field, message, i == 0 ? "first" : i == 1 ? "" : "dritter Text: äöü€😀");
        break;
    case FIELD_OBJECT:
        field_put_pointer(field, message, xcalloc(1, field->record->size));
        sample_fill(field->record, field_pointer(field, message), full);
        break;
    case FIELD_LIST:
        for (size_t i = 0; full && i < 2; i++)
            sample_fill(field->record, message_list_add(field, message), i == 0);
        break;
    case FIELD_END:
        break;
    }
    if (field_is_scalar(field) && field_is_optional(field)) field_put_has(field, message, true);
}

/* Full: everything set, lists of two. Otherwise only what is required, as small as the bounds allow. */
static inline void sample_fill(const struct message_descriptor *descriptor, void *message, bool full) {
    memset(message, 0, descriptor->size);
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (full || !field_is_optional(field)) sample_fill_field(field, message, full);
    }
}

static inline void *sample_new(const struct message_descriptor *descriptor, bool full) {
    void *message = xcalloc(1, descriptor->size + 1);
    sample_fill(descriptor, message, full);
    return message;
}

/* ---- random ---- */

static inline size_t sample_character(struct sample_random *random, char *to) {
    static const unsigned limits[] = { 0x80, 0x80, 0x80, 0x800, 0x10000, 0x110000 };
    unsigned code = 1 + (unsigned)sample_below(random, limits[sample_below(random, ARRAY_SIZE(limits))] - 1);
    if (code >= 0xd800 && code < 0xe000) code = 0x2028 + (code & 1);
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    static const unsigned leads[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    to[0] = (char)(leads[size] | code);
    return size;
}

static inline size_t sample_text(struct sample_random *random, size_t length, char *to) {
    size_t size = 0;
    for (size_t i = 0; i < length; i++)
        size += sample_character(random, to + size);
    to[size] = '\0';
    return size;
}

static inline double sample_double(struct sample_random *random) {
    switch (sample_below(random, 4)) {
    case 0:
        return (double)(int64_t)sample_next(random) / 1000;
    case 1:
        return (double)sample_below(random, 2000) - 1000;
    case 2:
        return -0.0;
    default:
        break;
    }
    uint64_t bits = sample_next(random);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return isfinite(value) ? value : 0.1;
}

static inline int64_t sample_random_int(struct sample_random *random, const struct field *field) {
    static const int64_t edges[] = { INT64_MIN, INT64_MAX, -1, 0, 1, 127, 128, -32, -33, 255, 256, 65535, 65536,
        INT64_C(4294967295), INT64_C(4294967296), INT64_C(9007199254740993) };
    for (int i = 0; i < 20; i++) {
        int64_t value = sample_below(random, 2) == 0 ? edges[sample_below(random, ARRAY_SIZE(edges))]
                                                     : (int64_t)(sample_next(random) >> sample_below(random, 64));
        if (field_fits_int(field, value)) return value;
    }
    return field->minimum <= -0x1p63 ? INT64_MIN : (int64_t)field->minimum;
}

static inline void sample_randomize(
    struct sample_random *random, const struct message_descriptor *descriptor, void *message, int depth);

static inline void sample_randomize_field(
    struct sample_random *random, const struct field *field, void *message, int depth) {
    char text[4 * 400 + 1];
    size_t wanted = sample_below(random, 8) == 0 ? sample_below(random, 400) : sample_below(random, 30);
    switch (field->kind) {
    case FIELD_STR: {
        size_t length = sample_length(field, wanted);
        field_put_text(field, message, text, sample_text(random, length, text));
        break;
    }
    case FIELD_INT:
    case FIELD_TIME:
        field_put_int(field, message, sample_random_int(random, field));
        break;
    case FIELD_DOUBLE: {
        double value = sample_double(random);
        field_put_double(field, message, field_fits_double(field, value) ? value : field->minimum);
        break;
    }
    case FIELD_BOOL:
        field_put_bool(field, message, sample_below(random, 2) == 1);
        break;
    case FIELD_BIN: {
        size_t size = sample_length(field, wanted);
        if (size == 0) break;
        sample_text(random, 399, text);
        field_put_pointer(field, message, xmemdup(text, size));
        field_put_count(field, message, size);
        break;
    }
    case FIELD_STRINGS:
        for (size_t i = 0; i < sample_below(random, 20); i++) {
            sample_text(random, sample_below(random, 256), text);
            message_strings_add(field, message, text);
        }
        break;
    case FIELD_OBJECT:
        field_put_pointer(field, message, xcalloc(1, field->record->size));
        sample_randomize(random, field->record, field_pointer(field, message), depth + 1);
        break;
    case FIELD_LIST:
        for (size_t i = sample_below(random, depth == 0 ? 6 : 3); i > 0; i--)
            sample_randomize(random, field->record, message_list_add(field, message), depth + 1);
        break;
    case FIELD_END:
        break;
    }
    if (field_is_scalar(field) && field_is_optional(field)) field_put_has(field, message, true);
}

/* Any valid message; optional fields are set in half of all cases. */
static inline void sample_randomize(
    struct sample_random *random, const struct message_descriptor *descriptor, void *message, int depth) {
    memset(message, 0, descriptor->size);
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (field_is_optional(field) && sample_below(random, 2) == 0) continue;
        sample_randomize_field(random, field, message, depth);
    }
}

static inline void *sample_random_new(struct sample_random *random, const struct message_descriptor *descriptor) {
    void *message = xcalloc(1, descriptor->size + 1);
    sample_randomize(random, descriptor, message, 0);
    return message;
}

static inline void sample_free(const struct message_descriptor *descriptor, void *message) {
    message_release(descriptor, message);
    free(message);
}

#endif
