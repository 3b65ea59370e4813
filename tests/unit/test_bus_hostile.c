/*
 * test_bus_hostile.c: peers that send what no peer of ours sends, and peers without the right key.
 *
 * The bus runs as its own process, so a crash, a leak or a sanitizer's complaint shows in its exit status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <czmq.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "services/lib/bus_socket.h"
#include "tests/unit/bus_worker.h"
#include "tests/unit/process.h"

static const struct method echo = { .request_id = MSG_PING_AUTH, .lane = "echo", .idempotent = false };

static uint64_t random_state = 1234567890123456789u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int call(struct bus_client *client, int64_t budget_ms) {
    unsigned char *reply;
    size_t size;
    struct bus_call options = { .deadline_ms = clock_monotonic_ms() + budget_ms };
    int error = bus_call_raw(client, &echo, "x", 1, &options, &reply, &size, NULL);
    if (error == 0) free(reply);
    return error;
}

static pid_t start_bus(const char *url, const char *curve_directory) {
    char *url_setting = xasprintf("BUS_URL=%s", url);
    char *keys_setting = xasprintf("BUS_CURVE_DIR=%s", curve_directory);
    pid_t process = process_start("bore-bus", (const char *const[]){ url_setting, keys_setting, NULL }, "/dev/null");
    free(url_setting);
    free(keys_setting);
    return process;
}

static void expect_good_end(pid_t process) {
    int status = process_end(process, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- nonsense -------------------------------------------------------------------------------------------------------
 */

static void send_nonsense(void *socket, const struct strbuf *real) {
    size_t frames = 1 + next_random() % 4;
    for (size_t i = 0; i < frames; i++) {
        unsigned char bytes[600];
        size_t size = next_random() % 3 == 0 ? next_random() % 9 : next_random() % sizeof(bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = (unsigned char)next_random();
        if (next_random() % 2 == 0) { /* nearly right */
            size = real->size;
            memcpy(bytes, real->data, size);
            bytes[next_random() % size] = (unsigned char)next_random();
        }
        zmq_send(socket, bytes, size, i + 1 < frames ? ZMQ_SNDMORE | ZMQ_DONTWAIT : ZMQ_DONTWAIT);
    }
}

static void encode_samples(struct strbuf samples[3]) {
    struct bus_request request = {
        .correlation = 77, .method = 10, .budget_ms = 2500, .request_id = (char *)(uintptr_t) "r"
    };
    struct request_batch requests = { .lane = (char *)(uintptr_t) "echo", .requests = &request, .requests_count = 1 };
    struct bus_reply reply = { .correlation = 77 };
    struct reply_batch replies = { .replies = &reply, .replies_count = 1 };
    struct worker_hello hello = {
        .lane = (char *)(uintptr_t) "other", .process = (char *)(uintptr_t) "p", .version = 9, .credits = 3
    };
    message_encode_frame(&request_batch_descriptor, &requests, &samples[0]);
    message_encode_frame(&reply_batch_descriptor, &replies, &samples[1]);
    message_encode_frame(&worker_hello_descriptor, &hello, &samples[2]);
}

static void *attack(void *context, const char *url, enum bus_endpoint endpoint, int type) {
    struct strbuf samples[3] = { STRBUF_INIT, STRBUF_INIT, STRBUF_INIT };
    char text[300];
    int no_linger = 0;
    bus_endpoint_url(url, endpoint, text, sizeof(text));
    void *socket = bus_socket_new(context, type, text, false, NULL);
    assert_non_null(socket);
    zmq_setsockopt(socket, ZMQ_LINGER, &no_linger, sizeof(no_linger));
    encode_samples(samples);
    sleep_ms(100);
    for (int i = 0; i < 3000; i++) {
        send_nonsense(socket, &samples[next_random() % 3]);
        if (i % 100 == 0) sleep_ms(1);
    }
    for (size_t i = 0; i < 3; i++)
        strbuf_release(&samples[i]);
    return socket;
}

/* Larger than any message may be: the bus hangs up. */
static void send_too_much(void *context, const char *url) {
    char text[300];
    char *much = xcalloc(1, BUS_MESSAGE_MAX + 1);
    bus_endpoint_url(url, BUS_CALLERS, text, sizeof(text));
    void *socket = bus_socket_new(context, ZMQ_DEALER, text, false, NULL);
    sleep_ms(100);
    zmq_send(socket, much, BUS_MESSAGE_MAX + 1, 0);
    sleep_ms(100);
    zmq_close(socket);
    free(much);
}

static void send_no_zeromq(const char *url, enum bus_endpoint endpoint) {
    char text[300], bytes[300];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    bus_endpoint_url(url, endpoint, text, sizeof(text));
    memcpy(address.sun_path, text + strlen("ipc://"), strlen(text + strlen("ipc://")) + 1);
    for (int i = 0; i < 20; i++) {
        int plain = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(plain, (struct sockaddr *)&address, sizeof(address)) == 0) {
            for (size_t j = 0; j < sizeof(bytes); j++)
                bytes[j] = (char)next_random();
            if (send(plain, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0) sleep_ms(1);
        }
        close(plain);
    }
}

static void test_nonsense_on_every_socket(void **state) {
    void *context = zmq_ctx_new();
    char *url = bus_url_new();
    void *sockets[4];
    (void)state;
    pid_t bus = start_bus(url, "");
    struct bus_client *client = bus_client_new(url, "");
    struct bus_worker *worker =
        bus_worker_new(&(struct bus_worker_options){ .url = url, .lane = "echo", .instance = 1, .credits = 8 });
    assert_int_equal(call(client, 2500), 0);
    sockets[0] = attack(context, url, BUS_CALLERS, ZMQ_DEALER);
    assert_int_equal(call(client, 2500), 0);
    sockets[1] = attack(context, url, BUS_WORKERS, ZMQ_DEALER);
    assert_int_equal(call(client, 2500), 0);
    sockets[2] = attack(context, url, BUS_PUBLISH, ZMQ_PUB);
    assert_int_equal(call(client, 2500), 0);
    sockets[3] = attack(context, url, BUS_SUBSCRIBE, ZMQ_XSUB);
    assert_int_equal(call(client, 2500), 0);
    send_too_much(context, url);
    for (int endpoint = BUS_CALLERS; endpoint <= BUS_SUBSCRIBE; endpoint++)
        send_no_zeromq(url, (enum bus_endpoint)endpoint);
    for (int i = 0; i < 20; i++)
        assert_int_equal(call(client, 2500), 0);
    for (int i = 0; i < 4; i++)
        zmq_close(sockets[i]);
    bus_worker_free(worker);
    bus_client_free(client);
    expect_good_end(bus);
    zmq_ctx_term(context);
    bus_url_free(url);
}

static void test_another_version(void **state) {
    char *url = bus_url_new();
    (void)state;
    pid_t bus = start_bus(url, "");
    struct bus_worker *worker = bus_worker_new(&(struct bus_worker_options){
        .url = url, .lane = "echo", .instance = 1, .credits = 8, .version = PROTOCOL_VERSION + 1 });
    struct bus_client *client = bus_client_new(url, "");
    assert_int_equal(call(client, 3000), ERR_UNAVAILABLE);
    assert_true(bus_worker_was_refused(worker));
    bus_worker_free(worker);
    bus_client_free(client);
    expect_good_end(bus);
    bus_url_free(url);
}

/* --- keys -----------------------------------------------------------------------------------------------------------
 */

struct keys {
    char directory[40]; /* all four files */
    char stranger[40];  /* the bus's public key, and a client key that the bus does not know */
};

static void save(const char *directory, const char *name, zcert_t *certificate) {
    char *path = xasprintf("%s/%s", directory, name);
    assert_int_equal(zcert_save(certificate, path), 0);
    free(path);
}

static void make_keys(struct keys *ret_keys) {
    zcert_t *bus = zcert_new(), *client = zcert_new(), *stranger = zcert_new();
    snprintf(ret_keys->directory, sizeof(ret_keys->directory), "/tmp/bore-keys-XXXXXX");
    snprintf(ret_keys->stranger, sizeof(ret_keys->stranger), "/tmp/bore-keys-XXXXXX");
    assert_non_null(mkdtemp(ret_keys->directory));
    assert_non_null(mkdtemp(ret_keys->stranger));
    save(ret_keys->directory, "bus.key", bus);
    save(ret_keys->directory, "client.key", client);
    save(ret_keys->stranger, "bus.key", bus);
    save(ret_keys->stranger, "client.key", stranger);
    zcert_destroy(&bus);
    zcert_destroy(&client);
    zcert_destroy(&stranger);
}

static void remove_keys(const char *directory) {
    static const char *const names[] = { "bus.key", "bus.key_secret", "client.key", "client.key_secret" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char *path = xasprintf("%s/%s", directory, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(directory);
}

/* A base of four free ports, most likely. */
static char *tcp_url_new(void) {
    return xasprintf("tcp://127.0.0.1:%d", 20000 + 4 * (int)((clock_monotonic_us() / 10 + getpid()) % 3000));
}

static _Atomic int delivered;

static void on_message(void *user_data, const char *topic, const void *frame, size_t size) {
    (void)user_data;
    (void)topic;
    (void)frame;
    (void)size;
    delivered++;
}

/* Nothing works for who has no key or another one: no call, no work, no message. */
static void expect_nothing(const char *url, const char *curve_directory, struct bus_client *good) {
    struct bus_client *client = bus_client_new(url, curve_directory);
    struct bus_worker *thief = bus_worker_new(&(struct bus_worker_options){
        .url = url, .curve_directory = curve_directory, .lane = "echo", .instance = 9, .credits = 1000 });
    bus_subscribe(client, "", on_message, NULL);
    sleep_ms(300);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(call(good, 2500), 0);
        bus_publish(good, "event.status", "secret", 6);
    }
    assert_int_equal(call(client, 1000), ERR_UNAVAILABLE);
    sleep_ms(1200); /* the bus's counters would come once a second */
    assert_int_equal(bus_worker_requests(thief), 0);
    assert_int_equal(delivered, 0);
    bus_worker_free(thief);
    bus_client_free(client);
}

static void test_keys(void **state) {
    struct keys keys;
    char *url = tcp_url_new();
    (void)state;
    make_keys(&keys);
    pid_t bus = start_bus(url, keys.directory);
    struct bus_client *client = bus_client_new(url, keys.directory);
    struct bus_worker *worker = bus_worker_new(&(struct bus_worker_options){
        .url = url, .curve_directory = keys.directory, .lane = "echo", .instance = 1, .credits = 8 });
    assert_int_equal(call(client, 2500), 0);
    expect_nothing(url, "", client);
    expect_nothing(url, keys.stranger, client);
    bus_subscribe(client, "event.", on_message, NULL);
    sleep_ms(300);
    bus_publish(client, "event.status", "secret", 6);
    for (int i = 0; i < 100 && delivered == 0; i++)
        sleep_ms(10);
    assert_int_equal(delivered, 1);
    bus_worker_free(worker);
    bus_client_free(client);
    expect_good_end(bus);
    remove_keys(keys.directory);
    remove_keys(keys.stranger);
    free(url);
}

static void test_tcp_without_keys_on_loopback(void **state) {
    char *url = tcp_url_new();
    (void)state;
    pid_t bus = start_bus(url, "");
    struct bus_client *client = bus_client_new(url, "");
    struct bus_worker *worker =
        bus_worker_new(&(struct bus_worker_options){ .url = url, .lane = "echo", .instance = 1, .credits = 8 });
    for (int i = 0; i < 50; i++)
        assert_int_equal(call(client, 2500), 0);
    bus_worker_free(worker);
    bus_client_free(client);
    expect_good_end(bus);
    free(url);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonsense_on_every_socket),
        cmocka_unit_test(test_another_version),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_tcp_without_keys_on_loopback),
    };
    log_init("test", 0, "error", "text");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
