/*
 * strbuf.h: a growing byte string, always NUL-terminated.
 *
 * Embedded: `struct strbuf text = STRBUF_INIT;` … `strbuf_release(&text)` or the attribute `_cleanup_strbuf_`.
 * Memory failure ends the process (xmalloc). Thread rule: one thread at a time.
 */
#ifndef BORE_COMMON_STRBUF_H
#define BORE_COMMON_STRBUF_H

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf {
    char *data;      /* never NULL; NUL at data[size] */
    size_t size;     /* bytes, without the NUL */
    size_t capacity; /* 0 while data is the shared empty string */
};

extern char strbuf_empty[1];
#define STRBUF_INIT \
    { .data = strbuf_empty, .size = 0, .capacity = 0 }

void strbuf_init(struct strbuf *self);
void strbuf_release(struct strbuf *self);
/* Empties it, keeping its memory. */
void strbuf_clear(struct strbuf *self);
/* For strbuf_reserve: more memory. */
void strbuf_grow(struct strbuf *self, size_t extra);

/* Room for `extra` more bytes; returns where they go (then call strbuf_add_size). */
static inline char *strbuf_reserve(struct strbuf *self, size_t extra) {
    if (extra >= self->capacity - self->size) strbuf_grow(self, extra); /* no capacity: no size either */
    return self->data + self->size;
}

static inline void strbuf_add_size(struct strbuf *self, size_t size) {
    if (size == 0) return;
    assert(size < self->capacity - self->size);
    self->size += size;
    self->data[self->size] = '\0';
}

void strbuf_append(struct strbuf *self, const void *data, size_t size);
void strbuf_append_text(struct strbuf *self, const char *text);
void strbuf_append_char(struct strbuf *self, char character);
/* In decimal. */
void strbuf_append_int(struct strbuf *self, int64_t value);
void strbuf_append_format(struct strbuf *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_append_vformat(struct strbuf *self, const char *format, va_list arguments);
/* Cuts it to size bytes (size <= self->size). */
void strbuf_truncate(struct strbuf *self, size_t size);
/* Gives the heap string away (free() it) and empties self. */
char *strbuf_detach(struct strbuf *self);

#define _cleanup_strbuf_ __attribute__((cleanup(strbuf_release)))

#endif
