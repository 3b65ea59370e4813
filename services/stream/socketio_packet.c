/* socketio_packet.c: see socketio_packet.h. */
#include "services/stream/socketio_packet.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "common/memory.h"
#include "proto/utf8.h"

enum { ID_DIGITS_MAX = 15, ATTACHMENT_DIGITS_MAX = 3 };

struct reader {
    const char *position, *end;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* A decimal number of at most `most` digits; -1 when there is none or it is longer. */
static int64_t read_number(struct reader *self, unsigned most) {
    int64_t number = 0;
    unsigned digits = 0;
    while (self->position < self->end && is_digit(*self->position)) {
        if (++digits > most) return -1;
        number = number * 10 + (*self->position++ - '0');
    }
    return digits ? number : -1;
}

static int read_attachments(struct reader *self, struct socketio_packet *packet) {
    if (packet->type != SOCKETIO_BINARY_EVENT && packet->type != SOCKETIO_BINARY_ACK) return 0;
    int64_t count = read_number(self, ATTACHMENT_DIGITS_MAX);
    if (count < 0 || count > SOCKETIO_ATTACHMENTS_MAX) return -EINVAL;
    if (self->position == self->end || *self->position++ != '-') return -EINVAL;
    packet->attachments = (unsigned)count;
    return 0;
}

/* Goes back to the peer in an answer: text without control characters, as a WebSocket's text must be. */
static bool is_name(const char *text, size_t size) {
    size_t length;
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == '\x7f') return false;
    }
    return size <= SOCKETIO_NAMESPACE_MAX && utf8_length(text, size, &length);
}

static int read_namespace(struct reader *self, struct socketio_packet *packet) {
    memcpy(packet->name_space, "/", 2);
    if (self->position == self->end || *self->position != '/') return 0;
    size_t left = (size_t)(self->end - self->position);
    const char *comma = memchr(self->position, ',', left);
    size_t size = comma ? (size_t)(comma - self->position) : left;
    if (!is_name(self->position, size)) return -EINVAL;
    memcpy(packet->name_space, self->position, size);
    packet->name_space[size] = '\0';
    self->position += comma ? size + 1 : size;
    return 0;
}

static int read_id(struct reader *self, struct socketio_packet *packet) {
    packet->id = -1;
    if (self->position == self->end || !is_digit(*self->position)) return 0;
    packet->id = read_number(self, ID_DIGITS_MAX);
    return packet->id < 0 ? -EINVAL : 0;
}

/* jansson recurses: what is nested deeper than we want never gets there. */
static bool is_shallow(const char *text, const char *end) {
    unsigned depth = 0;
    bool in_string = false;
    for (; text < end; text++) {
        if (in_string) {
            if (*text == '\\')
                text++;
            else if (*text == '"')
                in_string = false;
        } else if (*text == '"') {
            in_string = true;
        } else if (*text == '[' || *text == '{') {
            if (++depth > SOCKETIO_DEPTH_MAX) return false;
        } else if ((*text == ']' || *text == '}') && depth > 0) {
            depth--;
        }
    }
    return true;
}

static int read_data(struct reader *self, struct socketio_packet *packet) {
    packet->data = NULL;
    if (self->position == self->end) return 0;
    if (!is_shallow(self->position, self->end)) return -EINVAL;
    packet->data =
        json_loadb(self->position, (size_t)(self->end - self->position), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return packet->data ? 0 : -EINVAL;
}

/* Names that mean something to every Socket.IO library and that no peer may send. */
static bool is_reserved(const char *name) {
    static const char *const reserved[] = { "connect", "connect_error", "disconnect", "disconnecting", "newListener",
        "removeListener" };
    for (size_t i = 0; i < ARRAY_SIZE(reserved); i++) {
        if (strcmp(name, reserved[i]) == 0) return true;
    }
    return false;
}

static bool is_event(const json_t *data) {
    const json_t *name = json_array_get(data, 0);
    return json_is_number(name) || (json_is_string(name) && !is_reserved(json_string_value(name)));
}

static bool data_fits(const struct socketio_packet *packet) {
    switch (packet->type) {
    case SOCKETIO_CONNECT:
        return !packet->data || json_is_object(packet->data);
    case SOCKETIO_DISCONNECT:
        return !packet->data;
    case SOCKETIO_EVENT:
    case SOCKETIO_BINARY_EVENT:
        return json_is_array(packet->data) && is_event(packet->data);
    case SOCKETIO_ACK:
    case SOCKETIO_BINARY_ACK:
        return json_is_array(packet->data) && packet->id >= 0;
    case SOCKETIO_CONNECT_ERROR:
        return json_is_object(packet->data) || json_is_string(packet->data);
    }
    return false;
}

int socketio_packet_parse(const char *text, size_t size, struct socketio_packet *ret_packet) {
    if (size == 0 || text[0] < '0' || text[0] > '0' + SOCKETIO_BINARY_ACK) return -EINVAL;
    struct reader reader = { text + 1, text + size };
    memset(ret_packet, 0, sizeof *ret_packet);
    ret_packet->type = (enum socketio_type)(text[0] - '0');
    if (read_attachments(&reader, ret_packet) != 0 || read_namespace(&reader, ret_packet) != 0 ||
        read_id(&reader, ret_packet) != 0 || read_data(&reader, ret_packet) != 0)
        return -EINVAL;
    if (data_fits(ret_packet)) return 0;
    socketio_packet_release(ret_packet);
    return -EINVAL;
}

void socketio_packet_release(struct socketio_packet *packet) {
    json_decref(packet->data);
    packet->data = NULL;
}

void socketio_append_head(struct strbuf *out, enum socketio_type type, const char *name_space, int64_t id) {
    strbuf_append_format(out, "4%d", (int)type);
    if (strcmp(name_space, "/") != 0) strbuf_append_format(out, "%s,", name_space);
    if (id >= 0) strbuf_append_format(out, "%" PRId64, id);
}
