/*
 * sessions.c: tokens: issuing, refreshing, signing out.
 *
 * Serves REFRESH and LOGOUT on the lane "auth". A refresh token is random, kept only as its SHA-256, and replaced at
 * each use; what a second use means is decided in SQL (bore.session_refresh): within 10 s the first answer was lost,
 * later somebody else has it, and the session ends. Reads JWT_SECRET, JWT_TTL_SECONDS, REFRESH_TTL_SECONDS.
 * When the database fails, nothing has been rotated, or the client's next try falls into the 10 s.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/auth/auth.h"
#include "services/auth/store.h"
#include "services/lib/token.h"

static const char prefix[] = "rt_";
enum { PREFIX_SIZE = sizeof prefix - 1, RANDOM_BYTES = 32 };

void refresh_pair_make(struct refresh_pair *ret_pair) {
    memcpy(ret_pair->token, prefix, PREFIX_SIZE);
    random_hex(RANDOM_BYTES, ret_pair->token + PREFIX_SIZE);
    sha256_hex(ret_pair->token, strlen(ret_pair->token), ret_pair->hash);
}

char *auth_issue_token(const char *session_id, const char *user_id, const char *email, bool is_admin) {
    int64_t now = clock_wall_ms();
    struct token_claims claims = {
        .is_admin = is_admin,
        .issued_at = now / 1000,
        .expires_at = (now + config.jwt_ttl_ms) / 1000,
    };
    snprintf(claims.user_id, sizeof claims.user_id, "%s", user_id);
    snprintf(claims.email, sizeof claims.email, "%s", email);
    snprintf(claims.session_id, sizeof claims.session_id, "%s", session_id);
    char *token = token_issue(config.jwt_secret, &claims);
    if (!token) log_error("a token could not be made");
    return token;
}

static int refuse(struct service_context *context, enum refresh_outcome outcome) {
    switch (outcome) {
    case REFRESH_REUSED:
        log_warning("a refresh token was used twice: its session has been ended");
        return service_fail(context, ERR_UNAUTHORIZED, "This refresh token was used before; sign in again.", 0);
    case REFRESH_LIMITED:
        return service_fail(context, ERR_TOO_MANY_REQUESTS, "Too many new tokens for one session.", 60);
    default:
        return service_fail(context, ERR_UNAUTHORIZED, "The refresh token is not valid; sign in again.", 0);
    }
}

static int fill_reply(
    const struct refreshed *refreshed, const struct refresh_pair *pair, struct refresh_reply *ret_reply) {
    ret_reply->token =
        auth_issue_token(refreshed->session_id, refreshed->user_id, refreshed->email, refreshed->is_admin);
    if (!ret_reply->token) return ERR_INTERNAL;
    ret_reply->refresh_token = xstrdup(pair->token);
    ret_reply->refresh_token_expires_at = refreshed->refresh_token_expires_at;
    return 0;
}

int auth_refresh(struct service_context *context, const struct refresh *request, struct refresh_reply *ret_reply) {
    size_t size = strlen(request->refresh_token);
    if (size != REFRESH_TOKEN_SIZE - 1 || strncmp(request->refresh_token, prefix, PREFIX_SIZE) != 0)
        return refuse(context, REFRESH_UNKNOWN);
    char old_hash[TOKEN_HASH_SIZE];
    sha256_hex(request->refresh_token, size, old_hash);
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    struct new_session successor = { pair.hash, request->address, request->user_agent };
    struct refreshed refreshed = { 0 };
    int code = store_refresh(context, old_hash, &successor, &refreshed);
    if (!code)
        code = refreshed.outcome == REFRESH_DONE ? fill_reply(&refreshed, &pair, ret_reply)
                                                 : refuse(context, refreshed.outcome);
    refreshed_release(&refreshed);
    memory_wipe(&pair, sizeof pair);
    return code;
}

int auth_logout(struct service_context *context, const struct logout *request, struct success_reply *ret_reply) {
    char hash[TOKEN_HASH_SIZE];
    bool given = request->refresh_token && *request->refresh_token;
    if (given) sha256_hex(request->refresh_token, strlen(request->refresh_token), hash);
    int code = store_logout(context, request, given ? hash : NULL);
    ret_reply->success = code == 0;
    return code;
}
