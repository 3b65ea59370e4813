/*
 * test_proto_tables.c: the declarations themselves: what the compiler cannot refuse in messages.def, methods.def,
 * errors.def and topics.h. (A number used twice does not compile.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/field.h"
#include "proto/message_json.h"
#include "proto/message_scan.h"
#include "proto/protocol.h"
#include "proto/topics.h"

static void test_offsets_are_the_structs(void **state) {
    (void)state;
    const struct field *fields = instance_descriptor.fields;
    assert_string_equal(fields[0].name, "id");
    assert_int_equal(fields[0].offset, offsetof(struct instance, id));
    const struct field *port = message_field(&instance_descriptor, "remote_port");
    assert_int_equal(port->offset, offsetof(struct instance, remote_port));
    assert_int_equal(port->extra_offset, offsetof(struct instance, has_remote_port));
    const struct field *body = message_field(&bus_request_descriptor, "body");
    assert_int_equal(body->offset, offsetof(struct bus_request, body));
    assert_int_equal(body->extra_offset, offsetof(struct bus_request, body_size));
    const struct field *values = message_field(&counters_descriptor, "values");
    assert_int_equal(values->offset, offsetof(struct counters, values));
    assert_int_equal(values->extra_offset, offsetof(struct counters, values_count));
    assert_ptr_equal(values->record, &counter_value_descriptor);
    const struct field *uptime = message_field(&admin_stats_reply_descriptor, "uptime");
    assert_int_equal(uptime->extra_offset, offsetof(struct admin_stats_reply, has_uptime));
    assert_int_equal(admin_stats_reply_descriptor.size, sizeof(struct admin_stats_reply));
    assert_null(message_field(&instance_descriptor, "nothing"));
}

static void test_ids_find_their_descriptor(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        if (all_descriptors[i]->id != 0)
            assert_ptr_equal(message_descriptor(all_descriptors[i]->id), all_descriptors[i]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(all_descriptors[i]->name, all_descriptors[j]->name);
    }
    assert_null(message_descriptor(0));
    assert_null(message_descriptor(-1));
    assert_null(message_descriptor(100000));
}

static void check_kind(const struct message_descriptor *descriptor, const struct field *field) {
    bool has_record = field->kind == FIELD_OBJECT || field->kind == FIELD_LIST;
    assert_int_equal(field->record != NULL, has_record);
    bool has_extra = field->kind == FIELD_BIN || field->kind == FIELD_STRINGS || field->kind == FIELD_LIST ||
                     (field_is_scalar(field) && field_is_optional(field));
    assert_int_equal(field->extra_offset > field->offset, has_extra);
    assert_true(field->minimum <= field->maximum);
    assert_true(field->offset < descriptor->size && field->extra_offset < descriptor->size);
    assert_true(strlen(field->name) < 64);
    if ((field->flags & LENIENT) != 0) {
        assert_true(field_is_optional(field));
        const struct field *ignored = message_field(descriptor, "ignored");
        assert_non_null(ignored);
        assert_int_equal(ignored->kind, FIELD_STRINGS);
        assert_true((ignored->flags & CALLER) != 0);
    }
}

static void test_fields_are_sane(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct field *first = all_descriptors[i]->fields;
        size_t count = 0;
        for (const struct field *field = first; field->kind != FIELD_END; field++, count++) {
            check_kind(all_descriptors[i], field);
            for (const struct field *other = first; other < field; other++) {
                assert_false(json_key_matches(field->name, other->name));
                assert_true(other->offset < field->offset);
            }
        }
        assert_true(count <= FIELDS_MAX);
    }
}

static void test_aliases_follow_their_fields(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct message_descriptor *descriptor = all_descriptors[i];
        const struct field *before = descriptor->fields;
        for (const struct field_alias *alias = descriptor->aliases; alias->name != NULL; alias++) {
            const struct field *source = message_field(descriptor, alias->source);
            assert_non_null(source);
            assert_true(source >= before);
            assert_null(message_field(descriptor, alias->name));
            before = source;
        }
    }
}

static int depth_of(const struct message_descriptor *descriptor) {
    int deepest = 1;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++) {
        int depth = field->kind == FIELD_STRINGS ? 2 : 1;
        if (field->record != NULL) depth = depth_of(field->record) + (field->kind == FIELD_LIST ? 2 : 1);
        if (depth > deepest) deepest = depth;
    }
    return deepest;
}

static void test_no_message_is_deeper_than_the_decoder_reads(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++)
        assert_true(depth_of(all_descriptors[i]) <= MESSAGE_DEPTH_MAX);
}

static void test_methods(void **state) {
    (void)state;
    for (const struct method *method = methods; method->request_id != 0; method++) {
        assert_ptr_equal(method_find(method->request_id), method);
        assert_int_equal(method->request->id, method->request_id);
        assert_true(method->reply->id != 0);
        assert_true(
            field_fits_text(message_field(&request_batch_descriptor, "lane"), method->lane, strlen(method->lane)));
    }
    assert_null(method_find(MSG_EVENT));
    assert_null(method_find(-5));
    assert_null(method_find(1 << 20));
}

static void test_errors(void **state) {
    (void)state;
    assert_int_equal(ERR_INVALID_JSON, -1001);
    assert_string_equal(error_info(ERR_INVALID_JSON)->name, "invalid_json");
    assert_int_equal(error_info(ERR_UNAVAILABLE)->http_status, 503);
    assert_int_equal(error_info(-5)->code, ERR_INTERNAL);
    assert_int_equal(error_info(0)->code, ERR_INTERNAL);
    assert_int_equal(error_info(-1000)->code, ERR_INTERNAL);
    assert_int_equal(error_info(-1999)->code, ERR_INTERNAL);
    assert_int_equal(error_info(INT32_MIN)->code, ERR_INTERNAL);
    for (int number = 1; number < 999; number++) {
        const struct error_info *info = error_info(-1000 - number);
        if (info->code != -1000 - number) continue;
        const struct error_info *named = error_info(error_from_name(info->name));
        assert_string_equal(named->name, info->name);
        assert_true(info->http_status >= 400 && info->http_status < 600);
        assert_true(strlen(info->sentence) > 5);
    }
    assert_int_equal(error_from_name("timeout"), ERR_TIMEOUT);
    assert_int_equal(error_from_name("nonsense"), ERR_INTERNAL);
}

static void test_topics(void **state) {
    (void)state;
    for (int kind = 0; kind < EVENT_KIND_COUNT; kind++) {
        const char *name = event_kind_name((enum event_kind)kind);
        assert_int_equal(event_kind_find(name), kind);
        assert_true(strlen(TOPIC_EVENTS) + strlen(name) <= TOPIC_MAX);
        assert_true(field_fits_text(message_field(&event_descriptor, "kind"), name, strlen(name)));
    }
    assert_int_equal(event_kind_find("status"), EVENT_STATUS);
    assert_int_equal(event_kind_find("statu"), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_are_the_structs),
        cmocka_unit_test(test_ids_find_their_descriptor),
        cmocka_unit_test(test_fields_are_sane),
        cmocka_unit_test(test_aliases_follow_their_fields),
        cmocka_unit_test(test_no_message_is_deeper_than_the_decoder_reads),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_topics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
