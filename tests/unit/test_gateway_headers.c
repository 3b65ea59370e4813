/* test_gateway_headers.c: known headers, request ids, cookies, origins, and where a caller is said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/caller.h"
#include "services/gateway/headers.h"

static void test_known_headers(void **state) {
    (void)state;
    const struct mg_header list[] = { { "HOST", "a" }, { "x-request-id", "1" }, { "X-Unknown", "2" },
        { "Authorization", "first" }, { "authorization", "second" }, { "Content-Length", "12" } };
    struct headers headers;
    headers_parse(list, (int)ARRAY_SIZE(list), &headers);
    assert_string_equal(headers.host, "a");
    assert_string_equal(headers.request_id, "1");
    assert_string_equal(headers.authorization, "first");
    assert_string_equal(headers.content_length, "12");
    assert_null(headers.cookie);
    assert_false(headers.is_framing_ambiguous);
    assert_int_equal(headers.bytes, 9 + 17 + 14 + 22 + 23 + 20);
}

static bool is_ambiguous(const char *name, const char *value, const char *other_name, const char *other_value) {
    const struct mg_header list[] = { { name, value }, { other_name, other_value } };
    struct headers headers;
    headers_parse(list, other_name != NULL ? 2 : 1, &headers);
    return headers.is_framing_ambiguous;
}

static void test_framing(void **state) {
    (void)state;
    assert_false(is_ambiguous("Content-Length", "0", NULL, NULL));
    assert_false(is_ambiguous("Transfer-Encoding", "chunked", "Host", "a"));
    assert_true(is_ambiguous("Content-Length", "5", "Content-Length", "5"));
    assert_true(is_ambiguous("Content-Length", "5", "Transfer-Encoding", "chunked"));
    assert_true(is_ambiguous("Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"));
    assert_true(is_ambiguous("Host", "a", "Host", "b"));
    static const char *const lengths[] = { "", "5abc", "-5", "+5", " 5", "0x10", "99999999999999999999" };
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
        assert_true(is_ambiguous("Content-Length", lengths[i], NULL, NULL));
}

static void test_request_ids(void **state) {
    (void)state;
    char text[66];
    memset(text, 'a', 65);
    text[65] = '\0';
    assert_false(request_id_is_sane(text));
    text[64] = '\0';
    assert_true(request_id_is_sane(text));
    assert_true(request_id_is_sane("aZ0._-"));
    assert_false(request_id_is_sane(NULL));
    assert_false(request_id_is_sane(""));
    assert_false(request_id_is_sane("a b"));
    assert_false(request_id_is_sane("a\"b"));
    assert_false(request_id_is_sane("ä"));
}

static void test_clean_text(void **state) {
    (void)state;
    char buffer[64];
    header_text_clean("Mozilla/5.0 (ä)", 15, buffer);
    assert_string_equal(buffer, "Mozilla/5.0 (ä)");
    header_text_clean("a\tb\x7f\xff\xc3", 10, buffer);
    assert_string_equal(buffer, "a?b???");
    header_text_clean("ääää", 3, buffer);
    assert_string_equal(buffer, "äää");
    header_text_clean("\xf0\x9f\x98\x80x\xf0\x9f", 10, buffer);
    assert_string_equal(buffer, "\xf0\x9f\x98\x80x??");
}

static void test_cookies(void **state) {
    (void)state;
    char value[16];
    assert_true(cookie_find("bore_session=abc", "bore_session", value, sizeof(value)));
    assert_string_equal(value, "abc");
    assert_true(cookie_find("a=1; bore_session=x=y ;b=2", "bore_session", value, sizeof(value)));
    assert_string_equal(value, "x=y");
    assert_true(cookie_find("bore_session=1; bore_session=2", "bore_session", value, sizeof(value)));
    assert_string_equal(value, "1");
    static const char *const without[] = { "", "bore_session", "bore_session=", "xbore_session=1", "bore_sessionx=1",
        "bore_session =1", "a=bore_session=1", "bore_session=0123456789abcdef", ";;;" };
    for (size_t i = 0; i < ARRAY_SIZE(without); i++)
        assert_false(cookie_find(without[i], "bore_session", value, sizeof(value)));
    assert_false(cookie_find(NULL, "bore_session", value, sizeof(value)));
}

static void test_origins(void **state) {
    (void)state;
    assert_true(origin_is_host("http://localhost:3000", "localhost:3000"));
    assert_true(origin_is_host("https://Bore.Example", "bore.example"));
    assert_false(origin_is_host("https://bore.example.evil", "bore.example"));
    assert_false(origin_is_host("https://evil/?https://bore.example", "bore.example"));
    assert_false(origin_is_host("http://localhost:3001", "localhost:3000"));
    assert_false(origin_is_host("null", "localhost"));
    assert_false(origin_is_host("http://", ""));
    assert_false(origin_is_host(NULL, "localhost"));
    assert_false(origin_is_host("http://localhost", NULL));
}

static void test_members(void **state) {
    (void)state;
    assert_true(header_has_member("Keep-Alive", "keep-alive"));
    assert_true(header_has_member("keep-alive, Upgrade", "upgrade"));
    assert_false(header_has_member("keep-alive-not", "keep-alive"));
    assert_false(header_has_member("", "keep-alive"));
    assert_false(header_has_member(NULL, "keep-alive"));
}

static void test_location_of_a_caller(void **state) {
    (void)state;
    static struct caller caller;
    struct headers headers = { .edge_secret = "right", .forwarded_for = "203.0.113.9", .forwarded_proto = "https" };
    caller_locate(&caller, &headers, "127.0.0.1", "right");
    assert_string_equal(caller.address, "203.0.113.9");
    assert_true(caller.is_https);
    caller_locate(&caller, &headers, "127.0.0.1", "other");
    assert_string_equal(caller.address, "127.0.0.1");
    assert_false(caller.is_https);
    caller_locate(&caller, &headers, "127.0.0.1", "");
    assert_string_equal(caller.address, "127.0.0.1");
    headers.forwarded_for = "203.0.113.9, 10.0.0.1";
    headers.forwarded_proto = "http";
    caller_locate(&caller, &headers, "::1", "right");
    assert_string_equal(caller.address, "::1");
    assert_false(caller.is_https);
    headers.edge_secret = NULL;
    caller_locate(&caller, &headers, "::1", "");
    assert_string_equal(caller.address, "::1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_headers),
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_request_ids),
        cmocka_unit_test(test_clean_text),
        cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_location_of_a_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
