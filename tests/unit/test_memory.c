/* test_memory.c: allocation that does not fail, cleanup attributes, and its end when memory is out. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"

static void test_sizes_of_zero(void **state) {
    (void)state;
    _cleanup_free_ void *a = xmalloc(0);
    _cleanup_free_ void *b = xcalloc(0, 8);
    _cleanup_free_ void *c = xmemdup(NULL, 0);
    void *d = xrealloc(xmalloc(3), 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_non_null(d);
    free(d);
}

static void test_copies(void **state) {
    (void)state;
    _cleanup_free_ char *text = xstrdup("abc");
    _cleanup_free_ char *bytes = xmemdup("a\0c", 3);
    _cleanup_free_ char *formatted = xasprintf("%s-%d", "x", 7);
    _cleanup_free_ char *none = xstrdup_or_null(NULL);
    assert_string_equal(text, "abc");
    assert_memory_equal(bytes, "a\0c", 3);
    assert_string_equal(formatted, "x-7");
    assert_null(none);
}

static void test_cleared_and_grown(void **state) {
    (void)state;
    int *numbers = xcalloc(4, sizeof(*numbers));
    for (int i = 0; i < 4; i++)
        assert_int_equal(numbers[i], 0);
    numbers[3] = 42;
    numbers = xreallocarray(numbers, 1000, sizeof(*numbers));
    assert_int_equal(numbers[3], 42);
    free(numbers);
}

static void test_take_ptr(void **state) {
    (void)state;
    char *owned = xstrdup("mine");
    char *taken = TAKE_PTR(owned);
    assert_null(owned);
    assert_string_equal(taken, "mine");
    free(taken);
}

static void test_wipe(void **state) {
    (void)state;
    char secret[8] = "secret!";
    memory_wipe(secret, sizeof(secret));
    for (size_t i = 0; i < sizeof(secret); i++)
        assert_int_equal(secret[i], 0);
    memory_wipe(NULL, 0);
}

/* An impossible size ends the process with one line and SIGABRT, and never returns NULL. */
static void test_exhaustion(void **state) {
    (void)state;
    int channel[2];
    assert_int_equal(pipe(channel), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
        signal(SIGABRT, SIG_DFL);
        dup2(channel[1], STDERR_FILENO);
        free(xreallocarray(NULL, SIZE_MAX / 4, 8));
        _exit(0);
    }
    close(channel[1]);
    char line[64] = { 0 };
    ssize_t size = read(channel[0], line, sizeof(line) - 1);
    close(channel[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(size > 0);
    assert_string_equal(line, "out of memory\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_zero),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_cleared_and_grown),
        cmocka_unit_test(test_take_ptr),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_exhaustion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
