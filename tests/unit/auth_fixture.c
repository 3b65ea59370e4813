/* auth_fixture.c: see auth_fixture.h. */
#include "tests/unit/auth_fixture.h"

#include "tests/unit/sql_client.h"

void fixture_clear(struct db *connection) {
    sql_run(connection,
        "TRUNCATE bore.users, bore.sessions, bore.refresh_tokens, bore.revoked_sessions, bore.login_throttle, "
        "bore.audit, bore.idempotency, bore.events, bore.status_history, bore.waiting, "
        "bore.heartbeats, bore.tunnel_tokens, bore.tunnel_sessions CASCADE");
}

const char *fixture_make_user(struct db *connection, const char *email) {
    return sql_ask(connection,
        "INSERT INTO bore.users (id, email, name, password_hash, plan_expires) "
        "VALUES (bore.new_id('user'), $1, 'Test', 'hash', now() + interval '1 day') RETURNING id",
        email);
}

const char *fixture_make_admin(struct db *connection, const char *email) {
    const char *id = fixture_make_user(connection, email);
    sql_ask(connection, "UPDATE bore.users SET is_admin = true WHERE id = $1", id);
    return id;
}

const char *fixture_open_session(struct db *connection, const char *user, const char *letter, const char *address) {
    return sql_ask(connection,
        "SELECT session_id FROM bore.login_finish($1, 'hash', NULL, repeat($2, 64), " DAYS_30 ", " DAYS_7
        ", 100, $3, 'agent')",
        user, letter, address);
}

const char *fixture_refresh(struct db *connection, const char *old_letter, const char *new_letter) {
    return sql_ask(connection,
        "SELECT outcome FROM bore.session_refresh(repeat($1, 64), repeat($2, 64), " DAYS_30 ", " DAYS_7
        ", '9.9.9.9', NULL)",
        old_letter, new_letter);
}

long long fixture_begin_login(struct db *connection, const char *email, const char *address) {
    return sql_number(connection, "SELECT retry_after FROM bore.login_begin($1, $2, 10, 50)", email, address);
}

void fixture_expire_windows(struct db *connection) {
    sql_run(connection, "UPDATE bore.login_throttle SET window_start = now() - interval '16 minutes'");
}

bool fixture_is_revoked(struct db *connection, const char *session) {
    return sql_number(connection, "SELECT count(*) FROM bore.revoked_sessions WHERE session_id = $1", session) == 1;
}
