/*
 * fuzz_json.c: JSON from clients against every message (libFuzzer).
 *
 * The first byte chooses the descriptor, modulo their number; the rest is the text, parsed as the gateway parses a
 * body. What is accepted must hold its bounds (it encodes, unless fields that the gateway fills are missing) and come
 * back from its own JSON; what is refused must say why. The text is also tried as a query parameter of each field and
 * as a time.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/json.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/field.h"
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

/* The gateway's part: required fields that are not in a body. Bytes are zero already. */
static void fill_callers_fields(const struct message_descriptor *descriptor, void *message) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if ((field->flags & (CALLER | PATH)) != 0 && field->kind == FIELD_STR) message_set_text(field, message, "x");
        if (field->kind == FIELD_LIST || field->kind == FIELD_OBJECT) {
            size_t count =
                field->kind == FIELD_LIST ? field_count(field, message) : field_pointer(field, message) != NULL;
            for (size_t i = 0; i < count; i++)
                fill_callers_fields(field->record, field_element(field, message, i));
        }
    }
}

/* What was left out is told beside the message and is no part of it: of null and of a wrong value the second parsing
 * finds only the null that the first one wrote. Encoded before, so its bounds were checked. */
static void drop_ignored(const struct message_descriptor *descriptor, void *message) {
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        if (field->kind != FIELD_STRINGS || (field->flags & CALLER) == 0) continue;
        for (size_t i = 0; i < field_count(field, message); i++)
            free(field_strings(field, message)[i]);
        free(field_strings(field, message));
        field_put_pointer(field, message, NULL);
        field_put_count(field, message, 0);
    }
}

static void check_accepted(const struct message_descriptor *descriptor, void *message) {
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    fill_callers_fields(descriptor, message);
    require(message_encode(descriptor, message, &out) == 0);
    strbuf_clear(&out);
    message_to_json(descriptor, message, &out);
    json_t *again = json_loadb(out.data, out.size, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_object(again));
    void *second = xcalloc(1, descriptor->size + 1);
    struct field_errors errors;
    require(message_from_json(descriptor, again, second, &errors) == 0);
    fill_callers_fields(descriptor, second);
    drop_ignored(descriptor, message);
    drop_ignored(descriptor, second);
    require(message_equal(descriptor, message, second));
    message_release(descriptor, second);
    free(second);
    json_decref(again);
}

static void try_body(const struct message_descriptor *descriptor, const char *text, size_t size) {
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (value == NULL) return;
    void *message = xcalloc(1, descriptor->size + 1);
    struct field_errors errors;
    if (message_from_json(descriptor, value, message, &errors) == 0) {
        check_accepted(descriptor, message);
        message_release(descriptor, message);
    } else {
        require(errors.count > 0);
    }
    free(message);
    json_decref(value);
}

static void try_query(const struct message_descriptor *descriptor, const char *text) {
    void *message = xcalloc(1, descriptor->size + 1);
    struct field_errors errors = { .count = 0 };
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        int error = message_from_query(descriptor, field->name, text, message, &errors);
        require(error == 0 || errors.count > 0 || error == -ENOENT);
    }
    message_from_query(descriptor, text, text, message, &errors);
    message_check(descriptor, message, &errors);
    message_release(descriptor, message);
    free(message);
}

static void try_time(const char *text) {
    int64_t time;
    int64_t again;
    char written[32];
    if (time_from_rfc3339(text, &time) != 0) return;
    time_to_rfc3339(time, written, sizeof(written));
    require(time_from_rfc3339(written, &again) == 0 && again == time);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    const struct message_descriptor *descriptor = choose(data[0]);
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    try_body(descriptor, text, size - 1);
    try_query(descriptor, text);
    try_time(text);
    free(text);
    return 0;
}
