/*
 * workers.c: worker processes and their lanes: WORKER_HELLO, WORKER_REFUSED, death.
 *
 * A worker process is known by its connection's identity. Its first HELLO of a lane adds it there, each further one is
 * a sign of life and says its credits anew. When it dies, what it held is answered `unavailable` at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/bus/router_internal.h"

static size_t bucket_of(zmq_msg_t *identity) {
    const unsigned char *data = zmq_msg_data(identity);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < zmq_msg_size(identity); i++)
        hash = (hash ^ data[i]) * 16777619u; /* FNV-1a */
    return hash % PEER_BUCKETS;
}

static bool same_identity(zmq_msg_t *left, zmq_msg_t *right) {
    size_t size = zmq_msg_size(left);
    return size == zmq_msg_size(right) && memcmp(zmq_msg_data(left), zmq_msg_data(right), size) == 0;
}

static struct peer *peer_get(struct router *router, zmq_msg_t *identity) {
    size_t bucket = bucket_of(identity);
    for (struct peer *peer = router->peers[bucket]; peer != NULL; peer = peer->bucket_next) {
        if (same_identity(&peer->identity, identity)) return peer;
    }
    if (router->peer_count == ROUTER_PEERS_MAX) return NULL;
    struct peer *peer = xcalloc(1, sizeof(*peer));
    zmq_msg_init(&peer->identity);
    zmq_msg_copy(&peer->identity, identity);
    peer->bucket_next = router->peers[bucket];
    router->peers[bucket] = peer;
    router->peer_count++;
    return peer;
}

void peer_free(struct peer *self) {
    while (self->workers != NULL) {
        struct worker *worker = self->workers;
        self->workers = worker->peer_next;
        free(worker);
    }
    zmq_msg_close(&self->identity);
    free(self);
}

static void set_usable(struct router *router, struct lane *lane, int change) {
    lane->usable += change;
    if (lane->usable == 0) lane->lost_ms = router->now_ms;
}

static void fail_inflight(struct router *router, struct worker *worker) {
    while (worker->inflight.first != NULL)
        batch_fail(router, worker->inflight.first, ERR_UNAVAILABLE);
}

static void leave_lane(struct router *router, struct worker *worker) {
    struct worker **link = &worker->lane->workers;
    while (*link != worker)
        link = &(*link)->lane_next;
    *link = worker->lane_next;
    if (!worker->leaving) set_usable(router, worker->lane, -1);
}

void peer_is_gone(struct router *router, struct peer *peer, const char *reason) {
    struct peer **link = &router->peers[bucket_of(&peer->identity)];
    while (*link != peer)
        link = &(*link)->bucket_next;
    *link = peer->bucket_next;
    router->peer_count--;
    if (peer->workers != NULL) log_info("worker %s is gone: %s", peer->name, reason);
    for (struct worker *worker = peer->workers; worker != NULL; worker = worker->peer_next) {
        leave_lane(router, worker);
        fail_inflight(router, worker);
        lane_check_held(router, worker->lane);
    }
    peer_free(peer);
}

static void refuse(struct router *router, struct peer *peer, const struct worker_hello *hello) {
    char sentence[200];
    snprintf(sentence, sizeof(sentence),
        "this bus speaks protocol version %d, %s-%d speaks %d: start processes of one release", PROTOCOL_VERSION,
        hello->process, (int)hello->instance, (int)hello->version);
    if (!peer->refused) log_error("refused worker %s-%d: %s", hello->process, (int)hello->instance, sentence);
    peer->refused = true;
    struct worker_refused refused = { .message = sentence };
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    zmq_msg_t frame;
    if (message_encode_frame(&worker_refused_descriptor, &refused, &text) != 0) return;
    zmq_msg_init_size(&frame, text.size);
    memcpy(zmq_msg_data(&frame), text.data, text.size);
    if (router->output.to_worker(router->output.user_data, &peer->identity, 0, &frame) != 0) zmq_msg_close(&frame);
}

static struct worker *worker_get(struct router *router, struct peer *peer, const char *lane_name) {
    for (struct worker *worker = peer->workers; worker != NULL; worker = worker->peer_next) {
        if (strcmp(worker->lane->name, lane_name) == 0) return worker;
    }
    struct lane *lane = lane_find(router, lane_name);
    if (lane == NULL) lane = lane_new(router, lane_name);
    if (lane == NULL) return NULL;
    struct worker *worker = xcalloc(1, sizeof(*worker));
    worker->peer = peer;
    worker->lane = lane;
    worker->leaving = true; /* until it says otherwise */
    worker->lane_next = lane->workers;
    lane->workers = worker;
    worker->peer_next = peer->workers;
    peer->workers = worker;
    return worker;
}

static void greet(struct router *router, struct worker *worker, const struct worker_hello *hello) {
    bool is_new = worker->heard_ms == 0;
    worker->heard_ms = router->now_ms;
    worker->credits = hello->credits;
    worker->blocked = worker->peer->ended;
    if (worker->leaving != hello->leaving) {
        worker->leaving = hello->leaving;
        set_usable(router, worker->lane, hello->leaving ? -1 : 1);
        if (is_new) {
            log_info(
                "worker %s serves %s credits=%lld", worker->peer->name, worker->lane->name, (long long)hello->credits);
        } else {
            log_info("worker %s %s %s", worker->peer->name, hello->leaving ? "is leaving" : "is back at",
                worker->lane->name);
        }
    }
    lane_dispatch(router, worker->lane);
}

static bool is_lane_name(const char *name) {
    size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return size > 0 && size <= BUS_LANE_MAX && name[size] == '\0' && strcmp(name, "bus") != 0;
}

void workers_on_hello(struct router *router, zmq_msg_t *identity, zmq_msg_t *frame, int descriptor) {
    struct worker_hello hello;
    if (message_decode_frame(&worker_hello_descriptor, zmq_msg_data(frame), zmq_msg_size(frame), &hello) != 0) {
        drop_count(DROP_MALFORMED_WORKER);
        return;
    }
    struct peer *peer = is_lane_name(hello.lane) ? peer_get(router, identity) : NULL;
    if (peer == NULL) {
        drop_count(is_lane_name(hello.lane) ? DROP_TOO_MANY_WORKERS : DROP_MALFORMED_WORKER);
        message_release(&worker_hello_descriptor, &hello);
        return;
    }
    if (!peer->ended) peer->descriptor = descriptor;
    peer->heard_ms = router->now_ms;
    snprintf(peer->name, sizeof(peer->name), "%s-%d", hello.process, (int)hello.instance);
    if (hello.version != PROTOCOL_VERSION) {
        refuse(router, peer, &hello);
    } else {
        struct worker *worker = worker_get(router, peer, hello.lane);
        if (worker != NULL) {
            greet(router, worker, &hello);
        } else {
            drop_count(DROP_TOO_MANY_WORKERS);
        }
    }
    message_release(&worker_hello_descriptor, &hello);
}

/* The least recently heard lane decides: a process whose one lane has fallen silent is not well. */
static int64_t silence_of(const struct router *router, const struct peer *peer) {
    int64_t heard_ms = peer->heard_ms;
    for (const struct worker *worker = peer->workers; worker != NULL; worker = worker->peer_next) {
        if (worker->heard_ms < heard_ms) heard_ms = worker->heard_ms;
    }
    return router->now_ms - heard_ms;
}

void workers_check_silence(struct router *router) {
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        struct peer *next;
        for (struct peer *peer = router->peers[i]; peer != NULL; peer = next) {
            next = peer->bucket_next;
            if (silence_of(router, peer) >= ROUTER_SILENCE_MS) peer_is_gone(router, peer, "no sign of life for 2.5 s");
        }
    }
}

void workers_forgive_silence(struct router *router) {
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        for (struct peer *peer = router->peers[i]; peer != NULL; peer = peer->bucket_next) {
            peer->heard_ms = router->now_ms;
            for (struct worker *worker = peer->workers; worker != NULL; worker = worker->peer_next)
                worker->heard_ms = router->now_ms;
        }
    }
}

void router_on_disconnect(struct router *self, int descriptor) {
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        for (struct peer *peer = self->peers[i]; peer != NULL; peer = peer->bucket_next) {
            if (peer->descriptor != descriptor) continue;
            peer->descriptor = -1;
            peer->ended = true;
            self->some_ended = true;
            for (struct worker *worker = peer->workers; worker != NULL; worker = worker->peer_next)
                worker->blocked = true;
        }
    }
}

void router_end_disconnected(struct router *self) {
    if (!self->some_ended) return;
    self->some_ended = false;
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        struct peer *next;
        for (struct peer *peer = self->peers[i]; peer != NULL; peer = next) {
            next = peer->bucket_next;
            if (peer->ended) peer_is_gone(self, peer, "its connection ended");
        }
    }
}
