/*
 * fanout.c: see fanout.h.
 *
 * XPUB drops silently when a subscriber's queue is full. So each message is first offered in the mode that refuses
 * instead (ZMQ_XPUB_NODROP), the refusal is counted, and then it goes out to those who have room.
 */
#include "services/bus/fanout.h"

#include <string.h>
#include <zmq.h>

#include "proto/topics.h"
#include "services/bus/drops.h"
#include "services/lib/counters.h"

enum { SUBSCRIPTION_MAX = 1 + TOPIC_MAX };

static void set_nodrop(void *xpub, int on) {
    zmq_setsockopt(xpub, ZMQ_XPUB_NODROP, &on, sizeof(on));
}

/* Takes the content of both. */
static void send_pair(void *xpub, zmq_msg_t *topic, zmq_msg_t *body) {
    set_nodrop(xpub, 1);
    if (zmq_msg_send(topic, xpub, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        drop_count(DROP_SUBSCRIBER_FULL);
        set_nodrop(xpub, 0);
        if (zmq_msg_send(topic, xpub, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return;
    }
    zmq_msg_send(body, xpub, ZMQ_DONTWAIT);
}

static void skip_rest(void *socket, zmq_msg_t *last) {
    while (zmq_msg_more(last)) {
        if (zmq_msg_recv(last, socket, ZMQ_DONTWAIT) < 0) return;
    }
}

/* One message. False when there is none. */
static bool forward_one(void *xsub, void *xpub, struct counter *published) {
    zmq_msg_t topic, body;
    zmq_msg_init(&topic);
    zmq_msg_init(&body);
    bool received = zmq_msg_recv(&topic, xsub, ZMQ_DONTWAIT) >= 0;
    if (received) {
        bool is_pair = zmq_msg_more(&topic) && zmq_msg_recv(&body, xsub, ZMQ_DONTWAIT) >= 0 && !zmq_msg_more(&body);
        if (is_pair && zmq_msg_size(&topic) <= TOPIC_MAX) {
            counter_add(published, 1);
            send_pair(xpub, &topic, &body);
        } else {
            drop_count(DROP_MALFORMED_PUBLICATION);
            skip_rest(xsub, &body);
        }
    }
    zmq_msg_close(&topic);
    zmq_msg_close(&body);
    return received;
}

bool fanout_publications(void *xsub, void *xpub, int most, bool *sent) {
    static struct counter *published;
    if (published == NULL) published = counter_get(COUNTER, "bore_bus_published_total", "");
    for (int i = 0; i < most; i++) {
        if (!forward_one(xsub, xpub, published)) return false;
        *sent = true;
    }
    return true;
}

/* A subscriber may also send what is no subscription; publishers never see that. */
bool fanout_subscriptions(void *xpub, void *xsub, int most, bool *sent) {
    for (int i = 0; i < most; i++) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, xpub, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&message);
            return false;
        }
        const unsigned char *data = zmq_msg_data(&message);
        size_t size = zmq_msg_size(&message);
        bool is_subscription = !zmq_msg_more(&message) && size >= 1 && size <= SUBSCRIPTION_MAX && data[0] <= 1;
        if (is_subscription) {
            zmq_msg_send(&message, xsub, ZMQ_DONTWAIT);
            *sent = true;
        } else {
            drop_count(DROP_MALFORMED_PUBLICATION);
            skip_rest(xpub, &message);
        }
        zmq_msg_close(&message);
    }
    return true;
}

void fanout_publish(void *xpub, const char *topic, const void *frame, size_t size) {
    zmq_msg_t head, body;
    zmq_msg_init_size(&head, strlen(topic));
    memcpy(zmq_msg_data(&head), topic, strlen(topic));
    zmq_msg_init_size(&body, size);
    memcpy(zmq_msg_data(&body), frame, size);
    send_pair(xpub, &head, &body);
    zmq_msg_close(&head);
    zmq_msg_close(&body);
}
