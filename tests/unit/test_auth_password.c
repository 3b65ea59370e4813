/*
 * test_auth_password.c: passwords are checked with the same work whatever the account is; one-time passwords.
 *
 * Work is measured in this thread's processor time, so that a busy machine does not matter much.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "services/auth/password.h"

enum { COST = 9 };

static struct password_checker checker;

static int setup(void **state) {
    (void)state;
    return password_checker_init(&checker, COST);
}

static double verify_seconds(const char *password, const char *hash, bool expected) {
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        bool right = password_checker_verify(&checker, password, hash);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        assert_int_equal(right, expected);
        double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
        if (seconds < best) best = seconds;
    }
    return best;
}

static void test_right_and_wrong(void **state) {
    (void)state;
    char hash[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash("secret", COST, hash), 0);
    assert_true(password_checker_verify(&checker, "secret", hash));
    assert_false(password_checker_verify(&checker, "Secret", hash));
    assert_false(password_checker_verify(&checker, "", hash));
    assert_false(password_checker_verify(&checker, "secret", NULL));
    assert_false(password_checker_verify(&checker, "secret", ""));
    assert_false(password_checker_verify(&checker, "secret", "$2b$10$tooshort"));
    assert_false(
        password_checker_verify(&checker, "secret", "plain text of sixty characters, which is no hash at all, no."));
}

/* The same password by other programs: PHP ($2y$), an old OpenBSD ($2a$). */
static void test_other_prefixes(void **state) {
    (void)state;
    char hash[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash("secret", COST, hash), 0);
    for (const char *kind = "aby"; *kind; kind++) {
        hash[2] = *kind;
        assert_true(password_checker_verify(&checker, "secret", hash));
        assert_false(password_checker_is_outdated(&checker, hash));
    }
    hash[2] = 'x';
    assert_false(password_checker_verify(&checker, "secret", hash));
}

static void test_outdated(void **state) {
    (void)state;
    char hash[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash("secret", COST - 1, hash), 0);
    assert_true(password_checker_is_outdated(&checker, hash));
    assert_int_equal(password_hash("secret", COST + 1, hash), 0);
    assert_false(password_checker_is_outdated(&checker, hash));
}

static void test_same_work(void **state) {
    (void)state;
    char hash[PASSWORD_HASH_SIZE], cheap[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash("secret", COST, hash), 0);
    assert_int_equal(password_hash("secret", COST - 3, cheap), 0);
    const double known = verify_seconds("wrong", hash, false);
    const struct {
        const char *name;
        double seconds;
    } others[] = {
        { "unknown account", verify_seconds("wrong", NULL, false) },
        { "unusable hash", verify_seconds("wrong", "*", false) },
        { "right password", verify_seconds("secret", hash, true) },
        { "cheaper hash", verify_seconds("wrong", cheap, false) },
        { "cheaper hash, right", verify_seconds("secret", cheap, true) },
    };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        double ratio = others[i].seconds / known;
        if (ratio < 0.75 || ratio > 1.35) fail_msg("%s: %.2f times the work", others[i].name, ratio);
    }
}

static void test_bad_cost(void **state) {
    (void)state;
    struct password_checker other;
    assert_true(password_checker_init(&other, 3) < 0);
}

static void test_one_time_passwords(void **state) {
    (void)state;
    char first[ONE_TIME_PASSWORD_SIZE], second[ONE_TIME_PASSWORD_SIZE];
    one_time_password(first);
    one_time_password(second);
    assert_int_equal(strlen(first), ONE_TIME_PASSWORD_SIZE - 1);
    assert_string_not_equal(first, second);
    for (size_t i = 0; first[i]; i++) {
        if (i % 6 == 5) {
            assert_int_equal(first[i], '-');
        } else {
            assert_non_null(strchr("abcdefghjkmnpqrstuvwxyz23456789", first[i]));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_and_wrong),
        cmocka_unit_test(test_other_prefixes),
        cmocka_unit_test(test_outdated),
        cmocka_unit_test(test_same_work),
        cmocka_unit_test(test_bad_cost),
        cmocka_unit_test(test_one_time_passwords),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
