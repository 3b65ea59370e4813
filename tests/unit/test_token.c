/* test_token.c: tokens that we issue, tokens that nobody should believe, and the cache of those believed. */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/strbuf.h"
#include "services/lib/token.h"

static const char secret[] = "9f2c4b7d1e8a6035c7d4e9b1f0a28364";
static const int64_t now = 1700000000;

static const char good_payload[] = "{\"user_id\":\"user_1\",\"email\":\"a@b.c\",\"is_admin\":false,\"iat\":1699999000,"
                                   "\"exp\":1700001000,\"jti\":\"sess_1.abcdef01\"}";
static const char good_header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";

/* --- making tokens by hand --------------------------------------------------------------------------------------- */

static void append_base64url(struct strbuf *out, const void *data, size_t size) {
    char *text = xmalloc(4 * ((size + 2) / 3) + 1);
    int length = EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    while (length && text[length - 1] == '=')
        length--;
    for (int i = 0; i < length; i++)
        strbuf_append_char(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    free(text);
}

/* Heap. A NULL key leaves the signature empty. */
static char *forge(const char *header, const char *payload, const char *key, const EVP_MD *digest) {
    struct strbuf token = STRBUF_INIT;
    append_base64url(&token, header, strlen(header));
    strbuf_append_char(&token, '.');
    append_base64url(&token, payload, strlen(payload));
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (key) HMAC(digest, key, (int)strlen(key), (unsigned char *)token.data, token.size, mac, &size);
    strbuf_append_char(&token, '.');
    append_base64url(&token, mac, size);
    return strbuf_detach(&token);
}

static int verify_forged(const char *header, const char *payload) {
    _cleanup_free_ char *token = forge(header, payload, secret, EVP_sha256());
    struct token_claims claims;
    return token_verify(secret, token, now, &claims);
}

static struct token_claims sample(void) {
    return (struct token_claims){ .user_id = "user_1",
        .email = "somebody@example.org",
        .session_id = "sess_0123456789abcdef01234567",
        .is_admin = true,
        .issued_at = now - 10,
        .expires_at = now + 10 };
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_round_trip(void **state) {
    (void)state;
    struct token_claims given = sample(), found;
    _cleanup_free_ char *token = token_issue(secret, &given);
    assert_non_null(token);
    assert_int_equal(token_verify(secret, token, now, &found), 0);
    assert_string_equal(found.user_id, given.user_id);
    assert_string_equal(found.email, given.email);
    assert_string_equal(found.session_id, given.session_id);
    assert_true(found.is_admin);
    assert_true(found.issued_at == given.issued_at && found.expires_at == given.expires_at);
    assert_int_equal(strncmp(found.token_id, given.session_id, strlen(given.session_id)), 0);
    _cleanup_free_ char *other = token_issue(secret, &given);
    assert_string_not_equal(token, other); /* jti is random */
}

static void test_expiry(void **state) {
    (void)state;
    struct token_claims given = sample(), found = { .user_id = "untouched" };
    _cleanup_free_ char *token = token_issue(secret, &given);
    assert_int_equal(token_verify(secret, token, now + 9, &found), 0);
    found = (struct token_claims){ .user_id = "untouched" };
    assert_int_equal(token_verify(secret, token, now + 10, &found), -ETIMEDOUT);
    assert_string_equal(found.user_id, "untouched");
}

static void test_every_changed_byte_is_refused(void **state) {
    (void)state;
    struct token_claims given = sample(), found;
    _cleanup_free_ char *token = token_issue(secret, &given);
    for (size_t i = 0; token[i]; i++) {
        char before = token[i];
        token[i] = before == 'A' ? 'B' : 'A';
        assert_int_equal(token_verify(secret, token, now, &found), -EINVAL);
        token[i] = '\0';
        assert_int_equal(token_verify(secret, token, now, &found), -EINVAL);
        token[i] = before;
    }
    assert_int_equal(token_verify(secret, token, now, &found), 0);
    assert_int_equal(token_verify("another secret of 32 characters!", token, now, &found), -EINVAL);
    assert_int_equal(token_verify("", token, now, &found), -EINVAL);
}

static void test_other_algorithms(void **state) {
    (void)state;
    struct token_claims found;
    assert_int_equal(verify_forged(good_header, good_payload), 0);
    static const char *const headers[] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\",\"typ\":\"JWT\"}",
        "{\"alg\":\"hs256\"}", "{\"alg\":\"HS384\"}", "{\"alg\":\"HS512\"}", "{\"alg\":\"RS256\"}",
        "{\"alg\":\"ES256\"}", "{\"alg\":\"\"}", "{\"alg\":null}", "{\"alg\":256}", "{}", "[]", "HS256", "",
        "{\"alg\":\"none\",\"alg\":\"HS256\"}", "{\"alg\":\"HS256\",\"alg\":\"none\"}", "{\"alg\":\"HS256\"" };
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        assert_int_equal(verify_forged(headers[i], good_payload), -EINVAL);
        _cleanup_free_ char *unsigned_token = forge(headers[i], good_payload, NULL, NULL);
        assert_int_equal(token_verify(secret, unsigned_token, now, &found), -EINVAL);
        _cleanup_free_ char *sha512 = forge(headers[i], good_payload, secret, EVP_sha512());
        assert_int_equal(token_verify(secret, sha512, now, &found), -EINVAL);
    }
}

static void test_claims_of_wrong_type(void **state) {
    (void)state;
#define CLAIMS(user, email, admin, iat, exp, jti) \
    "{\"user_id\":" user ",\"email\":" email ",\"is_admin\":" admin ",\"iat\":" iat ",\"exp\":" exp ",\"jti\":" jti "}"
    static const char *const payloads[] = {
        CLAIMS("1", "\"a@b\"", "false", "1", "1700001000", "\"s.1\""),
        CLAIMS("\"\"", "\"a@b\"", "false", "1", "1700001000", "\"s.1\""),
        CLAIMS("null", "\"a@b\"", "false", "1", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "[]", "false", "1", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "0", "1", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "\"true\"", "1", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1.5", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "\"1\"", "1700001000", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1700001000.0", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "\"1700001000\"", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "99999999999999999999999", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1e99", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "-1", "\"s.1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1700001000", "\"s\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1700001000", "\".1\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1700001000", "\"s.\""),
        CLAIMS("\"u\"", "\"a@b\"", "false", "1", "1700001000", "7"),
        CLAIMS("\"u\\u0000x\"", "\"a@b\"", "false", "1", "1700001000", "\"s.1\""),
        "{\"user_id\":\"u\",\"email\":\"a@b\",\"is_admin\":false,\"iat\":1,\"exp\":1700001000}",
        "{\"user_id\":\"u\",\"email\":\"a@b\",\"is_admin\":false,\"iat\":1,\"jti\":\"s.1\"}",
        "[]",
        "null",
        "{}",
        "",
        "\"text\"",
    };
    for (size_t i = 0; i < ARRAY_SIZE(payloads); i++)
        assert_int_equal(verify_forged(good_header, payloads[i]), -EINVAL);
    assert_int_equal(
        verify_forged(good_header, CLAIMS("\"u\"", "\"a@b\"", "true", "1", "9223372036854775807", "\"s.1\"")), 0);
    assert_int_equal(
        verify_forged(good_header, CLAIMS("\"u\"", "\"a@b\"", "true", "1", "1699999999", "\"s.1\"")), -ETIMEDOUT);
    assert_int_equal(verify_forged(good_header,
                         "{\"further\":[1,{}],\"user_id\":\"u\",\"email\":\"a@b\",\"is_admin\":false,\"iat\":1,"
                         "\"exp\":1700001000,\"jti\":\"s.1\"}"),
        0);
}

static void test_long_values(void **state) {
    (void)state;
    struct strbuf payload = STRBUF_INIT;
    char text[5000];
    memset(text, 'x', sizeof text);
    for (int size = 60; size < 70; size++) {
        strbuf_clear(&payload);
        strbuf_append_format(&payload,
            "{\"user_id\":\"%.*s\",\"email\":\"a@b\",\"is_admin\":false,\"iat\":1,\"exp\":1700001000,\"jti\":\"s.1\"}",
            size, text);
        assert_int_equal(verify_forged(good_header, payload.data), size <= 64 ? 0 : -EINVAL);
        strbuf_clear(&payload);
        strbuf_append_format(&payload,
            "{\"user_id\":\"u\",\"email\":\"a@b\",\"is_admin\":false,\"iat\":1,\"exp\":1700001000,\"jti\":\"%.*s.1\"}",
            size, text);
        assert_int_equal(verify_forged(good_header, payload.data), size <= 64 ? 0 : -EINVAL);
    }
    strbuf_clear(&payload);
    strbuf_append_format(&payload, "{\"x\":\"%.*s\",%s", 4000, text, good_payload + 1);
    assert_int_equal(verify_forged(good_header, payload.data), -EINVAL); /* more than 4 KiB */
    strbuf_release(&payload);
}

static void test_what_is_no_token(void **state) {
    (void)state;
    static const char *const texts[] = { "", ".", "..", "...", "a.b.c", "a", "Bearer x", "eyJhbGciOiJIUzI1NiJ9..",
        "eyJhbGciOiJIUzI1NiJ9.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AA==", "eyJhbGciOiJIUzI1NiJ9 .e30.AA", "\xff\xfe.e30.AA",
        "eyJhbGciOiJIUzI1NiJ9.e30.AA.AA" };
    struct token_claims found;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(token_verify(secret, texts[i], now, &found), -EINVAL);
    _cleanup_free_ char *token = forge(good_header, good_payload, secret, EVP_sha256());
    _cleanup_free_ char *longer = xasprintf("%s.AAAA", token);
    _cleanup_free_ char *padded = xasprintf("%s=", token);
    assert_int_equal(token_verify(secret, longer, now, &found), -EINVAL);
    assert_int_equal(token_verify(secret, padded, now, &found), -EINVAL);
}

static void test_session_that_cannot_be_issued(void **state) {
    (void)state;
    struct token_claims claims = sample();
    memcpy(claims.session_id, "a.b", 4);
    assert_null(token_issue(secret, &claims));
    claims.session_id[0] = '\0';
    assert_null(token_issue(secret, &claims));
}

/* --- the cache --------------------------------------------------------------------------------------------------- */

static char *issue_for(int number, int64_t seconds) {
    struct token_claims claims = sample();
    snprintf(claims.session_id, sizeof claims.session_id, "sess_%d", number);
    claims.expires_at = clock_wall_ms() / 1000 + seconds;
    return token_issue(secret, &claims);
}

static void test_cache(void **state) {
    (void)state;
    struct token_cache *cache = token_cache_new(secret, 256);
    struct token_claims found;
    for (int i = 0; i < 2000; i++) { /* far more than it holds */
        _cleanup_free_ char *token = issue_for(i, 1000);
        char session[32];
        snprintf(session, sizeof session, "sess_%d", i);
        for (int repeat = 0; repeat < 2; repeat++) {
            assert_int_equal(token_cache_verify(cache, token, &found), 0);
            assert_string_equal(found.session_id, session);
        }
        token[strlen(token) - 3] ^= 1;
        assert_int_equal(token_cache_verify(cache, token, &found), -EINVAL);
    }
    _cleanup_free_ char *expired = issue_for(1, -1);
    assert_int_equal(token_cache_verify(cache, expired, &found), -ETIMEDOUT);
    token_cache_free(cache);
}

/* While a key is replaced, tokens of both are good; of a third never; and afterwards the former one's are not. */
static void test_cache_accepts_former_secret(void **state) {
    (void)state;
    static const char fresh[] = "b7f0c1d2e3a4958677685940312233445566";
    _cleanup_free_ char *old_token = issue_for(1, 1000);
    _cleanup_free_ char *expired = issue_for(2, -1);
    struct token_claims claims = sample();
    claims.expires_at = clock_wall_ms() / 1000 + 1000;
    _cleanup_free_ char *new_token = token_issue(fresh, &claims);
    _cleanup_free_ char *foreign = token_issue("00112233445566778899aabbccddeeff0011", &claims);
    struct token_claims found;

    struct token_cache *cache = token_cache_new(fresh, 32);
    assert_int_equal(token_cache_verify(cache, old_token, &found), -EINVAL);
    token_cache_accept(cache, "");
    assert_int_equal(token_cache_verify(cache, old_token, &found), -EINVAL);
    token_cache_accept(cache, secret);
    for (int repeat = 0; repeat < 2; repeat++) {
        assert_int_equal(token_cache_verify(cache, old_token, &found), 0);
        assert_string_equal(found.session_id, "sess_1");
        assert_int_equal(token_cache_verify(cache, new_token, &found), 0);
        assert_int_equal(token_cache_verify(cache, foreign, &found), -EINVAL);
        assert_int_equal(token_cache_verify(cache, expired, &found), -ETIMEDOUT);
    }
    token_cache_free(cache);
}

static void test_cache_forgets_expired(void **state) {
    (void)state;
    struct token_cache *cache = token_cache_new(secret, 0);
    struct token_claims found;
    _cleanup_free_ char *token = issue_for(1, 2);
    assert_int_equal(token_cache_verify(cache, token, &found), 0);
    int64_t until = clock_monotonic_ms() + 3000;
    int result = 0;
    while (result == 0 && clock_monotonic_ms() < until)
        result = token_cache_verify(cache, token, &found);
    assert_int_equal(result, -ETIMEDOUT);
    assert_int_equal(token_cache_verify(cache, token, &found), -ETIMEDOUT);
    token_cache_free(cache);
}

enum { THREAD_TOKENS = 64 };
static char *shared_tokens[THREAD_TOKENS];

static void *verify_many(void *argument) {
    struct token_claims found;
    for (int i = 0; i < 5000; i++) {
        if (token_cache_verify(argument, shared_tokens[i * 7 % THREAD_TOKENS], &found) != 0) return argument;
    }
    return NULL;
}

static void test_cache_is_shared_by_threads(void **state) {
    (void)state;
    struct token_cache *cache = token_cache_new(secret, 32);
    pthread_t threads[4];
    for (int i = 0; i < THREAD_TOKENS; i++)
        shared_tokens[i] = issue_for(i, 1000);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_create(&threads[i], NULL, verify_many, cache);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    for (int i = 0; i < THREAD_TOKENS; i++)
        free(shared_tokens[i]);
    token_cache_free(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_every_changed_byte_is_refused),
        cmocka_unit_test(test_other_algorithms),
        cmocka_unit_test(test_claims_of_wrong_type),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_what_is_no_token),
        cmocka_unit_test(test_session_that_cannot_be_issued),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_accepts_former_secret),
        cmocka_unit_test(test_cache_forgets_expired),
        cmocka_unit_test(test_cache_is_shared_by_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
