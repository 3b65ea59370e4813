/*
 * server.h: the loop of stream: libwebsockets' context, and everything that only the loop thread touches.
 *
 * Neither libpq nor ZeroMQ runs here (ARCHITECTURE §1): their threads post letters (inbox.h) and wake the loop.
 */
#ifndef BORE_SERVICES_STREAM_SERVER_H
#define BORE_SERVICES_STREAM_SERVER_H

#include <libwebsockets.h>
#include <stdbool.h>

#include "services/lib/counters.h"
#include "services/lib/revocations.h"
#include "services/lib/token.h"
#include "services/stream/admission.h"
#include "services/stream/http.h"
#include "services/stream/hub.h"
#include "services/stream/inbox.h"
#include "services/stream/recent.h"

struct server {
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct hub *hub;
    struct recent *recent;
    struct token_cache *tokens;
    struct inbox *inbox;
    struct revocation_set *revocations; /* set before the loop runs */
    struct admission *admission;        /* likewise */
    char epoch[20];                     /* "" until the log was first reached */
    void (*read_epoch)(char *ret_epoch, size_t size);
    const char *allowed_origins;
    struct ev_loop *loop;
    lws_sorted_usec_list_t tick;
    lws_sorted_usec_list_t ending;
    bool stopping;
    int64_t stop_deadline_ms;
    struct counter *active_sse, *opened_sse;
};

struct server_options {
    const char *address; /* copied */
    int port;
    const char *jwt_secret;
    const char *jwt_secret_previous; /* tokens made with it are accepted too; "" or NULL: none */
    const char *allowed_origins;     /* borrowed */
    struct hub_options hub;
};

/* NULL when the port cannot be had; lws has logged why. */
struct server *server_new(const struct server_options *options);
/* Runs until a LETTER_STOP was handled and the streams have ended. */
void server_run(struct server *self);
void server_free(struct server *self);

/* What other threads call. */
void server_wake(void *server);

/* Seconds since the epoch. */
int64_t server_now_seconds(void);

#endif
