/*
 * fuzz_token.c: tokens and cursors from anywhere (libFuzzer).
 *
 * The first byte chooses. A token made of the bytes must be refused, since nobody signed it. A header and a payload,
 * parted by a line end, are signed with our key: what is then accepted must name HS256 and have complete claims. A
 * cursor that is accepted must be what its parts are written as.
 *
 * `make fuzz` runs it with tests/fuzz/corpus/token.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/strbuf.h"
#include "services/lib/event_log.h"
#include "services/lib/token.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char secret[] = "9f2c4b7d1e8a6035c7d4e9b1f0a28364";
static const int64_t now = 1700000000;

static void require(bool holds) {
    if (!holds) abort();
}

static void append_base64url(struct strbuf *out, const void *data, size_t size) {
    char *text = xmalloc(4 * ((size + 2) / 3) + 1);
    int length = EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    while (length && text[length - 1] == '=')
        length--;
    for (int i = 0; i < length; i++)
        strbuf_append_char(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    free(text);
}

static void check_unsigned(const char *token) {
    struct token_claims claims;
    require(token_verify(secret, token, now, &claims) == -EINVAL);
}

static void check_signed(const unsigned char *data, size_t size) {
    const unsigned char *end = memchr(data, '\n', size);
    if (!end) return;
    _cleanup_strbuf_ struct strbuf token = STRBUF_INIT;
    append_base64url(&token, data, (size_t)(end - data));
    strbuf_append_char(&token, '.');
    append_base64url(&token, end + 1, size - (size_t)(end - data) - 1);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size = 0;
    HMAC(EVP_sha256(), secret, (int)strlen(secret), (unsigned char *)token.data, token.size, mac, &mac_size);
    strbuf_append_char(&token, '.');
    append_base64url(&token, mac, mac_size);
    struct token_claims claims;
    if (token_verify(secret, token.data, now, &claims) != 0) return;
    require(memmem(data, (size_t)(end - data), "HS256", 5) || memchr(data, '\\', (size_t)(end - data)));
    require(*claims.user_id && *claims.email && *claims.session_id);
    require(claims.expires_at > now && claims.issued_at > 0);
    size_t length = strlen(claims.session_id);
    require(strncmp(claims.token_id, claims.session_id, length) == 0 && claims.token_id[length] == '.');
}

static void check_cursor(const char *text) {
    char epoch[40], again[80];
    int64_t id = -1;
    if (event_cursor_parse(text, epoch, sizeof epoch, &id) != 0) return;
    require(id >= 0);
    event_cursor_format(epoch, id, again, sizeof again);
    const char *digits = strchr(text, '-') + 1;
    if (*digits != '0' || !digits[1]) require(strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] % 3 == 0) check_unsigned(text);
    if (data[0] % 3 == 1) check_signed(data + 1, size - 1);
    if (data[0] % 3 == 2) check_cursor(text);
    free(text);
    return 0;
}
