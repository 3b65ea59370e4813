/*
 * accounts.c: signing up, signing in, changing and resetting a password: all that computes a password hash.
 *
 * Serves SIGNUP, LOGIN, CHANGE_PASSWORD and ADMIN_RESET_PASSWORD on the lane "auth.password", whose threads yield to
 * everything else. A sign-in is two SQL calls around one bcrypt: the first counts the attempt (throttle) and answers
 * the hash, the second opens the session, provided that the account is still what it was. Whether an account exists
 * shows neither in the answer nor in the time. Reads SIGNUP, PASSWORD_MIN_LENGTH, BCRYPT_COST, LOGIN_FAILURES_PER_…
 * A throttled attempt costs no bcrypt, nor does one that waited so long that its answer would come too late: a storm
 * of sign-ins gets `overloaded` then. A process that dies in between leaves a counted attempt and nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/auth/auth.h"
#include "services/auth/store.h"
#include "services/auth/validation.h"

enum { DATABASE_MS = 50 }; /* for the calls around a hash */

static void cleanup_attempt(struct attempt *self) {
    attempt_release(self);
}
#define _cleanup_attempt_ __attribute__((cleanup(cleanup_attempt)))

static void cleanup_signed_in(struct signed_in *self) {
    signed_in_release(self);
}
#define _cleanup_signed_in_ __attribute__((cleanup(cleanup_signed_in)))

static const struct password_checker *checker(const struct service_context *context) {
    return &((const struct auth_state *)context->state)->checker;
}

static int throttled(struct service_context *context, const char *sentence, int64_t retry_after) {
    return service_fail(context, ERR_TOO_MANY_REQUESTS, sentence, retry_after);
}

/* Refuses work that would not be done before the caller gives up. Hashes take longer than they did at the start when
 * the machine is busy. */
static int admit(struct service_context *context, int hashes) {
    int64_t needed = (int64_t)hashes * checker(context)->milliseconds * 3 / 2 + DATABASE_MS;
    if (!context->deadline_ms || clock_monotonic_ms() + needed <= context->deadline_ms) return 0;
    return service_fail(context, ERR_OVERLOADED, "Too many people sign in at this moment; try again soon.", 2);
}

static int hash_password(const char *password, char ret_hash[PASSWORD_HASH_SIZE]) {
    int error = password_hash(password, (int)config.bcrypt_cost, ret_hash);
    if (!error) return 0;
    log_error("cannot compute a password hash: %s", strerror(-error));
    return ERR_INTERNAL;
}

static int fill_reply(struct signed_in *signed_in, const struct refresh_pair *pair, struct signed_in_reply *ret_reply) {
    const struct user_profile *user = &signed_in->user;
    ret_reply->token = auth_issue_token(signed_in->session_id, user->id, user->email, user->is_admin);
    if (!ret_reply->token) return ERR_INTERNAL;
    ret_reply->user_id = xstrdup(user->id);
    ret_reply->refresh_token = xstrdup(pair->token);
    ret_reply->refresh_token_expires_at = signed_in->refresh_token_expires_at;
    ret_reply->user = xmalloc(sizeof *ret_reply->user);
    *ret_reply->user = signed_in->user;
    signed_in->user = (struct user_profile){ 0 };
    return 0;
}

/* --- signing in ----------------------------------------------------------------------------------------------------
 */

/* What somebody who claims an account brings. Borrowed. */
struct credentials {
    const char *email;
    const char *password;
    const char *address;
    const char *user_agent;
};

/* A password over 72 bytes, which only an imported account can have, keeps its hash. */
static const char *renewed_hash(
    const struct service_context *context, const struct credentials *given, const char *hash, char *buffer) {
    if (!password_checker_is_outdated(checker(context), hash) || strlen(given->password) > PASSWORD_BYTES_MAX)
        return NULL;
    return hash_password(given->password, buffer) == 0 ? buffer : NULL;
}

/* `refusal` is the answer to a wrong password, an unknown and a disabled account alike. */
static int sign_in(
    struct service_context *context, const struct credentials *given, int refusal, struct signed_in_reply *ret_reply) {
    _cleanup_attempt_ struct attempt attempt = { 0 };
    int code = admit(context, 1);
    if (!code) code = store_login_begin(context, given->email, given->address, &attempt);
    if (code) return code;
    if (attempt.retry_after > 0)
        return throttled(context, "Too many failed sign-ins; try again later.", attempt.retry_after);
    if (!password_checker_verify(checker(context), given->password, attempt.password_hash) || !attempt.user_id)
        return refusal;

    char buffer[PASSWORD_HASH_SIZE];
    const char *renewed = renewed_hash(context, given, attempt.password_hash, buffer);
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    struct new_session session = { pair.hash, given->address, given->user_agent };
    _cleanup_signed_in_ struct signed_in signed_in = { 0 };
    code = store_login_finish(context, attempt.user_id, attempt.password_hash, renewed, &session, &signed_in);
    if (!code && signed_in.outcome != SIGN_IN_DONE) code = refusal;
    if (!code) code = fill_reply(&signed_in, &pair, ret_reply);
    memory_wipe(&pair, sizeof pair);
    return code;
}

int auth_login(struct service_context *context, const struct login *request, struct signed_in_reply *ret_reply) {
    struct credentials given = { request->email, request->password, request->address, request->user_agent };
    return sign_in(context, &given, ERR_INVALID_CREDENTIALS, ret_reply);
}

/* --- signing up ----------------------------------------------------------------------------------------------------
 */

static int check_signup(struct service_context *context, const struct signup *request) {
    char buffer[COMPLAINT_SIZE];
    const struct {
        const char *field;
        const char *complaint;
    } checks[] = {
        { "name", name_complaint(request->name) },
        { "email", email_complaint(request->email) },
        { "password", password_complaint(request->password, config.password_min_length, buffer) },
    };
    int code = 0;
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
        if (checks[i].complaint) code = service_fail_field(context, checks[i].field, checks[i].complaint);
    return code;
}

/* Where a sign-up ends that made no account. A repeated one gives a fresh session of the account that the first one
 * made, to whoever knows its password: by the way of a sign-in, throttle and all. */
static int answer_obstacle(struct service_context *context, const struct signup *request, enum sign_in_outcome outcome,
    struct signed_in_reply *ret_reply) {
    if (outcome == SIGN_UP_CONFLICT) return ERR_IDEMPOTENCY_CONFLICT;
    if (outcome != SIGN_UP_REPLAY) return ERR_USER_EXISTS;
    struct credentials given = { request->email, request->password, request->address, request->user_agent };
    return sign_in(context, &given, ERR_IDEMPOTENCY_CONFLICT, ret_reply);
}

static int create_account(
    struct service_context *context, const struct signup *request, struct signed_in_reply *ret_reply) {
    char hash[PASSWORD_HASH_SIZE];
    int code = hash_password(request->password, hash);
    if (code) return code;
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    struct new_session session = { pair.hash, request->address, request->user_agent };
    _cleanup_signed_in_ struct signed_in signed_in = { 0 };
    code = store_signup_finish(context, request, hash, &session, &signed_in);
    if (!code)
        code = signed_in.outcome == SIGN_IN_DONE ? fill_reply(&signed_in, &pair, ret_reply)
                                                 : answer_obstacle(context, request, signed_in.outcome, ret_reply);
    memory_wipe(&pair, sizeof pair);
    return code;
}

int auth_signup(struct service_context *context, const struct signup *request, struct signed_in_reply *ret_reply) {
    if (strcmp(config.signup, "open") != 0) return ERR_SIGNUP_CLOSED;
    int64_t retry_after = 0;
    enum sign_in_outcome outcome = SIGN_UP_EXISTS;
    int code = check_signup(context, request);
    if (!code) code = admit(context, 1);
    if (!code) code = store_signup_begin(context, request, &retry_after, &outcome);
    if (code) return code;
    if (retry_after > 0) return throttled(context, "Too many new accounts; try again later.", retry_after);
    if (outcome != SIGN_UP_NEW) return answer_obstacle(context, request, outcome, ret_reply);
    return create_account(context, request, ret_reply);
}

/* --- changing a password -------------------------------------------------------------------------------------------
 */

static int change_password(struct service_context *context, const struct change_password *request) {
    char buffer[COMPLAINT_SIZE], hash[PASSWORD_HASH_SIZE];
    const char *complaint = password_complaint(request->new_password, config.password_min_length, buffer);
    if (complaint) return service_fail_field(context, "new_password", complaint);
    _cleanup_attempt_ struct attempt attempt = { 0 };
    int code = admit(context, 2);
    if (!code) code = store_password_begin(context, request->user_id, request->address, &attempt);
    if (code) return code;
    if (attempt.retry_after > 0)
        return throttled(context, "Too many wrong passwords; try again later.", attempt.retry_after);
    if (!password_checker_verify(checker(context), request->current_password, attempt.password_hash) ||
        !attempt.user_id)
        return service_fail(context, ERR_INVALID_CREDENTIALS, "The current password is wrong.", 0);
    code = hash_password(request->new_password, hash);
    return code ? code : store_password_change(context, request, attempt.password_hash, hash);
}

int auth_change_password(
    struct service_context *context, const struct change_password *request, struct success_reply *ret_reply) {
    int code = change_password(context, request);
    ret_reply->success = code == 0;
    return code;
}

int auth_reset_password(struct service_context *context, const struct admin_reset_password *request,
    struct admin_reset_password_reply *ret_reply) {
    int code = admit(context, 1);
    if (!code) code = store_require_admin(context, request->user_id);
    if (code) return code;
    char password[ONE_TIME_PASSWORD_SIZE], hash[PASSWORD_HASH_SIZE];
    one_time_password(password);
    code = hash_password(password, hash);
    if (!code) code = store_reset_password(context, request, hash);
    if (!code) {
        ret_reply->success = true;
        ret_reply->password = xstrdup(password);
    }
    memory_wipe(password, sizeof password);
    return code;
}
