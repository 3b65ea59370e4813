/*
 * utf8.h: is this text valid UTF-8 (RFC 3629), and how many characters does it have.
 *
 * Overlong forms, surrogates, values above U+10FFFF and NUL are invalid. Thread rule: any thread.
 */
#ifndef BORE_PROTO_UTF8_H
#define BORE_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* False when invalid; otherwise *ret_length is the number of code points. */
bool utf8_length(const char *text, size_t size, size_t *ret_length);

/* The largest size <= limit at which text, which is valid, can be cut without splitting a character. */
size_t utf8_cut(const char *text, size_t size, size_t limit);

#endif
