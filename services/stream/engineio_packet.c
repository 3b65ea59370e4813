/* engineio_packet.c: see engineio_packet.h. */
#include "services/stream/engineio_packet.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/memory.h"

int engineio_packet_parse(const char *text, size_t size, struct engineio_packet *ret_packet) {
    if (size == 0 || text[0] < '0' || text[0] > '0' + ENGINEIO_NOOP) return -EINVAL;
    ret_packet->type = (enum engineio_type)(text[0] - '0');
    ret_packet->is_binary = false;
    ret_packet->data = text + 1;
    ret_packet->size = size - 1;
    return 0;
}

/* RFC 4648 with padding: the bytes themselves are of no use here, but what is none must not pass. */
static bool is_base64(const char *text, size_t size) {
    if (size % 4 != 0) return false;
    for (unsigned padding = 0; padding < 2 && size > 0 && text[size - 1] == '='; padding++)
        size--;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool is_digit =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
        if (!is_digit) return false;
    }
    return true;
}

int engineio_payload_next(const char **position, const char *end, struct engineio_packet *ret_packet) {
    const char *text = *position;
    if (!text) return 0;
    const char *separator = text < end ? memchr(text, ENGINEIO_SEPARATOR, (size_t)(end - text)) : NULL;
    size_t size = (size_t)((separator ? separator : end) - text);
    *position = separator ? separator + 1 : NULL;
    if (size > 0 && text[0] == 'b') {
        if (!is_base64(text + 1, size - 1)) return -EINVAL;
        *ret_packet =
            (struct engineio_packet){ .type = ENGINEIO_MESSAGE, .is_binary = true, .data = text + 1, .size = size - 1 };
        return 1;
    }
    int error = engineio_packet_parse(text, size, ret_packet);
    return error ? error : 1;
}

bool engineio_packet_says(const struct engineio_packet *packet, const char *text) {
    return packet->size == strlen(text) && memcmp(packet->data, text, packet->size) == 0;
}

void engineio_append_open(
    struct strbuf *out, const char *sid, bool may_upgrade, int64_t ping_interval_ms, int64_t ping_timeout_ms) {
    strbuf_append_format(out,
        "0{\"sid\":\"%s\",\"upgrades\":[%s],\"pingInterval\":%" PRId64 ",\"pingTimeout\":%" PRId64
        ",\"maxPayload\":%d}",
        sid, may_upgrade ? "\"websocket\"" : "", ping_interval_ms, ping_timeout_ms, ENGINEIO_PAYLOAD_MAX);
}

const char *engineio_error_body(enum engineio_error error) {
    static const char *const bodies[] = {
        [ENGINEIO_UNKNOWN_TRANSPORT] = "{\"code\":0,\"message\":\"Transport unknown\"}",
        [ENGINEIO_UNKNOWN_SID] = "{\"code\":1,\"message\":\"Session ID unknown\"}",
        [ENGINEIO_BAD_HANDSHAKE_METHOD] = "{\"code\":2,\"message\":\"Bad handshake method\"}",
        [ENGINEIO_BAD_REQUEST] = "{\"code\":3,\"message\":\"Bad request\"}",
        [ENGINEIO_FORBIDDEN] = "{\"code\":4,\"message\":\"Forbidden\"}",
        [ENGINEIO_UNSUPPORTED_PROTOCOL] = "{\"code\":5,\"message\":\"Unsupported protocol version\"}",
    };
    return bodies[error >= 0 && error < (int)ARRAY_SIZE(bodies) ? error : ENGINEIO_BAD_REQUEST];
}

unsigned engineio_error_status(enum engineio_error error) {
    return error == ENGINEIO_FORBIDDEN ? 403 : 400;
}

enum engineio_error engineio_query_check(const struct engineio_query *query) {
    bool is_websocket = strcmp(query->transport, "websocket") == 0;
    if (!is_websocket && strcmp(query->transport, "polling") != 0) return ENGINEIO_UNKNOWN_TRANSPORT;
    if (strcmp(query->revision, "4") != 0) return ENGINEIO_UNSUPPORTED_PROTOCOL;
    bool is_get = strcmp(query->method, "GET") == 0;
    if (!query->sid[0] && !is_get) return ENGINEIO_BAD_HANDSHAKE_METHOD;
    if (query->is_upgrade != is_websocket) return ENGINEIO_BAD_REQUEST;
    if (!is_get && strcmp(query->method, "POST") != 0) return ENGINEIO_BAD_REQUEST;
    return ENGINEIO_FINE;
}
