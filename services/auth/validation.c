/*
 * validation.c: what may be an e-mail address, a name and a password of a new account.
 *
 * An address is checked for sense, not for the whole of RFC 5322: one @, a local part of at most 64 bytes (RFC 5321
 * 4.5.3.1) without what would need quoting, and a domain of labels. Bytes of other scripts are allowed (RFC 6531).
 */
#include "services/auth/validation.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LOCAL_PART_MAX = 64, DOMAIN_MAX = 255, LABEL_MAX = 63 };

static bool is_control(unsigned char byte) {
    return byte < 0x20 || byte == 0x7f;
}

static bool has_control(const char *text) {
    for (; *text; text++)
        if (is_control((unsigned char)*text)) return true;
    return false;
}

/* --- e-mail ------------------------------------------------------------------------------------------------------- */

static bool is_local_part(const char *text, size_t size) {
    if (size == 0 || size > LOCAL_PART_MAX || text[0] == '.' || text[size - 1] == '.') return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (is_control(byte) || strchr(" \"(),:;<>@[\\]", byte)) return false;
        if (byte == '.' && text[i + 1] == '.') return false;
    }
    return true;
}

static bool is_label(const char *text, size_t size) {
    if (size == 0 || size > LABEL_MAX || text[0] == '-' || text[size - 1] == '-') return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool digit = byte >= '0' && byte <= '9';
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte >= 0x80;
        if (!digit && !letter && byte != '-') return false;
    }
    return true;
}

static bool is_domain(const char *text) {
    if (strlen(text) > DOMAIN_MAX) return false;
    size_t labels = 0;
    for (const char *label = text;; labels++) {
        size_t size = strcspn(label, ".");
        if (!is_label(label, size)) return false;
        if (!label[size]) break;
        label += size + 1;
    }
    return labels > 0 || strcmp(text, "localhost") == 0;
}

const char *email_complaint(const char *email) {
    const char *at = strchr(email, '@');
    if (!at || !is_local_part(email, (size_t)(at - email)) || !is_domain(at + 1)) return "is not an e-mail address";
    return NULL;
}

/* --- name --------------------------------------------------------------------------------------------------------- */

/* Bytes of the blank character at text: space, no-break space, U+2000..U+200F, U+3000; 0 when it is another one. */
static size_t blank_size(const char *text) {
    if (*text == ' ') return 1;
    if (strncmp(text, "\xc2\xa0", 2) == 0) return 2;
    if (strncmp(text, "\xe3\x80\x80", 3) == 0) return 3;
    bool general = strncmp(text, "\xe2\x80", 2) == 0 && (unsigned char)text[2] <= 0x8f && text[2];
    return general ? 3 : 0;
}

const char *name_complaint(const char *name) {
    if (has_control(name)) return "must not contain control characters";
    for (size_t size = blank_size(name); size; size = blank_size(name))
        name += size;
    return *name ? NULL : "must not be blank";
}

/* --- password ----------------------------------------------------------------------------------------------------- */

static int64_t count_characters(const char *text) {
    int64_t count = 0;
    for (; *text; text++)
        if (((unsigned char)*text & 0xc0) != 0x80) count++;
    return count;
}

const char *password_complaint(const char *password, int64_t minimum, char buffer[COMPLAINT_SIZE]) {
    if (strlen(password) > PASSWORD_BYTES_MAX) {
        snprintf(buffer, COMPLAINT_SIZE, "must have at most %d bytes", PASSWORD_BYTES_MAX);
        return buffer;
    }
    if (!*password || count_characters(password) < minimum) {
        snprintf(buffer, COMPLAINT_SIZE, "must have at least %lld characters", (long long)(minimum > 1 ? minimum : 1));
        return buffer;
    }
    return NULL;
}
