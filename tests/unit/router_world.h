/*
 * router_world.h: for tests, the bus's router with a clock and peers of the test's own.
 *
 * Peers are named by one letter, the caller "c", workers "a", "b", …; the one lane is "lane". What the router says to
 * them is kept in lists. Thread rule: one thread.
 */
#ifndef BORE_TESTS_UNIT_ROUTER_WORLD_H
#define BORE_TESTS_UNIT_ROUTER_WORLD_H

#include "common/strbuf.h"
#include "services/bus/router.h"

enum { SAID_MAX = 4000, ROUTER_WORLD_START_MS = 1000000 };

/* A batch that a worker got, or an answer that a caller got. */
struct said {
    char to;
    uint64_t number;
    size_t count;
    int64_t correlation; /* of the first */
    int64_t budget_ms;   /* of the first request */
    int code;            /* ERR_ of the first answer, else 0 */
};

struct router_world {
    struct router *router;
    int64_t now_ms;
    struct said to_worker[SAID_MAX], to_caller[SAID_MAX];
    size_t workers_said, callers_said;
    size_t answers;         /* single requests answered */
    char unreachable, full; /* worker that takes nothing */
    int refused;
};

extern struct router_world router_world;

int router_world_set_up(void **state);
int router_world_tear_down(void **state);

void fake_message(zmq_msg_t *message, const void *data, size_t size);
void fake_worker_message(char worker, const void *head, size_t head_size, const struct strbuf *frame);
void fake_hello(char worker, int64_t credits, bool leaving, int version);
void fake_join(char worker, int64_t credits);
/* A batch of requests with correlations from the given one on. */
void fake_request(int64_t correlation, size_t count, int64_t budget_ms);
void fake_request_on(const char *lane, int64_t correlation, size_t count, int64_t budget_ms);
/* The worker answers `count` requests from the given one on. */
void fake_reply_as(char worker, uint64_t number, int64_t correlation, size_t count);
/* It answers all of the batch. */
void fake_reply_to(const struct said *said);
void fake_disconnect(char worker);
void fake_time_passes(int64_t milliseconds);

const struct said *last_batch(void);
const struct said *last_answer(void);
/* Of the one lane; its name is NULL. */
struct lane_status fake_lane_status(void);

#endif
