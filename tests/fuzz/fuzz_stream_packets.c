/*
 * fuzz_stream_packets.c: what stream parses of Engine.IO and Socket.IO clients (libFuzzer): payloads of the polling
 * transport, single packets, Socket.IO packets.
 *
 * The first byte chooses. What is accepted must hold what the headers promise: packets that lie within the text and cut
 * it up without a rest; namespaces that are text and bounded; data that fits its type and comes back from its own text.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/stream_packets.
 */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/utf8.h"
#include "services/stream/engineio_packet.h"
#include "services/stream/socketio_packet.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static void try_payload(const char *text, size_t size) {
    struct engineio_packet packet;
    const char *position = text, *end = text + size;
    size_t used = 0, count = 0;
    int found;
    while ((found = engineio_payload_next(&position, end, &packet)) > 0) {
        require(packet.data > text && packet.data + packet.size <= end);
        require(packet.type >= ENGINEIO_OPEN && packet.type <= ENGINEIO_NOOP);
        require(memchr(packet.data, ENGINEIO_SEPARATOR, packet.size) == NULL);
        used += 1 + packet.size;
        count++;
    }
    if (found == 0) require(count > 0 && used + count - 1 == size);
}

static void try_socketio(const char *text, size_t size) {
    struct socketio_packet packet;
    if (socketio_packet_parse(text, size, &packet) != 0) return;
    size_t length;
    size_t name_size = strlen(packet.name_space);
    require(packet.name_space[0] == '/' && name_size <= SOCKETIO_NAMESPACE_MAX);
    require(utf8_length(packet.name_space, name_size, &length));
    require(packet.id >= -1 && packet.attachments <= SOCKETIO_ATTACHMENTS_MAX);
    require(packet.attachments == 0 || packet.type == SOCKETIO_BINARY_EVENT || packet.type == SOCKETIO_BINARY_ACK);
    if (packet.type == SOCKETIO_EVENT) require(json_array_size(packet.data) > 0);
    if (packet.data) {
        char *again = json_dumps(packet.data, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        require(again != NULL);
        free(again);
    }
    socketio_packet_release(&packet);
}

static void try_query(char *text, size_t size) {
    /* four texts, each ended by a line break */
    const char *parts[4] = { "", "", "", "" };
    char *rest = text;
    text[size] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(parts) && rest; i++)
        parts[i] = strsep(&rest, "\n");
    struct engineio_query query = { parts[0], parts[1], parts[2], parts[3], size % 2 == 0 };
    enum engineio_error error = engineio_query_check(&query);
    require(error == ENGINEIO_FINE || engineio_error_body(error)[0] == '{');
    if (error == ENGINEIO_FINE) require(strcmp(query.revision, "4") == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    size_t text_size = size - 1;
    char *text = xmalloc(text_size + 1); /* exactly as large as the text, but for the query's NUL */
    memcpy(text, data + 1, text_size);
    switch (data[0] % 3) {
    case 0:
        text = xrealloc(text, text_size ? text_size : 1);
        try_payload(text, text_size);
        break;
    case 1:
        text = xrealloc(text, text_size ? text_size : 1);
        try_socketio(text, text_size);
        break;
    default:
        try_query(text, text_size);
    }
    free(text);
    return 0;
}
