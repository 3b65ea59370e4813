/*
 * fuzz_message.c: the decoder of every message against bytes from anywhere (libFuzzer).
 *
 * The first byte chooses the descriptor, modulo their number. Whatever decodes must encode, decode again to an equal
 * message, be as large as its bounds allow, copy, print, and be written as JSON that a JSON parser takes.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/message.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/message_json.h"
#include "proto/protocol.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static const struct message_descriptor *choose(unsigned char byte) {
    size_t count = 1;
    while (all_descriptors[count] != NULL)
        count++;
    return all_descriptors[byte % count];
}

static void check_json(const struct message_descriptor *descriptor, const void *message) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    message_to_json(descriptor, message, &text);
    require(memchr(text.data, '<', text.size) == NULL);
    json_t *value = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_object(value));
    json_decref(value);
}

static void check_message(const struct message_descriptor *descriptor, const void *message) {
    void *other = xcalloc(1, descriptor->size + 1);
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    require(message_encode(descriptor, message, &out) == 0);
    require(message_decode(descriptor, out.data, out.size, other) == 0);
    require(message_equal(descriptor, message, other));
    message_release(descriptor, other);
    message_copy(descriptor, message, other);
    require(message_equal(descriptor, other, message));
    message_release(descriptor, other);
    strbuf_clear(&out);
    message_debug(descriptor, message, &out);
    check_json(descriptor, message);
    free(other);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    const struct message_descriptor *descriptor = choose(data[0]);
    void *message = xcalloc(1, descriptor->size + 1);
    if (message_decode(descriptor, data + 1, size - 1, message) == 0) {
        check_message(descriptor, message);
        message_release(descriptor, message);
    }
    if (message_decode_frame(descriptor, data + 1, size - 1, message) == 0) message_release(descriptor, message);
    free(message);
    return 0;
}
