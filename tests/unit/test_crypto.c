/* test_crypto.c: published vectors of SHA-256 and bcrypt, the limits of passwords, and randomness that differs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypto.h"

/* FIPS 180-4 examples. */
static void test_sha256(void **state) {
    (void)state;
    char text[65];
    sha256_hex("", 0, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    sha256_hex(two_blocks, sizeof(two_blocks) - 1, text);
    assert_string_equal(text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_random(void **state) {
    (void)state;
    char left[401], right[401];
    random_hex(200, left);
    random_hex(200, right);
    assert_int_equal(strlen(left), 400);
    assert_int_equal(strspn(left, "0123456789abcdef"), 400);
    assert_string_not_equal(left, right);
    random_hex(0, left);
    assert_string_equal(left, "");
    unsigned char seen[256] = { 0 }, bytes[8192];
    random_bytes(bytes, sizeof(bytes));
    size_t different = 0;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        if (!seen[bytes[i]]++) different++;
    }
    assert_true(different > 250);
}

static void test_constant_time_equal(void **state) {
    (void)state;
    assert_true(constant_time_equal("", ""));
    assert_true(constant_time_equal("secret", "secret"));
    assert_false(constant_time_equal("secret", "secreT"));
    assert_false(constant_time_equal("secret", "secret "));
    assert_false(constant_time_equal("", "x"));
    assert_false(constant_time_equal(NULL, ""));
    assert_false(constant_time_equal("", NULL));
    assert_false(constant_time_equal(NULL, NULL));
}

static void test_password(void **state) {
    (void)state;
    char hash[128], again[128];
    assert_int_equal(password_hash("test123", 4, hash), 0);
    assert_int_equal(password_hash("test123", 4, again), 0);
    assert_memory_equal(hash, "$2b$04$", 7);
    assert_int_equal(strlen(hash), 60);
    assert_string_not_equal(hash, again);
    assert_true(password_verify("test123", hash));
    assert_true(password_verify("test123", again));
    assert_false(password_verify("test124", hash));
    assert_false(password_verify("", hash));
    assert_false(password_verify(NULL, hash));
}

/* Vectors of the bcrypt implementations that older installations used. */
static void test_foreign_hashes(void **state) {
    (void)state;
    assert_true(password_verify("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
    assert_true(password_verify("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"));
    assert_true(password_verify("U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
    assert_true(password_verify("U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
    assert_false(password_verify("u*u", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
}

static void test_password_limits(void **state) {
    (void)state;
    char text[74], hash[128] = "untouched";
    memset(text, 'p', sizeof(text));
    text[73] = '\0';
    assert_int_equal(password_hash(text, 4, hash), -EINVAL);
    assert_int_equal(password_hash("", 4, hash), -EINVAL);
    assert_int_equal(password_hash("x", 3, hash), -EINVAL);
    assert_int_equal(password_hash("x", 17, hash), -EINVAL);
    assert_string_equal(hash, "untouched");
    text[72] = '\0';
    assert_int_equal(password_hash(text, 4, hash), 0);
    assert_true(password_verify(text, hash));
    text[71] = '\0';
    assert_false(password_verify(text, hash));
    /* Bytes are bytes: 8 bits count. */
    assert_int_equal(password_hash("\xc3\xa4\xff", 4, hash), 0);
    assert_true(password_verify("\xc3\xa4\xff", hash));
    assert_false(password_verify("\xc3\xa4\x7f", hash));
}

static void test_unusable_hashes(void **state) {
    (void)state;
    static const char *const hashes[] = { NULL, "", "*", "*0", "x", "$2b$", "$2b$10$", "test123",
        "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "$2b$04$CCCCCCCCCCCCCCCCCCCCC.",
        "$2b$xx$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$05$!!!!!!!!!!!!!!!!!!!!!.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW" };
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
        assert_false(password_verify("test123", hashes[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_constant_time_equal),
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_foreign_hashes),
        cmocka_unit_test(test_password_limits),
        cmocka_unit_test(test_unusable_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
