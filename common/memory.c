/*
 * memory.c: allocation that does not fail.
 *
 * A process without memory cannot keep a promise to anybody, so it says so in one line and aborts; whoever waits for it
 * gets an answer from the bus, and its supervisor starts it again. Sizes of 0 are allocated as 1, so that a NULL from
 * here never exists.
 */
#include "common/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void out_of_memory(void) {
    static const char line[] = "out of memory\n";
    ssize_t ignored = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)ignored;
    abort();
}

static void *require(void *pointer) {
    if (!pointer) out_of_memory();
    return pointer;
}

void *xmalloc(size_t size) {
    return require(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size) {
    return require(count && size ? calloc(count, size) : calloc(1, 1));
}

void *xrealloc(void *pointer, size_t size) {
    return require(realloc(pointer, size ? size : 1));
}

void *xreallocarray(void *pointer, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) out_of_memory();
    return xrealloc(pointer, count * size);
}

char *xstrdup(const char *text) {
    return require(strdup(text));
}

char *xstrdup_or_null(const char *text) {
    return text ? xstrdup(text) : NULL;
}

void *xmemdup(const void *data, size_t size) {
    void *copy = xmalloc(size);
    if (size) memcpy(copy, data, size);
    return copy;
}

char *xasprintf(const char *format, ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (size < 0) out_of_memory();
    return text;
}

void memory_wipe(void *data, size_t size) {
    if (size) explicit_bzero(data, size);
}

void cleanup_free(void *pointer_to_pointer) {
    void *pointer;
    memcpy(&pointer, pointer_to_pointer, sizeof(pointer));
    free(pointer);
}
