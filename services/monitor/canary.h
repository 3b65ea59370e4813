/*
 * canary.h: one request to the public edge, as a client would make it: how a canary leaves.
 *
 * A connection of its own each time, because that is what a client that comes back needs. One thread at a time.
 */
#ifndef BORE_MONITOR_CANARY_H
#define BORE_MONITOR_CANARY_H

#include "proto/protocol.h"

struct canary_post;

/* url: of the edge, "https://host:port"; key: see services/lib/canary_key.h. Both are copied. A certificate is verified
 * unless the host is this machine, whose certificate bears another name. NULL when the URL is none. */
struct canary_post *canary_post_new(const char *url, const char *key);
void canary_post_free(struct canary_post *self);

/* Sends it and waits for the answer, 2 s at most. 0, or a negative error with the reason in words in *ret_reason
 * (borrowed until the next call). Release *ret_reply. */
int canary_post_send(
    struct canary_post *self, const struct canary *canary, struct canary_reply *ret_reply, const char **ret_reason);

#endif
