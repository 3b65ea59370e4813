/*
 * message_encode.c: a message's struct to msgpack, each value in its shortest format
 * (https://github.com/msgpack/msgpack/blob/master/spec.md).
 *
 * Everything is checked against its bounds on the way out: a process of ours never sends what its peer must refuse.
 */
#include <errno.h>
#include <string.h>

#include "proto/field.h"

enum { HEADER_MAX = 9, USUAL_SIZE = 256 };

/* A format byte and the last `size` bytes of a number, the most significant one first. */
static void pack_number(struct strbuf *out, unsigned format, uint64_t number, size_t size) {
    unsigned char *to = (unsigned char *)strbuf_reserve(out, HEADER_MAX);
    to[0] = (unsigned char)format;
    for (size_t i = size; i >= 1; i--) {
        to[i] = (unsigned char)number;
        number >>= 8;
    }
    strbuf_add_size(out, 1 + size);
}

/* Lengths of a kind of value: up to which one, and in which byte, they stand in the format itself; the formats with 1
 * (0: none) and 2 bytes of length. The one with 4 bytes comes next. */
struct lengths {
    unsigned fixed, fixed_max, format_8, format_16;
};
static const struct lengths str_lengths = { 0xa0, 31, 0xd9, 0xda };
static const struct lengths bin_lengths = { 0, 0, 0xc4, 0xc5 };
static const struct lengths array_lengths = { 0x90, 15, 0, 0xdc };
static const struct lengths map_lengths = { 0x80, 15, 0, 0xde };

static void pack_length(struct strbuf *out, const struct lengths *lengths, size_t length) {
    if (lengths->fixed != 0 && length <= lengths->fixed_max) {
        pack_number(out, lengths->fixed | (unsigned)length, 0, 0);
    } else if (lengths->format_8 != 0 && length <= UINT8_MAX) {
        pack_number(out, lengths->format_8, length, 1);
    } else if (length <= UINT16_MAX) {
        pack_number(out, lengths->format_16, length, 2);
    } else {
        pack_number(out, lengths->format_16 + 1, length, 4);
    }
}

static void pack_signed(struct strbuf *out, int64_t value) {
    uint64_t number = (uint64_t)value;
    if (value >= -32 && value <= INT8_MAX) {
        pack_number(out, number & 0xff, 0, 0);
        return;
    }
    uint64_t reach = value < 0 ? 2 * ~number + 1 : number; /* a sign takes a bit */
    unsigned width = reach > UINT32_MAX ? 3 : reach > UINT16_MAX ? 2 : reach > UINT8_MAX ? 1 : 0; /* 1 << width bytes */
    pack_number(out, (value < 0 ? 0xd0 : 0xcc) + width, number, (size_t)1 << width);
}

static void pack_text(struct strbuf *out, const char *text, size_t size) {
    pack_length(out, &str_lengths, size);
    strbuf_append(out, text, size);
}

/* Unset fields and empty lists stay off the wire. */
static bool travels(const struct field *field, const void *message) {
    if (field->kind == FIELD_LIST || field->kind == FIELD_STRINGS) return field_count(field, message) > 0;
    return !field_is_optional(field) || message_is_set(field, message);
}

static int pack_str(struct strbuf *out, const struct field *field, const void *message) {
    const char *text = field_text(field, message);
    if (text == NULL) return -ERANGE;
    size_t size = strlen(text);
    if (!field_fits_text(field, text, size)) return -ERANGE;
    pack_text(out, text, size);
    return 0;
}

static int pack_int(struct strbuf *out, const struct field *field, const void *message) {
    int64_t value = field_int(field, message);
    if (!field_fits_int(field, value)) return -ERANGE;
    pack_signed(out, value);
    return 0;
}

static int pack_double(struct strbuf *out, const struct field *field, const void *message) {
    double value = field_double(field, message);
    if (!field_fits_double(field, value)) return -ERANGE;
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    pack_number(out, 0xcb, bits, sizeof(bits));
    return 0;
}

static int pack_bin(struct strbuf *out, const struct field *field, const void *message) {
    size_t size = field_count(field, message);
    if (!field_fits_count(field, size)) return -ERANGE;
    pack_length(out, &bin_lengths, size);
    strbuf_append(out, field_pointer(field, message), size);
    return 0;
}

static int pack_strings(struct strbuf *out, const struct field *field, const void *message) {
    size_t count = field_count(field, message);
    if (!field_fits_count(field, count)) return -ERANGE;
    char **strings = field_strings(field, message);
    pack_length(out, &array_lengths, count);
    for (size_t i = 0; i < count; i++) {
        size_t size = strings[i] != NULL ? strlen(strings[i]) : 0;
        if (strings[i] == NULL || !strings_text_fits(strings[i], size)) return -ERANGE;
        pack_text(out, strings[i], size);
    }
    return 0;
}

static int pack_message(struct strbuf *out, const struct message_descriptor *descriptor, const void *message);

static int pack_object(struct strbuf *out, const struct field *field, const void *message) {
    const void *record = field_pointer(field, message);
    return record != NULL ? pack_message(out, field->record, record) : -ERANGE;
}

static int pack_list(struct strbuf *out, const struct field *field, const void *message) {
    size_t count = field_count(field, message);
    if (!field_fits_count(field, count)) return -ERANGE;
    pack_length(out, &array_lengths, count);
    for (size_t i = 0; i < count; i++) {
        int error = pack_message(out, field->record, field_element(field, message, i));
        if (error != 0) return error;
    }
    return 0;
}

static int pack_field(struct strbuf *out, const struct field *field, const void *message) {
    switch (field->kind) {
    case FIELD_STR:
        return pack_str(out, field, message);
    case FIELD_INT:
    case FIELD_TIME:
        return pack_int(out, field, message);
    case FIELD_DOUBLE:
        return pack_double(out, field, message);
    case FIELD_BOOL:
        pack_number(out, field_bool(field, message) ? 0xc3 : 0xc2, 0, 0);
        return 0;
    case FIELD_BIN:
        return pack_bin(out, field, message);
    case FIELD_STRINGS:
        return pack_strings(out, field, message);
    case FIELD_OBJECT:
        return pack_object(out, field, message);
    case FIELD_LIST:
        return pack_list(out, field, message);
    default:
        return -ERANGE;
    }
}

static int pack_message(struct strbuf *out, const struct message_descriptor *descriptor, const void *message) {
    size_t count = 0;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++)
        count += travels(field, message);
    pack_length(out, &map_lengths, count);
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!travels(field, message)) continue;
        pack_text(out, field->name, strlen(field->name));
        int error = pack_field(out, field, message);
        if (error != 0) return error;
    }
    return 0;
}

static int encode(const struct message_descriptor *descriptor, const void *message, bool with_id, struct strbuf *out) {
    size_t before = out->size;
    strbuf_reserve(out, USUAL_SIZE);
    if (with_id) pack_signed(out, descriptor->id);
    int error = pack_message(out, descriptor, message);
    if (error != 0) strbuf_truncate(out, before);
    return error;
}

int message_encode(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    return encode(descriptor, message, false, out);
}

int message_encode_frame(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    return encode(descriptor, message, true, out);
}
