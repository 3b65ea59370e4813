/*
 * test_stream_hub.c: who gets which event, once and in order; limits; queues; the memory of recent events; the texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/stream/hub.h"
#include "services/stream/recent.h"
#include "services/stream/sse.h"
#include "services/stream/tally.h"

struct client {
    struct subscriber subscriber; /* first */
    unsigned woken;
    const char *ended; /* the reason */
};

static void wake(struct subscriber *subscriber) {
    ((struct client *)subscriber)->woken++;
}

static void end(struct subscriber *subscriber, const char *reason) {
    ((struct client *)subscriber)->ended = reason;
}

static const struct transport transport = {
    .name = "test", .append_event = sse_append_event, .wake = wake, .end = end
};

static struct client client_of(const char *session_id) {
    struct client client = { .subscriber = { .transport = &transport, .expires_at = INT64_MAX } };
    snprintf(client.subscriber.session_id, sizeof client.subscriber.session_id, "%s", session_id);
    return client;
}

static struct event event_of(int64_t id, const char *user_id) {
    return (struct event){
        .id = id,
        .at = 1700000000000 + id,
        .kind = (char *)(uintptr_t) "status",
        .user_id = (char *)(uintptr_t)user_id,
        .instance_id = (char *)(uintptr_t) "inst_1",
        .payload = (char
                *)(uintptr_t) "{\"status\":\"active\",\"reason\":\"tunnel connected\",\"previous_status\":\"starting\"}"
    };
}

static void publish(struct hub *hub, int64_t id, const char *user_id) {
    struct event event = event_of(id, user_id);
    hub_publish(hub, "e1", &event);
}

static struct hub *new_hub(void) {
    return hub_new(&(struct hub_options){ .queue_bytes = 1000, .most = 4, .most_a_user = 2 });
}

static void test_events_reach_their_user_and_admins(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client own = client_of("s1"), other = client_of("s2"), admin = client_of("s3");
    admin.subscriber.everything = true;
    assert_int_equal(hub_add(hub, &own.subscriber, "user_1"), 0);
    assert_int_equal(hub_add(hub, &other.subscriber, "user_2"), 0);
    assert_int_equal(hub_add(hub, &admin.subscriber, "user_3"), 0);
    publish(hub, 5, "user_1");
    publish(hub, 6, "user_3");
    assert_int_equal(own.woken, 1);
    assert_int_equal(other.woken, 0);
    assert_int_equal(admin.woken, 2); /* its own event once, although it listens twice */
    assert_int_equal(admin.subscriber.cursor, 6);
    publish(hub, 5, "user_1"); /* late: told before */
    assert_int_equal(own.woken, 1);
    hub_remove(hub, &own.subscriber);
    hub_remove(hub, &own.subscriber); /* harmless */
    hub_remove(hub, &other.subscriber);
    hub_remove(hub, &admin.subscriber);
    assert_int_equal(hub_count(hub), 0);
    hub_free(hub);
}

static void test_one_text_serves_all(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client left = client_of("s1"), right = client_of("s2");
    hub_add(hub, &left.subscriber, "user_1");
    hub_add(hub, &right.subscriber, "user_1");
    publish(hub, 1, "user_1");
    assert_ptr_equal(outgoing_queue_peek(&left.subscriber.queue), outgoing_queue_peek(&right.subscriber.queue));
    hub_remove(hub, &left.subscriber);
    assert_non_null(outgoing_queue_peek(&right.subscriber.queue));
    hub_remove(hub, &right.subscriber);
    hub_free(hub);
}

static void test_limits(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client clients[6];
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = client_of("s");
    assert_int_equal(hub_add(hub, &clients[0].subscriber, "user_1"), 0);
    assert_int_equal(hub_add(hub, &clients[1].subscriber, "user_1"), 0);
    assert_int_equal(hub_add(hub, &clients[2].subscriber, "user_1"), ERR_TOO_MANY_REQUESTS);
    assert_int_equal(hub_add(hub, &clients[3].subscriber, "user_2"), 0);
    assert_int_equal(hub_add(hub, &clients[4].subscriber, "user_3"), 0);
    assert_int_equal(hub_add(hub, &clients[5].subscriber, "user_4"), ERR_OVERLOADED);
    assert_int_equal(hub_end_all(hub, "server_shutdown"), 4);
    assert_string_equal(clients[4].ended, "server_shutdown");
    assert_null(clients[5].ended);
    hub_free(hub);
}

static void test_a_slow_reader_ends_and_hurts_nobody(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client slow = client_of("s1"), quick = client_of("s2");
    hub_add(hub, &slow.subscriber, "user_1");
    hub_add(hub, &quick.subscriber, "user_1");
    int64_t id = 0;
    while (!slow.ended && id < 100) {
        publish(hub, ++id, "user_1");
        while (!outgoing_queue_empty(&quick.subscriber.queue))
            outgoing_queue_pop(&quick.subscriber.queue);
    }
    assert_string_equal(slow.ended, "slow_reader");
    assert_in_range(id, 3, 10); /* a thousand bytes */
    assert_null(quick.ended);
    assert_int_equal(quick.woken, id);
    hub_remove(hub, &quick.subscriber);
    hub_free(hub);
}

static void test_sessions_and_tokens_end(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client revoked = client_of("s1"), expired = client_of("s2"), admin = client_of("s3");
    expired.subscriber.expires_at = 100;
    admin.subscriber.everything = true;
    hub_add(hub, &revoked.subscriber, "user_1");
    hub_add(hub, &expired.subscriber, "user_1");
    hub_add(hub, &admin.subscriber, "user_2");
    assert_int_equal(hub_end_session(hub, "s1", "token_revoked"), 1);
    assert_int_equal(hub_end_expired(hub, 99), 0);
    assert_int_equal(hub_end_expired(hub, 100), 1);
    assert_int_equal(hub_end_privileged_of(hub, "user_1", "forbidden"), 0);
    assert_int_equal(hub_end_privileged_of(hub, "user_2", "forbidden"), 1);
    assert_string_equal(revoked.ended, "token_revoked");
    assert_string_equal(expired.ended, "token_expired");
    assert_string_equal(admin.ended, "forbidden");
    assert_int_equal(hub_count(hub), 0);
    hub_free(hub);
}

static const char *unwatched_instance;

static void unwatched(struct subscriber *subscriber, const char *instance_id) {
    (void)subscriber;
    unwatched_instance = instance_id;
}

static void test_watched_instances_of_others(void **state) {
    (void)state;
    static const struct transport watching = {
        .name = "test", .append_event = sse_append_event, .wake = wake, .end = end, .unwatched = unwatched
    };
    struct hub *hub = new_hub();
    struct client admin = client_of("s1"), owner = client_of("s2");
    admin.subscriber.transport = &watching;
    hub_add(hub, &admin.subscriber, "user_1");
    hub_add(hub, &owner.subscriber, "user_2");
    publish(hub, 1, "user_2");
    assert_int_equal(admin.woken, 0);
    assert_int_equal(hub_watch(hub, &admin.subscriber, "inst_1"), 0);
    assert_int_equal(hub_watch(hub, &admin.subscriber, "inst_1"), 0); /* once is enough */
    assert_int_equal(hub_watch(hub, &admin.subscriber, "inst_2"), 0);
    assert_true(hub_is_privileged(&admin.subscriber));
    publish(hub, 2, "user_2");
    assert_int_equal(admin.woken, 1);
    publish(hub, 3, "user_1"); /* its own as well, once */
    assert_int_equal(admin.woken, 2);
    struct event deleted = event_of(4, "user_2");
    deleted.kind = (char *)(uintptr_t) "instance.deleted";
    hub_publish(hub, "e1", &deleted);
    assert_int_equal(admin.woken, 3);
    assert_string_equal(unwatched_instance, "inst_1");
    publish(hub, 5, "user_2");
    assert_int_equal(admin.woken, 3);
    assert_int_equal(hub_privileged_count(hub), 1);
    assert_false(hub_unwatch(hub, &admin.subscriber, "inst_1"));
    assert_int_equal(hub_end_privileged_of(hub, "user_1", "forbidden"), 1);
    assert_int_equal(hub_privileged_count(hub), 0);
    hub_remove(hub, &owner.subscriber);
    hub_free(hub);
}

static void test_ending_some(void **state) {
    (void)state;
    struct hub *hub = new_hub();
    struct client clients[3];
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        char user_id[] = "user_0";
        user_id[5] = (char)('0' + i);
        clients[i] = client_of("s");
        hub_add(hub, &clients[i].subscriber, user_id);
    }
    assert_int_equal(hub_end_some(hub, 2, "server_shutdown"), 1);
    assert_string_equal(clients[0].ended, "server_shutdown"); /* the oldest first */
    assert_null(clients[2].ended);
    assert_int_equal(hub_end_some(hub, 5, "server_shutdown"), 0);
    hub_free(hub);
}

static void test_tally_counts_by_key(void **state) {
    (void)state;
    struct tally *tally = tally_new(2);
    struct tally_entry *first = tally_take(tally, "192.0.2.1"), *second = tally_take(tally, "192.0.2.1");
    assert_non_null(first);
    assert_ptr_equal(first, second);
    assert_null(tally_take(tally, "192.0.2.1"));
    assert_non_null(tally_take(tally, "192.0.2.2"));
    assert_int_equal(tally_count(tally, "192.0.2.1"), 2);
    tally_drop(tally, first);
    assert_non_null(tally_take(tally, "192.0.2.1"));
    tally_drop(tally, first);
    tally_drop(tally, first);
    tally_drop(tally, NULL);
    assert_int_equal(tally_count(tally, "192.0.2.1"), 0);
    tally_free(tally);
}

static void test_queue_is_a_ring(void **state) {
    (void)state;
    struct outgoing_queue queue = { 0 };
    unsigned next = 0, expected = 0;
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < round % 7; i++, next++) {
            char text[16];
            int size = snprintf(text, sizeof text, "%u", next);
            struct outgoing *item = outgoing_new(text, (size_t)size);
            outgoing_queue_push(&queue, item, next % 2 == 0);
            outgoing_unref(item);
        }
        for (unsigned i = 0; i < round % 5 && !outgoing_queue_empty(&queue); i++, expected++) {
            char text[16];
            snprintf(text, sizeof text, "%u", expected);
            struct outgoing *item = outgoing_queue_peek(&queue);
            assert_memory_equal(outgoing_text(item), text, outgoing_size(item));
            outgoing_queue_pop(&queue);
        }
    }
    while (!outgoing_queue_empty(&queue))
        outgoing_queue_pop(&queue);
    assert_int_equal(queue.bytes, 0);
    assert_null(outgoing_queue_peek(&queue));
    outgoing_queue_release(&queue);
}

static void append_id(const struct event *event, void *text) {
    strbuf_append_format(text, " %lld", (long long)event->id);
}

/* Valid until the next call. */
static const char *ids_after(struct recent *recent, const char *user_id, int64_t cursor) {
    static char ids[400];
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    recent_each(recent, user_id, cursor, append_id, &text);
    snprintf(ids, sizeof ids, "%s", text.data);
    return ids;
}

static void test_recent_knows_whose_they_are(void **state) {
    (void)state;
    struct recent *recent = recent_new(8, 1 << 20);
    static const char *const users[] = { "user_1", "user_2", NULL, "user_1", "user_3" };
    for (int64_t id = 1; id <= 20; id++) {
        struct event event = event_of(id, users[id % 5]);
        recent_add(recent, &event);
    }
    /* 13 to 20 are there; users by id % 5: 0 user_1, 1 user_2, 2 nobody, 3 user_1, 4 user_3 */
    assert_string_equal(ids_after(recent, NULL, 0), " 13 14 15 16 17 18 19 20");
    assert_string_equal(ids_after(recent, "user_1", 0), " 13 15 18 20");
    assert_string_equal(ids_after(recent, "user_1", 15), " 18 20");
    assert_string_equal(ids_after(recent, "user_2", 0), " 16");
    assert_string_equal(ids_after(recent, "user_3", 19), "");
    assert_string_equal(ids_after(recent, "user_4", 0), "");
    for (int64_t id = 21; id <= 40; id++) { /* the others fall out */
        struct event event = event_of(id, "user_9");
        recent_add(recent, &event);
    }
    assert_string_equal(ids_after(recent, "user_1", 0), "");
    struct event event = event_of(41, "user_1");
    recent_add(recent, &event);
    assert_string_equal(ids_after(recent, "user_1", 0), " 41");
    recent_free(recent);
}

static void test_recent_is_contiguous_and_bounded(void **state) {
    (void)state;
    struct recent *recent = recent_new(10, 1 << 20);
    recent_reset(recent, 41);
    assert_true(recent_covers(recent, 41));
    assert_false(recent_covers(recent, 40));
    assert_string_equal(ids_after(recent, NULL, 41), "");
    for (int64_t id = 42; id <= 60; id++) {
        struct event event = event_of(id, "user_1");
        recent_add(recent, &event);
    }
    assert_int_equal(recent_head(recent), 60);
    assert_true(recent_covers(recent, 50));
    assert_false(recent_covers(recent, 49));
    assert_false(recent_covers(recent, 61));
    assert_string_equal(ids_after(recent, NULL, 57), " 58 59 60");
    assert_string_equal(ids_after(recent, "user_1", 57), " 58 59 60");
    assert_string_equal(ids_after(recent, NULL, 60), "");
    struct event far = event_of(100, "user_1"); /* a hole never stays inside */
    recent_add(recent, &far);
    assert_false(recent_covers(recent, 60));
    assert_true(recent_covers(recent, 99));
    recent_free(recent);

    struct recent *small = recent_new(1000, 2000);
    for (int64_t id = 1; id <= 100; id++) {
        struct event event = event_of(id, "user_1");
        recent_add(small, &event);
    }
    assert_false(recent_covers(small, 80));
    assert_true(recent_covers(small, 98));
    recent_free(small);
}

static void test_texts(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    struct event event = event_of(7, "user_1");
    sse_append_event(&out, "e1", &event);
    assert_string_equal(out.data,
        "id: e1-7\ndata: {\"instanceId\":\"inst_1\",\"status\":\"active\",\"reason\":\"tunnel connected\","
        "\"previousStatus\":\"starting\",\"eventId\":\"e1-7\",\"timestamp\":1700000000007}\n\n");
    strbuf_clear(&out);
    event.kind = (char *)(uintptr_t) "instance.renamed";
    event.payload = (char *)(uintptr_t) "{\"name\":\"a\\nb</script>\"}";
    sse_append_event(&out, "e1", &event);
    assert_non_null(strstr(out.data, "event: instance\ndata: {\"type\":\"renamed\","));
    assert_non_null(strstr(out.data, "a\\nb"));
    assert_null(strstr(out.data, "</script>"));
    strbuf_clear(&out);
    event.kind = (char *)(uintptr_t) "tunnel.connected";
    sse_append_event(&out, "e1", &event);
    assert_int_equal(out.size, 0);
    event.kind = (char *)(uintptr_t) "status";
    event.payload = (char *)(uintptr_t) "not JSON";
    sse_append_event(&out, "e1", &event);
    assert_non_null(strstr(out.data, "\"status\":null"));
    strbuf_clear(&out);
    sse_append_keep_alive(&out, "e1", 9);
    assert_string_equal(out.data, ": keep-alive\nid: e1-9\n\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_reach_their_user_and_admins),
        cmocka_unit_test(test_one_text_serves_all),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_slow_reader_ends_and_hurts_nobody),
        cmocka_unit_test(test_sessions_and_tokens_end),
        cmocka_unit_test(test_queue_is_a_ring),
        cmocka_unit_test(test_recent_is_contiguous_and_bounded),
        cmocka_unit_test(test_recent_knows_whose_they_are),
        cmocka_unit_test(test_watched_instances_of_others),
        cmocka_unit_test(test_ending_some),
        cmocka_unit_test(test_tally_counts_by_key),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
