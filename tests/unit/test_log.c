/* test_log.c: the form of a line, levels, escaping of what a peer may have sent, cutting, and threads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"

static int saved_stderr;
static int captured;
static char output[1024 * 1024];

static void capture_begin(void) {
    captured = memfd_create("log", MFD_CLOEXEC);
    assert_true(captured >= 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(captured, STDERR_FILENO) >= 0);
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, O_APPEND), 0);
}

static const char *capture_end(void) {
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t size = pread(captured, output, sizeof(output) - 1, 0);
    close(captured);
    assert_true(size >= 0);
    output[size] = '\0';
    return output;
}

static void assert_matches(const char *text, const char *pattern) {
    regex_t expression;
    assert_int_equal(regcomp(&expression, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int result = regexec(&expression, text, 0, NULL, 0);
    regfree(&expression);
    if (result != 0) fail_msg("\"%s\" does not match %s", text, pattern);
}

#define TIME_PATTERN "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"

static void test_text(void **state) {
    (void)state;
    log_init("registry", 3, "info", "text");
    capture_begin();
    log_info("ready after %d ms key=%s", 12, "value");
    assert_matches(capture_end(), "^" TIME_PATTERN " INFO registry-3 ready after 12 ms key=value\n$");
    log_init("bus", 0, "info", "text");
    log_set_request_id("req-1");
    capture_begin();
    log_warning("careful");
    assert_matches(capture_end(), "^" TIME_PATTERN " WARNING bus \\[req-1\\] careful\n$");
    log_set_request_id(NULL);
}

static void test_json(void **state) {
    (void)state;
    log_init("auth", 2, "debug", "json");
    capture_begin();
    log_debug("said \"%s\" \\ %s", "h\xc3\xa9", "\n\x01\xff");
    assert_matches(capture_end(),
        "^\\{\"time\":\"" TIME_PATTERN "\",\"level\":\"debug\",\"process\":\"auth\",\"instance\":2,"
        "\"message\":\"said \\\\\"h\xc3\xa9\\\\\" \\\\\\\\ \\\\\\\\x0a\\\\\\\\x01\\\\\\\\xff\"\\}\n$");
    log_set_request_id("a\"b");
    capture_begin();
    log_error("x");
    assert_matches(capture_end(), "\"request_id\":\"a\\\\\"b\",\"message\":\"x\"\\}\n$");
    log_set_request_id("");
}

static void test_levels(void **state) {
    (void)state;
    log_init("bus", 1, "warning", "text");
    assert_false(log_enabled(LOG_DEBUG_LEVEL));
    assert_false(log_enabled(LOG_INFO_LEVEL));
    assert_true(log_enabled(LOG_WARNING_LEVEL));
    capture_begin();
    log_debug("no");
    log_info("no");
    assert_string_equal(capture_end(), "");
    log_init("bus", 1, "nonsense", NULL);
    assert_true(log_enabled(LOG_INFO_LEVEL));
    assert_false(log_enabled(LOG_DEBUG_LEVEL));
    log_init("bus", 1, NULL, "nonsense");
    assert_true(log_enabled(LOG_INFO_LEVEL));
}

static void test_no_forged_lines(void **state) {
    (void)state;
    static const struct {
        const char *input;
        const char *written;
    } cases[] = {
        { "a\nb\r\tc", "a\\x0ab\\x0d\\x09c" },
        { "\x1b[31mred\x7f", "\\x1b[31mred\\x7f" },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6" },
        { "\xc3", "\\xc3" },
        { "\xe2\x82", "\\xe2\\x82" },
        { "\xc0\xaf", "\\xc0\\xaf" },
        { "\xc2\x9b", "\\xc2\\x9b" },
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },
        { "\xe0\x80\x80", "\\xe0\\x80\\x80" },
        { "\xf0\x80\x80\x80", "\\xf0\\x80\\x80\\x80" },
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },
        { "\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80" },
    };
    log_init("bus", 1, "info", "text");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture_begin();
        log_info("%s", cases[i].input);
        const char *line = capture_end();
        const char *message = strstr(line, "bus-1 ");
        assert_non_null(message);
        char expected[128];
        snprintf(expected, sizeof(expected), "%s\n", cases[i].written);
        assert_string_equal(message + 6, expected);
    }
}

static void test_long_lines(void **state) {
    (void)state;
    static char text[20000];
    for (int json = 0; json < 2; json++) {
        for (size_t shift = 0; shift < 4; shift++) {
            log_init("bus", 1, "info", json ? "json" : "text");
            memset(text, 'x', shift);
            for (size_t i = shift; i + 3 < sizeof(text); i += 3)
                memcpy(text + i, "\xe2\x82\xac", 4);
            capture_begin();
            log_info("%s", text);
            const char *line = capture_end();
            size_t size = strlen(line);
            assert_true(size > 3000 && size <= 4096);
            assert_string_equal(line + size - (json ? 6 : 4), json ? "...\"}\n" : "...\n");
        }
    }
}

static void test_request_id_is_bounded(void **state) {
    (void)state;
    char id[200];
    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    log_set_request_id(id);
    assert_int_equal(strlen(log_request_id()), 64);
    log_set_request_id(NULL);
    assert_string_equal(log_request_id(), "");
}

static void test_errno_is_kept(void **state) {
    (void)state;
    log_init("bus", 1, "info", "text");
    capture_begin();
    errno = ENOSPC;
    log_info("x");
    int after = errno;
    capture_end();
    assert_int_equal(after, ENOSPC);
}

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *number) {
    char id[32];
    snprintf(id, sizeof(id), "thread-%d", *(int *)number);
    log_set_request_id(id);
    for (int i = 0; i < LINES; i++)
        log_info("from %s.", id);
    return NULL;
}

static void test_threads_do_not_mix(void **state) {
    (void)state;
    log_init("bus", 1, "info", "text");
    pthread_t threads[THREADS];
    int numbers[THREADS];
    capture_begin();
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, write_lines, &numbers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    char *text = (char *)(uintptr_t)capture_end();
    int count = 0;
    char *position = NULL;
    for (char *line = strtok_r(text, "\n", &position); line; line = strtok_r(NULL, "\n", &position)) {
        assert_matches(line, " INFO bus-1 \\[thread-([0-3])\\] from thread-\\1\\.$");
        count++;
    }
    assert_int_equal(count, THREADS * LINES);
    assert_string_equal(log_request_id(), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_no_forged_lines),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_request_id_is_bounded),
        cmocka_unit_test(test_errno_is_kept),
        cmocka_unit_test(test_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
