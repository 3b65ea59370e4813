/*
 * test_proto_json.c: messages from and to JSON, by descriptor.
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

#include "proto/message_json.h"
#include "tests/unit/proto_samples.h"

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (value == NULL) fail_msg("%s: %s", error.text, text);
    return value;
}

/* Reads `text` and expects it to fit. */
static void accepts(const struct message_descriptor *descriptor, const char *text, void *ret_message) {
    json_t *object = parse(text);
    struct field_errors errors;
    if (message_from_json(descriptor, object, ret_message, &errors) != 0)
        fail_msg("%s: %s %s", text, errors.items[0].field, errors.items[0].message);
    assert_int_equal(errors.count, 0);
    json_decref(object);
}

/* Reads `text` and expects exactly one complaint. */
static void complains(
    const struct message_descriptor *descriptor, const char *text, const char *field, const char *sentence) {
    json_t *object = parse(text);
    struct field_errors errors;
    unsigned char *message = xmalloc(descriptor->size + 1);
    assert_int_equal(message_from_json(descriptor, object, message, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].field, field);
    assert_string_equal(errors.items[0].message, sentence);
    for (size_t i = 0; i < descriptor->size; i++)
        assert_int_equal(message[i], 0);
    free(message);
    json_decref(object);
}

static void writes(const struct message_descriptor *descriptor, const void *message, const char *expected) {
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    message_to_json(descriptor, message, &out);
    assert_string_equal(out.data, expected);
}

static void test_request(void **state) {
    (void)state;
    struct instance_create message;
    accepts(&instance_create_descriptor,
        "{\"name\":\"wörk\",\"local_port\":3000,\"serverHost\":\"h\",\"user_id\":\"evil\",\"userId\":7,\"other\":[1,{}]"
        "}",
        &message);
    assert_string_equal(message.name, "wörk");
    assert_int_equal(message.local_port, 3000);
    assert_string_equal(message.server_host, "h");
    assert_null(message.region);
    assert_null(message.user_id); /* the caller's, whatever the body says */
    message_release(&instance_create_descriptor, &message);
    accepts(
        &instance_create_descriptor, "{\"name\":\"n\",\"localPort\":\"x\",\"local_port\":1,\"region\":null}", &message);
    assert_int_equal(message.local_port, 1); /* snake_case wins, a null is unset */
    message_release(&instance_create_descriptor, &message);
    accepts(&server_renew_descriptor, "{\"id\":\"s\",\"host\":\"h\",\"port\":7835,\"active\":false}", &message);
    struct server_renew *renew = (struct server_renew *)(void *)&message;
    assert_true(renew->has_active && !renew->active && !renew->has_max_tunnels);
    message_release(&server_renew_descriptor, renew);
}

static void test_complaints(void **state) {
    (void)state;
    const struct message_descriptor *create = &instance_create_descriptor;
    complains(create, "[]", "", "must be an object");
    complains(create, "{\"name\":\"x\"}", "local_port", "is required");
    complains(create, "{\"name\":null,\"local_port\":1}", "name", "is required");
    complains(create, "{\"name\":\"\",\"local_port\":1}", "name", "must not be empty");
    complains(create, "{\"name\":5,\"local_port\":1}", "name", "must be a string");
    complains(
        create, "{\"name\":\"a\\u0000b\",\"local_port\":1}", "name", "must be valid UTF-8 without NUL characters");
    const char *port = "must be a whole number from 1 to 65535";
    complains(create, "{\"name\":\"x\",\"local_port\":0}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":65536}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":-9223372036854775808}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":3000.0}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":\"3000\"}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":true}", "local_port", port);
    complains(create, "{\"name\":\"x\",\"local_port\":[]}", "local_port", port);
    complains(&signup_descriptor, "{\"name\":\"x\",\"email\":\"ab\",\"password\":\"x\"}", "email",
        "must have at least 3 characters");
    complains(&signup_descriptor, "{\"name\":\"x\",\"email\":\"\",\"password\":\"x\"}", "email",
        "must have at least 3 characters");
    complains(&server_renew_descriptor, "{\"id\":\"s\",\"host\":\"h\",\"port\":1,\"active\":1}", "active",
        "must be true or false");
    complains(&revocations_descriptor, "{\"cursor\":-1}", "cursor", "must be a whole number, at least 0");
    complains(&lane_status_descriptor, "{\"lane\":\"l\",\"workers\":1.5,\"credits\":1,\"outstanding\":1,\"queued\":1}",
        "workers", "must be a whole number");
    complains(&server_info_descriptor, "{\"server_id\":\"\",\"utilization\":\"1\"}", "utilization", "must be a number");
    complains(&user_revoked_event_descriptor, "{\"session_ids\":\"x\"}", "session_ids",
        "must be a list of at most 1000 strings of at most 255 characters each");
    complains(&user_revoked_event_descriptor, "{\"session_ids\":[\"x\",1]}", "session_ids",
        "must be a list of at most 1000 strings of at most 255 characters each");
    complains(&status_stretch_descriptor, "{\"status\":\"s\",\"from\":true}", "from",
        "must be a time such as 2026-01-31T12:00:00Z");
    complains(&status_stretch_descriptor, "{\"status\":\"s\",\"from\":\"2026-01-31T12:00:00Z\\u0000\"}", "from",
        "must be a time such as 2026-01-31T12:00:00Z");
    complains(&instance_reply_descriptor, "{\"instance\":5}", "instance", "must be an object");
    complains(&error_reply_descriptor, "{\"details\":{}}", "details", "must be a list of at most 32 objects");
    complains(&error_reply_descriptor, "{\"details\":[{\"field\":\"f\",\"message\":\"m\"},{\"field\":\"f\"}]}",
        "details[1].message", "is required");
    char text[400];
    snprintf(text, sizeof(text), "{\"name\":\"%0256d\",\"local_port\":1}", 0);
    complains(create, text, "name", "must have at most 255 characters");
}

static void test_many_complaints(void **state) {
    (void)state;
    struct field_errors errors;
    struct admin_instance message;
    json_t *object = json_object();
    assert_int_equal(message_from_json(&admin_instance_descriptor, object, &message, &errors), -EINVAL);
    assert_int_equal(errors.count, 11); /* all that is required and missing */
    for (int i = 0; i < 20; i++)
        field_errors_add(&errors, "field", "%d", i);
    assert_int_equal(errors.count, 16);
    json_decref(object);
}

struct lenient {
    int64_t usage;
    bool has_usage;
    double load;
    bool has_load;
    char *name;
    char **ignored;
    size_t ignored_count;
};

static const struct field lenient_fields[] = {
    { "cpu_usage", FIELD_INT, FIELD_OPTIONAL | LENIENT, offsetof(struct lenient, usage),
        offsetof(struct lenient, has_usage), 0, 100, NULL },
    { "load", FIELD_DOUBLE, FIELD_OPTIONAL | LENIENT, offsetof(struct lenient, load),
        offsetof(struct lenient, has_load), 0, 100, NULL },
    { "name", FIELD_STR, FIELD_OPTIONAL, offsetof(struct lenient, name), 0, 0, 10, NULL },
    { "ignored", FIELD_STRINGS, CALLER | OMIT, offsetof(struct lenient, ignored),
        offsetof(struct lenient, ignored_count), 0, 16, NULL },
    { .kind = FIELD_END },
};
static const struct field_alias no_aliases[] = { { NULL, NULL } };
static const struct message_descriptor lenient_descriptor = { "lenient", "for this test", sizeof(struct lenient),
    lenient_fields, no_aliases, 0 };

static void test_lenient_fields(void **state) {
    (void)state;
    struct lenient message;
    accepts(&lenient_descriptor, "{\"cpuUsage\":101,\"load\":null,\"ignored\":[\"x\"]}", &message);
    assert_false(message.has_usage || message.has_load);
    assert_int_equal(message.usage, 0);
    writes(&lenient_descriptor, &message,
        "{\"cpu_usage\":null,\"load\":null,\"name\":null,\"ignored\":[\"cpu_usage\",\"load\"]}");
    message_release(&lenient_descriptor, &message);
    accepts(&lenient_descriptor, "{\"cpu_usage\":100,\"load\":\"1\",\"name\":\"n\"}", &message);
    assert_true(message.has_usage && message.usage == 100 && message.ignored_count == 1);
    message_release(&lenient_descriptor, &message);
    accepts(&lenient_descriptor, "{}", &message);
    writes(&lenient_descriptor, &message, "{\"cpu_usage\":null,\"load\":null,\"name\":null}");
    complains(&lenient_descriptor, "{\"load\":\"1\",\"name\":1}", "name", "must be a string");
}

static void test_answer(void **state) {
    (void)state;
    struct instance instance = {
        .id = (char *)"inst_1",
        .user_id = (char *)"user_1",
        .name = (char *)"<b>\"x\\y\"\n\x01\xe2\x80\xa8\xe2\x82\xac",
        .local_port = 3000,
        .region = (char *)"local",
        .status = (char *)"active",
        .tunnel_connected = true,
        .remote_port = 7,
        .has_remote_port = true,
        .created_at = 1769860800123,
        .updated_at = 0,
    };
    writes(&instance_descriptor, &instance,
        "{\"id\":\"inst_1\",\"user_id\":\"user_1\",\"name\":\"\\u003cb>\\\"x\\\\y\\\"\\n\\u0001\\u2028€\","
        "\"local_port\":3000,\"localPort\":3000,\"remote_port\":7,\"remotePort\":7,\"region\":\"local\","
        "\"server_region\":\"local\",\"server_host\":null,\"serverAddress\":null,\"assigned_server\":null,"
        "\"status\":\"active\",\"status_reason\":null,\"statusReason\":null,\"status_since\":null,"
        "\"tunnel_connected\":true,\"tunnelConnected\":true,\"public_url\":null,\"publicUrl\":null,"
        "\"last_heartbeat\":null,\"heartbeat_age_ms\":null,\"created_at\":\"2026-01-31T12:00:00.123Z\","
        "\"updated_at\":\"1970-01-01T00:00:00.000Z\"}");
    struct admin_user_reply reply = { .success = true };
    writes(&admin_user_reply_descriptor, &reply, "{\"success\":true}"); /* OMIT */
    struct bus_status nothing;
    writes(&bus_status_descriptor, &nothing, "{}");
    struct bus_reply bytes = { .correlation = INT64_MIN, .body = (unsigned char *)"x", .body_size = 1 };
    writes(&bus_reply_descriptor, &bytes, "{\"correlation\":-9223372036854775808,\"code\":0}");
    char *strings[] = { (char *)"a", (char *)"" };
    struct user_revoked_event event = { .session_ids = strings, .session_ids_count = 2 };
    writes(&user_revoked_event_descriptor, &event, "{\"session_ids\":[\"a\",\"\"],\"reason\":null}");
}

static void writes_double(double value, const char *expected) {
    struct server_info info = { .server_id = (char *)"", .utilization = value };
    char text[100];
    snprintf(text, sizeof(text), "{\"server_id\":\"\",\"utilization\":%s}", expected);
    writes(&server_info_descriptor, &info, text);
}

static void test_numbers(void **state) {
    (void)state;
    writes_double(0, "0");
    writes_double(-0.0, "-0.0");
    writes_double(0.1, "0.1");
    writes_double(100, "100");
    writes_double(-12.5, "-12.5");
    writes_double(1.0 / 3, "0.33333333333333331");
    writes_double(1e300, "1e+300");
    writes_double(0x1p53, "9007199254740992");
    writes_double(5e-324, "4.94065645841247e-324");
}

/* Every message as JSON is valid, and read back by the same descriptor (as if all of it came from a body) is equal. */
static void json_round_trip(const struct message_descriptor *descriptor, const void *message) {
    struct field fields[FIELDS_MAX + 1];
    struct message_descriptor from_body = *descriptor;
    from_body.fields = fields;
    size_t count = 0;
    for (const struct field *field = descriptor->fields; field->kind != FIELD_END; field++, count++) {
        if (field->kind == FIELD_BIN) return;
        if (field->record != NULL && message_field(field->record, "body") != NULL) return;
        fields[count] = *field;
        fields[count].flags &= ~(unsigned)(CALLER | PATH | LENIENT); /* a null is no complaint here */
    }
    fields[count].kind = FIELD_END;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    message_to_json(descriptor, message, &text);
    assert_null(strpbrk(text.data, "<\n\r\t\x01\x1f"));
    assert_null(strstr(text.data, "\xe2\x80\xa8"));
    void *again = xcalloc(1, descriptor->size + 1);
    accepts(&from_body, text.data, again);
    if (!message_equal(descriptor, message, again)) fail_msg("%s: %s", descriptor->name, text.data);
    sample_free(descriptor, again);
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
            json_round_trip(all_descriptors[i], message);
            sample_free(all_descriptors[i], message);
        }
    }
}

/* A record inside a row of the database has its times as milliseconds. */
static void test_times_as_milliseconds(void **state) {
    (void)state;
    struct status_stretch stretch;
    accepts(&status_stretch_descriptor, "{\"status\":\"s\",\"from\":1769860800123}", &stretch);
    assert_true(stretch.from == 1769860800123 && !stretch.has_to);
    message_release(&status_stretch_descriptor, &stretch);
    complains(&status_stretch_descriptor, "{\"status\":\"s\",\"from\":9223372036854775807}", "from",
        "must be a time such as 2026-01-31T12:00:00Z");
}

static void test_query(void **state) {
    (void)state;
    const struct message_descriptor *descriptor = &status_history_descriptor;
    struct status_history message = { 0 };
    struct field_errors errors = { .count = 0 };
    assert_int_equal(message_from_query(descriptor, "limit", "20", &message, &errors), 0);
    assert_true(message.has_limit && message.limit == 20);
    assert_int_equal(message_from_query(descriptor, "window", "24h", &message, &errors), 0);
    assert_int_equal(message_from_query(descriptor, "window", "7d", &message, &errors), 0);
    assert_string_equal(message.window, "7d");
    assert_int_equal(message_from_query(descriptor, "instance_id", "x", &message, &errors), -ENOENT);
    assert_int_equal(message_from_query(descriptor, "userId", "x", &message, &errors), -ENOENT);
    assert_int_equal(message_from_query(descriptor, "nothing", "x", &message, &errors), -ENOENT);
    assert_int_equal(message_from_query(descriptor, "", "x", &message, &errors), -ENOENT);
    assert_int_equal(errors.count, 0);
    assert_int_equal(message_from_query(descriptor, "limit", "501", &message, &errors), -EINVAL);
    assert_string_equal(errors.items[0].message, "must be a whole number from 1 to 500");
    assert_int_equal(message_from_query(descriptor, "window", "01234567890", &message, &errors), -EINVAL);
    assert_string_equal(errors.items[1].message, "must have at most 10 characters");
    assert_int_equal(message_from_query(descriptor, "window", "\xff", &message, &errors), -EINVAL);
    assert_int_equal(message_from_query(descriptor, "window", "", &message, &errors), -EINVAL);
    assert_string_equal(errors.items[3].message, "must not be empty");
    message_release(descriptor, &message);

    struct status_stretch stretch = { 0 };
    const struct message_descriptor *with_time = &status_stretch_descriptor;
    assert_int_equal(message_from_query(with_time, "to", "1970-01-01T00:00:01Z", &stretch, &errors), 0);
    assert_true(stretch.has_to && stretch.to == 1000);
    assert_int_equal(message_from_query(with_time, "to", "1000", &stretch, &errors), -EINVAL);
    struct error_reply reply = { 0 };
    assert_int_equal(message_from_query(&error_reply_descriptor, "retryAfter", "7", &reply, &errors), 0);
    assert_int_equal(reply.retry_after, 7);
    assert_int_equal(message_from_query(&error_reply_descriptor, "details", "7", &reply, &errors), -ENOENT);
}

static void test_check(void **state) {
    (void)state;
    struct field_errors errors = { .count = 0 };
    struct instance_rename message = { .user_id = (char *)"u", .name = (char *)"n" };
    assert_int_equal(message_check(&instance_rename_descriptor, &message, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].field, "instance_id");
    assert_string_equal(errors.items[0].message, "is required");
    message.instance_id = (char *)"";
    assert_int_equal(message_check(&instance_rename_descriptor, &message, &errors), -EINVAL);
    message.instance_id = (char *)"i";
    assert_int_equal(message_check(&instance_rename_descriptor, &message, &errors), 0);
}

static void test_keys(void **state) {
    (void)state;
    assert_true(json_key_matches("local_port", "local_port"));
    assert_true(json_key_matches("local_port", "localPort"));
    assert_true(json_key_matches("last_used_at", "lastUsedAt"));
    assert_true(json_key_matches("name", "name"));
    assert_false(json_key_matches("local_port", "localport"));
    assert_false(json_key_matches("local_port", "localPor"));
    assert_false(json_key_matches("local_port", "localPorts"));
    assert_false(json_key_matches("local_port", "local_Port"));
    assert_false(json_key_matches("local_port", ""));
    assert_false(json_key_matches("last_used_at", "last_usedAt"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_many_complaints),
        cmocka_unit_test(test_lenient_fields),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_random_messages_come_back),
        cmocka_unit_test(test_times_as_milliseconds),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
