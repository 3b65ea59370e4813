/*
 * strbuf.c: a growing byte string.
 *
 * Capacity counts the bytes of the allocation, the closing NUL included; it doubles, so that appending is linear in
 * all. The shared empty string is only ever read: every writer reserves first, which allocates.
 */
#include "common/strbuf.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

enum { SMALLEST_CAPACITY = 64, INT_DIGITS_MAX = 20 };

char strbuf_empty[1] = { '\0' };

void strbuf_init(struct strbuf *self) {
    *self = (struct strbuf)STRBUF_INIT;
}

void strbuf_release(struct strbuf *self) {
    if (self->capacity) free(self->data);
    strbuf_init(self);
}

void strbuf_clear(struct strbuf *self) {
    strbuf_truncate(self, 0);
}

void strbuf_grow(struct strbuf *self, size_t extra) {
    assert(extra < SIZE_MAX / 2 - self->size);
    size_t needed = self->size + extra + 1;
    size_t capacity = self->capacity * 2 > needed ? self->capacity * 2 : needed;
    if (capacity < SMALLEST_CAPACITY) capacity = SMALLEST_CAPACITY;
    self->data = xrealloc(self->capacity ? self->data : NULL, capacity);
    self->capacity = capacity;
    self->data[self->size] = '\0';
}

void strbuf_append(struct strbuf *self, const void *data, size_t size) {
    if (size == 0) return;
    memcpy(strbuf_reserve(self, size), data, size);
    strbuf_add_size(self, size);
}

void strbuf_append_text(struct strbuf *self, const char *text) {
    strbuf_append(self, text, strlen(text));
}

void strbuf_append_char(struct strbuf *self, char character) {
    strbuf_append(self, &character, 1);
}

void strbuf_append_int(struct strbuf *self, int64_t value) {
    char digits[INT_DIGITS_MAX];
    size_t start = sizeof(digits);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--start] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) digits[--start] = '-';
    strbuf_append(self, digits + start, sizeof(digits) - start);
}

void strbuf_append_format(struct strbuf *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    strbuf_append_vformat(self, format, arguments);
    va_end(arguments);
}

void strbuf_append_vformat(struct strbuf *self, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    char *place = strbuf_reserve(self, SMALLEST_CAPACITY);
    size_t room = self->capacity - self->size;
    int written = vsnprintf(place, room, format, arguments);
    assert(written >= 0);
    size_t size = (size_t)written;
    if (size >= room) vsnprintf(strbuf_reserve(self, size), size + 1, format, again);
    va_end(again);
    strbuf_add_size(self, size);
}

void strbuf_truncate(struct strbuf *self, size_t size) {
    assert(size <= self->size);
    self->size = size;
    if (self->capacity) self->data[size] = '\0';
}

char *strbuf_detach(struct strbuf *self) {
    char *text = self->capacity ? self->data : xstrdup("");
    strbuf_init(self);
    return text;
}
