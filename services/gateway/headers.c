/*
 * headers.c: see headers.h.
 */
#include "services/gateway/headers.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "common/memory.h"
#include "proto/utf8.h"

struct known_header {
    const char *name;
    size_t name_size;
    size_t offset;
};

static const struct known_header known_headers[] = {
#define HEADER_ENTRY(member, name) { name, sizeof(name) - 1, offsetof(struct headers, member) },
    KNOWN_HEADERS(HEADER_ENTRY)
#undef HEADER_ENTRY
};

static const char **find_known(struct headers *headers, const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_SIZE(known_headers); i++) {
        const struct known_header *known = &known_headers[i];
        if (known->name_size == size && strcasecmp(known->name, name) == 0)
            return (const char **)((char *)headers + known->offset);
    }
    return NULL;
}

static bool is_number(const char *text) {
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 15 && text[digits] == '\0';
}

void headers_parse(const struct mg_header *list, int count, struct headers *ret_headers) {
    *ret_headers = (struct headers){ .bytes = 0 };
    for (int i = 0; i < count; i++) {
        size_t name_size = strlen(list[i].name);
        ret_headers->bytes += name_size + strlen(list[i].value) + 4; /* colon, space, line end */
        const char **value = find_known(ret_headers, list[i].name, name_size);
        if (value == NULL) continue;
        if (*value == NULL) {
            *value = list[i].value;
        } else if (value == &ret_headers->content_length || value == &ret_headers->host ||
                   value == &ret_headers->transfer_encoding) {
            ret_headers->is_framing_ambiguous = true;
        }
    }
    const char *length = ret_headers->content_length;
    if (length != NULL && (ret_headers->transfer_encoding != NULL || !is_number(length)))
        ret_headers->is_framing_ambiguous = true;
}

bool request_id_is_sane(const char *text) {
    if (text == NULL) return false;
    size_t size = 0;
    for (; text[size] != '\0'; size++) {
        if (size == 64 || (!isalnum((unsigned char)text[size]) && strchr("._-", text[size]) == NULL)) return false;
    }
    return size > 0;
}

void header_text_clean(const char *text, size_t limit, char *buffer) {
    size_t size = strlen(text);
    size_t written = 0;
    size_t length;
    for (size_t at = 0, characters = 0; at < size && characters < limit; characters++) {
        size_t step = 1;
        while (step <= 4 && at + step <= size && !utf8_length(text + at, step, &length))
            step++;
        bool is_valid = step <= 4 && at + step <= size;
        if (!is_valid || (unsigned char)text[at] < 0x20 || text[at] == 0x7f) {
            buffer[written++] = '?';
            at++;
        } else {
            memcpy(buffer + written, text + at, step);
            written += step;
            at += step;
        }
    }
    buffer[written] = '\0';
}

bool cookie_find(const char *header, const char *name, char *buffer, size_t size) {
    size_t name_size = strlen(name);
    while (header != NULL && *header != '\0') {
        header += strspn(header, " \t;");
        size_t pair = strcspn(header, ";");
        if (pair > name_size && memcmp(header, name, name_size) == 0 && header[name_size] == '=') {
            const char *value = header + name_size + 1;
            size_t value_size = pair - name_size - 1;
            while (value_size > 0 && (value[value_size - 1] == ' ' || value[value_size - 1] == '\t'))
                value_size--;
            if (value_size == 0 || value_size >= size) return false;
            memcpy(buffer, value, value_size);
            buffer[value_size] = '\0';
            return true;
        }
        header += pair;
    }
    return false;
}

bool origin_is_host(const char *origin, const char *host) {
    if (origin == NULL || host == NULL || *host == '\0') return false;
    const char *authority = strstr(origin, "://");
    return authority != NULL && strcasecmp(authority + 3, host) == 0;
}

bool header_has_member(const char *header, const char *member) {
    size_t member_size = strlen(member);
    while (header != NULL && *header != '\0') {
        header += strspn(header, ", \t");
        size_t size = strcspn(header, ", \t;");
        if (size == member_size && strncasecmp(header, member, size) == 0) return true;
        header += strcspn(header, ",");
    }
    return false;
}
