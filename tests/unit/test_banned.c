/*
 * test_banned.c: what common/banned.h forbids does not compile, and what everybody includes after it does.
 *
 * Runs the compiler (CC, or cc) on small programs, from the root of the repository.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int compile(const char *source) {
    const char *compiler = getenv("CC");
    char command[2000];
    snprintf(command, sizeof(command),
        "printf '%%b' '%s' | %s -x c -std=gnu11 -D_GNU_SOURCE -O2 -D_FORTIFY_SOURCE=2 -Wall -Werror"
        " -include common/banned.h -fsyntax-only - 2>/dev/null",
        source, compiler ? compiler : "cc");
    return system(command);
}

static void test_banned_calls(void **state) {
    (void)state;
    static const char *const calls[] = {
        "strcpy(a, b);",
        "strncpy(a, b, 3);",
        "strcat(a, b);",
        "strtok(a, b);",
        "sprintf(a, \"%d\", 1);",
        "vsprintf(a, b, v);",
        "gets(a);",
    };
    char source[500];
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        snprintf(source, sizeof(source),
            "void f(char *a, char *b, va_list v);\\nvoid f(char *a, char *b, va_list v)"
            " { (void)a; (void)b; (void)v; %s }\\n",
            calls[i]);
        if (compile(source) == 0) fail_msg("%s compiles", calls[i]);
    }
}

static void test_everything_else_compiles(void **state) {
    (void)state;
    assert_int_equal(compile("#include <curl/curl.h>\\n#include <czmq.h>\\n#include <jansson.h>\\n#include <jwt.h>\\n"
                             "#include <msgpack.h>\\n#include <openssl/evp.h>\\n#include <crypt.h>\\n"
                             "int f(char *a);\\nint f(char *a) { return snprintf(a, 3, \"x\"); }\\n"),
        0);
    assert_int_equal(compile("#include <civetweb.h>\\n"), 0);
    assert_int_equal(compile("#include <libwebsockets.h>\\n"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_banned_calls),
        cmocka_unit_test(test_everything_else_compiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
