/*
 * fuzz_gateway_request.c: what the gateway itself parses of a request (libFuzzer): target, path, query, header values,
 * cookies, body.
 *
 * The first byte chooses. What is accepted must hold what its header promises: segments that name nothing else, values
 * that are UTF-8 and within bounds, a body that is an object and comes back from its own text.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/gateway_request.
 */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/utf8.h"
#include "services/gateway/caller.h"
#include "services/gateway/headers.h"
#include "services/gateway/json_body.h"
#include "services/gateway/target.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static void require_utf8(const char *text, size_t limit) {
    size_t length;
    require(utf8_length(text, strlen(text), &length) && length <= limit);
}

static void try_path(const struct target *target) {
    struct path path;
    if (path_parse(target->path, target->path_size, &path) != 0) {
        require(path.count == 0);
        return;
    }
    require(path.count <= PATH_SEGMENTS_MAX);
    for (size_t i = 0; i < path.count; i++) {
        const char *segment = path.segments[i];
        require(segment >= path.bytes && segment < path.bytes + sizeof(path.bytes));
        require(*segment != '\0' && strpbrk(segment, "/\\") == NULL);
        require(strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0);
        require_utf8(segment, PATH_BYTES_MAX);
    }
}

static void try_target(const char *text) {
    struct target target;
    if (!target_parse(text, &target)) return;
    require(target.path_size > 0 && target.path[0] == '/');
    try_path(&target);
    struct query_parameter parameter;
    const char *position = target.query;
    size_t count = 0;
    while (query_next(&position, &parameter)) {
        require(++count <= strlen(text) + 1);
        require(parameter.is_valid || parameter.value[0] == '\0');
        require_utf8(parameter.name, QUERY_NAME_MAX);
        require_utf8(parameter.value, QUERY_VALUE_MAX);
    }
}

static void try_headers(const char *text) {
    static const char *const names[] = { "Content-Length", "Host", "Transfer-Encoding", "Cookie" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct mg_header list[] = { { names[i], text }, { text, names[i] } };
        struct headers headers;
        headers_parse(list, (int)ARRAY_SIZE(list), &headers);
    }
    static struct caller caller;
    const struct headers headers = { .forwarded_for = text, .edge_secret = "e", .forwarded_proto = text };
    caller_locate(&caller, &headers, "127.0.0.1", "e");
    require(strlen(caller.address) < ADDRESS_MAX);
    char value[64];
    if (cookie_find(text, SESSION_COOKIE, value, sizeof(value))) require(strlen(value) < sizeof(value));
    char clean[4 * 50 + 1];
    header_text_clean(text, 50, clean);
    require_utf8(clean, 50);
    if (request_id_is_sane(text)) require(strlen(text) <= 64);
    (void)origin_is_host(text, "host");
    (void)header_has_member(text, "keep-alive");
}

static void try_body(char *text, size_t size) {
    char complaint[JSON_COMPLAINT_MAX] = "";
    json_t *object = json_body_parse(text, size, complaint);
    require((object == NULL) == (complaint[0] != '\0'));
    if (object == NULL) return;
    char *again = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    require(again != NULL);
    json_t *same = json_body_parse(again, strlen(again), complaint);
    require(json_equal(object, same));
    json_decref(same);
    json_decref(object);
    free(again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] % 3 == 0) try_target(text);
    if (data[0] % 3 == 1) try_headers(text);
    if (data[0] % 3 == 2) try_body(text, size - 1);
    free(text);
    return 0;
}
