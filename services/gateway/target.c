/*
 * target.c: see target.h.
 *
 * Percent-decoding happens once, after splitting (RFC 3986 §2.4), so an encoded slash never makes a segment and nothing
 * is decoded twice. A `%` that two hex digits do not follow refuses a path and stands for itself in a query.
 */
#include "services/gateway/target.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "proto/utf8.h"

bool target_parse(const char *text, struct target *ret_target) {
    const char *path = text;
    if (*path != '/') {
        size_t scheme = strncasecmp(text, "http://", 7) == 0 ? 7 : strncasecmp(text, "https://", 8) == 0 ? 8 : 0;
        if (scheme == 0) return false;
        path = text + scheme + strcspn(text + scheme, "/?#");
        if (path == text + scheme) return false;
    }
    ret_target->path_size = strcspn(path, "?#");
    ret_target->path = ret_target->path_size > 0 ? path : "/";
    ret_target->query = path[ret_target->path_size] == '?' ? path + ret_target->path_size + 1 : NULL;
    if (ret_target->path_size == 0) ret_target->path_size = 1;
    return true;
}

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

/* The byte that the escape at text means, or -1. */
static int escaped_byte(const char *text, const char *end) {
    if (end - text < 3) return -1;
    int high = hex_value(text[1]);
    int low = hex_value(text[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Whether a decoded byte may stand in a segment. */
static bool is_segment_byte(int byte) {
    return byte >= 0x20 && byte != 0x7f && byte != '/' && byte != '\\';
}

/* Decodes one segment into bytes; its length, or -1. */
static int decode_segment(const char *text, const char *end, char *bytes, size_t room) {
    size_t size = 0;
    while (text < end) {
        int byte = *text == '%' ? escaped_byte(text, end) : (unsigned char)*text;
        if (!is_segment_byte(byte) || size + 1 >= room) return -1;
        text += *text == '%' ? 3 : 1;
        bytes[size++] = (char)byte;
    }
    bytes[size] = '\0';
    size_t length;
    if (!utf8_length(bytes, size, &length)) return -1;
    if (strcmp(bytes, ".") == 0 || strcmp(bytes, "..") == 0) return -1;
    return (int)size;
}

int path_parse(const char *path, size_t size, struct path *ret_path) {
    ret_path->count = 0;
    const char *end = path + size;
    if (size == 0 || *path != '/') return -EINVAL;
    if (size > 1 && end[-1] == '/') end--;
    if (size > 1 && end[-1] == '/') return -EINVAL;
    char *bytes = ret_path->bytes;
    size_t room = sizeof(ret_path->bytes);
    size_t count = 0;
    for (const char *at = path + 1; at <= end && end - path > 1;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const char *stop = slash != NULL ? slash : end;
        int length = count < PATH_SEGMENTS_MAX && stop > at ? decode_segment(at, stop, bytes, room) : -1;
        if (length < 0) return -EINVAL;
        ret_path->segments[count++] = bytes;
        bytes += length + 1;
        room -= (size_t)length + 1;
        at = stop + 1;
    }
    ret_path->count = count;
    return 0;
}

/* Decodes one name or value of a query. False when it does not fit, is no UTF-8 or has a NUL; bytes is "" then. */
static bool decode_parameter(const char *text, const char *end, char *bytes, size_t room) {
    size_t size = 0;
    size_t length;
    bool fits = true;
    while (text < end && fits) {
        int byte = *text == '%' ? escaped_byte(text, end) : -1;
        size_t step = byte < 0 ? 1 : 3;
        if (byte < 0) byte = *text == '+' ? ' ' : (unsigned char)*text;
        fits = byte != 0 && size + 1 < room;
        if (fits) bytes[size++] = (char)byte;
        text += step;
    }
    fits = fits && utf8_length(bytes, size, &length);
    bytes[fits ? size : 0] = '\0';
    return fits;
}

bool query_next(const char **position, struct query_parameter *ret_parameter) {
    const char *text = *position;
    if (text == NULL || *text == '\0' || *text == '#') return false;
    const char *end = text + strcspn(text, "&#");
    const char *equals = memchr(text, '=', (size_t)(end - text));
    const char *name_end = equals != NULL ? equals : end;
    const char *value = equals != NULL ? equals + 1 : end;
    decode_parameter(text, name_end, ret_parameter->name, sizeof(ret_parameter->name));
    ret_parameter->is_valid = decode_parameter(value, end, ret_parameter->value, sizeof(ret_parameter->value));
    *position = *end == '&' ? end + 1 : end;
    return true;
}
