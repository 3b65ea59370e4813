/*
 * test_auth_process.c: the real bore-auth behind the real bore-bus and a real PostgreSQL, asked as gateway asks.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/bus_client.h"
#include "services/lib/token.h"
#include "tests/unit/auth_fixture.h"
#include "tests/unit/database.h"
#include "tests/unit/process_fixture.h"
#include "tests/unit/sql_client.h"

static const char secret[] = "0c6f7f3f1b0a4d0fb6f1e6b9a3f2d4c8";
static pid_t auth;

/* --- processes ---------------------------------------------------------------------------------------------------- */

static int ping(void) {
    struct ping_auth request = {};
    struct ping_reply reply = { 0 };
    int code = bus_call(processes_bus, MSG_PING_AUTH, &request, NULL, &reply, NULL);
    message_release(&ping_reply_descriptor, &reply);
    return code;
}

static void wait_until_ready(void) {
    int64_t until = clock_monotonic_ms() + 15000;
    while (ping() != 0) {
        if (clock_monotonic_ms() > until) fail_msg("bore-auth does not answer, see %s", processes_log);
        usleep(20000);
    }
}

static int setup_group(void **state) {
    setenv("JWT_SECRET", secret, 1);
    setenv("BCRYPT_COST", "7", 1);
    setenv("LOG_LEVEL", "debug", 1);
    setenv("ADMIN_EMAIL", "admin@localhost", 1);
    setenv("ADMIN_PASSWORD", "first-admin", 1);
    processes_setup(state);
    auth = processes_start("bore-auth", 1);
    wait_until_ready();
    return sql_setup(state);
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

/* Messages borrow their strings and are never changed. */
static char *text(const char *literal) {
    return (char *)(uintptr_t)literal;
}

static int call(int method, const void *request, void *ret_reply) {
    return bus_call(processes_bus, method, request, NULL, ret_reply, NULL);
}

static int sign_up(const char *email, const char *password, struct signed_in_reply *ret_reply) {
    struct signup request = {
        .name = text("Test"), .email = text(email), .password = text(password), .address = text("192.0.2.1")
    };
    return call(MSG_SIGNUP, &request, ret_reply);
}

static int sign_in(const char *email, const char *password, const char *address, struct signed_in_reply *ret_reply) {
    struct login request = { .email = text(email), .password = text(password), .address = text(address) };
    return call(MSG_LOGIN, &request, ret_reply);
}

static int refresh(const char *token, struct refresh_reply *ret_reply) {
    struct refresh request = { .refresh_token = text(token), .address = text("192.0.2.1") };
    return call(MSG_REFRESH, &request, ret_reply);
}

static const char *session_of(const char *token) {
    static struct token_claims claims;
    assert_int_equal(token_verify(secret, token, clock_wall_ms() / 1000, &claims), 0);
    return claims.session_id;
}

/* Sessions revoked since the cursor, which moves. */
static size_t revoked_since(int64_t *cursor) {
    size_t count = 0;
    struct revocations_reply reply;
    do {
        struct revocations request = { .cursor = *cursor };
        assert_int_equal(call(MSG_REVOCATIONS, &request, &reply), 0);
        count += reply.session_ids_count;
        *cursor = reply.cursor;
        message_release(&revocations_reply_descriptor, &reply);
    } while (reply.more);
    return count;
}

static bool is_alive(const char *user, const char *session) {
    struct token_check request = { .user_id = text(user), .token_session = text(session) };
    struct token_check_reply reply;
    assert_int_equal(call(MSG_TOKEN_CHECK, &request, &reply), 0);
    return reply.valid;
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_account(void **state) {
    (void)state;
    struct signed_in_reply first, second;
    struct me_reply me;
    assert_int_equal(sign_up("Test@bore.com", "test123", &first), 0);
    assert_int_equal(sign_up("test@BORE.com", "test123", &second), ERR_USER_EXISTS);
    assert_int_equal(sign_in("TEST@bore.com", "test123", "192.0.2.1", &second), 0);
    assert_string_equal(first.user_id, second.user_id);
    assert_string_equal(first.user->plan, "trial");
    assert_true(is_alive(first.user_id, session_of(first.token)));
    struct me request = { .user_id = first.user_id };
    assert_int_equal(call(MSG_ME, &request, &me), 0);
    assert_string_equal(me.email, "Test@bore.com");
    message_release(&me_reply_descriptor, &me);
    request.user_id = text("user_none");
    assert_int_equal(call(MSG_ME, &request, &me), ERR_UNAUTHORIZED);
    message_release(&signed_in_reply_descriptor, &first);
    message_release(&signed_in_reply_descriptor, &second);
}

static void test_sessions(void **state) {
    (void)state;
    struct signed_in_reply first, second;
    struct refresh_reply rotated, again;
    assert_int_equal(sign_up("sessions@bore.com", "test123", &first), 0);
    assert_int_equal(sign_in("sessions@bore.com", "test123", "192.0.2.1", &second), 0);
    int64_t cursor = 0;
    revoked_since(&cursor);

    assert_int_equal(refresh(first.refresh_token, &rotated), 0);
    assert_string_equal(session_of(rotated.token), session_of(first.token));
    assert_int_equal(refresh(first.refresh_token, &again), 0);
    sql_run(db, "UPDATE bore.refresh_tokens SET used_at = used_at - interval '11 seconds'");
    message_release(&refresh_reply_descriptor, &again);
    assert_int_equal(refresh(first.refresh_token, &again), ERR_UNAUTHORIZED);
    assert_int_equal(refresh(rotated.refresh_token, &again), ERR_UNAUTHORIZED);
    assert_int_equal(revoked_since(&cursor), 1);
    assert_false(is_alive(first.user_id, session_of(first.token)));

    char session[65];
    snprintf(session, sizeof session, "%s", session_of(second.token));
    struct session_list list = { .user_id = first.user_id, .token_session = session };
    struct session_list_reply listed;
    assert_int_equal(call(MSG_SESSION_LIST, &list, &listed), 0);
    assert_int_equal(listed.sessions_count, 1);
    assert_true(listed.sessions[0].current);
    message_release(&session_list_reply_descriptor, &listed);
    list.cursor = text("nonsense");
    assert_int_equal(call(MSG_SESSION_LIST, &list, &listed), ERR_VALIDATION);

    struct logout_all all = { .user_id = first.user_id, .address = text("192.0.2.1") };
    struct success_reply done;
    assert_int_equal(call(MSG_LOGOUT_ALL, &all, &done), 0);
    assert_true(done.success);
    assert_int_equal(revoked_since(&cursor), 1);
    struct session_delete gone = { .user_id = first.user_id, .session_id = session, .address = text("192.0.2.1") };
    assert_int_equal(error_info(call(MSG_SESSION_DELETE, &gone, &done))->http_status, 404);
    list.cursor = NULL;
    assert_int_equal(call(MSG_SESSION_LIST, &list, &listed), 0);
    assert_int_equal(listed.sessions_count, 0);
    message_release(&session_list_reply_descriptor, &listed);
    message_release(&refresh_reply_descriptor, &rotated);
    message_release(&signed_in_reply_descriptor, &first);
    message_release(&signed_in_reply_descriptor, &second);
}

static void test_passwords(void **state) {
    (void)state;
    struct signed_in_reply first, second;
    struct success_reply done;
    assert_int_equal(sign_up("passwords@bore.com", "test123", &first), 0);
    assert_int_equal(sign_in("passwords@bore.com", "test123", "192.0.2.1", &second), 0);
    char kept[65];
    snprintf(kept, sizeof kept, "%s", session_of(second.token));
    struct change_password change = { .user_id = first.user_id,
        .token_session = kept,
        .current_password = text("wrong"),
        .new_password = text("newer456"),
        .address = text("192.0.2.1") };
    assert_int_equal(call(MSG_CHANGE_PASSWORD, &change, &done), ERR_INVALID_CREDENTIALS);
    change.current_password = text("test123");
    change.new_password = text("tiny");
    assert_int_equal(call(MSG_CHANGE_PASSWORD, &change, &done), ERR_VALIDATION);
    change.new_password = text("newer456");
    assert_int_equal(call(MSG_CHANGE_PASSWORD, &change, &done), 0);
    assert_true(is_alive(first.user_id, kept));
    assert_false(is_alive(first.user_id, session_of(first.token)));
    message_release(&signed_in_reply_descriptor, &second);
    assert_int_equal(sign_in("passwords@bore.com", "test123", "192.0.2.1", &second), ERR_INVALID_CREDENTIALS);
    assert_int_equal(sign_in("passwords@bore.com", "newer456", "192.0.2.1", &second), 0);
    message_release(&signed_in_reply_descriptor, &first);
    message_release(&signed_in_reply_descriptor, &second);
}

static void test_throttle(void **state) {
    (void)state;
    struct signed_in_reply reply;
    assert_int_equal(sign_up("throttle@bore.com", "test123", &reply), 0);
    message_release(&signed_in_reply_descriptor, &reply);
    for (int i = 0; i < 10; i++)
        assert_int_equal(sign_in("throttle@bore.com", "wrong", "192.0.2.66", &reply), ERR_INVALID_CREDENTIALS);
    struct login request = {
        .email = text("throttle@bore.com"), .password = text("test123"), .address = text("192.0.2.66")
    };
    struct error_reply error = { 0 };
    assert_int_equal(bus_call(processes_bus, MSG_LOGIN, &request, NULL, &reply, &error), ERR_TOO_MANY_REQUESTS);
    assert_in_range(error.retry_after, 880, 900);
    message_release(&error_reply_descriptor, &error);
    assert_int_equal(sign_in("throttle@bore.com", "test123", "192.0.2.67", &reply), 0);
    message_release(&signed_in_reply_descriptor, &reply);
}

static void test_admin(void **state) {
    (void)state;
    struct signed_in_reply admin, user;
    assert_int_equal(sign_in("admin@localhost", "first-admin", "192.0.2.1", &admin), 0);
    assert_true(admin.user->is_admin);
    assert_string_equal(admin.user->plan, "enterprise");
    assert_false(admin.user->has_plan_expires);
    assert_int_equal(sign_up("user@bore.com", "test123", &user), 0);

    struct admin_user_list list = { .user_id = admin.user_id, .q = text("user@bore"), .limit = 2, .has_limit = true };
    struct admin_user_list_reply listed;
    assert_int_equal(call(MSG_ADMIN_USER_LIST, &list, &listed), 0);
    assert_int_equal(listed.total, 1);
    assert_string_equal(listed.users[0].id, user.user_id);
    message_release(&admin_user_list_reply_descriptor, &listed);
    list.q = text("nobody has this");
    assert_int_equal(call(MSG_ADMIN_USER_LIST, &list, &listed), 0);
    assert_int_equal(listed.users_count, 0);
    list.user_id = user.user_id;
    assert_int_equal(call(MSG_ADMIN_USER_LIST, &list, &listed), ERR_FORBIDDEN);

    struct admin_set_plan plan = {
        .user_id = admin.user_id, .target_id = user.user_id, .plan = text("pro"), .address = text("192.0.2.1")
    };
    struct admin_user_reply answer;
    assert_int_equal(call(MSG_ADMIN_SET_PLAN, &plan, &answer), 0);
    assert_string_equal(answer.user->plan, "pro");
    message_release(&admin_user_reply_descriptor, &answer);

    struct admin_reset_password reset = {
        .user_id = admin.user_id, .target_id = user.user_id, .address = text("192.0.2.1")
    };
    struct admin_reset_password_reply password;
    assert_int_equal(call(MSG_ADMIN_RESET_PASSWORD, &reset, &password), 0);
    assert_false(is_alive(user.user_id, session_of(user.token)));
    message_release(&signed_in_reply_descriptor, &user);
    assert_int_equal(sign_in("user@bore.com", password.password, "192.0.2.1", &user), 0);
    message_release(&admin_reset_password_reply_descriptor, &password);

    struct admin_user_action action = {
        .user_id = admin.user_id, .target_id = user.user_id, .action = text("disable"), .address = text("192.0.2.1")
    };
    assert_int_equal(call(MSG_ADMIN_USER_ACTION, &action, &answer), 0);
    assert_true(answer.user->disabled);
    message_release(&admin_user_reply_descriptor, &answer);
    assert_false(is_alive(user.user_id, session_of(user.token)));
    action.action = text("delete");
    assert_int_equal(call(MSG_ADMIN_USER_ACTION, &action, &answer), 0);
    assert_null(answer.user);
    action.target_id = admin.user_id;
    assert_int_equal(call(MSG_ADMIN_USER_ACTION, &action, &answer), ERR_LAST_ADMIN);

    struct admin_audit audit = { .user_id = admin.user_id, .limit = 3, .has_limit = true };
    struct admin_audit_reply entries;
    assert_int_equal(call(MSG_ADMIN_AUDIT, &audit, &entries), 0);
    assert_int_equal(entries.entries_count, 3);
    assert_string_equal(entries.entries[0].action, "admin.delete");
    assert_non_null(entries.next_cursor);
    message_release(&admin_audit_reply_descriptor, &entries);
    message_release(&signed_in_reply_descriptor, &admin);
    message_release(&signed_in_reply_descriptor, &user);
}

static void test_claim_plan(void **state) {
    (void)state;
    struct signed_in_reply user;
    struct claim_plan_reply claimed;
    assert_int_equal(sign_up("claim@bore.com", "test123", &user), 0);
    struct claim_plan request = { .user_id = user.user_id, .plan = text("pro"), .address = text("192.0.2.1") };
    assert_int_equal(call(MSG_CLAIM_PLAN, &request, &claimed), 0);
    assert_true(claimed.success && claimed.has_expires_at);
    message_release(&claim_plan_reply_descriptor, &claimed);
    request.plan = text("trial");
    assert_int_equal(call(MSG_CLAIM_PLAN, &request, &claimed), ERR_CONFLICT);
    request.plan = text("enterprise");
    assert_int_equal(call(MSG_CLAIM_PLAN, &request, &claimed), ERR_INVALID_PLAN);
    message_release(&signed_in_reply_descriptor, &user);
}

/* --- a storm of sign-ins -------------------------------------------------------------------------------------------
 */

enum { STORM = 200 };

static void *storm(void *argument) {
    int *code = argument;
    struct signed_in_reply reply;
    *code = sign_in("nobody@bore.com", "wrong password", "192.0.2.99", &reply);
    return NULL;
}

/* Each sign-in costs its bcrypt, and nothing else is slower for it; whoever cannot be served in time hears so. */
static void test_storm(void **state) {
    (void)state;
    assert_int_equal(processes_end(auth, SIGTERM), 0);
    setenv("BCRYPT_COST", "11", 1);
    setenv("LOGIN_FAILURES_PER_ACCOUNT", "100000", 1);
    setenv("LOGIN_FAILURES_PER_ADDRESS", "100000", 1);
    auth = processes_start("bore-auth", 1);
    wait_until_ready();
    static int codes[STORM];
    pthread_t threads[STORM];
    for (size_t i = 0; i < STORM; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, &codes[i]), 0);
    int64_t slowest = 0, begun = clock_monotonic_ms();
    for (int polls = 0; clock_monotonic_ms() < begun + 1500; polls++) {
        int64_t before = clock_monotonic_us();
        int64_t cursor = 0;
        revoked_since(&cursor);
        int64_t took = clock_monotonic_us() - before;
        if (took > slowest) slowest = took;
        usleep(5000);
    }
    int served = 0, overloaded = 0, late = 0;
    for (size_t i = 0; i < STORM; i++) {
        pthread_join(threads[i], NULL);
        if (codes[i] == ERR_INVALID_CREDENTIALS) served++;
        if (codes[i] == ERR_OVERLOADED) overloaded++;
        if (codes[i] == ERR_TIMEOUT) late++;
    }
    print_message("storm of %d: %d served, %d overloaded, %d timeouts; slowest other call %.1f ms\n", STORM, served,
        overloaded, late, (double)slowest / 1000);
    assert_int_equal(served + overloaded + late, STORM);
    assert_true(served > 0);
    assert_true(slowest < 500000);
}

static void test_nothing_secret_in_log(void **state) {
    (void)state;
    FILE *log = fopen(processes_log, "r");
    assert_non_null(log);
    char line[8192];
    static const char *const secrets[] = { "test123", "newer456", "first-admin", "eyJ", "$2b$", secret };
    while (fgets(line, sizeof line, log))
        for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
            if (strstr(line, secrets[i])) fail_msg("in the log: %s", line);
    rewind(log);
    while (fgets(line, sizeof line, log))
        for (const char *at = strstr(line, "rt_"); at; at = strstr(at + 1, "rt_"))
            if (strspn(at + 3, "0123456789abcdef") >= 8) fail_msg("in the log: %s", line);
    fclose(log);
}

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_throttle),
        cmocka_unit_test(test_admin),
        cmocka_unit_test(test_claim_plan),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_nothing_secret_in_log),
    };
    return cmocka_run_group_tests(tests, setup_group, processes_teardown);
}
