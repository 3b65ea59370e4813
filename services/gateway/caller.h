/*
 * caller.h: who makes a request: the client's address, and the user behind a token.
 *
 * The address and the scheme come from X-Forwarded-For and X-Forwarded-Proto only when the request also carries the
 * edge's secret; otherwise from the connection. A user shows a JWT as bearer or, in a browser, in the cookie
 * `bore_session`; with the cookie, a request that changes something needs an Origin equal to the host.
 * Embedded; one thread at a time.
 */
#ifndef BORE_GATEWAY_CALLER_H
#define BORE_GATEWAY_CALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/message.h"
#include "services/gateway/headers.h"
#include "services/lib/revocations.h"
#include "services/lib/token.h"

#define SESSION_COOKIE "bore_session"

enum { TOKEN_MAX = 4096, ADDRESS_MAX = 64, USER_AGENT_MAX = 400, IDEMPOTENCY_KEY_MAX = 255 };

struct caller {
    char address[ADDRESS_MAX];
    bool is_https;
    bool is_cookie; /* the token came from the cookie */
    struct token_claims claims;
    char token[TOKEN_MAX + 1];
    char user_agent[USER_AGENT_MAX * 4 + 1];
};

/* Fills address and is_https. edge_secret may be "": nothing is believed then. */
void caller_locate(struct caller *self, const struct headers *headers, const char *peer, const char *edge_secret);

/* Copies the token of "Authorization: Bearer <token>", nothing when it does not fit; false when the header has another
 * scheme or is absent. */
bool caller_bearer(const struct headers *headers, char *token, size_t size);

/* Fills claims. 0; ERR_UNAUTHORIZED (no token, or no good one); ERR_FORBIDDEN (cookie without the host's Origin while
 * is_change); ERR_UNAVAILABLE (nobody can tell whether the token was revoked). *ret_sentence says more, or is NULL. */
int caller_authenticate(struct caller *self, const struct headers *headers, bool is_change, struct token_cache *tokens,
    struct revocation_set *revocations, int64_t deadline_ms, const char **ret_sentence);

/* What a field flagged CALLER is filled with; found by the field's name once, at start. */
enum caller_value {
    CALLER_USER_ID,
    CALLER_EMAIL,
    CALLER_IS_ADMIN,
    CALLER_TOKEN_SESSION,
    CALLER_ADDRESS,
    CALLER_USER_AGENT,
    CALLER_IDEMPOTENCY_KEY,
};
/* -1 for a name that is none of them. */
int caller_value_find(const char *field_name);

/* Sets the field; complains in errors of a header that does not fit. */
void caller_fill(struct caller *self, const struct headers *headers, enum caller_value value, const struct field *field,
    void *message, struct field_errors *errors);

#endif
