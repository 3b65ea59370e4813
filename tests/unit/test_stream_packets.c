/*
 * test_stream_packets.c: Engine.IO's and Socket.IO's packets as their published descriptions have them, what is no
 * packet, and the texts that clients get.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/stream/engineio_packet.h"
#include "services/stream/recovery.h"
#include "services/stream/socketio_packet.h"
#include "services/stream/socketio_text.h"

/* ---- Engine.IO ---- */

static void test_engineio_packets(void **state) {
    (void)state;
    struct engineio_packet packet;
    assert_int_equal(engineio_packet_parse("4hello", 6, &packet), 0);
    assert_int_equal(packet.type, ENGINEIO_MESSAGE);
    assert_true(engineio_packet_says(&packet, "hello"));
    assert_false(engineio_packet_says(&packet, "hell"));
    assert_int_equal(engineio_packet_parse("2probe", 6, &packet), 0);
    assert_int_equal(packet.type, ENGINEIO_PING);
    assert_int_equal(engineio_packet_parse("6", 1, &packet), 0);
    assert_int_equal(packet.size, 0);
    static const char *const bad[] = { "", "7", "abc", "-1", " 4", "\x1e" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_true(engineio_packet_parse(bad[i], strlen(bad[i]), &packet) < 0);
}

/* "type:data " of each packet, then "end" or "bad". */
static const char *payload(const char *text) {
    static char result[400];
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    struct engineio_packet packet;
    const char *position = text, *end = text + strlen(text);
    int found;
    while ((found = engineio_payload_next(&position, end, &packet)) > 0)
        strbuf_append_format(
            &out, "%d%s:%.*s ", packet.type, packet.is_binary ? "b" : "", (int)packet.size, packet.data);
    strbuf_append_text(&out, found == 0 ? "end" : "bad");
    snprintf(result, sizeof result, "%s", out.data);
    return result;
}

static void test_engineio_payloads(void **state) {
    (void)state;
    assert_string_equal(payload("4hello"), "4:hello end");
    assert_string_equal(payload("4hello\x1e"
                                "2\x1e"
                                "4world"),
        "4:hello 2: 4:world end");
    assert_string_equal(payload("4hello\x1e"
                                "bAQIDBA=="),
        "4:hello 4b:AQIDBA== end");
    assert_string_equal(payload("bAQI"), "bad");
    assert_string_equal(payload("bA===\x1e"
                                "4a"),
        "bad");
    assert_string_equal(payload(""), "bad");
    assert_string_equal(payload("4a\x1e"), "4:a bad");
    assert_string_equal(payload("4a\x1e\x1e"
                                "4b"),
        "4:a bad");
    assert_string_equal(payload("4a\x1e"
                                "x"),
        "4:a bad");
}

static enum engineio_error check(
    const char *revision, const char *transport, const char *sid, const char *method, bool is_upgrade) {
    struct engineio_query query = { revision, transport, sid, method, is_upgrade };
    return engineio_query_check(&query);
}

static void test_engineio_requests(void **state) {
    (void)state;
    assert_int_equal(check("4", "polling", "", "GET", false), ENGINEIO_FINE);
    assert_int_equal(check("4", "polling", "x", "POST", false), ENGINEIO_FINE);
    assert_int_equal(check("4", "websocket", "", "GET", true), ENGINEIO_FINE);
    assert_int_equal(check("4", "websocket", "x", "GET", true), ENGINEIO_FINE);
    assert_int_equal(check("4", "abc", "", "GET", false), ENGINEIO_UNKNOWN_TRANSPORT);
    assert_int_equal(check("4", "", "", "GET", false), ENGINEIO_UNKNOWN_TRANSPORT);
    assert_int_equal(check("3", "polling", "", "GET", false), ENGINEIO_UNSUPPORTED_PROTOCOL);
    assert_int_equal(check("", "websocket", "", "GET", true), ENGINEIO_UNSUPPORTED_PROTOCOL);
    assert_int_equal(check("4", "polling", "", "POST", false), ENGINEIO_BAD_HANDSHAKE_METHOD);
    assert_int_equal(check("4", "polling", "", "PUT", false), ENGINEIO_BAD_HANDSHAKE_METHOD);
    assert_int_equal(check("4", "polling", "x", "PUT", false), ENGINEIO_BAD_REQUEST);
    assert_int_equal(check("4", "websocket", "", "GET", false), ENGINEIO_BAD_REQUEST);
    assert_int_equal(check("4", "polling", "", "GET", true), ENGINEIO_BAD_REQUEST);
    assert_string_equal(engineio_error_body(ENGINEIO_UNKNOWN_SID), "{\"code\":1,\"message\":\"Session ID unknown\"}");
    assert_int_equal(engineio_error_status(ENGINEIO_UNKNOWN_SID), 400);
    assert_int_equal(engineio_error_status(ENGINEIO_FORBIDDEN), 403);
}

static void test_engineio_open_packet(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    engineio_append_open(&out, "abc", true, 25000, 20000);
    assert_string_equal(out.data,
        "0{\"sid\":\"abc\",\"upgrades\":[\"websocket\"],\"pingInterval\":25000,\"pingTimeout\":20000,"
        "\"maxPayload\":1000000}");
}

/* ---- Socket.IO ---- */

static int parse(const char *text, struct socketio_packet *ret_packet) {
    return socketio_packet_parse(text, strlen(text), ret_packet);
}

static void test_socketio_packets(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum socketio_type type;
        const char *name_space;
        int64_t id;
        unsigned attachments;
        bool has_data;
    } good[] = {
        { "0", SOCKETIO_CONNECT, "/", -1, 0, false },
        { "0{\"token\":\"123\"}", SOCKETIO_CONNECT, "/", -1, 0, true },
        { "0/admin,", SOCKETIO_CONNECT, "/admin", -1, 0, false },
        { "0/admin", SOCKETIO_CONNECT, "/admin", -1, 0, false },
        { "0/admin,{\"a\":1}", SOCKETIO_CONNECT, "/admin", -1, 0, true },
        { "1", SOCKETIO_DISCONNECT, "/", -1, 0, false },
        { "1/admin,", SOCKETIO_DISCONNECT, "/admin", -1, 0, false },
        { "2[\"foo\"]", SOCKETIO_EVENT, "/", -1, 0, true },
        { "2/admin,[\"bar\"]", SOCKETIO_EVENT, "/admin", -1, 0, true },
        { "212[\"foo\",{\"a\":[]}]", SOCKETIO_EVENT, "/", 12, 0, true },
        { "2/admin,456[\"a\"]", SOCKETIO_EVENT, "/admin", 456, 0, true },
        { "2[7]", SOCKETIO_EVENT, "/", -1, 0, true },
        { "3/admin,13[\"bar\"]", SOCKETIO_ACK, "/admin", 13, 0, true },
        { "30[]", SOCKETIO_ACK, "/", 0, 0, true },
        { "4{\"message\":\"no\"}", SOCKETIO_CONNECT_ERROR, "/", -1, 0, true },
        { "51-[\"baz\",{\"_placeholder\":true,\"num\":0}]", SOCKETIO_BINARY_EVENT, "/", -1, 1, true },
        { "52-/admin,7[\"baz\"]", SOCKETIO_BINARY_EVENT, "/admin", 7, 2, true },
        { "61-15[\"bar\"]", SOCKETIO_BINARY_ACK, "/", 15, 1, true },
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct socketio_packet packet;
        if (parse(good[i].text, &packet) != 0) fail_msg("refused: %s", good[i].text);
        assert_int_equal(packet.type, good[i].type);
        assert_string_equal(packet.name_space, good[i].name_space);
        assert_int_equal(packet.id, good[i].id);
        assert_int_equal(packet.attachments, good[i].attachments);
        assert_int_equal(packet.data != NULL, good[i].has_data);
        socketio_packet_release(&packet);
    }
}

static void test_what_is_no_socketio_packet(void **state) {
    (void)state;
    static const char *const bad[] = { "", "7", "abc", "2", "2{}", "2[]", "2[{}]", "2[null]", "2abc[\"a\"]", "2[\"a\"",
        "2[\"a\"]x", "2[\"connect\"]", "2[\"disconnect\"]", "2[\"newListener\"]", "0[]", "0\"x\"", "1{}", "3[]", "31{}",
        "3x[]", "5[\"a\"]", "5-[\"a\"]", "511-[\"a\"]", "5999-[\"a\"]", "51[\"a\"]", "21234567890123456[\"a\"]",
        "2[\"\xff\"]", "0/a\tb,", "0/\xc3(,", "4", "41" };
    struct socketio_packet packet;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (parse(bad[i], &packet) == 0) fail_msg("accepted: %s", bad[i]);
    }
    char deep[200];
    memset(deep, '[', sizeof deep);
    deep[0] = '2';
    assert_true(socketio_packet_parse(deep, sizeof deep, &packet) < 0);
    char name_space[SOCKETIO_NAMESPACE_MAX + 10];
    memset(name_space, 'a', sizeof name_space);
    memcpy(name_space, "0/", 2);
    assert_true(socketio_packet_parse(name_space, sizeof name_space, &packet) < 0);
    assert_int_equal(socketio_packet_parse(name_space, SOCKETIO_NAMESPACE_MAX + 1, &packet), 0);
    socketio_packet_release(&packet);
}

static void test_depth_is_bounded_by_brackets_outside_of_strings(void **state) {
    (void)state;
    struct socketio_packet packet;
    assert_int_equal(parse("2[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\"]", &packet), 0);
    socketio_packet_release(&packet);
    assert_int_equal(parse("2[\"a\",[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", &packet), 0);
    socketio_packet_release(&packet);
    assert_true(parse("2[\"a\",[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", &packet) < 0);
}

/* ---- what clients get ---- */

static void test_texts(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    struct event event = { .id = 7,
        .at = 1700000000007,
        .kind = (char *)(uintptr_t) "status",
        .user_id = (char *)(uintptr_t) "user_1",
        .instance_id = (char *)(uintptr_t) "inst_1",
        .payload = (char *)(uintptr_t) "{\"status\":\"active\",\"reason\":\"up\",\"previous_status\":\"starting\"}" };
    socketio_append_event(&out, "e1", &event);
    assert_string_equal(out.data,
        "42[\"status-change\",{\"instanceId\":\"inst_1\",\"status\":\"active\",\"reason\":\"up\","
        "\"previousStatus\":\"starting\",\"eventId\":\"e1-7\",\"timestamp\":1700000000007},\"e1-7\"]");
    strbuf_clear(&out);
    event.kind = (char *)(uintptr_t) "instance.deleted";
    socketio_append_event_marked(&out, "e1", &event);
    assert_int_equal(strncmp(out.data, "42[\"instance\",{\"type\":\"deleted\",", 32), 0);
    assert_string_equal(out.data + out.size - 9, ",\"e1-7!\"]");
    strbuf_clear(&out);
    event.kind = (char *)(uintptr_t) "tunnel.connected";
    socketio_append_event(&out, "e1", &event);
    assert_int_equal(out.size, 0);
    socketio_append_connect_error(&out, "Authentication error: \"x\"", "unauthorized");
    assert_string_equal(
        out.data, "44{\"message\":\"Authentication error: \\\"x\\\"\",\"data\":{\"error\":\"unauthorized\"}}");
    strbuf_clear(&out);
    socketio_append_head(&out, SOCKETIO_ACK, "/admin", 13);
    assert_string_equal(out.data, "43/admin,13");
}

static void test_pids_are_signed(void **state) {
    (void)state;
    char pid[RECOVERY_PID_SIZE], other[RECOVERY_PID_SIZE];
    recovery_pid_new("secret", "user_1", "s1", pid);
    recovery_pid_new("secret", "user_1", "s1", other);
    assert_string_not_equal(pid, other);
    assert_true(recovery_pid_is_of("secret", "user_1", "s1", pid));
    assert_true(recovery_pid_is_of("secret", "user_1", "s1", other));
    assert_false(recovery_pid_is_of("secret", "user_2", "s1", pid));
    assert_false(recovery_pid_is_of("secret", "user_1", "s2", pid));
    assert_false(recovery_pid_is_of("other", "user_1", "s1", pid));
    assert_false(recovery_pid_is_of("secret", "user_1", "s1", ""));
    pid[0] = pid[0] == 'a' ? 'b' : 'a';
    assert_false(recovery_pid_is_of("secret", "user_1", "s1", pid));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engineio_packets),
        cmocka_unit_test(test_engineio_payloads),
        cmocka_unit_test(test_engineio_requests),
        cmocka_unit_test(test_engineio_open_packet),
        cmocka_unit_test(test_socketio_packets),
        cmocka_unit_test(test_what_is_no_socketio_packet),
        cmocka_unit_test(test_depth_is_bounded_by_brackets_outside_of_strings),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_pids_are_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
