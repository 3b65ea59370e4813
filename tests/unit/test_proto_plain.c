/*
 * test_proto_plain.c: what is read without the parser is what the parser reads, and everything else is left to it.
 *
 * The random rounds print their seed; PROTO_SEED=n repeats one, PROTO_ROUNDS=n asks for more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "proto/message_json.h"
#include "tests/unit/proto_samples.h"

/* Whether it is plain; then the parser must have the same message. */
static bool is_plain(const struct message_descriptor *descriptor, const char *text, size_t size) {
    unsigned char *message = xmalloc(descriptor->size + 1);
    void *expected = xcalloc(1, descriptor->size + 1);
    bool plain = message_from_plain_json(descriptor, text, size, message);
    for (size_t i = 0; !plain && i < descriptor->size; i++)
        assert_int_equal(message[i], 0);
    if (plain) {
        struct field_errors errors;
        json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
        if (object == NULL || message_from_json(descriptor, object, expected, &errors) != 0)
            fail_msg("the parser refuses %s", text);
        if (!message_equal(descriptor, message, expected)) fail_msg("the parser reads otherwise: %s", text);
        json_decref(object);
    }
    message_release(descriptor, message);
    message_release(descriptor, expected);
    free(message);
    free(expected);
    return plain;
}

static void plain(const struct message_descriptor *descriptor, const char *text) {
    if (!is_plain(descriptor, text, strlen(text))) fail_msg("not plain: %s", text);
}

static void other(const struct message_descriptor *descriptor, const char *text) {
    if (is_plain(descriptor, text, strlen(text))) fail_msg("plain: %s", text);
}

static void test_plain(void **state) {
    (void)state;
    const struct message_descriptor *descriptor = &heartbeat_descriptor;
    plain(descriptor, "{}");
    plain(descriptor, " \t\r\n{ } \n");
    plain(descriptor, "{\"vscode_responsive\":true,\"has_code_server\":false,\"cpu_usage\":7.5,\"memory_usage\":1024,"
                      "\"last_activity\":1760000000}");
    plain(descriptor, "{\"lastActivity\" : 0 ,\n\"cpuUsage\":\t99.99 , \"vscode_responsive\": false}");
    plain(descriptor, "{\"cpu_usage\":0.10000000000000}");
    plain(descriptor, "{\"cpu_usage\":0}");
    plain(&instance_create_descriptor, "{\"name\":\"a b {[,:]}\",\"local_port\":65535}");
    plain(&instance_create_descriptor, "{\"localPort\":1,\"name\":\"x\",\"region\":\"eu\"}");
}

static void test_value(void **state) {
    (void)state;
    static const char text[] =
        "{\"hasCodeServer\":true,\"cpu_usage\":12.25,\"memory_usage\":3,\"last_activity\":1760000000}";
    struct heartbeat message;
    assert_true(message_from_plain_json(&heartbeat_descriptor, text, sizeof(text) - 1, &message));
    assert_true(message.has_has_code_server && message.has_code_server);
    assert_true(message.has_cpu_usage && message.cpu_usage == 12.25);
    assert_true(message.has_memory_usage && message.memory_usage == 3);
    assert_true(message.has_last_activity && message.last_activity == 1760000000);
    assert_false(message.has_vscode_responsive);
    message_release(&heartbeat_descriptor, &message);
}

static void test_left_to_the_parser(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "}",
        "[]",
        "{} {}",
        "{},",
        "{,}",
        "{\"cpu_usage\"}",
        "{\"cpu_usage\":}",
        "{\"cpu_usage\":1,}",
        "{\"cpu_usage\":1 \"memory_usage\":1}",
        "{cpu_usage:1}",
        "{\"cpu_usage\":1,\"cpu_usage\":1}",
        "{\"cpu_usage\":1,\"cpuUsage\":1}",
        "{\"unknown\":1}",
        "{\"user_id\":\"u\"}",
        "{\"ignored\":[]}",
        "{\"cpu_usage\":null}",
        "{\"cpu_usage\":\"1\"}",
        "{\"cpu_usage\":101}",
        "{\"cpu_usage\":-1}",
        "{\"cpu_usage\":-0}",
        "{\"cpu_usage\":1e1}",
        "{\"cpu_usage\":01}",
        "{\"cpu_usage\":00}",
        "{\"cpu_usage\":.5}",
        "{\"cpu_usage\":1.}",
        "{\"cpu_usage\":1.5.5}",
        "{\"cpu_usage\":0.1234567890123456}",
        "{\"cpu_usage\":1,\"memory_usage\":1e400}",
        "{\"last_activity\":1.0}",
        "{\"last_activity\":100000000001}",
        "{\"last_activity\":18446744073709551617}",
        "{\"has_code_server\":1}",
        "{\"has_code_server\":truE}",
        "{\"has_code_server\":trues}",
        "{\"has_code_server\":tru",
        "{\"has\\u005fcode_server\":true}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        other(&heartbeat_descriptor, texts[i]);
    static const char *const names[] = { "{\"local_port\":1}", "{\"name\":\"x\"}", "{\"local_port\":1,\"name\":\"\"}",
        "{\"local_port\":1,\"name\":\"\xc3\xa9\"}", "{\"local_port\":1,\"name\":\"\\n\"}",
        "{\"local_port\":1,\"name\":\"x\n\"}", "{\"local_port\":1,\"name\":\"x\t\"}",
        "{\"local_port\":1,\"name\":\"x\x7f\"}", "{\"local_port\":1,\"name\":\"x}",
        "{\"local_port\":1,\"name\":{\"x\":1}}" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        other(&instance_create_descriptor, names[i]);
    assert_false(is_plain(&heartbeat_descriptor, "{}\0", 3));
    assert_false(is_plain(&heartbeat_descriptor, "{\0}", 3));
    assert_true(is_plain(&heartbeat_descriptor, "{}\0", 2));
}

/* Of a few words, mostly in an order that makes sense. */
static void random_text(struct sample_random *random, struct strbuf *out) {
    static const char *const keys[] = { "\"cpu_usage\"", "\"memoryUsage\"", "\"last_activity\"", "\"has_code_server\"",
        "\"vscodeResponsive\"", "\"x\"", "\"\"" };
    static const char *const values[] = { "true", "false", "null", "0", "1", "99.9", "100.1", "1760000000", "0.3",
        "\"a\"", "1e2", "-1", "[]", "{}" };
    static const char *const marks[] = { ",", ":", "{", "}", " ", "\n", "\"", "\\", "" };
    strbuf_clear(out);
    strbuf_append_char(out, '{');
    for (size_t i = 0, pairs = sample_below(random, 5); i < pairs; i++) {
        bool is_odd = sample_below(random, 20) == 0;
        strbuf_append_text(out, i == 0 ? "" : is_odd ? marks[sample_below(random, ARRAY_SIZE(marks))] : ",");
        strbuf_append_text(out, keys[sample_below(random, ARRAY_SIZE(keys))]);
        strbuf_append_text(out, is_odd ? marks[sample_below(random, ARRAY_SIZE(marks))] : ":");
        strbuf_append_text(out, values[sample_below(random, ARRAY_SIZE(values))]);
    }
    strbuf_append_char(out, '}');
    if (sample_below(random, 10) == 0) out->data[sample_below(random, out->size)] = (char)sample_below(random, 256);
}

static void test_random_texts(void **state) {
    (void)state;
    struct sample_random random = { sample_number("PROTO_SEED", (uint64_t)time(NULL)) };
    print_message("PROTO_SEED=%llu\n", (unsigned long long)random.state);
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    size_t plain_texts = 0;
    for (uint64_t i = 0, rounds = sample_number("PROTO_ROUNDS", 20000); i < rounds; i++) {
        random_text(&random, &text);
        plain_texts += is_plain(&heartbeat_descriptor, text.data, text.size);
    }
    assert_true(plain_texts > 100);
}

/* The nearest double, for whatever decimals. */
static void test_random_numbers(void **state) {
    (void)state;
    struct sample_random random = { sample_number("PROTO_SEED", (uint64_t)time(NULL)) };
    for (uint64_t i = 0, rounds = sample_number("PROTO_ROUNDS", 20000); i < rounds; i++) {
        char number[32], text[64];
        uint64_t limit = 1;
        for (size_t digits = sample_below(&random, 10); digits > 0; digits--)
            limit *= 10;
        int decimals = (int)sample_below(&random, 7);
        snprintf(number, sizeof(number), "%llu.%0*llu", (unsigned long long)sample_below(&random, limit),
            decimals == 0 ? 1 : decimals, (unsigned long long)sample_below(&random, decimals == 0 ? 1 : 10));
        snprintf(text, sizeof(text), "{\"memory_usage\":%s}", number);
        plain(&heartbeat_descriptor, text);
        snprintf(text, sizeof(text), "{\"cpu_usage\":0.%014llu}",
            (unsigned long long)sample_below(&random, 100000000000000u));
        plain(&heartbeat_descriptor, text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_value),
        cmocka_unit_test(test_left_to_the_parser),
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
