/*
 * test_auth_handlers.c: what auth's handlers decide, with the test's own store in place of SQL.
 *
 * The functions of store.h are defined here, so the linker leaves store.c out: each answers what `fake` says and notes
 * what it was asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "services/auth/auth.h"
#include "services/auth/store.h"
#include "services/lib/token.h"

enum { COST = 5 };
static char secret[] = "0123456789abcdef0123456789abcdef-test";

static struct {
    int code; /* what every function answers */
    int64_t retry_after;
    const char *user_id;
    const char *password_hash;
    enum sign_in_outcome begin_outcome, finish_outcome;
    enum refresh_outcome refresh_outcome;
    int login_begins, login_finishes, signup_begins, signup_finishes, changes, resets, refreshes, logouts;
    char *hash; /* the last hash that was to be stored, or NULL */
    char refresh_hash[TOKEN_HASH_SIZE];
} fake;

/* --- the store ---------------------------------------------------------------------------------------------------- */

static void note_hash(const char *hash) {
    free(fake.hash);
    fake.hash = xstrdup_or_null(hash);
}

static void note_refresh_hash(const char *hash) {
    snprintf(fake.refresh_hash, sizeof fake.refresh_hash, "%s", hash ? hash : "");
}

void attempt_release(struct attempt *self) {
    free(self->user_id);
    free(self->password_hash);
    *self = (struct attempt){ 0 };
}

static int attempt(struct attempt *ret_attempt) {
    if (fake.code) return fake.code;
    *ret_attempt = (struct attempt){ .retry_after = fake.retry_after,
        .user_id = xstrdup_or_null(fake.user_id),
        .password_hash = xstrdup_or_null(fake.password_hash) };
    return 0;
}

int store_login_begin(
    struct service_context *context, const char *email, const char *address, struct attempt *ret_attempt) {
    (void)context;
    (void)email;
    (void)address;
    fake.login_begins++;
    return attempt(ret_attempt);
}

int store_password_begin(
    struct service_context *context, const char *user_id, const char *address, struct attempt *ret_attempt) {
    (void)context;
    (void)user_id;
    (void)address;
    return attempt(ret_attempt);
}

void signed_in_release(struct signed_in *self) {
    free(self->session_id);
    message_release(&user_profile_descriptor, &self->user);
    *self = (struct signed_in){ 0 };
}

static int signed_in(enum sign_in_outcome outcome, const struct new_session *session, struct signed_in *ret_signed_in) {
    if (fake.code) return fake.code;
    note_refresh_hash(session->refresh_hash);
    *ret_signed_in = (struct signed_in){ .outcome = outcome };
    if (outcome != SIGN_IN_DONE) return 0;
    ret_signed_in->session_id = xstrdup("sess_1");
    ret_signed_in->refresh_token_expires_at = 1234;
    ret_signed_in->user = (struct user_profile){ .id = xstrdup("user_1"),
        .email = xstrdup("test@bore.com"),
        .name = xstrdup("Test"),
        .plan = xstrdup("trial"),
        .plan_expires = 99,
        .has_plan_expires = true,
        .is_admin = true };
    return 0;
}

int store_login_finish(struct service_context *context, const char *user_id, const char *verified_hash,
    const char *renewed_hash, const struct new_session *session, struct signed_in *ret_signed_in) {
    (void)context;
    fake.login_finishes++;
    assert_string_equal(user_id, fake.user_id);
    assert_string_equal(verified_hash, fake.password_hash);
    note_hash(renewed_hash);
    return signed_in(fake.finish_outcome, session, ret_signed_in);
}

int store_signup_begin(struct service_context *context, const struct signup *request, int64_t *ret_retry_after,
    enum sign_in_outcome *ret_outcome) {
    (void)context;
    (void)request;
    fake.signup_begins++;
    *ret_retry_after = fake.retry_after;
    *ret_outcome = fake.begin_outcome;
    return fake.code;
}

int store_signup_finish(struct service_context *context, const struct signup *request, const char *hash,
    const struct new_session *session, struct signed_in *ret_signed_in) {
    (void)context;
    (void)request;
    fake.signup_finishes++;
    note_hash(hash);
    return signed_in(fake.finish_outcome, session, ret_signed_in);
}

int store_password_change(struct service_context *context, const struct change_password *request,
    const char *verified_hash, const char *new_hash) {
    (void)context;
    (void)request;
    assert_string_equal(verified_hash, fake.password_hash);
    fake.changes++;
    note_hash(new_hash);
    return fake.code;
}

int store_require_admin(struct service_context *context, const char *user_id) {
    (void)context;
    (void)user_id;
    return fake.code;
}

int store_reset_password(
    struct service_context *context, const struct admin_reset_password *request, const char *new_hash) {
    (void)context;
    (void)request;
    fake.resets++;
    note_hash(new_hash);
    return fake.code;
}

void refreshed_release(struct refreshed *self) {
    free(self->session_id);
    free(self->user_id);
    free(self->email);
    *self = (struct refreshed){ 0 };
}

int store_refresh(struct service_context *context, const char *old_hash, const struct new_session *successor,
    struct refreshed *ret_refreshed) {
    (void)context;
    assert_string_not_equal(old_hash, successor->refresh_hash);
    fake.refreshes++;
    note_hash(old_hash);
    note_refresh_hash(successor->refresh_hash);
    *ret_refreshed = (struct refreshed){ .outcome = fake.refresh_outcome };
    if (fake.code || fake.refresh_outcome != REFRESH_DONE) return fake.code;
    ret_refreshed->session_id = xstrdup("sess_1");
    ret_refreshed->user_id = xstrdup("user_1");
    ret_refreshed->email = xstrdup("test@bore.com");
    ret_refreshed->refresh_token_expires_at = 77;
    return 0;
}

int store_logout(struct service_context *context, const struct logout *request, const char *refresh_hash) {
    (void)context;
    (void)request;
    fake.logouts++;
    note_refresh_hash(refresh_hash);
    return fake.code;
}

/* --- the tests' tools --------------------------------------------------------------------------------------------- */

static struct auth_state state_of_auth;
static struct service_context context;
static char password_hash_of_test123[PASSWORD_HASH_SIZE];

static int setup_group(void **state) {
    (void)state;
    config.jwt_secret = secret;
    config.jwt_ttl_ms = 3600 * 1000;
    config.bcrypt_cost = COST;
    config.password_min_length = 6;
    assert_int_equal(password_hash("test123", COST, password_hash_of_test123), 0);
    return password_checker_init(&state_of_auth.checker, COST);
}

static int setup(void **state) {
    (void)state;
    static char open[] = "open";
    note_hash(NULL);
    memset(&fake, 0, sizeof fake);
    fake.user_id = "user_1";
    fake.password_hash = password_hash_of_test123;
    fake.begin_outcome = SIGN_UP_NEW;
    config.signup = open;
    context = (struct service_context){ .state = &state_of_auth };
    return 0;
}

static int teardown(void **state) {
    (void)state;
    note_hash(NULL);
    message_release(&error_reply_descriptor, &context.error);
    return 0;
}

/* Signs in; the reply is released unless wanted. */
static int login(const char *password, struct signed_in_reply *ret_reply) {
    char given[100], email[] = "test@bore.com", address[] = "127.0.0.1";
    struct signed_in_reply reply = { 0 };
    snprintf(given, sizeof given, "%s", password);
    struct login request = { .email = email, .password = given, .address = address };
    int code = auth_login(&context, &request, &reply);
    if (ret_reply) {
        *ret_reply = reply;
    } else {
        message_release(&signed_in_reply_descriptor, &reply);
    }
    return code;
}

static int signup(const char *name, const char *email, const char *password, struct signed_in_reply *ret_reply) {
    char given[200], address[] = "127.0.0.1";
    struct signed_in_reply reply = { 0 };
    snprintf(given, sizeof given, "%s", password);
    struct signup request = {
        .name = (char *)(uintptr_t)name, .email = (char *)(uintptr_t)email, .password = given, .address = address
    };
    int code = auth_signup(&context, &request, &reply);
    if (ret_reply) {
        *ret_reply = reply;
    } else {
        message_release(&signed_in_reply_descriptor, &reply);
    }
    return code;
}

/* The reply is whole: it can be encoded, its token is ours, its refresh token is the one whose hash was stored. */
static void check_signed_in(const struct signed_in_reply *reply) {
    _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
    assert_int_equal(message_encode(&signed_in_reply_descriptor, reply, &bytes), 0);
    struct token_claims claims;
    assert_int_equal(token_verify(secret, reply->token, clock_wall_ms() / 1000, &claims), 0);
    assert_string_equal(claims.user_id, "user_1");
    assert_string_equal(claims.session_id, "sess_1");
    assert_string_equal(claims.email, "test@bore.com");
    assert_true(claims.is_admin);
    assert_int_equal(claims.expires_at - claims.issued_at, 3600);
    char hash[TOKEN_HASH_SIZE];
    sha256_hex(reply->refresh_token, strlen(reply->refresh_token), hash);
    assert_string_equal(hash, fake.refresh_hash);
    assert_int_equal(strlen(reply->refresh_token), 67);
    assert_int_equal(reply->refresh_token_expires_at, 1234);
    assert_string_equal(reply->user_id, "user_1");
    assert_string_equal(reply->user->name, "Test");
}

/* --- signing in --------------------------------------------------------------------------------------------------- */

static void test_login(void **state) {
    (void)state;
    struct signed_in_reply reply;
    assert_int_equal(login("test123", &reply), 0);
    check_signed_in(&reply);
    assert_null(fake.hash);
    message_release(&signed_in_reply_descriptor, &reply);
}

static void test_login_refusals_are_alike(void **state) {
    (void)state;
    assert_int_equal(login("wrong", NULL), ERR_INVALID_CREDENTIALS);
    fake.user_id = NULL; /* disabled, with the right password */
    assert_int_equal(login("test123", NULL), ERR_INVALID_CREDENTIALS);
    fake.password_hash = NULL; /* unknown */
    assert_int_equal(login("test123", NULL), ERR_INVALID_CREDENTIALS);
    assert_null(context.error.message);
    assert_int_equal(fake.login_finishes, 0);
}

static void test_login_of_changed_account(void **state) {
    (void)state;
    fake.finish_outcome = SIGN_IN_CHANGED;
    assert_int_equal(login("test123", NULL), ERR_INVALID_CREDENTIALS);
}

static void test_login_throttled(void **state) {
    (void)state;
    fake.retry_after = 30;
    assert_int_equal(login("test123", NULL), ERR_TOO_MANY_REQUESTS);
    assert_int_equal(context.error.retry_after, 30);
    assert_int_equal(fake.login_finishes, 0);
}

static void test_login_too_late(void **state) {
    (void)state;
    context.deadline_ms = clock_monotonic_ms() + 5;
    assert_int_equal(login("test123", NULL), ERR_OVERLOADED);
    assert_true(context.error.retry_after > 0);
    assert_int_equal(fake.login_begins, 0);
    context.deadline_ms = clock_monotonic_ms() + 2000;
    assert_int_equal(login("test123", NULL), 0);
}

static void test_login_without_database(void **state) {
    (void)state;
    fake.code = ERR_UNAVAILABLE;
    assert_int_equal(login("test123", NULL), ERR_UNAVAILABLE);
}

static void test_login_renews_cheap_hash(void **state) {
    (void)state;
    char cheap[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash("test123", COST - 1, cheap), 0);
    fake.password_hash = cheap;
    assert_int_equal(login("test123", NULL), 0);
    assert_non_null(fake.hash);
    assert_memory_equal(fake.hash, "$2b$05$", 7);
    assert_true(password_verify("test123", fake.hash));
}

/* --- signing up --------------------------------------------------------------------------------------------------- */

static void test_signup(void **state) {
    (void)state;
    struct signed_in_reply reply;
    assert_int_equal(signup("Test", "test@bore.com", "test123", &reply), 0);
    check_signed_in(&reply);
    assert_true(password_verify("test123", fake.hash));
    message_release(&signed_in_reply_descriptor, &reply);
}

static void test_signup_names_every_bad_field(void **state) {
    (void)state;
    assert_int_equal(signup(" ", "nonsense", "short", NULL), ERR_VALIDATION);
    assert_int_equal(context.error.details_count, 3);
    assert_string_equal(context.error.details[0].field, "name");
    assert_string_equal(context.error.details[1].field, "email");
    assert_string_equal(context.error.details[2].field, "password");
    assert_int_equal(fake.signup_begins, 0);
}

static void test_signup_password_too_long(void **state) {
    (void)state;
    char password[74];
    memset(password, 'x', 73);
    password[73] = '\0';
    assert_int_equal(signup("Test", "test@bore.com", password, NULL), ERR_VALIDATION);
    assert_int_equal(context.error.details_count, 1);
}

static void test_signup_closed(void **state) {
    (void)state;
    static char closed[] = "closed";
    config.signup = closed;
    assert_int_equal(signup("Test", "test@bore.com", "test123", NULL), ERR_SIGNUP_CLOSED);
    assert_int_equal(fake.signup_begins, 0);
}

static void test_signup_throttled(void **state) {
    (void)state;
    fake.retry_after = 5;
    assert_int_equal(signup("Test", "test@bore.com", "test123", NULL), ERR_TOO_MANY_REQUESTS);
    assert_int_equal(context.error.retry_after, 5);
    assert_int_equal(fake.signup_finishes, 0);
}

static void test_signup_obstacles(void **state) {
    (void)state;
    fake.begin_outcome = SIGN_UP_EXISTS;
    assert_int_equal(signup("Test", "test@bore.com", "test123", NULL), ERR_USER_EXISTS);
    fake.begin_outcome = SIGN_UP_CONFLICT;
    assert_int_equal(signup("Test", "test@bore.com", "test123", NULL), ERR_IDEMPOTENCY_CONFLICT);
    assert_int_equal(fake.signup_finishes, 0);
    fake.begin_outcome = SIGN_UP_NEW; /* two at once: the other was first */
    fake.finish_outcome = SIGN_UP_EXISTS;
    assert_int_equal(signup("Test", "test@bore.com", "test123", NULL), ERR_USER_EXISTS);
    assert_int_equal(fake.signup_finishes, 1);
    assert_int_equal(fake.login_begins, 0);
}

static void test_signup_replay(void **state) {
    (void)state;
    struct signed_in_reply reply;
    fake.begin_outcome = SIGN_UP_REPLAY;
    assert_int_equal(signup("Test", "test@bore.com", "test123", &reply), 0);
    check_signed_in(&reply);
    message_release(&signed_in_reply_descriptor, &reply);
    assert_int_equal(signup("Test", "test@bore.com", "another", NULL), ERR_IDEMPOTENCY_CONFLICT);
    assert_int_equal(fake.signup_finishes, 0);
    fake.retry_after = 9; /* guessing this way is throttled as everywhere */
    fake.begin_outcome = SIGN_UP_NEW;
    assert_int_equal(signup("Test", "test@bore.com", "another", NULL), ERR_TOO_MANY_REQUESTS);
}

/* --- passwords ---------------------------------------------------------------------------------------------------- */

static int change_password(const char *present, const char *wanted) {
    char user[] = "user_1", address[] = "127.0.0.1", session[] = "sess_1", given[100], fresh[100];
    snprintf(given, sizeof given, "%s", present);
    snprintf(fresh, sizeof fresh, "%s", wanted);
    struct change_password request = {
        .user_id = user, .token_session = session, .current_password = given, .new_password = fresh, .address = address
    };
    struct success_reply reply = { 0 };
    int code = auth_change_password(&context, &request, &reply);
    assert_int_equal(reply.success, code == 0);
    return code;
}

static void test_change_password(void **state) {
    (void)state;
    assert_int_equal(change_password("test123", "newer123"), 0);
    assert_true(password_verify("newer123", fake.hash));
}

static void test_change_password_refused(void **state) {
    (void)state;
    assert_int_equal(change_password("test123", "tiny"), ERR_VALIDATION);
    assert_string_equal(context.error.details[0].field, "new_password");
    assert_int_equal(change_password("wrong", "newer123"), ERR_INVALID_CREDENTIALS);
    fake.user_id = NULL;
    assert_int_equal(change_password("test123", "newer123"), ERR_INVALID_CREDENTIALS);
    fake.retry_after = 3;
    assert_int_equal(change_password("test123", "newer123"), ERR_TOO_MANY_REQUESTS);
    fake.code = ERR_UNAUTHORIZED;
    assert_int_equal(change_password("test123", "newer123"), ERR_UNAUTHORIZED);
    assert_int_equal(fake.changes, 0);
}

static int reset_password(struct admin_reset_password_reply *ret_reply) {
    char admin[] = "user_1", target[] = "user_2", address[] = "127.0.0.1";
    struct admin_reset_password request = { .user_id = admin, .target_id = target, .address = address };
    *ret_reply = (struct admin_reset_password_reply){ 0 };
    return auth_reset_password(&context, &request, ret_reply);
}

static void test_reset_password(void **state) {
    (void)state;
    struct admin_reset_password_reply reply;
    assert_int_equal(reset_password(&reply), 0);
    assert_true(reply.success);
    assert_true(password_verify(reply.password, fake.hash));
    message_release(&admin_reset_password_reply_descriptor, &reply);
    fake.code = ERR_FORBIDDEN;
    fake.resets = 0;
    assert_int_equal(reset_password(&reply), ERR_FORBIDDEN);
    assert_null(reply.password);
    assert_int_equal(fake.resets, 0);
}

/* --- tokens ------------------------------------------------------------------------------------------------------- */

static int refresh(const char *token, struct refresh_reply *ret_reply) {
    char address[] = "127.0.0.1";
    struct refresh request = { .refresh_token = (char *)(uintptr_t)token, .address = address };
    *ret_reply = (struct refresh_reply){ 0 };
    return auth_refresh(&context, &request, ret_reply);
}

static void test_refresh(void **state) {
    (void)state;
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    struct refresh_reply reply;
    assert_int_equal(refresh(pair.token, &reply), 0);
    assert_string_equal(fake.hash, pair.hash);
    struct token_claims claims;
    assert_int_equal(token_verify(secret, reply.token, clock_wall_ms() / 1000, &claims), 0);
    assert_false(claims.is_admin);
    char hash[TOKEN_HASH_SIZE];
    sha256_hex(reply.refresh_token, strlen(reply.refresh_token), hash);
    assert_string_equal(hash, fake.refresh_hash);
    assert_int_equal(reply.refresh_token_expires_at, 77);
    message_release(&refresh_reply_descriptor, &reply);
}

static void test_refresh_refused(void **state) {
    (void)state;
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    struct refresh_reply reply;
    fake.refresh_outcome = REFRESH_UNKNOWN;
    assert_int_equal(refresh(pair.token, &reply), ERR_UNAUTHORIZED);
    fake.refresh_outcome = REFRESH_REUSED;
    assert_int_equal(refresh(pair.token, &reply), ERR_UNAUTHORIZED);
    fake.refresh_outcome = REFRESH_LIMITED;
    assert_int_equal(refresh(pair.token, &reply), ERR_TOO_MANY_REQUESTS);
    assert_int_equal(context.error.retry_after, 60);
    fake.code = ERR_UNAVAILABLE;
    assert_int_equal(refresh(pair.token, &reply), ERR_UNAVAILABLE);
    assert_null(reply.token);
}

static void test_refresh_of_nonsense(void **state) {
    (void)state;
    struct refresh_reply reply;
    assert_int_equal(refresh("", &reply), ERR_UNAUTHORIZED);
    assert_int_equal(refresh("rt_", &reply), ERR_UNAUTHORIZED);
    assert_int_equal(
        refresh("tk_0123456789012345678901234567890123456789012345678901234567890123", &reply), ERR_UNAUTHORIZED);
    assert_int_equal(fake.refreshes, 0);
}

static void test_logout(void **state) {
    (void)state;
    char user[] = "user_1", session[] = "sess_1", address[] = "127.0.0.1";
    struct logout request = { .user_id = user, .token_session = session, .address = address };
    struct success_reply reply = { 0 };
    assert_int_equal(auth_logout(&context, &request, &reply), 0);
    assert_true(reply.success);
    assert_string_equal(fake.refresh_hash, "");
    struct refresh_pair pair;
    refresh_pair_make(&pair);
    request.refresh_token = pair.token;
    assert_int_equal(auth_logout(&context, &request, &reply), 0);
    assert_string_equal(fake.refresh_hash, pair.hash);
    assert_int_equal(fake.logouts, 2);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_login),
        TEST(test_login_refusals_are_alike),
        TEST(test_login_of_changed_account),
        TEST(test_login_throttled),
        TEST(test_login_too_late),
        TEST(test_login_without_database),
        TEST(test_login_renews_cheap_hash),
        TEST(test_signup),
        TEST(test_signup_names_every_bad_field),
        TEST(test_signup_password_too_long),
        TEST(test_signup_closed),
        TEST(test_signup_throttled),
        TEST(test_signup_obstacles),
        TEST(test_signup_replay),
        TEST(test_change_password),
        TEST(test_change_password_refused),
        TEST(test_reset_password),
        TEST(test_refresh),
        TEST(test_refresh_refused),
        TEST(test_refresh_of_nonsense),
        TEST(test_logout),
    };
    return cmocka_run_group_tests(tests, setup_group, NULL);
}
