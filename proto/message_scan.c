/*
 * message_scan.c: see message_scan.h. Formats: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#include "proto/message_scan.h"

#include <stdbool.h>
#include <stdint.h>

/* What a header says: bytes of payload that follow it, and values that follow those. */
struct header {
    size_t size;     /* of the header itself */
    uint64_t bytes;  /* of string, binary, extension or number */
    uint64_t values; /* elements; keys and values of a map count singly */
};

/* The formats 0xc0..0xdf: payload of fixed size, or a length field of so many bytes and what it counts. */
enum counted { NOTHING, BYTES, EXTENSION, VALUES, PAIRS, INVALID };

static const struct format {
    unsigned char fixed;  /* bytes of payload, when nothing is counted */
    unsigned char length; /* bytes of the length field */
    unsigned char counted;
} formats[32] = {
    [0x00] = { 0, 0, NOTHING }, /* nil */
    [0x01] = { 0, 0, INVALID }, /* never used */
    [0x02] = { 0, 0, NOTHING }, /* false */
    [0x03] = { 0, 0, NOTHING }, /* true */
    [0x04] = { 0, 1, BYTES },   /* bin 8, 16, 32 */
    [0x05] = { 0, 2, BYTES },
    [0x06] = { 0, 4, BYTES },
    [0x07] = { 0, 1, EXTENSION }, /* ext 8, 16, 32 */
    [0x08] = { 0, 2, EXTENSION },
    [0x09] = { 0, 4, EXTENSION },
    [0x0a] = { 4, 0, NOTHING }, /* float 32, 64 */
    [0x0b] = { 8, 0, NOTHING },
    [0x0c] = { 1, 0, NOTHING }, /* uint 8, 16, 32, 64 */
    [0x0d] = { 2, 0, NOTHING },
    [0x0e] = { 4, 0, NOTHING },
    [0x0f] = { 8, 0, NOTHING },
    [0x10] = { 1, 0, NOTHING }, /* int 8, 16, 32, 64 */
    [0x11] = { 2, 0, NOTHING },
    [0x12] = { 4, 0, NOTHING },
    [0x13] = { 8, 0, NOTHING },
    [0x14] = { 2, 0, NOTHING }, /* fixext 1, 2, 4, 8, 16: type and data */
    [0x15] = { 3, 0, NOTHING },
    [0x16] = { 5, 0, NOTHING },
    [0x17] = { 9, 0, NOTHING },
    [0x18] = { 17, 0, NOTHING },
    [0x19] = { 0, 1, BYTES }, /* str 8, 16, 32 */
    [0x1a] = { 0, 2, BYTES },
    [0x1b] = { 0, 4, BYTES },
    [0x1c] = { 0, 2, VALUES }, /* array 16, 32 */
    [0x1d] = { 0, 4, VALUES },
    [0x1e] = { 0, 2, PAIRS }, /* map 16, 32 */
    [0x1f] = { 0, 4, PAIRS },
};

static bool read_long_header(const unsigned char *data, size_t size, struct header *ret_header) {
    const struct format *format = &formats[data[0] - 0xc0];
    if (format->counted == INVALID || size < 1u + format->length) return false;
    uint64_t count = 0;
    for (size_t i = 1; i <= format->length; i++)
        count = count << 8 | data[i];
    bool is_container = format->counted == VALUES || format->counted == PAIRS;
    *ret_header = (struct header){
        .size = 1u + format->length,
        .bytes = is_container ? 0 : format->fixed + count + (format->counted == EXTENSION),
        .values = !is_container              ? 0
                  : format->counted == PAIRS ? 2 * count
                                             : count,
    };
    return true;
}

static bool read_header(const unsigned char *data, size_t size, struct header *ret_header) {
    unsigned first = data[0];
    if (first >= 0xc0 && first < 0xe0) return read_long_header(data, size, ret_header);
    struct header header = { .size = 1 };
    if (first >= 0xa0 && first < 0xc0) {
        header.bytes = first & 0x1f;
    } else if (first >= 0x90 && first < 0xa0) {
        header.values = first & 0x0f;
    } else if (first >= 0x80 && first < 0x90) {
        header.values = UINT64_C(2) * (first & 0x0f);
    }
    *ret_header = header;
    return true;
}

size_t message_scan(const unsigned char *data, size_t size) {
    uint64_t left[MESSAGE_DEPTH_MAX + 1] = { 1 }; /* values still to come at each depth */
    unsigned depth = 0;
    size_t at = 0;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) return at;
            depth--;
        }
        left[depth]--;
        struct header header;
        if (at >= size || !read_header(data + at, size - at, &header)) return 0;
        at += header.size;
        if (header.bytes > size - at || header.values > size - at) return 0;
        at += (size_t)header.bytes;
        if (header.values == 0) continue;
        if (++depth > MESSAGE_DEPTH_MAX) return 0;
        left[depth] = header.values;
    }
}
