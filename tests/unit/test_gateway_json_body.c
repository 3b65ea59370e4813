/* test_gateway_json_body.c: bodies that are objects, and what is refused before or by the parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/json_body.h"

static char complaint[JSON_COMPLAINT_MAX];

static json_t *parse_bytes(const char *data, size_t size) {
    _cleanup_free_ char *copy = xmemdup(size > 0 ? data : "x", size > 0 ? size : 1);
    complaint[0] = '\0';
    json_t *object = json_body_parse(copy, size, complaint);
    assert_int_equal(object == NULL, complaint[0] != '\0');
    return object;
}

static json_t *parse(const char *text) {
    return parse_bytes(text, strlen(text));
}

static void test_objects(void **state) {
    (void)state;
    json_t *object = parse(" {\"a\": 1, \"b\": [\"}{\", -2.5e3, null], \"c\": \"\\\"[[[[[[[[[[[[[[[[[[[[\"}\n");
    assert_int_equal(json_object_size(object), 3);
    assert_int_equal(json_integer_value(json_object_get(object, "a")), 1);
    json_decref(object);
    object = parse("");
    assert_int_equal(json_object_size(object), 0);
    json_decref(object);
}

static void test_refused(void **state) {
    (void)state;
    static const char *const texts[] = { "[]", "1", "\"a\"", "null", "{", "}", "{}{}", "{} x", " ", "{\"a\":1,\"a\":2}",
        "{\"a\":01}", "{a:1}", "{'a':1}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\u0000\"}", "{\"a\":\"\t\"}",
        "{\"\xff\":1}", "{\"a\":1e}", "{\"a\":99999999999999999999999-5}", "\xef\xbb\xbf{}" };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        json_t *object = parse(texts[i]);
        if (object != NULL) fail_msg("accepted %s", texts[i]);
    }
    assert_null(parse_bytes("{\"a\":\"b\0c\"}", 11));
    assert_null(parse_bytes("{}\0", 3));
}

static void test_depth(void **state) {
    (void)state;
    char text[4 * 70000];
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX; depth++) {
        size_t size = (size_t)snprintf(text, sizeof(text), "{\"a\":");
        memset(text + size, '[', depth);
        memset(text + size + depth, ']', depth);
        memcpy(text + size + 2 * depth, "}", 2);
        json_t *object = parse(text);
        assert_int_equal(object != NULL, depth < JSON_DEPTH_MAX);
        json_decref(object);
    }
    memset(text, '[', 65536);
    text[65536] = '\0';
    assert_null(parse(text));
}

static double number(const char *text) {
    _cleanup_free_ char *body = xasprintf("{\"n\":%s}", text);
    json_t *object = parse(body);
    if (object == NULL) fail_msg("refused %s: %s", text, complaint);
    json_t *value = json_object_get(object, "n");
    double result = json_number_value(value);
    json_decref(object);
    return result;
}

static void test_numbers_too_big_for_us_are_still_numbers(void **state) {
    (void)state;
    assert_true(number("9223372036854775807") == 0x1p63);
    assert_true(number("9223372036854775808") == 1e300);
    assert_true(number("-99999999999999999999999999") == -1e300);
    assert_true(number("1e999") == 1e300);
    assert_true(number("2e308") == 1e300);
    assert_true(number("-2E+308") == -1e300);
    assert_true(number("1e308") == 1e308);
    assert_true(number("123.456789012345678901234567890") == 123.456789012345678901234567890);
    assert_true(number("1e-999") == 0);
    char digits[1000];
    memset(digits, '9', sizeof(digits) - 1);
    digits[sizeof(digits) - 1] = '\0';
    assert_true(number(digits) == 1e300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_numbers_too_big_for_us_are_still_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
