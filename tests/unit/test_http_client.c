/*
 * test_http_client.c: the HTTP client against a server of raw bytes that answers well, late, endlessly, by drops, not
 * at all, or no HTTP; many transfers at once; the end while transfers are under way.
 *
 * A test says what the server answers to whatever it is sent; every connection is served in a thread of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/http_client.h"
#include "common/memory.h"

enum { TIMEOUT_MS = 600, LONG_TIMEOUT_MS = 20000, PATIENCE_MS = 30000, MOST = 4 };

/* --- the server --------------------------------------------------------------------------------------------------- */

enum manner { ANSWER, DRIP, DRIP_HEADERS, ENDLESS, ENDLESS_HEADERS, SILENT, CLOSE };

static int listener;
static char url[64], tls_url[64];
static enum manner manner;
static const char *answer_text;
static char request_text[8192];
static atomic_int served; /* requests that were read whole */

static void send_text(int socket, const char *text) {
    (void)!send(socket, text, strlen(text), MSG_NOSIGNAL);
}

/* Sends `head`, then the same line again and again, with a pause, until the peer is gone. */
static void send_for_ever(int socket, const char *head, const char *line, useconds_t pause) {
    send_text(socket, head);
    while (send(socket, line, strlen(line), MSG_NOSIGNAL) > 0)
        if (pause) usleep(pause);
}

static void wait_for_peer_to_leave(int socket) {
    char byte;
    while (recv(socket, &byte, 1, 0) > 0)
        ;
}

static void serve(int socket) {
    switch (manner) {
    case ANSWER:
        send_text(socket, answer_text);
        break;
    case DRIP:
        send_for_ever(socket, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", "x", 20000);
        break;
    case DRIP_HEADERS:
        send_for_ever(socket, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n", 20000);
        break;
    case ENDLESS:
        send_for_ever(socket, answer_text, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0);
        break;
    case ENDLESS_HEADERS:
        send_for_ever(socket, "HTTP/1.1 200 OK\r\n", "X-A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", 0);
        break;
    case SILENT:
        wait_for_peer_to_leave(socket);
        break;
    case CLOSE:
        break;
    }
}

/* Whether the text holds a whole request, or is none: a TLS handshake begins with this byte. */
static bool is_whole(const char *text) {
    if (text[0] == 0x16) return true;
    const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "Content-Length:");
    return end && strlen(end + 4) >= (length ? strtoul(length + 15, NULL, 10) : 0);
}

static void *run_connection(void *argument) {
    int socket = (int)(intptr_t)argument;
    char text[sizeof request_text] = "";
    size_t size = 0;
    ssize_t count = 1;
    while (!is_whole(text) && size < sizeof text - 1 && count > 0) {
        count = recv(socket, text + size, sizeof text - 1 - size, 0);
        if (count > 0) size += (size_t)count;
        text[size] = '\0';
    }
    memcpy(request_text, text, sizeof text);
    atomic_fetch_add(&served, 1);
    serve(socket);
    close(socket);
    return NULL;
}

static void *run_server(void *argument) {
    (void)argument;
    for (int socket; (socket = accept(listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_connection, (void *)(intptr_t)socket), 0);
        pthread_detach(thread);
    }
    return NULL;
}

/* A socket on a port of its own; its number in *ret_port. */
static int listen_somewhere(int *ret_port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(socket_fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(socket_fd, 64), 0);
    getsockname(socket_fd, (struct sockaddr *)&address, &size);
    *ret_port = ntohs(address.sin_port);
    return socket_fd;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static struct http_client *client;
static int64_t timeout_ms; /* of the next transfers */

/* What came of one transfer. */
struct outcome {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int calls;
    struct http_answer answer; /* its body copied */
    char body[HTTP_BODY_MAX + 1];
};

static void on_done(void *user_data, const struct http_answer *answer) {
    struct outcome *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->calls++;
    self->answer = *answer;
    if (answer->body) memcpy(self->body, answer->body, answer->body_size);
    self->body[answer->body_size] = '\0';
    pthread_cond_signal(&self->done);
    pthread_mutex_unlock(&self->lock);
}

static void outcome_init(struct outcome *self) {
    *self = (struct outcome){ .calls = 0 };
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->done, NULL);
}

static void outcome_wait(struct outcome *self) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&self->lock);
    int error = 0;
    while (!self->calls && !error)
        error = pthread_cond_timedwait(&self->done, &self->lock, &until);
    pthread_mutex_unlock(&self->lock);
    assert_int_equal(error, 0);
}

static int submit(const char *to, struct outcome *outcome) {
    static const char *const headers[] = { "Content-Type: application/json", "X-Test: yes", NULL };
    outcome_init(outcome);
    return http_client_submit(client, &(struct http_request){ .url = to,
                                          .headers = headers,
                                          .body = "{\"a\":1}",
                                          .body_size = 7,
                                          .connect_timeout_ms = timeout_ms,
                                          .timeout_ms = timeout_ms,
                                          .done = on_done,
                                          .user_data = outcome });
}

static struct outcome ask(enum manner how, const char *text) {
    struct outcome outcome;
    manner = how;
    answer_text = text;
    assert_int_equal(submit(url, &outcome), 0);
    outcome_wait(&outcome);
    return outcome;
}

static int setup(void **state) {
    (void)state;
    client = http_client_new(&(struct http_client_options){ .user_agent = "test/1", .most = MOST });
    assert_non_null(client);
    timeout_ms = LONG_TIMEOUT_MS;
    atomic_store(&served, 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    http_client_free(client);
    client = NULL;
    return 0;
}

/* --- the tests ---------------------------------------------------------------------------------------------------- */

static void test_answer(void **state) {
    (void)state;
    struct outcome seen = ask(ANSWER, "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(seen.answer.error, 0);
    assert_int_equal(seen.answer.status, 201);
    assert_string_equal(seen.body, "hello");
    assert_false(seen.answer.is_cut);
    assert_int_equal(seen.answer.retry_after_s, 0);
    assert_true(seen.answer.elapsed_us > 0);
    assert_memory_equal(request_text, "POST /path?q=1 HTTP/1.1\r\n", 25);
    assert_non_null(strstr(request_text, "\r\nX-Test: yes\r\n"));
    assert_non_null(strstr(request_text, "\r\nUser-Agent: test/1\r\n"));
    assert_non_null(strstr(request_text, "\r\n\r\n{\"a\":1}"));
}

static void test_statuses(void **state) {
    (void)state;
    static const int statuses[] = { 200, 204, 301, 302, 307, 400, 404, 429, 500, 503 };
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        char text[160];
        snprintf(text, sizeof text, "HTTP/1.1 %d Any\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            statuses[i], url);
        struct outcome seen = ask(ANSWER, text);
        assert_int_equal(seen.answer.error, 0);
        assert_int_equal(seen.answer.status, statuses[i]);
        assert_int_equal(atomic_load(&served), (int)i + 1); /* no redirect is followed */
    }
}

static void test_retry_after(void **state) {
    (void)state;
    static const struct {
        const char *value;
        int64_t seconds;
    } cases[] = { { "7", 7 }, { "0", 0 }, { " 30 ", 30 }, { "-5", 0 }, { "soon", 0 }, { "", 0 },
        { "99999999999999999999999", 0 }, { "Sun, 06 Nov 1994 08:49:37 GMT", 0 }, { "Sun, 99 Foo 1994", 0 } };
    char text[200], date[60];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(text, sizeof text,
            "HTTP/1.1 429 No\r\nRetry-After: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", cases[i].value);
        assert_int_equal(ask(ANSWER, text).answer.retry_after_s, cases[i].seconds);
    }
    time_t then = time(NULL) + 100;
    struct tm parts;
    gmtime_r(&then, &parts);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    snprintf(text, sizeof text, "HTTP/1.1 429 No\r\nretry-after: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        date);
    assert_in_range(ask(ANSWER, text).answer.retry_after_s, 95, 100);
}

static void test_bounds(void **state) {
    (void)state;
    struct outcome seen = ask(ENDLESS, "HTTP/1.1 500 No\r\n\r\n");
    assert_int_equal(seen.answer.error, 0);
    assert_int_equal(seen.answer.status, 500);
    assert_int_equal(seen.answer.body_size, HTTP_BODY_MAX);
    assert_true(seen.answer.is_cut);
    assert_true(seen.answer.elapsed_us < LONG_TIMEOUT_MS * 1000);
    seen = ask(ENDLESS_HEADERS, NULL);
    assert_int_equal(seen.answer.error, -EIO);
    assert_int_equal(seen.answer.status, 0);
}

static void test_time_is_bounded(void **state) {
    (void)state;
    static const enum manner slow[] = { SILENT, DRIP, DRIP_HEADERS };
    timeout_ms = TIMEOUT_MS;
    for (size_t i = 0; i < ARRAY_SIZE(slow); i++) {
        struct outcome seen = ask(slow[i], NULL);
        assert_int_equal(seen.answer.error, -ETIMEDOUT);
        assert_int_equal(seen.answer.status, 0);
        assert_true(seen.answer.elapsed_us >= (TIMEOUT_MS - 20) * 1000);
    }
}

static void test_no_answer(void **state) {
    (void)state;
    struct outcome seen = ask(CLOSE, NULL);
    assert_int_equal(seen.answer.error, -EIO);
    assert_non_null(seen.answer.problem);
    seen = ask(ANSWER, "what?\r\n\r\n");
    assert_int_equal(seen.answer.error, -EIO);
    /* nobody listens */
    int port;
    char nowhere[64];
    close(listen_somewhere(&port));
    snprintf(nowhere, sizeof nowhere, "http://127.0.0.1:%d/s3cret", port);
    assert_int_equal(submit(nowhere, &seen), 0);
    outcome_wait(&seen);
    assert_int_equal(seen.answer.error, -ECONNREFUSED);
    assert_null(strstr(seen.answer.problem, "s3cret"));
    /* what listens does not speak TLS */
    manner = ANSWER;
    answer_text = "HTTP/1.1 200 OK\r\n\r\n";
    assert_int_equal(submit(tls_url, &seen), 0);
    outcome_wait(&seen);
    assert_int_equal(seen.answer.error, -EPROTO);
}

static void test_refusals(void **state) {
    (void)state;
    static const char *const wrong[] = { "", "no address", "ftp://127.0.0.1/", "file:///etc/passwd", "http://",
        "javascript:alert(1)", "gopher://h/", "http://h:99999/" };
    struct outcome seen;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_false(http_is_url(wrong[i]));
        assert_int_equal(submit(wrong[i], &seen), -EINVAL);
        assert_int_equal(seen.calls, 0);
    }
    assert_true(http_is_url("https://hooks.example/services/a/b"));
    assert_true(http_is_url("http://[::1]:80/"));
}

static void test_many(void **state) {
    (void)state;
    struct outcome seen[MOST], further;
    manner = SILENT;
    timeout_ms = TIMEOUT_MS;
    for (int i = 0; i < MOST; i++)
        assert_int_equal(submit(url, &seen[i]), 0);
    assert_int_equal(submit(url, &further), -EAGAIN);
    int64_t begun = clock_monotonic_ms();
    for (int i = 0; i < MOST; i++) {
        outcome_wait(&seen[i]);
        assert_int_equal(seen[i].answer.error, -ETIMEDOUT);
    }
    assert_true(clock_monotonic_ms() - begun < MOST * TIMEOUT_MS); /* at once, not one after another */
    timeout_ms = LONG_TIMEOUT_MS;
    assert_int_equal(ask(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").answer.status, 200);
}

static void test_end(void **state) {
    struct outcome seen[MOST];
    manner = SILENT;
    for (int i = 0; i < MOST; i++)
        assert_int_equal(submit(url, &seen[i]), 0);
    teardown(state);
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(seen[i].calls, 1);
        assert_int_equal(seen[i].answer.error, -ECANCELED);
    }
    http_client_free(NULL);
}

int main(void) {
    pthread_t thread;
    int port;
    listener = listen_somewhere(&port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/path?q=1", port);
    snprintf(tls_url, sizeof tls_url, "https://127.0.0.1:%d/path", port);
    if (pthread_create(&thread, NULL, run_server, NULL) != 0) return 1;
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = { TEST(test_answer), TEST(test_statuses), TEST(test_retry_after),
        TEST(test_bounds), TEST(test_time_is_bounded), TEST(test_no_answer), TEST(test_refusals), TEST(test_many),
        TEST(test_end) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
