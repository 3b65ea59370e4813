/* test_gateway_answer.c: errors in API.md's form, heads of answers, CORS lines, pages from memory. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/gateway/answer.h"
#include "services/gateway/cors.h"
#include "services/gateway/pages.h"

static struct answer answer;
static struct strbuf out = STRBUF_INIT;

static int set_up(void **state) {
    (void)state;
    answer_init(&answer);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    answer_release(&answer);
    strbuf_release(&out);
    return 0;
}

/* Head and body as one text. */
static const char *written(const struct answer_context *context) {
    strbuf_clear(&out);
    size_t size;
    const void *rest = answer_write(&answer, context, &out, &size);
    strbuf_append(&out, rest != NULL ? rest : "", size);
    return out.data;
}

static void assert_has(const char *text) {
    const struct answer_context context = { .request_id = "id-1", .cors = "Vary: Origin\r\n" };
    if (strstr(written(&context), text) == NULL) fail_msg("no \"%s\" in\n%s", text, out.data);
}

static void assert_lacks(const char *text) {
    const struct answer_context context = { .request_id = "id-1" };
    if (strstr(written(&context), text) != NULL) fail_msg("\"%s\" in\n%s", text, out.data);
}

static void test_errors(void **state) {
    (void)state;
    answer_header(&answer, "X-Before", "1");
    answer_error(&answer, "id-1", ERR_NOT_FOUND, NULL, 0);
    assert_string_equal(
        answer.body.data, "{\"error\":\"not_found\",\"message\":\"There is nothing here.\",\"request_id\":\"id-1\"}\n");
    assert_has("HTTP/1.1 404 Not Found\r\n");
    assert_has("Content-Type: application/json\r\n");
    assert_has("X-Request-Id: id-1\r\n");
    assert_has("Cache-Control: no-store\r\n");
    assert_has("X-Content-Type-Options: nosniff\r\n");
    assert_has("Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n");
    assert_has("\r\nVary: Origin\r\n");
    assert_lacks("X-Before");
    assert_lacks("Retry-After");
    assert_lacks("WWW-Authenticate");
    assert_lacks("Server:");
}

static void test_headers_of_some_statuses(void **state) {
    (void)state;
    answer_error(&answer, "i", ERR_UNAUTHORIZED, NULL, 0);
    assert_has("WWW-Authenticate: Bearer\r\n");
    answer_error(&answer, "i", ERR_OVERLOADED, NULL, 0);
    assert_has("Retry-After: 1\r\n");
    answer_error(&answer, "i", ERR_TOO_MANY_REQUESTS, NULL, 0);
    assert_has("Retry-After: 5\r\n");
    answer_error(&answer, "i", ERR_TOO_MANY_REQUESTS, "Wait.", 77);
    assert_has("Retry-After: 77\r\n");
    assert_has("\"message\":\"Wait.\"");
    answer_error(&answer, "i", -12345, NULL, 0);
    assert_has("HTTP/1.1 500 ");
    assert_has("\"error\":\"internal_error\"");
}

static void test_details(void **state) {
    (void)state;
    struct field_errors errors = { .count = 0 };
    field_errors_add(&errors, "local_port", "must be \"%d\"", 1);
    field_errors_add(&errors, "name", "is required");
    answer_error_fields(&answer, "i", &errors);
    json_t *body = json_loads(answer.body.data, 0, NULL);
    json_t *details = json_object_get(body, "details");
    assert_int_equal(json_array_size(details), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(details, 0), "field")), "local_port");
    assert_string_equal(json_string_value(json_object_get(json_array_get(details, 0), "message")), "must be \"1\"");
    json_decref(body);
}

static void test_refusals_of_services(void **state) {
    (void)state;
    struct error_detail detail = { .field = (char[]){ "plan" }, .message = (char[]){ "is unknown" } };
    struct error_reply reply = { .message = (char[]){ "No <such> plan." },
        .details = &detail,
        .details_count = 1,
        .has_retry_after = true,
        .retry_after = 9 };
    answer_error_reply(&answer, "i", ERR_VALIDATION, &reply);
    assert_has("\"details\":[{\"field\":\"plan\",\"message\":\"is unknown\"}]");
    assert_has("No \\u003csuch> plan.");
    answer_error_reply(&answer, "i", ERR_CONFLICT, &reply);
    assert_lacks("details");
    answer_error_reply(&answer, "i", ERR_UNAVAILABLE, &reply);
    assert_has("Retry-After: 9\r\n");
}

static void test_heads(void **state) {
    (void)state;
    answer_json(&answer, 200);
    strbuf_append_text(&answer.body, "{\"a\":1}");
    struct answer_context context = { .request_id = "i", .is_head = true, .is_https = true, .is_http10 = true };
    assert_non_null(strstr(written(&context), "Content-Length: 7\r\n"));
    assert_non_null(strstr(out.data, "Strict-Transport-Security: "));
    assert_non_null(strstr(out.data, "Connection: keep-alive\r\n\r\n"));
    assert_string_equal(out.data + out.size - 4, "\r\n\r\n");
    assert_lacks("Strict-Transport");
    assert_lacks("Connection:");
    assert_has("\r\n\r\n{\"a\":1}");
    answer.closes = true;
    assert_has("Connection: close\r\n");
    answer_clear(&answer);
    answer.status = 204;
    assert_lacks("Content-Length");
    assert_lacks("\nContent-Type");
}

static void test_large_bodies_are_not_copied(void **state) {
    (void)state;
    static const char content[100000];
    answer_json(&answer, 200);
    answer.content = content;
    answer.content_size = sizeof(content);
    const struct answer_context context = { .request_id = "i" };
    size_t size;
    struct strbuf head = STRBUF_INIT;
    assert_ptr_equal(answer_write(&answer, &context, &head, &size), content);
    assert_int_equal(size, sizeof(content));
    assert_non_null(strstr(head.data, "Content-Length: 100000\r\n"));
    strbuf_release(&head);
}

static void test_cors(void **state) {
    (void)state;
    const char *bad;
    struct cors *cors = cors_new(" https://a.example, nonsense,http://localhost:5173,x/y", &bad);
    assert_string_equal(bad, "nonsense");
    assert_string_equal(cors_lines(cors, NULL), "Vary: Origin\r\n");
    assert_string_equal(cors_lines(cors, "https://evil.example"), "Vary: Origin\r\n");
    assert_non_null(strstr(cors_lines(cors, "https://A.example"), "Allow-Origin: https://a.example\r\n"));
    assert_non_null(strstr(cors_lines(cors, "http://localhost:5173"), "Allow-Credentials: true\r\n"));
    assert_false(cors_allows(cors, "null"));
    cors_free(cors);
    cors = cors_new("*", &bad);
    assert_null(bad);
    assert_non_null(strstr(cors_lines(cors, "https://b.example"), "Allow-Origin: *\r\n"));
    assert_null(strstr(cors_lines(cors, "https://b.example"), "Credentials"));
    cors_free(cors);
    cors = cors_new("", &bad);
    assert_false(cors_allows(cors, "https://a.example"));
    cors_free(cors);
}

/* --- pages --- */

static char folder[] = "/tmp/bore-pages.XXXXXX";

static void put(const char *name, const char *content) {
    _cleanup_free_ char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static bool serve(const struct pages *pages, const char *target, const struct headers *headers) {
    static struct path path;
    answer_clear(&answer);
    if (path_parse(target, strlen(target), &path) != 0 || !pages_find(pages, &path)) return false;
    pages_serve(pages, &path, headers, &answer);
    return true;
}

static void check_pages(void) {
    struct headers headers = { .bytes = 0 };
    struct pages *pages = pages_new(folder);
    assert_int_equal(pages_count(pages), 2);
    assert_true(serve(pages, "/docs", &headers));
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.content_type, "text/html; charset=utf-8");
    assert_memory_equal(answer.content, "<p>docs", answer.content_size);
    assert_has("script-src 'self'");
    assert_has("Cache-Control: no-cache\r\n");
    char etag[64];
    const char *line = strstr(answer.headers.data, "ETag: ");
    assert_int_equal(sscanf(line, "ETag: %63s", etag), 1);
    headers.if_none_match = etag;
    assert_true(serve(pages, "/docs", &headers));
    assert_int_equal(answer.status, 304);
    assert_null(answer.content);
    headers.if_none_match = "\"other\"";
    headers.if_modified_since = "Sun, 06 Nov 2044 08:49:37 GMT";
    assert_true(serve(pages, "/docs", &headers));
    assert_int_equal(answer.status, 200);
    headers.if_none_match = NULL;
    assert_true(serve(pages, "/docs", &headers));
    assert_int_equal(answer.status, 304);
    headers.if_modified_since = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_true(serve(pages, "/assets/a.js", &headers));
    assert_string_equal(answer.content_type, "text/javascript; charset=utf-8");
    assert_true(serve(pages, "/", &headers));
    assert_int_equal(answer.status, 302);
    static const char *const nothing[] = { "/docs.html", "/assets", "/.hidden.html", "/secret.key", "/link.html",
        "/assets/../docs", "/etc/passwd", "/docs/x" };
    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++)
        assert_false(serve(pages, nothing[i], &headers));
    pages_free(pages);
}

static void check_served(const struct pages *pages, const char *target, const char *accepted, const char *content) {
    const struct headers headers = { .accept_encoding = accepted };
    assert_true(serve(pages, target, &headers));
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.content_size, strlen(content));
    assert_memory_equal(answer.content, content, answer.content_size);
}

/* index.html at every path of the dashboard; compressed variants; files that never change. */
static void check_dashboard(void) {
    _cleanup_free_ char *kept = xasprintf("%s/assets/v-1", folder);
    mkdir(kept, 0700);
    put("index.html", "<p>index");
    put("index.html.gz", "zipped");
    put("assets/v-1/b.js", "b");
    put("assets/v-1/c.css.gz", "alone");
    struct pages *pages = pages_new(folder);
    static const char *const own[] = { "/", "/login", "/dashboard", "/instances/inst_1", "/admin", "/admin/users" };
    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        check_served(pages, own[i], NULL, "<p>index");
        check_served(pages, own[i], "br, gzip;q=0.8", "zipped");
        assert_string_equal(answer.content_type, "text/html; charset=utf-8");
        assert_has("Content-Encoding: gzip\r\n");
        assert_has("Vary: Accept-Encoding\r\n");
        assert_has("Cache-Control: no-cache\r\n");
    }
    check_served(pages, "/assets/v-1/b.js", "gzip", "b");
    assert_has("Cache-Control: public, max-age=31536000, immutable\r\n");
    static const char *const nothing[] = { "/index", "/index.html.gz", "/.gz", "/instances", "/instances/a/b",
        "/logins", "/admin/users/x", "/assets/v-1/c.css", "/assets/v-1/c.css.gz" };
    const struct headers headers = { .bytes = 0 };
    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++)
        assert_false(serve(pages, nothing[i], &headers));
    pages_free(pages);
}

static void test_pages(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    _cleanup_free_ char *assets = xasprintf("%s/assets", folder);
    _cleanup_free_ char *link_path = xasprintf("%s/link.html", folder);
    mkdir(assets, 0700);
    put("docs.html", "<p>docs");
    put("assets/a.js", "a");
    put(".hidden.html", "hidden");
    put("secret.key", "key");
    assert_int_equal(symlink("/etc/passwd", link_path), 0);
    check_pages();
    check_dashboard();
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    struct pages *pages = pages_new(folder);
    const struct headers headers = { .bytes = 0 };
    assert_int_equal(pages_count(pages), 0);
    assert_false(serve(pages, "/docs", &headers));
    pages_free(pages);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_headers_of_some_statuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_details, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals_of_services, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_heads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_bodies_are_not_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pages, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
