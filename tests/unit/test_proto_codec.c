/*
 * test_proto_codec.c: msgpack by descriptor: what goes in comes out, and what must not come in is refused.
 *
 * The random rounds print their seed; PROTO_SEED=n repeats one, PROTO_ROUNDS=n asks for more.
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

static uint64_t environment_number(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

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

static void test_known_bytes(void **state) {
    (void)state;
    static const char bytes[] = "\x82\xa5"
                                "field"
                                "\xa4"
                                "name"
                                "\xa7"
                                "message"
                                "\xae"
                                "must not be \xc3\xbc";
    struct error_detail detail;
    assert_int_equal(message_decode(&error_detail_descriptor, bytes, sizeof(bytes) - 1, &detail), 0);
    assert_string_equal(detail.field, "name");
    assert_string_equal(detail.message, "must not be ü");
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    assert_int_equal(message_encode(&error_detail_descriptor, &detail, &out), 0);
    assert_int_equal(out.size, sizeof(bytes) - 1);
    assert_memory_equal(out.data, bytes, out.size);
    message_release(&error_detail_descriptor, &detail);
    assert_null(detail.field);
    message_release(&error_detail_descriptor, NULL);
}

static void round_trip(const struct message_descriptor *descriptor, const void *message) {
    _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
    void *decoded = xcalloc(1, descriptor->size + 1);
    void *copy = xcalloc(1, descriptor->size + 1);
    assert_int_equal(message_encode(descriptor, message, &bytes), 0);
    assert_int_equal(message_scan((const unsigned char *)bytes.data, bytes.size), bytes.size);
    assert_int_equal(message_decode(descriptor, bytes.data, bytes.size, decoded), 0);
    assert_true(message_equal(descriptor, message, decoded));
    message_copy(descriptor, decoded, copy);
    sample_free(descriptor, decoded);
    assert_true(message_equal(descriptor, message, copy));
    _cleanup_strbuf_ struct strbuf line = STRBUF_INIT;
    message_debug(descriptor, copy, &line);
    assert_null(strchr(line.data, '\n'));
    sample_free(descriptor, copy);
}

static void test_random_messages_come_back(void **state) {
    (void)state;
    uint64_t seed = environment_number("PROTO_SEED", (uint64_t)time(NULL));
    uint64_t rounds = environment_number("PROTO_ROUNDS", 100);
    print_message("seed %llu, %llu rounds of every message\n", (unsigned long long)seed, (unsigned long long)rounds);
    struct sample_random random = { seed };
    for (uint64_t round = 0; round < rounds; round++) {
        for (size_t i = 0; all_descriptors[i] != NULL; i++) {
            void *message = sample_random_new(&random, all_descriptors[i]);
            round_trip(all_descriptors[i], message);
            sample_free(all_descriptors[i], message);
        }
    }
}

static void test_different_messages_are_unequal(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct message_descriptor *descriptor = all_descriptors[i];
        for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
            void *full = sample_new(descriptor, true);
            void *other = sample_new(descriptor, true);
            assert_true(message_equal(descriptor, full, other));
            field_clear(field, other);
            assert_false(message_equal(descriptor, full, other));
            sample_free(descriptor, other);
            sample_free(descriptor, full);
        }
    }
}

static void test_frames(void **state) {
    (void)state;
    struct status_counts record = { .inactive = 1 };
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct message_descriptor *descriptor = all_descriptors[i];
        if (descriptor->id == 0) continue;
        void *message = sample_new(descriptor, true);
        void *decoded = xcalloc(1, descriptor->size + 1);
        strbuf_clear(&out);
        assert_int_equal(message_encode_frame(descriptor, message, &out), 0);
        assert_int_equal(message_frame_id(out.data, out.size), descriptor->id);
        assert_int_equal(message_decode_frame(descriptor, out.data, out.size, decoded), 0);
        assert_true(message_equal(descriptor, message, decoded));
        message_release(descriptor, decoded);
        const struct message_descriptor *wrong =
            descriptor == &ping_reply_descriptor ? &me_descriptor : &ping_reply_descriptor;
        void *other = xcalloc(1, wrong->size);
        assert_int_equal(message_decode_frame(wrong, out.data, out.size, other), -EBADMSG);
        free(other);
        free(decoded);
        sample_free(descriptor, message);
    }
    assert_int_equal(message_frame_id("", 0), -EBADMSG);
    assert_int_equal(message_frame_id("\xcd\x01", 2), -EBADMSG);
    assert_int_equal(message_frame_id("\xcd\x01\x02", 3), 258);
    assert_int_equal(message_frame_id("\xcc\xff", 2), 255);
    assert_int_equal(message_frame_id("\x80", 1), -EBADMSG);
    assert_int_equal(message_frame_id("\xff", 1), -EBADMSG);
    assert_int_equal(message_decode_frame(&ping_reply_descriptor, "", 0, &record), -EBADMSG);
}

static void test_empty_struct(void **state) {
    (void)state;
    struct bus_status message;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    assert_int_equal(message_encode(&bus_status_descriptor, &message, &out), 0);
    assert_int_equal(out.size, 1);
    assert_int_equal(message_decode(&bus_status_descriptor, out.data, out.size, &message), 0);
    assert_int_equal(message_decode(&bus_status_descriptor, "\x81\xa1x\x01", 4, &message), 0);
    REFUSED(bus_status_descriptor, "\x90");
    REFUSED(bus_status_descriptor, "\xc0");
    REFUSED(bus_status_descriptor, "");
}

/* success_reply is {success: bool}; worker_refused {message: str 0..400}. */
static void test_unknown_keys_and_order(void **state) {
    (void)state;
    static const char unknown[] = "\x83\xa5"
                                  "other"
                                  "\x93\x01\x81\xa1z\xc0\xc7\x02\x05"
                                  "ab"
                                  "\xa7"
                                  "success"
                                  "\xc3"
                                  "\xa5"
                                  "other"
                                  "\xca\x7f\xc0\x00\x00";
    struct success_reply reply;
    assert_int_equal(message_decode(&success_reply_descriptor, unknown, sizeof(unknown) - 1, &reply), 0);
    assert_true(reply.success);

    static const char reversed[] = "\x82\xa7"
                                   "message"
                                   "\xa1"
                                   "m"
                                   "\xa5"
                                   "field"
                                   "\xa1"
                                   "f";
    struct error_detail detail;
    assert_int_equal(message_decode(&error_detail_descriptor, reversed, sizeof(reversed) - 1, &detail), 0);
    assert_string_equal(detail.field, "f");
    message_release(&error_detail_descriptor, &detail);
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
    struct sample_random random = { environment_number("PROTO_SEED", (uint64_t)time(NULL)) };
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

static void test_long_list(void **state) {
    (void)state;
    struct instance_list_reply list = { .cursor = xstrdup("0-1"), .total = 10000 };
    const struct field *field = message_field(&instance_list_reply_descriptor, "instances");
    struct timespec begin;
    struct timespec end;
    for (int i = 0; i < 10000; i++)
        sample_fill(&instance_descriptor, message_list_add(field, &list), i % 2 == 0);
    assert_null(message_list_add(field, &list));
    assert_int_equal(list.instances_count, 10000);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    round_trip(&instance_list_reply_descriptor, &list);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec < 5);
    message_release(&instance_list_reply_descriptor, &list);
}

static void test_lists_that_others_allocated_can_grow(void **state) {
    (void)state;
    struct bus_status_reply reply = { .lanes = xcalloc(1, sizeof(*reply.lanes)), .lanes_count = 1 };
    reply.lanes[0].workers = 77;
    const struct field *field = message_field(&bus_status_reply_descriptor, "lanes");
    for (int i = 0; i < 199; i++) {
        struct lane_status *lane = message_list_add(field, &reply);
        assert_true(is_zero(lane, sizeof(*lane)));
        lane->workers = i;
    }
    assert_null(message_list_add(field, &reply));
    assert_int_equal(reply.lanes[0].workers, 77);
    assert_int_equal(reply.lanes[199].workers, 198);
    message_release(&bus_status_reply_descriptor, &reply);

    struct user_revoked_event event = { 0 };
    field = message_field(&user_revoked_event_descriptor, "session_ids");
    for (int i = 0; i < 1000; i++)
        assert_int_equal(message_strings_add(field, &event, "sess_1"), 0);
    assert_int_equal(message_strings_add(field, &event, "sess_1"), -ERANGE);
    assert_int_equal(
        message_strings_add(message_field(&user_revoked_event_descriptor, "reason"), &event, "x"), -EINVAL);
    message_release(&user_revoked_event_descriptor, &event);
    assert_int_equal(message_strings_add(field, &event, "\xff"), -ERANGE);
    char long_text[300] = { 0 };
    memset(long_text, 'x', 256);
    assert_int_equal(message_strings_add(field, &event, long_text), -ERANGE);
}

static void set(void *message, const char *name, const char *text, int expected) {
    const struct field *field = message_field(&admin_instance_descriptor, name);
    bool was_set = message_is_set(field, message);
    assert_int_equal(message_set_text(field, message, text), expected);
    assert_int_equal(message_is_set(field, message), expected == 0 || was_set);
    if (expected != 0) return;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    message_get_text(field, message, &out);
    if (field->kind != FIELD_BOOL) assert_string_equal(out.data, text);
}

static void test_text_access(void **state) {
    (void)state;
    struct admin_instance row = { 0 };
    set(&row, "id", "", -ERANGE);
    set(&row, "id", "inst_1", 0);
    set(&row, "id", "inst_2", 0);
    set(&row, "name", "\xc3", -ERANGE);
    set(&row, "local_port", "65536", -ERANGE);
    set(&row, "local_port", "65535", 0);
    set(&row, "remote_port", "-1", -ERANGE);
    set(&row, "remote_port", "", -EINVAL);
    set(&row, "remote_port", " 1", -EINVAL);
    set(&row, "remote_port", "1x", -EINVAL);
    set(&row, "remote_port", "+1", -EINVAL);
    set(&row, "remote_port", "-", -EINVAL);
    set(&row, "remote_port", "99999999999999999999", -ERANGE);
    set(&row, "remote_port", "22", 0);
    set(&row, "last_heartbeat", "-9223372036854775808", 0);
    set(&row, "created_at", "1769860800123", 0);
    set(&row, "created_at", "9223372036854775807", -ERANGE);
    set(&row, "cpu_usage", "12.5", 0);
    set(&row, "cpu_usage", "1e400", -ERANGE);
    set(&row, "cpu_usage", "NaN", -EINVAL);
    set(&row, "cpu_usage", "0x10", -EINVAL);
    set(&row, "cpu_usage", "1.2.3", -EINVAL);
    set(&row, "cpu_usage", ".", -EINVAL);
    set(&row, "vscode_responsive", "yes", -EINVAL);
    set(&row, "vscode_responsive", "t", 0);
    assert_true(row.vscode_responsive && row.has_vscode_responsive);
    set(&row, "vscode_responsive", "false", 0);
    assert_false(row.vscode_responsive);
    message_release(&admin_instance_descriptor, &row);
    const struct field *lanes = message_field(&bus_status_reply_descriptor, "lanes");
    struct bus_status_reply reply = { 0 };
    assert_int_equal(message_set_text(lanes, &reply, "1"), -EINVAL);
}

static void test_debug_hides_secrets(void **state) {
    (void)state;
    struct login message = {
        .email = (char *)"a\"b\n@example.com", .password = (char *)"hunter2", .address = (char *)""
    };
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    message_debug(&login_descriptor, &message, &out);
    assert_string_equal(out.data, "login{email=\"a\\\"b\\x0a@example.com\" password=*** address=\"\"}");
    strbuf_clear(&out);
    char long_text[401];
    for (size_t i = 0; i < 400; i += 2)
        memcpy(long_text + i, "ä", 3);
    struct worker_refused refusal = { .message = long_text };
    message_debug(&worker_refused_descriptor, &refusal, &out);
    assert_true(out.size < 120);
    assert_non_null(strstr(out.data, "ä…\""));
    strbuf_clear(&out);
    void *full = sample_new(&status_history_reply_descriptor, true);
    message_debug(&status_history_reply_descriptor, full, &out);
    assert_non_null(strstr(out.data, "uptime_data=uptime_data{"));
    assert_non_null(strstr(out.data, "status_history=[2]"));
    sample_free(&status_history_reply_descriptor, full);
    strbuf_clear(&out);
    message_debug(&bus_status_descriptor, &out, &out);
    assert_string_equal(out.data, "bus_status{}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_bytes),
        cmocka_unit_test(test_random_messages_come_back),
        cmocka_unit_test(test_different_messages_are_unequal),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_empty_struct),
        cmocka_unit_test(test_unknown_keys_and_order),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_bounds_are_characters),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_memory_bombs),
        cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_random_bytes_are_survived),
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_lists_that_others_allocated_can_grow),
        cmocka_unit_test(test_text_access),
        cmocka_unit_test(test_debug_hides_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
