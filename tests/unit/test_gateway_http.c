/*
 * test_gateway_http.c: the real server on a real socket, spoken to in bytes: heads and bodies that lie, what civetweb
 * would rather not answer, connections that stay or end, and how it stops, on an address and on a unix socket. There is
 * no bus: calls are `unavailable`.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/gateway/exchange.h"
#include "services/gateway/health.h"
#include "services/gateway/http.h"
#include "services/gateway/openapi.h"

enum { WAIT_MS = 8000, THREADS = 4 };

static struct gateway gateway;
static struct http_server *server;
static int call_ms; /* how long a call over the bus takes */
static char directory[] = "/tmp/bore-test.XXXXXX";
static char unix_path[64], unix_listen[80]; /* empty: an address */

int bus_call(struct bus_client *self, int request_id_of_message, const void *request, const struct bus_call *call,
    void *ret_reply, struct error_reply *ret_error) {
    (void)self;
    (void)request_id_of_message;
    (void)request;
    (void)call;
    (void)ret_reply;
    nanosleep(&(struct timespec){ .tv_nsec = call_ms * 1000000L }, NULL);
    if (ret_error != NULL) *ret_error = (struct error_reply){ .message = NULL };
    return ERR_UNAVAILABLE;
}

static int start(void) {
    _cleanup_free_ char *complaint = NULL;
    atomic_store(&gateway.is_stopping, false);
    server = http_start(&gateway, *unix_listen != '\0' ? unix_listen : "127.0.0.1:0", THREADS, &complaint);
    if (server == NULL) print_error("%s\n", complaint);
    return server == NULL;
}

static int set_up(void **state) {
    (void)state;
    char *complaint = NULL;
    const char *bad;
    gateway = (struct gateway){ .edge_secret = "", .internal_api_key = "key", .threads = THREADS };
    gateway.router = router_new(routes, &complaint);
    gateway.cors = cors_new("", &bad);
    gateway.pages = pages_new("/nonexistent");
    gateway.openapi = openapi_new(gateway.router);
    gateway.health = health_new();
    gateway.tokens = token_cache_new("a test's key of more than 32 characters", 100);
    return start();
}

static int set_up_unix(void **state) {
    if (mkdtemp(directory) == NULL) return -1;
    snprintf(unix_path, sizeof(unix_path), "%s/gateway", directory);
    snprintf(unix_listen, sizeof(unix_listen), "unix:%s", unix_path);
    return set_up(state);
}

static int tear_down(void **state) {
    (void)state;
    http_stop(server);
    token_cache_free(gateway.tokens);
    health_free(gateway.health);
    openapi_free(gateway.openapi);
    pages_free(gateway.pages);
    cors_free(gateway.cors);
    router_free(gateway.router);
    return 0;
}

static int tear_down_unix(void **state) {
    tear_down(state);
    *unix_listen = '\0';
    unlink(unix_path);
    return rmdir(directory);
}

/* --- a client ----------------------------------------------------------------------------------------------------- */

static int connect_to(int family, const void *address, size_t size) {
    int connection = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connection, address, (socklen_t)size) == 0) return connection;
    close(connection);
    return -1;
}

static int dial(void) {
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    memcpy(local.sun_path, unix_path, sizeof(unix_path));
    if (*unix_listen != '\0') return connect_to(AF_UNIX, &local, sizeof(local));
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(server)) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect_to(AF_INET, &address, sizeof(address));
}

static char answer[70000];

/* Reads until the end, or until nothing more comes for a moment after something came. True at the end. */
static bool receive(int connection) {
    size_t size = 0;
    for (;;) {
        struct pollfd waiting = { .fd = connection, .events = POLLIN };
        bool is_silent = poll(&waiting, 1, size == 0 ? WAIT_MS : 100) == 0;
        ssize_t got = is_silent ? 0 : recv(connection, answer + size, sizeof(answer) - 1 - size, 0);
        if (got > 0) size += (size_t)got;
        answer[size] = '\0';
        if (got <= 0) return !is_silent;
    }
}

static bool exchange_bytes(const char *data, size_t size) {
    int connection = dial();
    assert_true(connection >= 0);
    (void)send(connection, data, size, MSG_NOSIGNAL);
    bool has_ended = receive(connection);
    close(connection);
    return has_ended;
}

static void assert_answer(const char *name, int status, const char *code, bool ends, bool has_ended) {
    int got = 0;
    sscanf(answer, "HTTP/1.1 %d", &got);
    _cleanup_free_ char *expected = xasprintf("\"error\":\"%s\"", code);
    bool is_right = got == status && (*code == '\0' || strstr(answer, expected) != NULL) && has_ended == ends &&
                    (strstr(answer, "\r\nConnection: close\r\n") != NULL) == ends;
    if (!is_right) fail_msg("%s: not %d %s, %s, but\n%s", name, status, code, ends ? "ends" : "stays", answer);
}

/* One request; `ends`: the connection does, and says so. */
static void check(const char *request, int status, const char *code, bool ends) {
    bool has_ended = exchange_bytes(request, strlen(request));
    assert_answer(request, status, code, ends, has_ended);
}

#define HOST "Host: a\r\n"

static void test_heads(void **state) {
    (void)state;
    check("GET /livez HTTP/1.1\r\n" HOST "\r\n", 200, "", false);
    check("HEAD /livez HTTP/1.1\r\n" HOST "\r\n", 200, "", false);
    check("GET /livez HTTP/1.0\r\n\r\n", 200, "", true);
    check("GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, "", true);
    check("GET /livez HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200, "", true);
    check("GET /livez HTTP/2.0\r\n" HOST "\r\n", 400, "validation_error", true);
    check("BREW /api/instances HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", true);
    check("BREW /coffee HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", true);
    check("PROPFIND /api/instances HTTP/1.1\r\n" HOST "\r\n", 405, "method_not_allowed", false);
    check("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", true);
    check("GET http://other:1234/livez HTTP/1.1\r\n" HOST "\r\n", 200, "", true);
    check("CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", 400, "validation_error", true);
    check("GET nothing HTTP/1.1\r\n" HOST "\r\n", 400, "validation_error", true);
    check("GET /a/../livez HTTP/1.1\r\n" HOST "\r\n", 404, "not_found", false);
    check("GET /livez HTTP/1.1\r\n" HOST "A: b\tc\r\n\r\n", 400, "validation_error", true);
    check("nonsense\r\n\r\n", 400, "validation_error", true);
    static const char nul[] = "GET /li\0vez HTTP/1.1\r\n" HOST "\r\n";
    assert_answer("NUL", 400, "validation_error", true, exchange_bytes(nul, sizeof(nul) - 1));
}

static void test_many_and_large_headers(void **state) {
    (void)state;
    struct strbuf request = STRBUF_INIT;
    for (int count = 63; count <= 70; count += 7) {
        strbuf_clear(&request);
        strbuf_append_text(&request, "POST /livez HTTP/1.1\r\n");
        for (int i = 0; i < count; i++)
            strbuf_append_format(&request, "H%d: x\r\n", i);
        /* civetweb does not see the 65th: the body must not become a second request */
        if (count > 64) strbuf_append_text(&request, "Content-Length: 26\r\n");
        strbuf_append_text(&request, "\r\n");
        if (count > 64) strbuf_append_text(&request, "GET /health HTTP/1.1\r\nA:\r\n\r\n");
        check(request.data, count == 63 ? 405 : 431, count == 63 ? "method_not_allowed" : "headers_too_large",
            count > 63);
        assert_null(strstr(answer + 1, "HTTP/1.1"));
    }
    for (int size = 15000; size <= 25000; size += 10000) {
        strbuf_clear(&request);
        strbuf_append_format(&request, "GET /livez HTTP/1.1\r\nA: %0*d\r\n\r\n", size, 0);
        check(request.data, size == 15000 ? 200 : 431, size == 15000 ? "" : "headers_too_large", size > 15000);
    }
    strbuf_clear(&request);
    strbuf_append_format(&request, "GET /livez HTTP/1.1\r\nA: %0*d\r\n\r\n", 60000, 0);
    check(request.data, 400, "validation_error", true);
    strbuf_release(&request);
}

#define LOGIN "POST /api/auth/login HTTP/1.1\r\n" HOST

static void test_bodies(void **state) {
    (void)state;
    check(LOGIN "Content-Length: 1\r\n\r\n{", 400, "invalid_json", false);
    check(LOGIN "\r\n", 400, "validation_error", false);
    check(LOGIN "Content-Length: 36\r\n\r\n{\"email\":\"abc\",\"password\":\"test123\"}", 503, "unavailable", false);
    check(LOGIN "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, "validation_error", false);
    check(LOGIN "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "validation_error", true);
    check(LOGIN "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}", 400, "validation_error", true);
    check(LOGIN "Transfer-Encoding: gzip\r\n\r\n{}", 400, "validation_error", true);
    check(LOGIN "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", 400, "validation_error", true);
    check(LOGIN "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400, "validation_error", true);
    check(LOGIN "Content-Length: 2x\r\n\r\n{}", 400, "validation_error", true);
    check(LOGIN "Content-Length: -2\r\n\r\n{}", 400, "validation_error", true);
    check(LOGIN "Content-Length: 65537\r\n\r\n", 413, "payload_too_large", true);
    check(LOGIN "Content-Length: 20000000\r\n\r\n{", 413, "payload_too_large", true);
    check("DELETE /api/nothing HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n{x}", 404, "not_found", false);
    static const char two[] = "GET /livez HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n";
    assert_false(exchange_bytes(two, sizeof(two) - 1));
    assert_non_null(strstr(strstr(answer, "200 OK"), "404 Not Found"));
}

static void test_sizes_of_bodies(void **state) {
    (void)state;
    struct strbuf request = STRBUF_INIT;
    strbuf_append_format(&request, LOGIN "Content-Length: %d\r\n\r\n{\"a\":\"%0*d\"}", BODY_MAX, BODY_MAX - 8, 0);
    check(request.data, 400, "validation_error", false);
    strbuf_clear(&request);
    strbuf_append_text(&request, LOGIN "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++)
        strbuf_append_format(&request, "8000\r\n%0*d\r\n", 0x8000, 0);
    check(request.data, 413, "payload_too_large", true);
    strbuf_release(&request);
}

static void test_bodies_that_are_waited_for(void **state) {
    (void)state;
    int64_t since = clock_monotonic_ms();
    check(LOGIN "Content-Length: 50\r\n\r\n{", 408, "timeout", true);
    assert_in_range(clock_monotonic_ms() - since, 4900, 6000);
    int connection = dial();
    static const char head[] = LOGIN "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    assert_int_equal(send(connection, head, sizeof(head) - 1, 0), sizeof(head) - 1);
    assert_false(receive(connection));
    assert_string_equal(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(send(connection, "{}", 2, 0), 2);
    assert_answer("Expect", 400, "validation_error", false, receive(connection));
    close(connection);
}

static void test_heads_that_are_waited_for(void **state) {
    (void)state;
    check("GET /livez HT", 408, "timeout", true);
}

/* --- a unix socket ------------------------------------------------------------------------------------------------ */

static void refuse_to_start(const char *listen, const char *why) {
    _cleanup_free_ char *complaint = NULL;
    assert_null(http_start(&gateway, listen, THREADS, &complaint));
    if (strstr(complaint, why) == NULL) fail_msg("%s: %s", listen, complaint);
}

static void test_unix_socket(void **state) {
    (void)state;
    struct stat status;
    assert_int_equal(http_port(server), 0);
    assert_int_equal(stat(unix_path, &status), 0);
    assert_int_equal(status.st_mode, S_IFSOCK | S_IRUSR | S_IWUSR);
    refuse_to_start(unix_listen, "in use");
    refuse_to_start("unix:/nonexistent/gateway", "No such file");
    _cleanup_free_ char *long_listen = xasprintf("unix:/%0120d", 0);
    refuse_to_start(long_listen, "too long");
    test_heads(state); /* it still listens */
}

/* What a killed server left behind is replaced; what is no socket stays. */
static void test_left_unix_socket(void **state) {
    struct stat status;
    assert_int_equal(dial(), -1);
    assert_int_equal(stat(unix_path, &status), 0);
    assert_int_equal(start(), 0);
    test_heads(state);
    http_stop(server);
    server = NULL;
    assert_int_equal(unlink(unix_path), 0);
    int file = open(unix_path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    close(file);
    refuse_to_start(unix_listen, "in use");
}

/* --- stopping ----------------------------------------------------------------------------------------------------- */

static void test_stopping(void **state) {
    (void)state;
    static const char login[] = LOGIN "Content-Length: 36\r\n\r\n{\"email\":\"abc\",\"password\":\"test123\"}";
    static const char livez[] = "GET /livez HTTP/1.1\r\n\r\n";
    int idle = dial();
    int used = dial();
    assert_true(send(idle, livez, sizeof(livez) - 1, 0) > 0 && send(used, livez, sizeof(livez) - 1, 0) > 0);
    assert_false(receive(idle));
    assert_false(receive(used));
    call_ms = 300;
    int busy = dial();
    assert_true(send(busy, login, sizeof(login) - 1, 0) > 0);
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    atomic_store(&gateway.is_stopping, true);
    http_stop_listening(server);
    assert_int_equal(dial(), -1);
    assert_true(send(used, livez, sizeof(livez) - 1, 0) > 0);
    assert_answer("used", 503, "", true, receive(used));
    assert_answer("busy", 503, "unavailable", true, receive(busy));
    int64_t since = clock_monotonic_ms();
    http_stop(server);
    server = NULL;
    assert_in_range(clock_monotonic_ms() - since, 0, 500);
    assert_true(receive(idle));
    assert_string_equal(answer, "");
    call_ms = 0;
    close(idle);
    close(used);
    close(busy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_many_and_large_headers),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_sizes_of_bodies),
        cmocka_unit_test(test_bodies_that_are_waited_for),
        cmocka_unit_test(test_heads_that_are_waited_for),
        cmocka_unit_test(test_stopping),
    };
    const struct CMUnitTest unix_tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_many_and_large_headers),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_sizes_of_bodies),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_left_unix_socket),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    return failed + cmocka_run_group_tests(unix_tests, set_up_unix, tear_down_unix);
}
