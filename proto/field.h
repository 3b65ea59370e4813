/*
 * field.h: one field of one struct, for the codec's own files (message*.c, json*.c).
 *
 * Values are reached by offset. `field_fits_…` are the only place where bounds are compared: bounds are doubles, and
 * INT64_MAX as a double is 2^63, so a bound beyond int64 means none. Thread rule: any thread.
 */
#ifndef BORE_PROTO_FIELD_H
#define BORE_PROTO_FIELD_H

#include <math.h>
#include <string.h>

#include "proto/message.h"

#define STRINGS_TEXT_MAX 255 /* characters in each text of a STRINGS field */
#define FIELDS_MAX       64  /* of one message */

static inline void *field_at(const struct field *field, void *message) {
    return (char *)message + field->offset;
}

static inline const void *field_in(const struct field *field, const void *message) {
    return (const char *)message + field->offset;
}

static inline void *field_extra_at(const struct field *field, void *message) {
    return (char *)message + field->extra_offset;
}

static inline const void *field_extra_in(const struct field *field, const void *message) {
    return (const char *)message + field->extra_offset;
}

static inline int64_t field_int(const struct field *field, const void *message) {
    return *(const int64_t *)field_in(field, message);
}

static inline double field_double(const struct field *field, const void *message) {
    return *(const double *)field_in(field, message);
}

static inline bool field_bool(const struct field *field, const void *message) {
    return *(const bool *)field_in(field, message);
}

/* Pointers are copied as bytes: a member is a char *, a struct x * or a char **, never the void * seen here. */
static inline void *field_pointer(const struct field *field, const void *message) {
    void *pointer;
    memcpy(&pointer, field_in(field, message), sizeof(pointer));
    return pointer;
}

static inline void field_put_pointer(const struct field *field, void *message, void *value) {
    memcpy(field_at(field, message), &value, sizeof(value));
}

static inline char *field_text(const struct field *field, const void *message) {
    return field_pointer(field, message);
}

/* name_size or name_count */
static inline size_t field_count(const struct field *field, const void *message) {
    return *(const size_t *)field_extra_in(field, message);
}

static inline char **field_strings(const struct field *field, const void *message) {
    return field_pointer(field, message);
}

static inline void *field_element(const struct field *field, const void *message, size_t index) {
    return (char *)field_pointer(field, message) + index * field->record->size;
}

static inline void field_put_int(const struct field *field, void *message, int64_t value) {
    *(int64_t *)field_at(field, message) = value;
}

static inline void field_put_double(const struct field *field, void *message, double value) {
    *(double *)field_at(field, message) = value;
}

static inline void field_put_bool(const struct field *field, void *message, bool value) {
    *(bool *)field_at(field, message) = value;
}

static inline void field_put_count(const struct field *field, void *message, size_t count) {
    *(size_t *)field_extra_at(field, message) = count;
}

/* INT, DOUBLE, BOOL, TIME */
static inline bool field_is_scalar(const struct field *field) {
    return field->kind == FIELD_INT || field->kind == FIELD_DOUBLE || field->kind == FIELD_BOOL ||
           field->kind == FIELD_TIME;
}

static inline size_t field_scalar_size(const struct field *field) {
    return field->kind == FIELD_BOOL ? sizeof(bool) : sizeof(int64_t);
}

static inline bool field_is_optional(const struct field *field) {
    return (field->flags & FIELD_OPTIONAL) != 0;
}

/* Of an optional scalar. */
static inline void field_put_has(const struct field *field, void *message, bool has) {
    *(bool *)field_extra_at(field, message) = has;
}

static inline bool field_fits_int(const struct field *field, int64_t value) {
    return (field->minimum <= -0x1p63 || value >= (int64_t)field->minimum) &&
           (field->maximum >= 0x1p63 || value <= (int64_t)field->maximum);
}

static inline bool field_fits_double(const struct field *field, double value) {
    return isfinite(value) && value >= field->minimum && value <= field->maximum;
}

static inline bool field_fits_count(const struct field *field, size_t count) {
    return (double)count >= field->minimum && (double)count <= field->maximum;
}

/* Valid UTF-8 without NUL, and as long as the bounds say. */
bool field_fits_text(const struct field *field, const char *text, size_t size);
/* The same for one text of a STRINGS field. */
bool strings_text_fits(const char *text, size_t size);

/* Replaces the value by a copy of text[0..size), which fits. */
void field_put_text(const struct field *field, void *message, const char *text, size_t size);
/* Appends a copy of text[0..size), which fits, to a STRINGS field; -ERANGE when full. */
int field_add_string(const struct field *field, void *message, const char *text, size_t size);

/* Frees what the field points to and makes it unset (scalars: zero). */
void field_clear(const struct field *field, void *message);

#endif
