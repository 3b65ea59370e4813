/* test_gateway_target.c: paths and queries of requests, plain ones and those that try something. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/target.h"

static struct path path;

static int parse(const char *text) {
    return path_parse(text, strlen(text), &path);
}

static void assert_segments(const char *text, size_t count, const char *const *segments) {
    assert_int_equal(parse(text), 0);
    assert_int_equal(path.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(path.segments[i], segments[i]);
}

static void test_plain_paths(void **state) {
    (void)state;
    assert_segments("/", 0, NULL);
    assert_segments("/health", 1, (const char *[]){ "health" });
    assert_segments("/api/instances/inst_1", 3, (const char *[]){ "api", "instances", "inst_1" });
    assert_segments("/api/instances/", 2, (const char *[]){ "api", "instances" });
}

static void test_escapes_are_decoded_once(void **state) {
    (void)state;
    assert_segments("/%61pi/a%20b", 2, (const char *[]){ "api", "a b" });
    assert_segments("/%2541", 1, (const char *[]){ "%41" });
    assert_segments("/%C3%A4", 1, (const char *[]){ "ä" });
    assert_segments("/a+b", 1, (const char *[]){ "a+b" });
}

static void test_tricks_are_refused(void **state) {
    (void)state;
    static const char *const tricks[] = { "", "a", "//", "/a//b", "//a", "/a//", "/.", "/..", "/../etc/passwd",
        "/a/../b", "/a/%2e%2e/b", "/a/.%2E", "/a%2fb", "/a%5cb", "/a\\b", "/a%00b", "/a%0d%0ab", "/a\tb", "/%7f", "/%",
        "/%4", "/%zz", "/%-1", "/%ff", "/%c0%af", "/%ed%a0%80", "/1/2/3/4/5/6/7/8/9" };
    for (size_t i = 0; i < ARRAY_SIZE(tricks); i++) {
        if (parse(tricks[i]) == 0) fail_msg("accepted \"%s\"", tricks[i]);
        assert_int_equal(path.count, 0);
    }
}

static void test_bytes_are_bounded(void **state) {
    (void)state;
    char text[PATH_BYTES_MAX + 8];
    memset(text, 'a', sizeof(text));
    text[0] = '/';
    assert_int_equal(path_parse(text, PATH_BYTES_MAX, &path), 0);
    assert_int_equal(path_parse(text, PATH_BYTES_MAX + 1, &path), -EINVAL);
}

static void test_targets(void **state) {
    (void)state;
    struct target target;
    assert_true(target_parse("/a/b?c=d?e", &target));
    assert_int_equal(target.path_size, 4);
    assert_string_equal(target.query, "c=d?e");
    assert_true(target_parse("/a", &target));
    assert_null(target.query);
    assert_true(target_parse("http://host:80/a?b", &target));
    assert_int_equal(target.path_size, 2);
    assert_memory_equal(target.path, "/a", 2);
    assert_string_equal(target.query, "b");
    assert_true(target_parse("HTTPS://host?q", &target));
    assert_int_equal(target.path_size, 1);
    assert_memory_equal(target.path, "/", 1);
    assert_string_equal(target.query, "q");
    static const char *const others[] = { "", "*", "a", "host:443", "ftp://host/a", "http://", "http:///a" };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        assert_false(target_parse(others[i], &target));
}

static void assert_parameter(const char **position, const char *name, const char *value, bool is_valid) {
    struct query_parameter parameter;
    assert_true(query_next(position, &parameter));
    assert_string_equal(parameter.name, name);
    assert_string_equal(parameter.value, value);
    assert_int_equal(parameter.is_valid, is_valid);
}

static void test_queries(void **state) {
    (void)state;
    const char *position = "limit=5&cursor=a%2Bb+c&flag&&q=%C3%A4&x=%ff&y=%00&%ff=1&z=%4&=v#fragment";
    assert_parameter(&position, "limit", "5", true);
    assert_parameter(&position, "cursor", "a+b c", true);
    assert_parameter(&position, "flag", "", true);
    assert_parameter(&position, "", "", true);
    assert_parameter(&position, "q", "ä", true);
    assert_parameter(&position, "x", "", false);
    assert_parameter(&position, "y", "", false);
    assert_parameter(&position, "", "1", true);
    assert_parameter(&position, "z", "%4", true);
    assert_parameter(&position, "", "v", true);
    struct query_parameter parameter;
    assert_false(query_next(&position, &parameter));
    position = NULL;
    assert_false(query_next(&position, &parameter));
}

static void test_long_parameters(void **state) {
    (void)state;
    char text[QUERY_VALUE_MAX + 100];
    snprintf(text, sizeof(text), "a=%0*d", QUERY_VALUE_MAX, 0);
    const char *position = text;
    struct query_parameter parameter;
    assert_true(query_next(&position, &parameter));
    assert_true(parameter.is_valid);
    snprintf(text, sizeof(text), "a=%0*d&b=1", QUERY_VALUE_MAX + 1, 0);
    position = text;
    assert_parameter(&position, "a", "", false);
    assert_parameter(&position, "b", "1", true);
    snprintf(text, sizeof(text), "%0*d=1", QUERY_NAME_MAX + 1, 0);
    position = text;
    assert_parameter(&position, "", "1", true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_paths),
        cmocka_unit_test(test_escapes_are_decoded_once),
        cmocka_unit_test(test_tricks_are_refused),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_long_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
