/*
 * token.c: issues and verifies our JSON Web Tokens (RFC 7519, RFC 7515) with libjwt: HS256 and nothing else.
 *
 * Before libjwt sees a token its header is read here and must say exactly HS256, so neither `none` nor another
 * algorithm ever meets our key; after it, the algorithm is looked at again. Claims are read as JSON, because types
 * matter: a number in a string, a fraction, a 1 for true are refused. Further claims are ignored. Nothing about a token
 * is logged.
 */
#include "services/lib/token.h"

#include <errno.h>
#include <jansson.h>
#include <jwt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto.h"
#include "common/memory.h"

enum { TOKEN_SIZE_MAX = 4096, HEADER_SIZE_MAX = 512, TOKEN_RANDOM_BYTES = 12 };

/* --- issuing ----------------------------------------------------------------------------------------------------- */

static int add_claims(jwt_t *jwt, const struct token_claims *claims) {
    char random[2 * TOKEN_RANDOM_BYTES + 1];
    char jti[sizeof claims->session_id + sizeof random + 1];
    random_hex(TOKEN_RANDOM_BYTES, random);
    snprintf(jti, sizeof jti, "%s.%s", claims->session_id, random);
    return jwt_add_grant(jwt, "user_id", claims->user_id) || jwt_add_grant(jwt, "email", claims->email) ||
           jwt_add_grant_bool(jwt, "is_admin", claims->is_admin) || jwt_add_grant_int(jwt, "iat", claims->issued_at) ||
           jwt_add_grant_int(jwt, "exp", claims->expires_at) || jwt_add_grant(jwt, "jti", jti);
}

char *token_issue(const char *secret, const struct token_claims *claims) {
    jwt_t *jwt = NULL;
    if (!*claims->session_id || strchr(claims->session_id, '.') || jwt_new(&jwt)) return NULL;
    char *token = NULL;
    if (!add_claims(jwt, claims) &&
        !jwt_set_alg(jwt, JWT_ALG_HS256, (const unsigned char *)secret, (int)strlen(secret)))
        token = jwt_encode_str(jwt);
    jwt_free(jwt);
    return token;
}

/* --- the header -------------------------------------------------------------------------------------------------- */

/* The value of a character of base64url (RFC 4648 section 5), or -1. */
static int base64url_value(char character) {
    if (character >= 'A' && character <= 'Z') return character - 'A';
    if (character >= 'a' && character <= 'z') return character - 'a' + 26;
    if (character >= '0' && character <= '9') return character - '0' + 52;
    return character == '-' ? 62 : character == '_' ? 63 : -1;
}

/* Decodes without padding. The number of bytes, or -1; room for 3/4 of size is needed. */
static long base64url_decode(const char *text, size_t size, char *ret_data) {
    unsigned bits = 0;
    int count = 0;
    long used = 0;
    if (size % 4 == 1) return -1;
    for (size_t i = 0; i < size; i++) {
        int value = base64url_value(text[i]);
        if (value < 0) return -1;
        bits = (bits << 6 | (unsigned)value) & 0xffffff;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        ret_data[used++] = (char)(bits >> count & 0xff);
    }
    return used;
}

static bool is_hs256(const char *token, size_t header_size) {
    char data[HEADER_SIZE_MAX];
    if (header_size == 0 || header_size > HEADER_SIZE_MAX) return false;
    long size = base64url_decode(token, header_size, data);
    if (size <= 0) return false;
    json_t *header = json_loadb(data, (size_t)size, JSON_REJECT_DUPLICATES, NULL);
    const char *algorithm = json_string_value(json_object_get(header, "alg"));
    bool fits = algorithm && strcmp(algorithm, "HS256") == 0;
    json_decref(header);
    return fits;
}

/* Three non-empty parts of base64url, the first of which asks for HS256. */
static bool has_our_form(const char *token) {
    size_t size = strnlen(token, TOKEN_SIZE_MAX + 1);
    if (size > TOKEN_SIZE_MAX) return false;
    const char *payload = memchr(token, '.', size);
    const char *signature = payload ? strchr(payload + 1, '.') : NULL;
    if (!signature || signature == payload + 1 || !signature[1]) return false;
    for (const char *character = token; *character; character++)
        if (character != payload && character != signature && base64url_value(*character) < 0) return false;
    return is_hs256(token, (size_t)(payload - token));
}

/* --- claims ------------------------------------------------------------------------------------------------------ */

static bool read_text(const json_t *claims, const char *name, char *ret_text, size_t room) {
    const json_t *value = json_object_get(claims, name);
    size_t size = json_string_length(value);
    if (!json_is_string(value) || size == 0 || size >= room || memchr(json_string_value(value), '\0', size))
        return false;
    memcpy(ret_text, json_string_value(value), size + 1);
    return true;
}

static bool read_time(const json_t *claims, const char *name, int64_t *ret_seconds) {
    const json_t *value = json_object_get(claims, name);
    *ret_seconds = json_integer_value(value);
    return json_is_integer(value) && *ret_seconds > 0;
}

static bool read_claims(const json_t *claims, struct token_claims *ret_claims) {
    const json_t *is_admin = json_object_get(claims, "is_admin");
    if (!json_is_boolean(is_admin) || !read_text(claims, "user_id", ret_claims->user_id, sizeof ret_claims->user_id) ||
        !read_text(claims, "email", ret_claims->email, sizeof ret_claims->email) ||
        !read_text(claims, "jti", ret_claims->token_id, sizeof ret_claims->token_id) ||
        !read_time(claims, "iat", &ret_claims->issued_at) || !read_time(claims, "exp", &ret_claims->expires_at))
        return false;
    ret_claims->is_admin = json_is_true(is_admin);
    size_t size = strcspn(ret_claims->token_id, ".");
    if (size == 0 || size >= sizeof ret_claims->session_id || !ret_claims->token_id[size] ||
        !ret_claims->token_id[size + 1])
        return false;
    memcpy(ret_claims->session_id, ret_claims->token_id, size);
    ret_claims->session_id[size] = '\0';
    return true;
}

/* The claims of a token whose signature is good, as JSON text to free; else NULL. */
static char *verified_claims(const char *secret, const char *token) {
    jwt_t *jwt = NULL;
    if (!*secret || jwt_decode(&jwt, token, (const unsigned char *)secret, (int)strlen(secret))) return NULL;
    char *text = jwt_get_alg(jwt) == JWT_ALG_HS256 ? jwt_get_grants_json(jwt, NULL) : NULL;
    jwt_free(jwt);
    return text;
}

int token_verify(const char *secret, const char *token, int64_t now, struct token_claims *ret_claims) {
    if (!has_our_form(token)) return -EINVAL;
    _cleanup_free_ char *text = verified_claims(secret, token);
    if (!text) return -EINVAL;
    json_t *claims = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    struct token_claims found = { 0 };
    bool complete = read_claims(claims, &found);
    json_decref(claims);
    if (!complete) return -EINVAL;
    if (now >= found.expires_at) return -ETIMEDOUT;
    *ret_claims = found;
    return 0;
}
