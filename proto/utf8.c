/*
 * utf8.c: see utf8.h. Plain ASCII, nearly all of what we carry, is checked eight bytes at a time.
 */
#include "proto/utf8.h"

#include <stdint.h>
#include <string.h>

#define EACH_BYTE(byte) ((uint64_t)(byte)*0x0101010101010101u)

/* Eight bytes of ASCII, none of them NUL: no high bit, and still none after adding 0x7f to each. */
static bool eight_plain(const unsigned char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return (word & EACH_BYTE(0x80)) == 0 && ((word + EACH_BYTE(0x7f)) & EACH_BYTE(0x80)) == EACH_BYTE(0x80);
}

/* ASCII without NUL, as nearly everything is. */
static bool is_plain(const unsigned char *bytes, size_t size) {
    size_t at = 0;
    for (; size - at >= 8; at += 8) {
        if (!eight_plain(bytes + at)) return false;
    }
    for (; at < size; at++) {
        if (bytes[at] == 0 || bytes[at] >= 0x80) return false;
    }
    return true;
}

/* The bytes of the character at `bytes`, 0 when it is invalid or cut off. */
static size_t character_size(const unsigned char *bytes, size_t left) {
    unsigned first = bytes[0];
    if (first < 0x80) return first != 0;
    if (first < 0xc2 || first > 0xf4) return 0;
    size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (left < size) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return 0;
    }
    unsigned second = bytes[1];
    if (first == 0xe0 && second < 0xa0) return 0; /* overlong */
    if (first == 0xed && second > 0x9f) return 0; /* surrogates */
    if (first == 0xf0 && second < 0x90) return 0; /* overlong */
    if (first == 0xf4 && second > 0x8f) return 0; /* above U+10FFFF */
    return size;
}

bool utf8_length(const char *text, size_t size, size_t *ret_length) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length = 0;
    if (is_plain(bytes, size)) {
        *ret_length = size;
        return true;
    }
    for (size_t at = 0; at < size;) {
        if (size - at >= 8 && eight_plain(bytes + at)) {
            at += 8;
            length += 8;
            continue;
        }
        size_t step = character_size(bytes + at, size - at);
        if (step == 0) return false;
        at += step;
        length++;
    }
    *ret_length = length;
    return true;
}

size_t utf8_cut(const char *text, size_t size, size_t limit) {
    if (size <= limit) return size;
    while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80)
        limit--;
    return limit;
}
