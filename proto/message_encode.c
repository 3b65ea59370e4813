/*
 * message_encode.c: a message's struct to msgpack, by msgpack-c's packer into a strbuf.
 *
 * Everything is checked against its bounds on the way out: a process of ours never sends what its peer must refuse.
 */
#include <errno.h>
#include <msgpack.h>
#include <string.h>

#include "proto/field.h"

static int write_bytes(void *out, const char *data, size_t size) {
    strbuf_append(out, data, size);
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text, size_t size) {
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}

/* Unset fields and empty lists stay off the wire. */
static bool travels(const struct field *field, const void *message) {
    if (field->kind == FIELD_LIST || field->kind == FIELD_STRINGS) return field_count(field, message) > 0;
    return !field_is_optional(field) || message_is_set(field, message);
}

static int pack_str(msgpack_packer *packer, const struct field *field, const void *message) {
    const char *text = field_text(field, message);
    if (text == NULL) return -ERANGE;
    size_t size = strlen(text);
    if (!field_fits_text(field, text, size)) return -ERANGE;
    pack_text(packer, text, size);
    return 0;
}

static int pack_int(msgpack_packer *packer, const struct field *field, const void *message) {
    int64_t value = field_int(field, message);
    if (!field_fits_int(field, value)) return -ERANGE;
    return msgpack_pack_int64(packer, value);
}

static int pack_double(msgpack_packer *packer, const struct field *field, const void *message) {
    double value = field_double(field, message);
    if (!field_fits_double(field, value)) return -ERANGE;
    return msgpack_pack_double(packer, value);
}

static int pack_bin(msgpack_packer *packer, const struct field *field, const void *message) {
    size_t size = field_count(field, message);
    if (!field_fits_count(field, size)) return -ERANGE;
    msgpack_pack_bin(packer, size);
    return size > 0 ? msgpack_pack_bin_body(packer, field_pointer(field, message), size) : 0;
}

static int pack_strings(msgpack_packer *packer, const struct field *field, const void *message) {
    size_t count = field_count(field, message);
    if (!field_fits_count(field, count)) return -ERANGE;
    char **strings = field_strings(field, message);
    msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count; i++) {
        size_t size = strings[i] != NULL ? strlen(strings[i]) : 0;
        if (strings[i] == NULL || !strings_text_fits(strings[i], size)) return -ERANGE;
        pack_text(packer, strings[i], size);
    }
    return 0;
}

static int pack_message(msgpack_packer *packer, const struct message_descriptor *descriptor, const void *message);

static int pack_object(msgpack_packer *packer, const struct field *field, const void *message) {
    const void *record = field_pointer(field, message);
    return record != NULL ? pack_message(packer, field->record, record) : -ERANGE;
}

static int pack_list(msgpack_packer *packer, const struct field *field, const void *message) {
    size_t count = field_count(field, message);
    if (!field_fits_count(field, count)) return -ERANGE;
    msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count; i++) {
        int error = pack_message(packer, field->record, field_element(field, message, i));
        if (error != 0) return error;
    }
    return 0;
}

static int pack_field(msgpack_packer *packer, const struct field *field, const void *message) {
    switch (field->kind) {
    case FIELD_STR:
        return pack_str(packer, field, message);
    case FIELD_INT:
    case FIELD_TIME:
        return pack_int(packer, field, message);
    case FIELD_DOUBLE:
        return pack_double(packer, field, message);
    case FIELD_BOOL:
        return field_bool(field, message) ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
    case FIELD_BIN:
        return pack_bin(packer, field, message);
    case FIELD_STRINGS:
        return pack_strings(packer, field, message);
    case FIELD_OBJECT:
        return pack_object(packer, field, message);
    case FIELD_LIST:
        return pack_list(packer, field, message);
    default:
        return -ERANGE;
    }
}

static int pack_message(msgpack_packer *packer, const struct message_descriptor *descriptor, const void *message) {
    size_t count = 0;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++)
        count += travels(field, message);
    msgpack_pack_map(packer, count);
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (!travels(field, message)) continue;
        pack_text(packer, field->name, strlen(field->name));
        int error = pack_field(packer, field, message);
        if (error != 0) return error;
    }
    return 0;
}

static int encode(const struct message_descriptor *descriptor, const void *message, bool with_id, struct strbuf *out) {
    size_t before = out->size;
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_bytes);
    if (with_id) msgpack_pack_int(&packer, descriptor->id);
    int error = pack_message(&packer, descriptor, message);
    if (error != 0) strbuf_truncate(out, before);
    return error;
}

int message_encode(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    return encode(descriptor, message, false, out);
}

int message_encode_frame(const struct message_descriptor *descriptor, const void *message, struct strbuf *out) {
    return encode(descriptor, message, true, out);
}
