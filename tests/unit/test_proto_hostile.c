/*
 * test_proto_hostile.c: bytes that must not come in: each is refused, leaves nothing behind and costs next to nothing.
 *
 * The random rounds print their seed; PROTO_SEED=n repeats one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "proto/message_scan.h"
#include "proto/utf8.h"
#include "tests/unit/proto_samples.h"

#define REFUSED(descriptor, literal) refused(&(descriptor), literal, sizeof(literal) - 1)

static bool is_zero(const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) return false;
    }
    return true;
}

/* Refused, and nothing left behind. The bytes get a block of their own, so that ASan sees a read past them. */
static void refused(const struct message_descriptor *descriptor, const char *data, size_t size) {
    unsigned char *bytes = xmemdup(data, size);
    void *message = xmalloc(descriptor->size + 1);
    memset(message, 0x5a, descriptor->size);
    assert_int_equal(message_decode(descriptor, bytes, size, message), -EBADMSG);
    assert_true(is_zero(message, descriptor->size));
    free(message);
    free(bytes);
}

static void test_wrong_shapes(void **state) {
    (void)state;
    REFUSED(success_reply_descriptor, "\x80");                               /* missing */
    REFUSED(success_reply_descriptor, "\x81\xa7success\x01");                /* an integer */
    REFUSED(success_reply_descriptor, "\x81\xa7success\xc0");                /* nil */
    REFUSED(success_reply_descriptor, "\x81\xa6succes\xc3");                 /* a prefix of the key */
    REFUSED(success_reply_descriptor, "\x81\xa9success\0x\xc3");             /* the key and NUL */
    REFUSED(success_reply_descriptor, "\x81\x01\xc3");                       /* a key that is no string */
    REFUSED(success_reply_descriptor, "\x81\xc4\x07success\xc3");            /* a binary key */
    REFUSED(success_reply_descriptor, "\x82\xa7success\xc3\xa7success\xc3"); /* twice */
    REFUSED(success_reply_descriptor, "\x81\xa7success\xc3\xc0");            /* something after it */
    REFUSED(success_reply_descriptor, "\x81\xa7success\xc1");                /* the unused format */
    REFUSED(worker_refused_descriptor, "\x81\xa7message\xc4\x01x");          /* binary for text */
    REFUSED(worker_refused_descriptor, "\x81\xa7message\x01");
    REFUSED(server_info_descriptor, "\x82\xa9server_id\xa0\xabutilization\xa1"
                                    "1"); /* text for a number */
    REFUSED(revocations_reply_descriptor, "\x83\xa6"
                                          "cursor"
                                          "\x01\xa4"
                                          "more"
                                          "\xc2\xabsession_ids\x91\x01");
    REFUSED(revocations_reply_descriptor, "\x83\xa6"
                                          "cursor"
                                          "\x01\xa4"
                                          "more"
                                          "\xc2\xabsession_ids\xa1"
                                          "a");
    REFUSED(instance_reply_descriptor, "\x81\xa8instance\xc0");
    REFUSED(instance_reply_descriptor, "\x81\xa8instance\x80");
    REFUSED(reply_batch_descriptor, "\x81\xa7replies\x80");
    REFUSED(reply_batch_descriptor, "\x81\xa7replies\x91\x90");
}

static void decode_text(const char *text, size_t size, int expected) {
    _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
    strbuf_append(&bytes, "\x81\xa7message\xda", 10);
    strbuf_append_char(&bytes, (char)(size >> 8));
    strbuf_append_char(&bytes, (char)size);
    strbuf_append(&bytes, text, size);
    struct worker_refused message;
    assert_int_equal(message_decode(&worker_refused_descriptor, bytes.data, bytes.size, &message), expected);
    if (expected == 0) assert_string_equal(message.message, text);
    message_release(&worker_refused_descriptor, &message);
}

static void test_utf8(void **state) {
    (void)state;
    static const char *const valid[] = { "", "a", "ä", "€", "😀", "\x7f", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xf4\x8f\xbf\xbf", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "seven b", "eight by", "nine byte",
        "12345678ä2345678" };
    static const char *const invalid[] = { "\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe2\x82", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe",
        "12345678\xff", "1234567\xff", "\xe2\x28\xa1", "\xf0\x9f\x98", "a\xc3(" };
    for (size_t i = 0; i < ARRAY_SIZE(valid); i++)
        decode_text(valid[i], strlen(valid[i]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(invalid); i++)
        decode_text(invalid[i], strlen(invalid[i]), -EBADMSG);
    decode_text("\0", 1, -EBADMSG);
    decode_text("1234567\0", 8, -EBADMSG);
    decode_text("12345678\0abcdefg", 16, -EBADMSG);
    assert_int_equal(utf8_cut("aä", 3, 3), 3);
    assert_int_equal(utf8_cut("aä", 3, 2), 1);
    assert_int_equal(utf8_cut("ä", 2, 1), 0);
}

static void test_bounds_are_characters(void **state) {
    (void)state;
    char text[4 * 401 + 1];
    for (size_t i = 0; i < 401; i++)
        memcpy(text + 4 * i, "😀", 4);
    text[1604] = '\0';
    decode_text(text, 1604, -EBADMSG);
    text[1600] = '\0';
    decode_text(text, 1600, 0);
    struct worker_refused message = { .message = text };
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    strbuf_append_text(&out, "before");
    assert_int_equal(message_encode(&worker_refused_descriptor, &message, &out), 0);
    strbuf_truncate(&out, 6);
    memcpy(text + 1600, "x", 2);
    assert_int_equal(message_encode(&worker_refused_descriptor, &message, &out), -ERANGE);
    message.message = NULL;
    assert_int_equal(message_encode(&worker_refused_descriptor, &message, &out), -ERANGE);
    message.message = (char *)"\xff";
    assert_int_equal(message_encode(&worker_refused_descriptor, &message, &out), -ERANGE);
    assert_string_equal(out.data, "before");
}

/* revocations is {cursor: int 0..INT64_MAX} */
static void test_integers(void **state) {
    (void)state;
    struct revocations message;
#define CURSOR(bytes) \
    "\x81\xa6"        \
    "cursor" bytes
    static const char largest[] = CURSOR("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff");
    assert_int_equal(message_decode(&revocations_descriptor, largest, sizeof(largest) - 1, &message), 0);
    assert_true(message.cursor == INT64_MAX);
    static const char wide[] = CURSOR("\xd3\x00\x00\x00\x00\x00\x00\x00\x05"); /* not the shortest form: fine */
    assert_int_equal(message_decode(&revocations_descriptor, wide, sizeof(wide) - 1, &message), 0);
    assert_int_equal(message.cursor, 5);
    REFUSED(revocations_descriptor, CURSOR("\xcf\x80\x00\x00\x00\x00\x00\x00\x00"));
    REFUSED(revocations_descriptor, CURSOR("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"));
    REFUSED(revocations_descriptor, CURSOR("\xff"));
    REFUSED(revocations_descriptor, CURSOR("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"));
    REFUSED(revocations_descriptor, CURSOR("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00")); /* 1.0 */

    struct field field = { .kind = FIELD_INT, .minimum = -0x1p63, .maximum = 0x1p63 };
    assert_true(field_fits_int(&field, INT64_MIN) && field_fits_int(&field, INT64_MAX));
    field.minimum = 0;
    field.maximum = 0x1p53;
    assert_true(field_fits_int(&field, INT64_C(9007199254740992)));
    assert_false(field_fits_int(&field, INT64_C(9007199254740993)) || field_fits_int(&field, -1));
}

/* server_info is {server_id: str, utilization: double} */
static void decode_double(const char *bytes, size_t size, int expected, double value) {
    _cleanup_strbuf_ struct strbuf map = STRBUF_INIT;
    strbuf_append(&map, "\x82\xa9server_id\xa0\xabutilization", 24);
    strbuf_append(&map, bytes, size);
    struct server_info info;
    assert_int_equal(message_decode(&server_info_descriptor, map.data, map.size, &info), expected);
    if (expected == 0) assert_true(info.utilization == value);
    message_release(&server_info_descriptor, &info);
}

static void test_doubles(void **state) {
    (void)state;
    decode_double("\xcb\x3f\xe0\0\0\0\0\0\0", 9, 0, 0.5);
    decode_double("\xca\x3f\0\0\0", 5, 0, 0.5);
    decode_double("\x07", 1, 0, 7);
    decode_double("\xff", 1, 0, -1);
    decode_double("\xcb\x7f\xf0\0\0\0\0\0\0", 9, -EBADMSG, 0); /* infinity */
    decode_double("\xcb\x7f\xf8\0\0\0\0\0\0", 9, -EBADMSG, 0); /* NaN */
    decode_double("\xca\x7f\x80\0\0", 5, -EBADMSG, 0);
    struct server_info info = { .server_id = (char *)"", .utilization = (double)NAN };
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    assert_int_equal(message_encode(&server_info_descriptor, &info, &out), -ERANGE);
}

/* Headers that claim billions: refused before anything is allocated for them. */
static void test_memory_bombs(void **state) {
    (void)state;
    REFUSED(reply_batch_descriptor, "\xdf\xff\xff\xff\xff");
    REFUSED(reply_batch_descriptor, "\xde\xff\xff");
    REFUSED(reply_batch_descriptor, "\xdd\xff\xff\xff\xff");
    REFUSED(reply_batch_descriptor, "\x81\xa7replies\xdd\xff\xff\xff\xff");
    REFUSED(reply_batch_descriptor, "\x81\xa7replies\xdd\x7f\xff\xff\xff\x80");
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xdd\x0f\xff\xff\xff\x80\x80\x80");
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xdf\x80\x00\x00\x00\x80\x80\x80"); /* pairs * 2 overflows 32 bits */
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xdb\xff\xff\xff\xff");
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xc6\xff\xff\xff\xff"
                                    "abc");
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xc9\xff\xff\xff\xff\x01");
    REFUSED(reply_batch_descriptor, "\x81\xa1x\xc7\x01\x05");
    /* more elements than the bound, each of them there */
    _cleanup_strbuf_ struct strbuf many = STRBUF_INIT;
    strbuf_append(&many, "\x81\xa7replies\xdc\x01\x01", 12);
    for (int i = 0; i < BUS_BATCH_MAX + 1; i++)
        strbuf_append(&many,
            "\x83\xab"
            "correlation"
            "\x01\xa4"
            "code"
            "\x00\xa4"
            "body"
            "\xc4\x00",
            27);
    refused(&reply_batch_descriptor, many.data, many.size);
}

static void nested(unsigned depth, int expected) {
    _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
    strbuf_append(&bytes, "\x82\xa7success\xc3\xa1x", 12);
    for (unsigned i = 0; i < depth; i++)
        strbuf_append_char(&bytes, '\x91');
    strbuf_append_char(&bytes, '\x01');
    struct success_reply reply;
    assert_int_equal(message_decode(&success_reply_descriptor, bytes.data, bytes.size, &reply), expected);
}

static void test_deep_nesting(void **state) {
    (void)state;
    nested(MESSAGE_DEPTH_MAX - 1, 0); /* the map itself is the first level */
    nested(MESSAGE_DEPTH_MAX, -EBADMSG);
    nested(1000, -EBADMSG);
    nested(1000000, -EBADMSG);
}

static void test_random_bytes_are_survived(void **state) {
    (void)state;
    struct sample_random random = { sample_number("PROTO_SEED", (uint64_t)time(NULL)) };
    print_message("seed %llu\n", (unsigned long long)random.state);
    unsigned char bytes[64];
    for (int round = 0; round < 200000; round++) {
        size_t size = sample_below(&random, sizeof(bytes));
        for (size_t i = 0; i < size; i++)
            bytes[i] = (unsigned char)sample_next(&random);
        if (size > 0 && round % 2 == 0) bytes[0] = 0x81;
        struct alert message;
        if (message_decode(&alert_descriptor, bytes, size, &message) == 0) message_release(&alert_descriptor, &message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_bounds_are_characters),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_memory_bombs),
        cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_random_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
