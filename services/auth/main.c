/*
 * main.c: auth: users, sessions, plans. Its tables and their wiring; see services/lib/service.h.
 *
 * Serves API.md "Authentication" and, of "Admin", users and audit, on two lanes: "auth.password" for what computes a
 * password hash (accounts.c), with threads of its own that yield to everything else and a bounded queue, and "auth" for
 * the rest, most of it one SQL call each, right here. Revocations are read by gateway and stream every 500 ms.
 * Emits `user.revoked` and `instance.deleted` through the event log. Settings: those marked AUTH in config.def.
 * When the database is gone, every answer is `unavailable`.
 */
#include "services/auth/auth.h"

HANDLER(on_signup, signup, signed_in_reply) {
    return auth_signup(context, request, ret_reply);
}
HANDLER(on_login, login, signed_in_reply) {
    return auth_login(context, request, ret_reply);
}
HANDLER(on_change_password, change_password, success_reply) {
    return auth_change_password(context, request, ret_reply);
}
HANDLER(on_reset_password, admin_reset_password, admin_reset_password_reply) {
    return auth_reset_password(context, request, ret_reply);
}
HANDLER(on_refresh, refresh, refresh_reply) {
    return auth_refresh(context, request, ret_reply);
}
HANDLER(on_logout, logout, success_reply) {
    return auth_logout(context, request, ret_reply);
}

static const struct service_handler handlers[] = {
    { MSG_SIGNUP, on_signup },
    { MSG_LOGIN, on_login },
    { MSG_CHANGE_PASSWORD, on_change_password },
    { MSG_ADMIN_RESET_PASSWORD, on_reset_password },
    { MSG_REFRESH, on_refresh },
    { MSG_LOGOUT, on_logout },
    { 0 },
};

static const struct service_query queries[] = {
    { .method = MSG_ME,
        .sql = "SELECT id, email, name, plan, bore.ms(plan_expires) AS plan_expires, is_admin, "
               "bore.ms(created_at) AS created_at FROM bore.users WHERE id = :user_id AND NOT disabled",
        .none = ERR_UNAUTHORIZED },
    { .method = MSG_CLAIM_PLAN,
        .sql = "SELECT * FROM bore.claim_plan(:user_id, :plan, :config.pro_self_service, :address)" },
    { .method = MSG_LOGOUT_ALL, .sql = "SELECT * FROM bore.logout_all(:user_id, :address)" },
    { .method = MSG_SESSION_LIST,
        .sql = "SELECT * FROM bore.session_list(:user_id, :token_session, coalesce(:limit::integer, 100), :cursor)",
        .list = "sessions" },
    { .method = MSG_SESSION_DELETE, .sql = "SELECT * FROM bore.session_delete(:user_id, :session_id, :address)" },
    { .method = MSG_REVOCATIONS,
        .sql = "SELECT next AS cursor, more, session_ids FROM bore.revocations_since(:cursor, 20000)" },
    { .method = MSG_TOKEN_CHECK,
        .sql = "SELECT true AS valid, users.is_admin FROM bore.sessions JOIN bore.users ON users.id = user_id "
               "WHERE sessions.id = :token_session AND user_id = :user_id AND revoked_at IS NULL AND NOT disabled" },
    { .method = MSG_ADMIN_USER_LIST,
        .sql = "SELECT * FROM bore.admin_user_list(:user_id, :q, coalesce(:limit::integer, 100), :cursor)",
        .list = "users" },
    { .method = MSG_ADMIN_USER_ACTION,
        .sql = "SELECT * FROM bore.admin_user_action(:user_id, :target_id, :action, :address)" },
    { .method = MSG_ADMIN_SET_PLAN,
        .sql = "SELECT * FROM bore.admin_set_plan(:user_id, :target_id, :plan, :days, :address)" },
    { .method = MSG_ADMIN_AUDIT,
        .sql = "SELECT * FROM bore.admin_audit(:user_id, coalesce(:limit::integer, 100), :cursor)",
        .list = "entries" },
    { 0 },
};

static const struct service_timer timers[] = {
    { .interval_ms = 60 * 1000, .function = auth_sweep, .name = "sweep" },
    { 0 },
};

/* Sixty-four sign-ins are about as many as two threads finish before their callers' deadline. */
static const struct service_lane *lanes(void) {
    static struct service_lane table[] = {
        { .name = "auth", .threads = 3, .credits = 256 },
        { .name = "auth.password", .credits = 64, .nice = 10 },
        { 0 },
    };
    table[1].threads = (int)config.password_threads;
    return table;
}

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){
            .name = "auth",
            .purpose = "Users, sessions and plans.",
            .process = AUTH,
            .database = true,
            .ping_method = MSG_PING_AUTH,
            .lanes = lanes,
            .handlers = handlers,
            .queries = queries,
            .timers = timers,
            .init = auth_init,
            .release = auth_release,
        });
}
