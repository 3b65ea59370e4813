/*
 * test_proto_codec.c: msgpack by descriptor: what goes in comes out. (What must not come in: test_proto_hostile.c.)
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
#include "tests/unit/proto_samples.h"

static bool is_zero(const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) return false;
    }
    return true;
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
    uint64_t seed = sample_number("PROTO_SEED", (uint64_t)time(NULL));
    uint64_t rounds = sample_number("PROTO_ROUNDS", 100);
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
    assert_int_equal(message_decode(&bus_status_descriptor, "\x90", 1, &message), -EBADMSG);
    assert_int_equal(message_decode(&bus_status_descriptor, "\xc0", 1, &message), -EBADMSG);
    assert_int_equal(message_decode(&bus_status_descriptor, "", 0, &message), -EBADMSG);
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
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_lists_that_others_allocated_can_grow),
        cmocka_unit_test(test_text_access),
        cmocka_unit_test(test_debug_hides_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
