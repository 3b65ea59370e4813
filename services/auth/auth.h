/*
 * auth.h: what the handlers of auth share, and what main.c wires to their messages.
 *
 * A handler answers 0 and its reply, or a negative ERR_ code with what service_fail added (service.h). Passwords in a
 * request are wiped when the skeleton frees it. Thread rule: handlers run in their lane's threads; the state is
 * read-only.
 */
#ifndef BORE_SERVICES_AUTH_AUTH_H
#define BORE_SERVICES_AUTH_AUTH_H

#include "services/auth/password.h"
#include "services/lib/service.h"

struct auth_state {
    struct password_checker checker;
};

/* accounts.c: everything that computes a password hash, on the lane "auth.password" */
int auth_signup(struct service_context *context, const struct signup *request, struct signed_in_reply *ret_reply);
int auth_login(struct service_context *context, const struct login *request, struct signed_in_reply *ret_reply);
int auth_change_password(
    struct service_context *context, const struct change_password *request, struct success_reply *ret_reply);
int auth_reset_password(struct service_context *context, const struct admin_reset_password *request,
    struct admin_reset_password_reply *ret_reply);

/* sessions.c: what handles tokens, on the lane "auth" */
int auth_refresh(struct service_context *context, const struct refresh *request, struct refresh_reply *ret_reply);
int auth_logout(struct service_context *context, const struct logout *request, struct success_reply *ret_reply);

enum { REFRESH_TOKEN_SIZE = 3 + 64 + 1, TOKEN_HASH_SIZE = 65 };

/* A fresh refresh token ("rt_" and 64 hex digits) and its SHA-256. Embedded; wipe it after use. */
struct refresh_pair {
    char token[REFRESH_TOKEN_SIZE];
    char hash[TOKEN_HASH_SIZE];
};
void refresh_pair_make(struct refresh_pair *ret_pair);

/* A JWT of that session for JWT_TTL_SECONDS from now. Heap, caller frees; NULL, logged, when it cannot be made. */
char *auth_issue_token(const char *session_id, const char *user_id, const char *email, bool is_admin);

/* upkeep.c */
/* Checks settings, prepares the state, makes or promotes the first admin. 0 or a negative error, logged. */
int auth_init(struct service_context *context, void **ret_state);
void auth_release(void *state);
/* Deletes what has expired. */
void auth_sweep(struct service_context *context);

#endif
