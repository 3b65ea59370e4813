/* fake_bus.c: see fake_bus.h. */
#include "tests/unit/fake_bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"

enum { WAIT_MS = 5000, IDENTITY_MAX = 255, ANSWERS_MAX = 100000 };

struct answer {
    int64_t correlation;
    int code;
    size_t size;
    unsigned char *body;
};

struct fake_bus {
    void *context;
    void *workers;
    void *publications;
    unsigned char identity[IDENTITY_MAX];
    size_t identity_size;
    size_t hellos;
    struct worker_hello hello; /* the last one */
    uint64_t batch_number;
    int64_t correlation;
    struct request_batch batch;
    struct answer *answers;
    size_t answer_count;
};

static void *bind_socket(void *context, int type, const char *url, const char *suffix) {
    char endpoint[300];
    int linger = 0;
    snprintf(endpoint, sizeof endpoint, "%s%s", url, suffix);
    void *socket = zmq_socket(context, type);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (type == ZMQ_SUB) zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
    if (zmq_bind(socket, endpoint) != 0) fail_msg("cannot bind %s: %s", endpoint, zmq_strerror(zmq_errno()));
    return socket;
}

struct fake_bus *fake_bus_new(const char *url) {
    struct fake_bus *self = xcalloc(1, sizeof *self);
    self->context = zmq_ctx_new();
    self->workers = bind_socket(self->context, ZMQ_ROUTER, url, ".workers");
    self->publications = bind_socket(self->context, ZMQ_SUB, url, ".publish");
    self->answers = xcalloc(ANSWERS_MAX, sizeof *self->answers);
    return self;
}

void fake_bus_forget_answers(struct fake_bus *self) {
    for (size_t i = 0; i < self->answer_count; i++)
        free(self->answers[i].body);
    self->answer_count = 0;
}

void fake_bus_free(struct fake_bus *self) {
    if (!self) return;
    fake_bus_forget_answers(self);
    free(self->answers);
    message_release(&worker_hello_descriptor, &self->hello);
    message_release(&request_batch_descriptor, &self->batch);
    zmq_close(self->workers);
    zmq_close(self->publications);
    zmq_ctx_term(self->context);
    free(self);
}

/* --- from the worker --------------------------------------------------------------------------------------------- */

static void on_hello(struct fake_bus *self, zmq_msg_t *frame) {
    message_release(&worker_hello_descriptor, &self->hello);
    int error = message_decode_frame(&worker_hello_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &self->hello);
    assert_int_equal(error, 0);
    self->hellos++;
}

static void on_answers(struct fake_bus *self, zmq_msg_t *frame) {
    struct reply_batch batch;
    int error = message_decode_frame(&reply_batch_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &batch);
    assert_int_equal(error, 0);
    for (size_t i = 0; i < batch.replies_count; i++) {
        assert_true(self->answer_count < ANSWERS_MAX);
        self->answers[self->answer_count++] = (struct answer){ .correlation = batch.replies[i].correlation,
            .code = batch.replies[i].code ? -1000 - (int)batch.replies[i].code : 0,
            .size = batch.replies[i].body_size,
            .body = TAKE_PTR(batch.replies[i].body) };
    }
    message_release(&reply_batch_descriptor, &batch);
}

/* Takes one message of the worker. False when none came in time. */
static bool take(struct fake_bus *self, int64_t milliseconds) {
    zmq_pollitem_t item = { .socket = self->workers, .events = ZMQ_POLLIN };
    if (zmq_poll(&item, 1, milliseconds > 0 ? (long)milliseconds : 0) <= 0) return false;
    zmq_msg_t frames[3];
    for (int i = 0; i < 3; i++) {
        zmq_msg_init(&frames[i]);
        assert_true(zmq_msg_recv(&frames[i], self->workers, 0) >= 0);
        assert_int_equal(zmq_msg_more(&frames[i]), i < 2);
    }
    self->identity_size = zmq_msg_size(&frames[0]);
    memcpy(self->identity, zmq_msg_data(&frames[0]), self->identity_size);
    if (zmq_msg_size(&frames[1]) == 0) {
        on_hello(self, &frames[2]);
    } else {
        assert_int_equal(zmq_msg_size(&frames[1]), 8);
        on_answers(self, &frames[2]);
    }
    for (int i = 0; i < 3; i++)
        zmq_msg_close(&frames[i]);
    return true;
}

bool fake_bus_wait_hello(
    struct fake_bus *self, const char *lane, bool leaving, int milliseconds, struct worker_hello *ret) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    size_t seen = self->hellos;
    for (;;) {
        if (self->hellos > seen && strcmp(self->hello.lane, lane) == 0 && self->hello.leaving == leaving) {
            if (ret) message_copy(&worker_hello_descriptor, &self->hello, ret);
            return true;
        }
        seen = self->hellos;
        int64_t left = until - clock_monotonic_ms();
        if (left <= 0 || !take(self, left)) return false;
    }
}

size_t fake_bus_hellos(const struct fake_bus *self) {
    return self->hellos;
}

static struct answer *find_answer(struct fake_bus *self, int64_t correlation) {
    for (size_t i = 0; i < self->answer_count; i++)
        if (self->answers[i].correlation == correlation) return &self->answers[i];
    return NULL;
}

bool fake_bus_has(struct fake_bus *self, int64_t correlation, int milliseconds) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    while (!find_answer(self, correlation)) {
        int64_t left = until - clock_monotonic_ms();
        if (left < 0) return false;
        take(self, left);
    }
    return true;
}

int fake_bus_wait(
    struct fake_bus *self, int64_t correlation, const struct message_descriptor *descriptor, void *ret_message) {
    if (!fake_bus_has(self, correlation, WAIT_MS)) fail_msg("no answer to request %lld", (long long)correlation);
    const struct answer *answer = find_answer(self, correlation);
    if (descriptor) assert_int_equal(message_decode(descriptor, answer->body, answer->size, ret_message), 0);
    return answer->code;
}

size_t fake_bus_position(struct fake_bus *self, int64_t correlation) {
    assert_true(fake_bus_has(self, correlation, WAIT_MS));
    return (size_t)(find_answer(self, correlation) - self->answers);
}

/* --- to the worker ----------------------------------------------------------------------------------------------- */

int64_t fake_bus_add_raw(struct fake_bus *self, int method, const void *body, size_t size, int64_t budget_ms) {
    struct bus_request *request = message_list_add(message_field(&request_batch_descriptor, "requests"), &self->batch);
    assert_non_null(request);
    request->correlation = ++self->correlation;
    request->method = method;
    request->budget_ms = budget_ms;
    request->request_id = xstrdup("req-test");
    request->body = size ? xmemdup(body, size) : xcalloc(1, 1);
    request->body_size = size;
    return self->correlation;
}

int64_t fake_bus_add(struct fake_bus *self, int method, const void *request, int64_t budget_ms) {
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    assert_int_equal(message_encode(method_find(method)->request, request, &body), 0);
    return fake_bus_add_raw(self, method, body.data, body.size, budget_ms);
}

void fake_bus_send_frames(struct fake_bus *self, const void *head, size_t head_size, const void *frame, size_t size) {
    assert_true(zmq_send(self->workers, self->identity, self->identity_size, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(self->workers, head, head_size, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(self->workers, frame, size, 0) >= 0);
}

void fake_bus_send(struct fake_bus *self, const char *lane) {
    unsigned char number[8];
    self->batch_number++;
    for (int i = 0; i < 8; i++)
        number[i] = (unsigned char)(self->batch_number >> (56 - 8 * i));
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    self->batch.lane = xstrdup(lane);
    assert_int_equal(message_encode_frame(&request_batch_descriptor, &self->batch, &frame), 0);
    fake_bus_send_frames(self, number, sizeof number, frame.data, frame.size);
    message_release(&request_batch_descriptor, &self->batch);
}

/* --- publications ------------------------------------------------------------------------------------------------ */

bool fake_bus_wait_publication(struct fake_bus *self, const char *prefix, int milliseconds,
    const struct message_descriptor *descriptor, void *ret_message) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    for (;;) {
        int64_t left = until - clock_monotonic_ms();
        zmq_pollitem_t item = { .socket = self->publications, .events = ZMQ_POLLIN };
        if (left <= 0 || zmq_poll(&item, 1, (long)left) <= 0) return false;
        zmq_msg_t topic, frame;
        zmq_msg_init(&topic);
        zmq_msg_init(&frame);
        assert_true(zmq_msg_recv(&topic, self->publications, 0) >= 0);
        assert_true(zmq_msg_recv(&frame, self->publications, 0) >= 0);
        bool wanted =
            zmq_msg_size(&topic) >= strlen(prefix) && memcmp(zmq_msg_data(&topic), prefix, strlen(prefix)) == 0;
        if (wanted)
            assert_int_equal(
                message_decode_frame(descriptor, zmq_msg_data(&frame), zmq_msg_size(&frame), ret_message), 0);
        zmq_msg_close(&topic);
        zmq_msg_close(&frame);
        if (wanted) return true;
    }
}
