/*
 * token.h: JSON Web Tokens (RFC 7519) by libjwt: HS256 only, exactly our claims; and who of them is revoked.
 *
 * Claims: user_id, email (strings), is_admin (bool), iat, exp (integers, seconds), jti ("<session id>.<random hex>").
 * A token with another algorithm, a missing claim or one of the wrong type is refused. Thread rule: any thread.
 */
#ifndef BORE_SERVICES_LIB_TOKEN_H
#define BORE_SERVICES_LIB_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

struct token_claims {
    char user_id[65];
    char email[321];
    char session_id[65]; /* of jti, before the dot */
    char token_id[130];  /* jti */
    bool is_admin;
    int64_t issued_at;  /* seconds */
    int64_t expires_at; /* seconds */
};

/* Makes a token; jti is filled from session_id and random. Heap text, caller frees. NULL when libjwt fails. */
char *token_issue(const char *secret, const struct token_claims *claims);
/* 0, or -EINVAL (not a token of ours, bad signature), -ETIMEDOUT (expired). now in seconds. */
int token_verify(const char *secret, const char *token, int64_t now, struct token_claims *ret_claims);

/* A bounded cache of verified tokens, shared by threads: `exp` is checked at each hit, signature once. */
struct token_cache;
struct token_cache *token_cache_new(const char *secret, size_t capacity);
void token_cache_free(struct token_cache *self);
/* Accepts tokens made with a former secret as well; "" or NULL: none. Before threads use the cache. */
void token_cache_accept(struct token_cache *self, const char *previous_secret);
int token_cache_verify(struct token_cache *self, const char *token, struct token_claims *ret_claims);

#endif
