/*
 * bus_envelope.c: see bus_envelope.h. Formats: https://github.com/msgpack/msgpack/blob/master/spec.md
 *
 * message_decode_frame allocates and copies each body; here the fields around the bodies are read where they lie.
 * Whatever is not read is stepped over by message_scan, which bounds depth and claimed sizes.
 */
#include "services/lib/bus_envelope.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proto/message_scan.h"
#include "proto/utf8.h"

enum { REQUEST_ID_MAX = 64, BUDGET_MAX_MS = 600000 }; /* as in messages.def */

struct cursor {
    const unsigned char *start;
    const unsigned char *at;
    const unsigned char *end;
    const unsigned char *map; /* of the frame */
    bool skipped;             /* something unknown */
};

struct text {
    const char *data;
    size_t size;
};

static size_t cursor_left(const struct cursor *self) {
    return (size_t)(self->end - self->at);
}

/* A big-endian number of `size` bytes, after one byte of format. */
static bool read_number(struct cursor *self, size_t size, uint64_t *ret_number) {
    if (cursor_left(self) < 1 + size) return false;
    uint64_t number = 0;
    for (size_t i = 1; i <= size; i++)
        number = number << 8 | self->at[i];
    self->at += 1 + size;
    *ret_number = number;
    return true;
}

/* A length that stands in the format byte (fixed), or in 1, 2 or 4 bytes after it; format_8 is 0 where there is none.
 */
static bool read_length(struct cursor *self, unsigned fixed, unsigned fixed_mask, unsigned format_8, unsigned format_16,
    uint64_t *ret_length) {
    if (cursor_left(self) == 0) return false;
    unsigned first = *self->at;
    if (fixed_mask != 0 && (first & ~fixed_mask) == fixed) {
        self->at++;
        *ret_length = first & fixed_mask;
        return true;
    }
    if (format_8 != 0 && first == format_8) return read_number(self, 1, ret_length);
    if (first == format_16) return read_number(self, 2, ret_length);
    if (first == format_16 + 1) return read_number(self, 4, ret_length);
    return false;
}

static bool read_map(struct cursor *self, uint64_t *ret_pairs) {
    return read_length(self, 0x80, 0x0f, 0, 0xde, ret_pairs) && *ret_pairs <= cursor_left(self);
}

static bool read_array(struct cursor *self, uint64_t *ret_count) {
    return read_length(self, 0x90, 0x0f, 0, 0xdc, ret_count) && *ret_count <= cursor_left(self);
}

static bool read_text(struct cursor *self, struct text *ret_text) {
    uint64_t size;
    if (!read_length(self, 0xa0, 0x1f, 0xd9, 0xda, &size) || size > cursor_left(self)) return false;
    *ret_text = (struct text){ (const char *)self->at, (size_t)size };
    self->at += size;
    return true;
}

static bool read_binary(struct cursor *self, const unsigned char **ret_data, size_t *ret_size) {
    uint64_t size;
    if (!read_length(self, 0, 0, 0xc4, 0xc5, &size) || size > cursor_left(self)) return false;
    *ret_data = self->at;
    *ret_size = (size_t)size;
    self->at += size;
    return true;
}

/* Of a two's complement number of so many bytes. */
static int64_t with_sign(uint64_t number, size_t size) {
    switch (size) {
    case 1:
        return (int8_t)number;
    case 2:
        return (int16_t)number;
    case 4:
        return (int32_t)number;
    default:
        return (int64_t)number;
    }
}

static const unsigned char int_sizes[] = { 1, 2, 4, 8 }; /* by the format's last two bits */

static bool read_int(struct cursor *self, int64_t *ret_value) {
    if (cursor_left(self) == 0) return false;
    unsigned first = *self->at;
    if (first <= 0x7f || first >= 0xe0) {
        self->at++;
        *ret_value = (int8_t)first;
        return true;
    }
    bool is_unsigned = first >= 0xcc && first <= 0xcf;
    if (!is_unsigned && !(first >= 0xd0 && first <= 0xd3)) return false;
    size_t size = int_sizes[first & 3];
    uint64_t number;
    if (!read_number(self, size, &number) || (is_unsigned && number > INT64_MAX)) return false;
    *ret_value = is_unsigned ? (int64_t)number : with_sign(number, size);
    return true;
}

static bool skip_value(struct cursor *self) {
    size_t size = message_scan(self->at, cursor_left(self));
    self->at += size;
    self->skipped = true;
    return size != 0;
}

/* Exactly at its end; and where something unknown was in it, no deeper than a message may be. */
static bool is_complete(const struct cursor *self) {
    size_t size = (size_t)(self->end - self->map);
    return self->at == self->end && (!self->skipped || message_scan(self->map, size) == size);
}

static bool is_key(const struct text *key, const char *name) {
    return strlen(name) == key->size && memcmp(key->data, name, key->size) == 0;
}

/* Marks a key as seen; false when it was there before. */
static bool see(unsigned *seen, unsigned bit) {
    bool first_time = (*seen & bit) == 0;
    *seen |= bit;
    return first_time;
}

static bool read_request_id(struct cursor *self) {
    struct text text;
    size_t length;
    return read_text(self, &text) && utf8_length(text.data, text.size, &length) && length <= REQUEST_ID_MAX;
}

static bool read_body(struct cursor *self, const unsigned char **ret_body, size_t *ret_size) {
    return read_binary(self, ret_body, ret_size) && *ret_size <= BUS_BODY_MAX;
}

static bool read_budget(struct cursor *self, struct envelope_request *ret_request) {
    ret_request->budget_offset = (uint32_t)(self->at - self->start);
    return read_int(self, &ret_request->budget_ms) && ret_request->budget_ms >= 0 &&
           ret_request->budget_ms <= BUDGET_MAX_MS;
}

static bool read_request(struct cursor *self, struct envelope_request *ret_request) {
    enum { CORRELATION = 1, METHOD = 2, BUDGET = 4, REQUEST_ID = 8, BODY = 16, ALL = 31 };
    const unsigned char *body;
    size_t body_size;
    uint64_t pairs;
    unsigned seen = 0;
    int64_t method = 0;
    if (!read_map(self, &pairs)) return false;
    for (uint64_t i = 0; i < pairs; i++) {
        struct text key;
        bool fine;
        if (!read_text(self, &key)) return false;
        if (is_key(&key, "correlation")) {
            fine = see(&seen, CORRELATION) && read_int(self, &ret_request->correlation);
        } else if (is_key(&key, "method")) {
            fine = see(&seen, METHOD) && read_int(self, &method) && method >= 1 && method <= 65535;
        } else if (is_key(&key, "budget_ms")) {
            fine = see(&seen, BUDGET) && read_budget(self, ret_request);
        } else if (is_key(&key, "request_id")) {
            fine = see(&seen, REQUEST_ID) && read_request_id(self);
        } else if (is_key(&key, "body")) {
            fine = see(&seen, BODY) && read_body(self, &body, &body_size);
        } else {
            fine = skip_value(self);
        }
        if (!fine) return false;
    }
    ret_request->method = (int)method;
    return seen == ALL;
}

static bool read_reply(struct cursor *self, struct envelope_reply *ret_reply) {
    enum { CORRELATION = 1, CODE = 2, BODY = 4 };
    uint64_t pairs;
    unsigned seen = 0;
    int64_t code = 0;
    if (!read_map(self, &pairs)) return false;
    for (uint64_t i = 0; i < pairs; i++) {
        struct text key;
        bool fine;
        if (!read_text(self, &key)) return false;
        if (is_key(&key, "correlation")) {
            fine = see(&seen, CORRELATION) && read_int(self, &ret_reply->correlation);
        } else if (is_key(&key, "code")) {
            fine = see(&seen, CODE) && read_int(self, &code) && code >= 0 && code <= 999;
        } else if (is_key(&key, "body")) {
            fine = see(&seen, BODY) && read_body(self, &ret_reply->body, &ret_reply->body_size);
        } else {
            fine = skip_value(self);
        }
        if (!fine) return false;
    }
    ret_reply->code = (int)code;
    return seen == (CORRELATION | CODE | BODY);
}

static bool read_lane(struct cursor *self, char ret_lane[BUS_LANE_MAX + 1]) {
    struct text lane;
    if (!read_text(self, &lane) || lane.size == 0 || lane.size > BUS_LANE_MAX) return false;
    for (size_t i = 0; i < lane.size; i++) {
        char c = lane.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) return false;
    }
    memcpy(ret_lane, lane.data, lane.size);
    ret_lane[lane.size] = '\0';
    return true;
}

/* The array of a batch: calls read_one for each of its elements. */
static bool read_requests(struct cursor *self, struct request_envelope *ret_envelope) {
    uint64_t count;
    if (!read_array(self, &count) || count == 0 || count > BUS_BATCH_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        if (!read_request(self, &ret_envelope->requests[i])) return false;
    }
    ret_envelope->count = (size_t)count;
    return true;
}

static bool read_replies(struct cursor *self, struct reply_envelope *ret_envelope) {
    uint64_t count;
    if (!read_array(self, &count) || count == 0 || count > BUS_BATCH_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        if (!read_reply(self, &ret_envelope->replies[i])) return false;
    }
    ret_envelope->count = (size_t)count;
    return true;
}

/* The id and the map's header of a frame. */
static bool open_frame(struct cursor *ret_cursor, const void *frame, size_t size, int id, uint64_t *ret_pairs) {
    int64_t found;
    if (size > BUS_MESSAGE_MAX || message_frame_id(frame, size) != id) return false;
    *ret_cursor = (struct cursor){ .start = frame, .at = frame, .end = (const unsigned char *)frame + size };
    if (!read_int(ret_cursor, &found)) return false;
    ret_cursor->map = ret_cursor->at;
    return read_map(ret_cursor, ret_pairs);
}

int request_envelope_scan(const void *frame, size_t size, struct request_envelope *ret_envelope) {
    enum { LANE = 1, REQUESTS = 2 };
    struct cursor cursor;
    uint64_t pairs;
    unsigned seen = 0;
    if (!open_frame(&cursor, frame, size, MSG_REQUEST_BATCH, &pairs)) return -EBADMSG;
    for (uint64_t i = 0; i < pairs; i++) {
        struct text key;
        bool fine;
        if (!read_text(&cursor, &key)) return -EBADMSG;
        if (is_key(&key, "lane")) {
            fine = see(&seen, LANE) && read_lane(&cursor, ret_envelope->lane);
        } else if (is_key(&key, "requests")) {
            fine = see(&seen, REQUESTS) && read_requests(&cursor, ret_envelope);
        } else {
            fine = skip_value(&cursor);
        }
        if (!fine) return -EBADMSG;
    }
    return seen == (LANE | REQUESTS) && is_complete(&cursor) ? 0 : -EBADMSG;
}

int reply_envelope_scan(const void *frame, size_t size, struct reply_envelope *ret_envelope) {
    struct cursor cursor;
    uint64_t pairs;
    bool seen = false;
    if (!open_frame(&cursor, frame, size, MSG_REPLY_BATCH, &pairs)) return -EBADMSG;
    for (uint64_t i = 0; i < pairs; i++) {
        struct text key;
        bool fine;
        if (!read_text(&cursor, &key)) return -EBADMSG;
        if (is_key(&key, "replies")) {
            fine = !seen && read_replies(&cursor, ret_envelope);
            seen = true;
        } else {
            fine = skip_value(&cursor);
        }
        if (!fine) return -EBADMSG;
    }
    return seen && is_complete(&cursor) ? 0 : -EBADMSG;
}

/* An int's width stays, so that nothing around it moves: msgpack allows a small number in a wide format. */
void bus_budget_set(unsigned char *value, int64_t budget_ms) {
    unsigned first = *value;
    uint64_t number = budget_ms < 0 ? 0 : (uint64_t)budget_ms;
    if (first <= 0x7f) {
        if (number < first) *value = (unsigned char)number;
        return;
    }
    size_t size = int_sizes[first & 3];
    struct cursor cursor = { .start = value, .at = value, .end = value + 1 + size };
    int64_t present;
    if (!read_int(&cursor, &present) || present < 0 || (uint64_t)present <= number) return;
    for (size_t i = size; i >= 1; i--) {
        value[i] = (unsigned char)number;
        number >>= 8;
    }
}
