/* test_auth_validation.c: what may be an e-mail address, a name and a password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/auth/validation.h"

static void test_good_emails(void **state) {
    (void)state;
    static const char *const good[] = {
        "test@bore.com",
        "a.b+c_d-e@sub.example.co.uk",
        "admin@localhost",
        "o'neil@example.org",
        "x@1.2.3",
        "jos\xc3\xa9@ex\xc3\xa4mple.org",
        "UPPER@EXAMPLE.COM",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (email_complaint(good[i])) fail_msg("%s was refused", good[i]);
}

static void test_bad_emails(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "@",
        "plain",
        "@bore.com",
        "a@",
        "a@b",
        "a@b..c",
        "a@.b.c",
        "a@b.c.",
        "a@-b.c",
        "a@b-.c",
        "a b@c.d",
        "a@b c.d",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.d",
        "a@b@c.d",
        "a\n@b.c",
        "<a>@b.c",
        "a,b@c.d",
        "a@b_c.d",
        "\"a\"@b.c",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (!email_complaint(bad[i])) fail_msg("%s was accepted", bad[i]);
}

static void test_long_emails(void **state) {
    (void)state;
    char email[400];
    memset(email, 'a', sizeof email);
    memcpy(email + 64, "@b.example", sizeof "@b.example");
    assert_null(email_complaint(email));
    memset(email, 'a', 65);
    memcpy(email + 65, "@b.example", sizeof "@b.example");
    assert_non_null(email_complaint(email));
    memcpy(email, "a@", 2);
    memset(email + 2, 'b', 64);
    memcpy(email + 66, ".c", 3);
    assert_non_null(email_complaint(email));
    for (size_t i = 2; i < 302; i += 2)
        memcpy(email + i, "b.", 2);
    memcpy(email + 302, "c", 2);
    assert_non_null(email_complaint(email));
}

static void test_names(void **state) {
    (void)state;
    assert_null(name_complaint("Test"));
    assert_null(name_complaint("  \xe5\xb1\xb1\xe7\x94\xb0 \xe5\xa4\xaa\xe9\x83\x8e"));
    assert_non_null(name_complaint(""));
    assert_non_null(name_complaint("   "));
    assert_non_null(name_complaint("\xc2\xa0\xe2\x80\x83\xe3\x80\x80"));
    assert_non_null(name_complaint("a\tb"));
    assert_non_null(name_complaint("a\x7f"));
    assert_null(name_complaint("\xe2\x80\x94"));
}

static void test_passwords(void **state) {
    (void)state;
    char buffer[COMPLAINT_SIZE], password[80];
    assert_null(password_complaint("test123", 6, buffer));
    assert_string_equal(password_complaint("short", 6, buffer), "must have at least 6 characters");
    /* Characters, not bytes. */
    assert_non_null(password_complaint("\xc3\xa4\xc3\xa4\xc3\xa4", 6, buffer));
    assert_null(password_complaint("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", 6, buffer));
    assert_non_null(password_complaint("", 1, buffer));
    memset(password, 'p', sizeof password);
    password[72] = '\0';
    assert_null(password_complaint(password, 6, buffer));
    password[72] = 'p';
    password[73] = '\0';
    assert_string_equal(password_complaint(password, 6, buffer), "must have at most 72 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_emails),
        cmocka_unit_test(test_bad_emails),
        cmocka_unit_test(test_long_emails),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_passwords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
