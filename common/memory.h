/*
 * memory.h: allocation that does not fail, and cleanup attributes.
 *
 * A size that a peer chose is checked against its limit before it comes here. On exhaustion the process writes one line
 * to stderr and aborts; its supervisor restarts it. Thread rule: any thread.
 */
#ifndef BORE_COMMON_MEMORY_H
#define BORE_COMMON_MEMORY_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *pointer, size_t size);
/* As reallocarray(3): the product is checked. */
void *xreallocarray(void *pointer, size_t count, size_t size);
char *xstrdup(const char *text);
/* NULL for NULL. */
char *xstrdup_or_null(const char *text);
void *xmemdup(const void *data, size_t size);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Overwrites a secret so that the compiler cannot leave it out. */
void memory_wipe(void *data, size_t size);

void cleanup_free(void *pointer_to_pointer);
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
/* Takes the pointer out of a variable, which becomes NULL. */
#define TAKE_PTR(variable)                        \
    __extension__({                               \
        __typeof__(variable) taken_ = (variable); \
        (variable) = NULL;                        \
        taken_;                                   \
    })

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
