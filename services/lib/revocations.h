/*
 * revocations.h: the set of revoked sessions, asked from auth every 500 ms (ARCHITECTURE §3 "Revocation").
 *
 * When the last answer is older than a second the set cannot be trusted: then revocations_check asks auth about the one
 * session; when that fails too, the caller answers 503. Owns a thread. Thread rule: any thread.
 */
#ifndef BORE_SERVICES_LIB_REVOCATIONS_H
#define BORE_SERVICES_LIB_REVOCATIONS_H

#include <stdbool.h>

#include "services/lib/bus_client.h"
#include "services/lib/token.h"

struct revocation_set; /* `struct revocations` is the message */

/* on_revoked (may be NULL) is called in the poll thread for each newly revoked session. */
struct revocation_set *revocations_new(
    struct bus_client *bus, void (*on_revoked)(void *user_data, const char *session_id), void *user_data);
void revocations_free(struct revocation_set *self);
/* 0 valid; ERR_UNAUTHORIZED revoked; ERR_UNAVAILABLE not known. May call auth (blocking) when the set is stale. */
int revocations_check(struct revocation_set *self, const struct token_claims *claims, int64_t deadline_ms);
/* Never blocks: 0 valid, ERR_UNAUTHORIZED revoked, ERR_UNAVAILABLE when the set is stale. */
int revocations_check_cached(struct revocation_set *self, const struct token_claims *claims);
/* Milliseconds since the last answer. */
int64_t revocations_age_ms(struct revocation_set *self);

#endif
