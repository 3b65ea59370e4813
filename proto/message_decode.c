/*
 * message_decode.c: msgpack bytes, which nobody vouches for, to a message's struct.
 *
 * First the scan of message_scan.h, then msgpack-c's unpacker, then its tree is moved into the struct field by field.
 * A failure anywhere releases what was read so far: the answer is whole or nothing.
 */
#include <errno.h>
#include <msgpack.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"
#include "proto/message_scan.h"

#define ZONE_CHUNK_MAX 8192

static int read_message(const struct message_descriptor *descriptor, const msgpack_object *object, void *message);

static int read_str(const struct field *field, const msgpack_object *value, void *message) {
    if (value->type != MSGPACK_OBJECT_STR) return -EBADMSG;
    if (!field_fits_text(field, value->via.str.ptr, value->via.str.size)) return -EBADMSG;
    field_put_text(field, message, value->via.str.ptr, value->via.str.size);
    return 0;
}

static int read_int(const struct field *field, const msgpack_object *value, void *message) {
    int64_t number;
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= INT64_MAX) {
        number = (int64_t)value->via.u64;
    } else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        number = value->via.i64;
    } else {
        return -EBADMSG;
    }
    if (!field_fits_int(field, number)) return -EBADMSG;
    field_put_int(field, message, number);
    return 0;
}

static int read_double(const struct field *field, const msgpack_object *value, void *message) {
    double number;
    if (value->type == MSGPACK_OBJECT_FLOAT64 || value->type == MSGPACK_OBJECT_FLOAT32) {
        number = value->via.f64;
    } else if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        number = (double)value->via.u64;
    } else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        number = (double)value->via.i64;
    } else {
        return -EBADMSG;
    }
    if (!field_fits_double(field, number)) return -EBADMSG;
    field_put_double(field, message, number);
    return 0;
}

static int read_bool(const struct field *field, const msgpack_object *value, void *message) {
    if (value->type != MSGPACK_OBJECT_BOOLEAN) return -EBADMSG;
    field_put_bool(field, message, value->via.boolean);
    return 0;
}

static int read_bin(const struct field *field, const msgpack_object *value, void *message) {
    if (value->type != MSGPACK_OBJECT_BIN || !field_fits_count(field, value->via.bin.size)) return -EBADMSG;
    size_t size = value->via.bin.size;
    if (size > 0) field_put_pointer(field, message, xmemdup(value->via.bin.ptr, size));
    field_put_count(field, message, size);
    return 0;
}

static int read_strings(const struct field *field, const msgpack_object *value, void *message) {
    if (value->type != MSGPACK_OBJECT_ARRAY || !field_fits_count(field, value->via.array.size)) return -EBADMSG;
    for (size_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *text = &value->via.array.ptr[i];
        if (text->type != MSGPACK_OBJECT_STR || !strings_text_fits(text->via.str.ptr, text->via.str.size))
            return -EBADMSG;
        field_add_string(field, message, text->via.str.ptr, text->via.str.size);
    }
    return 0;
}

static int read_object(const struct field *field, const msgpack_object *value, void *message) {
    void *record = xcalloc(1, field->record->size);
    field_put_pointer(field, message, record);
    return read_message(field->record, value, record);
}

static int read_list(const struct field *field, const msgpack_object *value, void *message) {
    if (value->type != MSGPACK_OBJECT_ARRAY || !field_fits_count(field, value->via.array.size)) return -EBADMSG;
    for (size_t i = 0; i < value->via.array.size; i++) {
        int error = read_message(field->record, &value->via.array.ptr[i], message_list_add(field, message));
        if (error != 0) return error;
    }
    return 0;
}

static int read_field(const struct field *field, const msgpack_object *value, void *message) {
    int error;
    switch (field->kind) {
    case FIELD_STR:
        return read_str(field, value, message);
    case FIELD_BIN:
        return read_bin(field, value, message);
    case FIELD_STRINGS:
        return read_strings(field, value, message);
    case FIELD_OBJECT:
        return read_object(field, value, message);
    case FIELD_LIST:
        return read_list(field, value, message);
    case FIELD_INT:
    case FIELD_TIME:
        error = read_int(field, value, message);
        break;
    case FIELD_DOUBLE:
        error = read_double(field, value, message);
        break;
    case FIELD_BOOL:
        error = read_bool(field, value, message);
        break;
    default:
        return -EBADMSG;
    }
    if (error == 0 && field_is_optional(field)) field_put_has(field, message, true);
    return error;
}

static bool has_name(const struct field *field, const msgpack_object_str *key) {
    return field->kind != FIELD_END && strlen(field->name) == key->size &&
           memcmp(field->name, key->ptr, key->size) == 0;
}

/* Our own encoder sends the fields in order, so the expected one is tried before all others. NULL when unknown. */
static const struct field *find_field(
    const struct message_descriptor *descriptor, const struct field *expected, const msgpack_object_str *key) {
    if (has_name(expected, key)) return expected;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (has_name(field, key)) return field;
    }
    return NULL;
}

static bool is_required(const struct field *field) {
    return !field_is_optional(field) && field->kind != FIELD_LIST && field->kind != FIELD_STRINGS;
}

/* `message` is zeroed; on failure its owner releases it. */
static int read_message(const struct message_descriptor *descriptor, const msgpack_object *object, void *message) {
    if (object->type != MSGPACK_OBJECT_MAP) return -EBADMSG;
    uint64_t seen = 0; /* a bit for each field: FIELDS_MAX */
    const struct field *expected = descriptor->fields;
    for (size_t i = 0; i < object->via.map.size; i++) {
        const msgpack_object_kv *entry = &object->via.map.ptr[i];
        if (entry->key.type != MSGPACK_OBJECT_STR) return -EBADMSG;
        const struct field *field = find_field(descriptor, expected, &entry->key.via.str);
        if (field == NULL) continue;
        uint64_t bit = (uint64_t)1 << (field - descriptor->fields);
        if ((seen & bit) != 0) return -EBADMSG;
        seen |= bit;
        int error = read_field(field, &entry->val, message);
        if (error != 0) return error;
        expected = field + 1;
    }
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        bool was_seen = (seen >> (field - descriptor->fields) & 1) != 0;
        if (!was_seen && is_required(field)) return -EBADMSG;
    }
    return 0;
}

int message_decode(const struct message_descriptor *descriptor, const void *data, size_t size, void *ret_message) {
    memset(ret_message, 0, descriptor->size);
    if (size == 0 || message_scan(data, size) != size) return -EBADMSG;
    msgpack_zone zone;
    size_t chunk = 4 * size + 256;
    if (!msgpack_zone_init(&zone, chunk < ZONE_CHUNK_MAX ? chunk : ZONE_CHUNK_MAX)) return -ENOMEM;
    msgpack_object object;
    size_t at = 0;
    int error = -EBADMSG;
    if (msgpack_unpack(data, size, &at, &zone, &object) == MSGPACK_UNPACK_SUCCESS && at == size)
        error = read_message(descriptor, &object, ret_message);
    msgpack_zone_destroy(&zone);
    if (error != 0) message_release(descriptor, ret_message);
    return error;
}

/* The id before the map, and where the map begins; -EBADMSG. */
static int read_id(const unsigned char *data, size_t size, size_t *ret_start) {
    if (size == 0) return -EBADMSG;
    size_t bytes = data[0] < 0x80 ? 0 : data[0] == 0xcc ? 1 : data[0] == 0xcd ? 2 : SIZE_MAX;
    if (bytes == SIZE_MAX || size < bytes + 1) return -EBADMSG;
    int id = bytes == 0 ? data[0] : 0;
    for (size_t i = 1; i <= bytes; i++)
        id = id << 8 | data[i];
    *ret_start = bytes + 1;
    return id;
}

int message_frame_id(const void *data, size_t size) {
    size_t start;
    return read_id(data, size, &start);
}

int message_decode_frame(
    const struct message_descriptor *descriptor, const void *data, size_t size, void *ret_message) {
    size_t start = 0;
    int id = read_id(data, size, &start);
    if (id < 0 || id != descriptor->id) {
        memset(ret_message, 0, descriptor->size);
        return -EBADMSG;
    }
    return message_decode(descriptor, (const unsigned char *)data + start, size - start, ret_message);
}
