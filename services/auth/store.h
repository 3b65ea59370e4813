/*
 * store.h: the SQL that auth's handlers need beside what main.c's table of queries says.
 *
 * Each function is one call of a function of sql/010 to 012, which commits by itself. Answers 0, or the ERR_ code to
 * hand on (service_fail_database has said why); then outputs own nothing. Events are published before it returns.
 * Strings in outputs are on the heap; the release functions free them. Thread rule: as the context's connection.
 */
#ifndef BORE_SERVICES_AUTH_STORE_H
#define BORE_SERVICES_AUTH_STORE_H

#include "services/lib/service.h"

/* An attempt to prove a password, counted by the throttle before its outcome is known. */
struct attempt {
    int64_t retry_after; /* seconds; > 0: none is left, the rest is empty */
    char *user_id;       /* NULL: there is no such account, or it is disabled */
    char *password_hash; /* NULL: there is no such account */
};
void attempt_release(struct attempt *self);

/* A session to open, or a refresh token's successor. Borrowed. */
struct new_session {
    const char *refresh_hash;
    const char *address;
    const char *user_agent; /* may be NULL */
};

enum sign_in_outcome {
    SIGN_IN_DONE,
    SIGN_IN_CHANGED,  /* the account changed since its password was verified */
    SIGN_UP_NEW,      /* nothing stands against it */
    SIGN_UP_EXISTS,   /* the e-mail has an account */
    SIGN_UP_REPLAY,   /* this Idempotency-Key made the account from the same request */
    SIGN_UP_CONFLICT, /* … from another one */
};

struct signed_in {
    enum sign_in_outcome outcome; /* the rest is there with SIGN_IN_DONE */
    char *session_id;
    struct user_profile user;
    int64_t refresh_token_expires_at; /* milliseconds */
};
void signed_in_release(struct signed_in *self);

int store_login_begin(
    struct service_context *context, const char *email, const char *address, struct attempt *ret_attempt);
/* renewed_hash: NULL keeps the present one. */
int store_login_finish(struct service_context *context, const char *user_id, const char *verified_hash,
    const char *renewed_hash, const struct new_session *session, struct signed_in *ret_signed_in);

/* retry_after > 0: too many from this address. */
int store_signup_begin(struct service_context *context, const struct signup *request, int64_t *ret_retry_after,
    enum sign_in_outcome *ret_outcome);
int store_signup_finish(struct service_context *context, const struct signup *request, const char *hash,
    const struct new_session *session, struct signed_in *ret_signed_in);

/* As login_begin for somebody signed in; ERR_UNAUTHORIZED when the account is gone. */
int store_password_begin(
    struct service_context *context, const char *user_id, const char *address, struct attempt *ret_attempt);
/* ERR_INVALID_CREDENTIALS when the account changed since verified_hash was read. */
int store_password_change(struct service_context *context, const struct change_password *request,
    const char *verified_hash, const char *new_hash);

int store_require_admin(struct service_context *context, const char *user_id);
int store_reset_password(
    struct service_context *context, const struct admin_reset_password *request, const char *new_hash);

enum refresh_outcome { REFRESH_DONE, REFRESH_UNKNOWN, REFRESH_REUSED, REFRESH_LIMITED };
struct refreshed {
    enum refresh_outcome outcome; /* the rest is there with REFRESH_DONE */
    char *session_id;
    char *user_id;
    char *email;
    bool is_admin;
    int64_t refresh_token_expires_at; /* milliseconds */
};
void refreshed_release(struct refreshed *self);
int store_refresh(struct service_context *context, const char *old_hash, const struct new_session *successor,
    struct refreshed *ret_refreshed);

/* refresh_hash may be NULL. */
int store_logout(struct service_context *context, const struct logout *request, const char *refresh_hash);

/* hash NULL: promotes only. ret_outcome: present, promoted, created, absent. */
int store_ensure_admin(struct service_context *context, const char *hash, char ret_outcome[16]);
/* Deletes at most `most` expired rows of each kind. */
int store_sweep(struct service_context *context, int64_t most, int64_t *ret_removed);

#endif
