/*
 * store.c: the SQL that auth's handlers need beside what main.c's table of queries says.
 *
 * Everything of consequence is in the functions of sql/010 to 012; here parameters go in and columns come out. When a
 * call fails nothing was changed, save for a connection lost while it ran (`unavailable`: a caller may look again).
 */
#include "services/auth/store.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/event_log.h"
#include "services/lib/query.h"

/* --- calls and columns -------------------------------------------------------------------------------------------- */

static const char *text_column(const struct db_result *result, const char *name) {
    int column = db_result_column(result, name);
    return column < 0 ? NULL : db_result_text(result, 0, (size_t)column);
}

static int64_t int_column(const struct db_result *result, const char *name) {
    int column = db_result_column(result, name);
    return column < 0 ? 0 : db_result_int(result, 0, (size_t)column, 0);
}

/* Runs one call and publishes what it appended to the event log. Releases params. */
static int call(struct service_context *context, const struct db_statement *statement, struct db_params *params,
    struct db_result **ret_result) {
    int error = db_run(context->db, statement, params, ret_result);
    db_params_release(params);
    if (error) return service_fail_database(context, error);
    const char *events = db_result_rows(*ret_result) > 0 ? text_column(*ret_result, "events") : NULL;
    if (events) event_log_publish(context->bus, events);
    return 0;
}

/* What a session needs: refresh_hash, refresh_ttl_ms, token_ttl_ms. */
static void add_session_lives(struct db_params *params, const struct new_session *session) {
    db_params_add_text(params, session->refresh_hash);
    db_params_add_int(params, config.refresh_ttl_ms);
    db_params_add_int(params, config.jwt_ttl_ms);
}

/* --- attempts ------------------------------------------------------------------------------------------------------
 */

void attempt_release(struct attempt *self) {
    free(self->user_id);
    free(self->password_hash);
    *self = (struct attempt){ 0 };
}

/* retry_after, user_id and password_hash for an account and an address; no row is `none`. */
static int begin_attempt(struct service_context *context, const struct db_statement *statement, const char *account,
    const char *address, int none, struct attempt *ret_attempt) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, account);
    db_params_add_text(&params, address);
    db_params_add_int(&params, config.login_failures_per_account);
    db_params_add_int(&params, config.login_failures_per_address);
    int code = call(context, statement, &params, &result);
    if (!code && db_result_rows(result) == 0) code = none;
    if (code) return code;
    ret_attempt->retry_after = int_column(result, "retry_after");
    ret_attempt->user_id = xstrdup_or_null(text_column(result, "user_id"));
    ret_attempt->password_hash = xstrdup_or_null(text_column(result, "password_hash"));
    return 0;
}

int store_login_begin(
    struct service_context *context, const char *email, const char *address, struct attempt *ret_attempt) {
    static const struct db_statement statement = { "login_begin", "SELECT * FROM bore.login_begin($1, $2, $3, $4)" };
    return begin_attempt(context, &statement, email, address, ERR_INTERNAL, ret_attempt);
}

int store_password_begin(
    struct service_context *context, const char *user_id, const char *address, struct attempt *ret_attempt) {
    static const struct db_statement statement = { "password_begin",
        "SELECT * FROM bore.password_begin($1, $2, $3, $4)" };
    return begin_attempt(context, &statement, user_id, address, ERR_UNAUTHORIZED, ret_attempt);
}

/* --- signing in and up ---------------------------------------------------------------------------------------------
 */

void signed_in_release(struct signed_in *self) {
    free(self->session_id);
    message_release(&user_profile_descriptor, &self->user);
    *self = (struct signed_in){ 0 };
}

static enum sign_in_outcome sign_in_outcome(const char *word) {
    static const struct {
        const char *word;
        enum sign_in_outcome outcome;
    } words[] = {
        { "signed_in", SIGN_IN_DONE },
        { "new", SIGN_UP_NEW },
        { "replay", SIGN_UP_REPLAY },
        { "conflict", SIGN_UP_CONFLICT },
    };
    for (size_t i = 0; word && i < ARRAY_SIZE(words); i++)
        if (strcmp(word, words[i].word) == 0) return words[i].outcome;
    return SIGN_UP_EXISTS;
}

/* Reads a row of type bore.signed_in. */
static int read_signed_in(const struct db_result *result, struct signed_in *ret_signed_in) {
    *ret_signed_in = (struct signed_in){ .outcome = SIGN_IN_CHANGED };
    if (db_result_rows(result) == 0) return 0;
    ret_signed_in->outcome = sign_in_outcome(text_column(result, "outcome"));
    if (ret_signed_in->outcome != SIGN_IN_DONE) return 0;
    ret_signed_in->session_id = xstrdup_or_null(text_column(result, "session_id"));
    ret_signed_in->refresh_token_expires_at = int_column(result, "refresh_token_expires_at");
    if (query_row_to_message(result, 0, &user_profile_descriptor, &ret_signed_in->user) == 0) return 0;
    log_error("a user's row does not fit the message user_profile");
    signed_in_release(ret_signed_in);
    return ERR_INTERNAL;
}

int store_login_finish(struct service_context *context, const char *user_id, const char *verified_hash,
    const char *renewed_hash, const struct new_session *session, struct signed_in *ret_signed_in) {
    static const struct db_statement statement = { "login_finish",
        "SELECT * FROM bore.login_finish($1, $2, $3, $4, $5, $6, $7, $8, $9)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, user_id);
    db_params_add_text(&params, verified_hash);
    db_params_add_text(&params, renewed_hash);
    add_session_lives(&params, session);
    db_params_add_int(&params, config.sessions_per_user);
    db_params_add_text(&params, session->address);
    db_params_add_text(&params, session->user_agent);
    int code = call(context, &statement, &params, &result);
    return code ? code : read_signed_in(result, ret_signed_in);
}

int store_signup_begin(struct service_context *context, const struct signup *request, int64_t *ret_retry_after,
    enum sign_in_outcome *ret_outcome) {
    static const struct db_statement statement = { "signup_begin",
        "SELECT * FROM bore.signup_begin($1, $2, $3, $4, $5)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, request->name);
    db_params_add_text(&params, request->email);
    db_params_add_text(&params, request->idempotency_key);
    db_params_add_text(&params, request->address);
    db_params_add_int(&params, config.signups_per_address);
    int code = call(context, &statement, &params, &result);
    if (code) return code;
    *ret_retry_after = int_column(result, "retry_after");
    *ret_outcome = sign_in_outcome(text_column(result, "outcome"));
    return 0;
}

int store_signup_finish(struct service_context *context, const struct signup *request, const char *hash,
    const struct new_session *session, struct signed_in *ret_signed_in) {
    static const struct db_statement statement = { "signup_finish",
        "SELECT * FROM bore.signup_finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, request->name);
    db_params_add_text(&params, request->email);
    db_params_add_text(&params, hash);
    db_params_add_text(&params, request->idempotency_key);
    add_session_lives(&params, session);
    db_params_add_int(&params, config.sessions_per_user);
    db_params_add_text(&params, session->address);
    db_params_add_text(&params, session->user_agent);
    int code = call(context, &statement, &params, &result);
    return code ? code : read_signed_in(result, ret_signed_in);
}

/* --- passwords -----------------------------------------------------------------------------------------------------
 */

int store_password_change(struct service_context *context, const struct change_password *request,
    const char *verified_hash, const char *new_hash) {
    static const struct db_statement statement = { "password_change",
        "SELECT * FROM bore.password_change($1, $2, $3, $4, $5)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, request->user_id);
    db_params_add_text(&params, verified_hash);
    db_params_add_text(&params, new_hash);
    db_params_add_text(&params, request->token_session);
    db_params_add_text(&params, request->address);
    int code = call(context, &statement, &params, &result);
    if (!code && db_result_rows(result) == 0) code = ERR_INVALID_CREDENTIALS;
    return code;
}

int store_require_admin(struct service_context *context, const char *user_id) {
    static const struct db_statement statement = { "require_admin", "SELECT bore.require_admin($1)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, user_id);
    return call(context, &statement, &params, &result);
}

int store_reset_password(
    struct service_context *context, const struct admin_reset_password *request, const char *new_hash) {
    static const struct db_statement statement = { "admin_reset_password",
        "SELECT * FROM bore.admin_reset_password($1, $2, $3, $4)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, request->user_id);
    db_params_add_text(&params, request->target_id);
    db_params_add_text(&params, new_hash);
    db_params_add_text(&params, request->address);
    return call(context, &statement, &params, &result);
}

/* --- sessions ------------------------------------------------------------------------------------------------------
 */

void refreshed_release(struct refreshed *self) {
    free(self->session_id);
    free(self->user_id);
    free(self->email);
    *self = (struct refreshed){ 0 };
}

static enum refresh_outcome refresh_outcome(const char *word) {
    if (strcmp(word, "rotated") == 0) return REFRESH_DONE;
    return strcmp(word, "limited") == 0 ? REFRESH_LIMITED : REFRESH_REUSED;
}

int store_refresh(struct service_context *context, const char *old_hash, const struct new_session *successor,
    struct refreshed *ret_refreshed) {
    static const struct db_statement statement = { "session_refresh",
        "SELECT * FROM bore.session_refresh($1, $2, $3, $4, $5, $6)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, old_hash);
    add_session_lives(&params, successor);
    db_params_add_text(&params, successor->address);
    db_params_add_text(&params, successor->user_agent);
    int code = call(context, &statement, &params, &result);
    if (code) return code;
    *ret_refreshed = (struct refreshed){ .outcome = REFRESH_UNKNOWN };
    if (db_result_rows(result) == 0) return 0;
    *ret_refreshed = (struct refreshed){
        .outcome = refresh_outcome(text_column(result, "outcome")),
        .session_id = xstrdup_or_null(text_column(result, "session_id")),
        .user_id = xstrdup_or_null(text_column(result, "user_id")),
        .email = xstrdup_or_null(text_column(result, "email")),
        .is_admin = db_result_bool(result, 0, (size_t)db_result_column(result, "is_admin"), false),
        .refresh_token_expires_at = int_column(result, "refresh_token_expires_at"),
    };
    return 0;
}

int store_logout(struct service_context *context, const struct logout *request, const char *refresh_hash) {
    static const struct db_statement statement = { "logout", "SELECT * FROM bore.logout($1, $2, $3, $4)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, request->user_id);
    db_params_add_text(&params, request->token_session);
    db_params_add_text(&params, refresh_hash);
    db_params_add_text(&params, request->address);
    return call(context, &statement, &params, &result);
}

/* --- upkeep --------------------------------------------------------------------------------------------------------
 */

int store_ensure_admin(struct service_context *context, const char *hash, char ret_outcome[16]) {
    static const struct db_statement statement = { "ensure_admin", "SELECT bore.ensure_admin($1, $2, $3) AS outcome" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, config.admin_email);
    db_params_add_text(&params, config.admin_name);
    db_params_add_text(&params, hash);
    int code = call(context, &statement, &params, &result);
    if (code) return code;
    snprintf(ret_outcome, 16, "%s", text_column(result, "outcome"));
    return 0;
}

int store_sweep(struct service_context *context, int64_t most, int64_t *ret_removed) {
    static const struct db_statement statement = { "auth_sweep", "SELECT bore.auth_sweep($1) AS removed" };
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, most);
    int code = call(context, &statement, &params, &result);
    if (code) return code;
    *ret_removed = int_column(result, "removed");
    return 0;
}
