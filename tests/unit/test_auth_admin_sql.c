/*
 * test_auth_admin_sql.c: what admins do, and the audit log: the SQL of auth against a real PostgreSQL.
 *
 * Several callers at once: test_auth_races.c. Each test begins with empty tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "common/strbuf.h"
#include "tests/unit/auth_fixture.h"
#include "tests/unit/database.h"
#include "tests/unit/sql_client.h"

static int setup(void **state) {
    (void)state;
    fixture_clear(db);
    return 0;
}

static const char action[] = "SELECT success FROM bore.admin_user_action($1, $2, $3, '192.0.2.9')";

static void test_only_admins(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    const char *off = fixture_make_admin(db, "off@example.org");
    sql_ask(db, "UPDATE bore.users SET disabled = true WHERE id = $1", off);
    const char *const strangers[] = { user, off, "user_none", "" };
    for (size_t i = 0; i < ARRAY_SIZE(strangers); i++) {
        const char *who = strangers[i];
        assert_string_equal(sql_refusal(db, action, who, admin, "disable"), "forbidden");
        assert_string_equal(
            sql_refusal(db, "SELECT id FROM bore.admin_user_list($1, NULL, 10, NULL)", who), "forbidden");
        assert_string_equal(sql_refusal(db, "SELECT id FROM bore.admin_audit($1, 10, NULL)", who), "forbidden");
        assert_string_equal(
            sql_refusal(db, "SELECT success FROM bore.admin_set_plan($1, $1, 'pro', NULL, 'x')", who), "forbidden");
        assert_string_equal(
            sql_refusal(db, "SELECT success FROM bore.admin_reset_password($1, $1, 'h', 'x')", who), "forbidden");
    }
    assert_string_equal(sql_refusal(db, action, admin, "user_none", "disable"), "user_not_found");
    assert_string_equal(sql_refusal(db, action, admin, user, "promote"), "not_found");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.audit"), 0);
}

static void test_last_admin(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    static const char *const removals[] = { "remove-admin", "disable", "delete" };
    for (size_t i = 0; i < ARRAY_SIZE(removals); i++)
        assert_string_equal(sql_refusal(db, action, admin, admin, removals[i]), "last_admin");
    const char *off = fixture_make_admin(db, "off@example.org"); /* a disabled admin is no other admin */
    sql_ask(db, "UPDATE bore.users SET disabled = true WHERE id = $1", off);
    assert_string_equal(sql_refusal(db, action, admin, admin, "disable"), "last_admin");
    assert_string_equal(sql_refusal(db, action, admin, off, "remove-admin"), "");
    assert_string_equal(sql_refusal(db, action, admin, user, "make-admin"), "");
    assert_string_equal(sql_refusal(db, action, admin, admin, "remove-admin"), "");
    assert_string_equal(sql_refusal(db, action, admin, user, "disable"), "forbidden");
    assert_string_equal(sql_refusal(db, action, user, user, "remove-admin"), "last_admin");
}

static void test_disable_and_enable(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    const char *session = fixture_open_session(db, user, "a", "x");
    const char *answer =
        sql_ask(db, "SELECT \"user\" FROM bore.admin_user_action($1, $2, 'disable', '192.0.2.9')", admin, user);
    assert_non_null(strstr(answer, "\"disabled\":true"));
    assert_true(fixture_is_revoked(db, session));
    assert_null(fixture_open_session(db, user, "b", "x"));
    sql_ask(db, action, admin, user, "enable");
    assert_non_null(fixture_open_session(db, user, "b", "x"));
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(concat_ws(' ', action, actor_email, target = $1, address), ', ' "
                            "ORDER BY id) FROM bore.audit WHERE action LIKE 'admin.%'",
                            user),
        "admin.disable admin@example.org t 192.0.2.9, admin.enable admin@example.org t 192.0.2.9");
}

static void test_delete_user(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    const char *session = fixture_open_session(db, user, "a", "x");
    sql_ask(db,
        "INSERT INTO bore.instances (id, user_id, name, local_port) SELECT 'inst_' || n, $1, 'n' || n, 80 "
        "FROM generate_series(1, 3) n",
        user);
    sql_ask(db,
        "WITH server AS (INSERT INTO bore.servers (id, host, port, lease_expires_at) VALUES ('s1', 'h', 7835, now()) "
        "ON CONFLICT (id) DO NOTHING) "
        "INSERT INTO bore.tunnel_sessions (id, instance_id, user_id, state, server_id, connected_at) "
        "VALUES ('ts_1', 'inst_2', $1, 'open', 's1', now())",
        user);
    assert_string_equal(sql_ask(db, action, admin, user, "delete"), "t");
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.pending_closes WHERE instance_id = 'inst_2'"), 1);
    assert_string_equal(sql_ask(db,
                            "SELECT string_agg(kind || coalesce(' ' || instance_id, ''), ', ' ORDER BY id) "
                            "FROM bore.events WHERE user_id = $1",
                            user),
        "instance.deleted inst_1, tunnel.disconnected inst_2, instance.deleted inst_2, instance.deleted inst_3, "
        "user.revoked");
    assert_true(fixture_is_revoked(db, session));
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.instances"), 0);
    assert_int_equal(sql_number(db, "SELECT count(*) FROM bore.sessions WHERE id = $1", session), 0);
    assert_string_equal(sql_refusal(db, action, admin, user, "delete"), "user_not_found");
    assert_string_equal(sql_ask(db, "SELECT details FROM bore.audit WHERE action = 'admin.delete'"), "a@example.org");
}

static void test_set_plan(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    static const char *const cases[][3] = {
        { "trial", NULL, "trial 1" },
        { "pro", NULL, "pro 30" },
        { "enterprise", NULL, "enterprise never" },
        { "enterprise", "90", "enterprise 90" },
        { "pro", "36500", "pro 36500" },
    };
    static const char set[] = "SELECT success FROM bore.admin_set_plan($1, $2, $3, $4, 'x')";
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_string_equal(sql_ask(db, set, admin, user, cases[i][0], cases[i][1]), "t");
        assert_string_equal(sql_ask(db,
                                "SELECT plan || ' ' || coalesce(round(extract(epoch FROM plan_expires - now()) / "
                                "86400)::text, 'never') FROM bore.users WHERE id = $1",
                                user),
            cases[i][2]);
    }
    assert_string_equal(sql_refusal(db, set, admin, user, "gold", NULL), "invalid_plan");
    assert_string_equal(sql_refusal(db, set, admin, "user_none", "pro", NULL), "user_not_found");
}

static void test_reset_password(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org"), *user = fixture_make_user(db, "a@example.org");
    const char *session = fixture_open_session(db, user, "a", "x");
    assert_string_equal(
        sql_ask(db, "SELECT success FROM bore.admin_reset_password($1, $2, 'fresh', 'x')", admin, user), "t");
    assert_true(fixture_is_revoked(db, session));
    assert_string_equal(sql_ask(db, "SELECT password_hash FROM bore.users WHERE id = $1", user), "fresh");
}

static void test_user_list(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org");
    sql_run(db, "INSERT INTO bore.users (id, email, name, password_hash, created_at) SELECT 'u' || n, 'u' || n || "
                "'@100%.example', 'N_' || n, 'h', now() - n / 4 * interval '1 second' FROM generate_series(10, 33) n");
    sql_run(db, "INSERT INTO bore.instances (id, user_id, name, local_port, phase) VALUES "
                "('i1', 'u12', 'a', 80, 'connected'), ('i2', 'u12', 'b', 80, 'inactive')");
    static const char ids[] = "SELECT string_agg(id, ' ') FROM bore.admin_user_list($1, $2, 7, $3)";
    static const char next[] = "SELECT next_cursor FROM bore.admin_user_list($1, $2, 7, $3)";
    _cleanup_strbuf_ struct strbuf all = STRBUF_INIT;
    const char *mark = NULL;
    int pages = 0;
    do {
        strbuf_append_format(&all, "%s%s", pages ? " " : "", sql_ask(db, ids, admin, NULL, mark));
        mark = sql_ask(db, next, admin, NULL, mark);
        pages++;
    } while (mark);
    assert_int_equal(pages, 4);
    assert_string_equal(
        all.data, sql_ask(db, "SELECT string_agg(id, ' ' ORDER BY created_at DESC, id DESC) FROM bore.users"));
    assert_int_equal(sql_number(db, "SELECT total FROM bore.admin_user_list($1, 'u1', 3, NULL)", admin), 10);
    assert_int_equal(sql_number(db, "SELECT total FROM bore.admin_user_list($1, 'n_1', 3, NULL)", admin), 10);
    assert_int_equal(sql_number(db, "SELECT total FROM bore.admin_user_list($1, '100%', 3, NULL)", admin), 24);
    assert_int_equal(sql_number(db, "SELECT total FROM bore.admin_user_list($1, '0_', 3, NULL)", admin), 0);
    assert_string_equal(
        sql_ask(db, "SELECT instances || ' ' || active_tunnels FROM bore.admin_user_list($1, 'u12', 3, NULL)", admin),
        "2 1");
    assert_string_equal(sql_refusal(db, ids, admin, NULL, "nonsense"), "validation_error");
}

static void test_audit_list(void **state) {
    (void)state;
    const char *admin = fixture_make_admin(db, "admin@example.org");
    for (int i = 0; i < 5; i++)
        sql_ask(db, "SELECT bore.audit_add($1, 'test', NULL, 'x')", admin);
    static const char next[] = "SELECT next_cursor FROM bore.admin_audit($1, 2, $2)";
    static const char count[] = "SELECT count(*) FROM bore.admin_audit($1, 2, $2)";
    const char *second = sql_ask(db, next, admin, NULL);
    const char *third = sql_ask(db, next, admin, second);
    assert_int_equal(sql_number(db, count, admin, second), 2);
    assert_int_equal(sql_number(db, count, admin, third), 1);
    assert_null(sql_ask(db, next, admin, third));
    assert_string_equal(sql_refusal(db, next, admin, "1.5"), "validation_error");
}

static void test_ensure_admin(void **state) {
    (void)state;
    static const char ensure[] = "SELECT bore.ensure_admin('Admin@example.org', 'Admin', $1)";
    assert_string_equal(sql_ask(db, ensure, NULL), "absent");
    assert_string_equal(sql_ask(db, ensure, "first"), "created");
    assert_string_equal(sql_ask(db, ensure, "second"), "present");
    assert_string_equal(
        sql_ask(db, "SELECT concat_ws(' ', password_hash, plan, plan_expires, is_admin) FROM bore.users"),
        "first enterprise t");
    setup(NULL);
    fixture_make_user(db, "admin@EXAMPLE.org");
    assert_string_equal(sql_ask(db, ensure, NULL), "promoted");
    assert_string_equal(sql_ask(db, ensure, "second"), "present");
    assert_string_equal(
        sql_ask(db, "SELECT concat_ws(' ', password_hash, plan, is_admin) FROM bore.users"), "hash trial t");
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(int argc, char **argv) {
    (void)argc;
    test_database_require(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_only_admins),
        TEST(test_last_admin),
        TEST(test_disable_and_enable),
        TEST(test_delete_user),
        TEST(test_set_plan),
        TEST(test_reset_password),
        TEST(test_user_list),
        TEST(test_audit_list),
        TEST(test_ensure_admin),
    };
    return cmocka_run_group_tests(tests, sql_setup, sql_teardown);
}
