/*
 * test_revocations.c: revoked sessions are known soon, told once, and nobody is vouched for on old news.
 *
 * The bus client is replaced: bus_call answers from here, as auth would.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/revocations.h"

/* --- auth -------------------------------------------------------------------------------------------------------- */

enum { SESSIONS_MAX = 60000, PAGE = 1000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *revoked[SESSIONS_MAX]; /* by their number in the log, from 1 */
static int64_t head;
static bool silent;
static int polls, checks, told;
static char last_told[65];

static void fill_page(const struct revocations *request, struct revocations_reply *reply) {
    int64_t cursor = request->cursor < head ? request->cursor : head;
    reply->session_ids = xcalloc(PAGE, sizeof(char *));
    while (cursor < head && reply->session_ids_count < PAGE)
        reply->session_ids[reply->session_ids_count++] = xstrdup(revoked[cursor++]);
    reply->cursor = cursor;
    reply->more = cursor < head;
}

static bool is_revoked(const char *session) {
    for (int64_t i = 0; i < head; i++)
        if (strcmp(revoked[i], session) == 0) return true;
    return false;
}

int bus_call(struct bus_client *self, int request_id_of_message, const void *request, const struct bus_call *call,
    void *ret_reply, struct error_reply *ret_error) {
    (void)self;
    (void)ret_error;
    int id = request_id_of_message;
    assert_true(call->deadline_ms > 0);
    pthread_mutex_lock(&mutex);
    bool answered = !silent;
    polls += id == MSG_REVOCATIONS;
    checks += id == MSG_TOKEN_CHECK;
    memset(ret_reply, 0, method_find(id)->reply->size);
    if (answered && id == MSG_REVOCATIONS) fill_page(request, ret_reply);
    if (answered && id == MSG_TOKEN_CHECK) {
        const struct token_check *check = request;
        struct token_check_reply *reply = ret_reply;
        reply->valid = !is_revoked(check->token_session);
    }
    pthread_mutex_unlock(&mutex);
    return answered ? 0 : ERR_UNAVAILABLE;
}

static void revoke_session(const char *session) {
    pthread_mutex_lock(&mutex);
    revoked[head++] = xstrdup(session);
    pthread_mutex_unlock(&mutex);
}

static void set_silent(bool value) {
    pthread_mutex_lock(&mutex);
    silent = value;
    pthread_mutex_unlock(&mutex);
}

static int count(const int *counter) {
    pthread_mutex_lock(&mutex);
    int value = *counter;
    pthread_mutex_unlock(&mutex);
    return value;
}

/* --- the set ----------------------------------------------------------------------------------------------------- */

static struct revocation_set *set;

static void on_revoked(void *user_data, const char *session) {
    assert_ptr_equal(user_data, &set);
    pthread_mutex_lock(&mutex);
    told++;
    snprintf(last_told, sizeof last_told, "%s", session);
    pthread_mutex_unlock(&mutex);
}

static int check(const char *session) {
    struct token_claims claims = { .user_id = "user" };
    snprintf(claims.session_id, sizeof claims.session_id, "%s", session);
    return revocations_check_cached(set, &claims);
}

static int check_blocking(const char *session) {
    struct token_claims claims = { .user_id = "user" };
    snprintf(claims.session_id, sizeof claims.session_id, "%s", session);
    return revocations_check(set, &claims, clock_monotonic_ms() + 1000);
}

static int64_t wait_until(const char *session, int result, int64_t limit) {
    int64_t start = clock_monotonic_ms();
    while (check(session) != result) {
        if (clock_monotonic_ms() - start > limit) fail_msg("%s does not become %d", session, result);
        usleep(2000);
    }
    return clock_monotonic_ms() - start;
}

static int setup(void **state) {
    (void)state;
    set_silent(false);
    set = revocations_new(NULL, on_revoked, &set);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    revocations_free(set);
    for (int64_t i = 0; i < head; i++)
        free(revoked[i]);
    head = 0;
    polls = checks = told = 0;
    return 0;
}

static void test_revoked_soon_and_told_once(void **state) {
    (void)state;
    wait_until("a", 0, 500);
    revoke_session("a");
    assert_true(wait_until("a", ERR_UNAUTHORIZED, 1000) <= 600);
    assert_int_equal(check("b"), 0);
    assert_int_equal(check_blocking("b"), 0);
    assert_int_equal(count(&checks), 0);
    revoke_session("a");
    revoke_session("b");
    wait_until("b", ERR_UNAUTHORIZED, 1000);
    assert_int_equal(count(&told), 2);
    assert_string_equal(last_told, "b");
    usleep(1200000);
    assert_in_range(count(&polls), 4, 7);
}

static void test_nobody_is_vouched_for_on_old_news(void **state) {
    (void)state;
    wait_until("a", 0, 500);
    revoke_session("b");
    wait_until("b", ERR_UNAUTHORIZED, 1000);
    set_silent(true);
    int64_t waited = wait_until("a", ERR_UNAVAILABLE, 2000);
    assert_in_range(waited, 400, 1200);
    assert_true(revocations_age_ms(set) > 1000);
    assert_int_equal(check("b"), ERR_UNAUTHORIZED); /* that stays true */
    assert_int_equal(check_blocking("a"), ERR_UNAVAILABLE);
    assert_int_equal(count(&checks), 1);
    set_silent(false);
    wait_until("a", 0, 1000);
    assert_true(revocations_age_ms(set) < 600);
}

static void test_stale_set_asks_about_the_one(void **state) {
    (void)state;
    set_silent(true);
    wait_until("a", ERR_UNAVAILABLE, 2000);
    pthread_mutex_lock(&mutex);
    silent = false;
    pthread_mutex_unlock(&mutex);
    revoke_session("a");
    /* unless a poll came in between, auth is asked */
    int before = count(&polls);
    int a = check_blocking("a"), b = check_blocking("b");
    assert_int_equal(a, ERR_UNAUTHORIZED);
    assert_int_equal(b, 0);
    if (count(&polls) == before) assert_int_equal(count(&checks), 2);
}

static void test_many_in_pages(void **state) {
    (void)state;
    char name[32];
    for (int i = 0; i < 50000; i++) {
        snprintf(name, sizeof name, "sess_%d", i);
        revoke_session(name);
    }
    wait_until("sess_49999", ERR_UNAUTHORIZED, 3000);
    wait_until("other", 0, 3000);
    for (int i = 0; i < 50000; i += 7) {
        snprintf(name, sizeof name, "sess_%d", i);
        assert_int_equal(check(name), ERR_UNAUTHORIZED);
    }
    assert_int_equal(count(&told), 50000);
}

static void test_a_log_that_went_back(void **state) {
    (void)state;
    revoke_session("a");
    revoke_session("b");
    wait_until("b", ERR_UNAUTHORIZED, 1000);
    pthread_mutex_lock(&mutex);
    free(revoked[1]);
    head = 1; /* restored from a backup without b */
    pthread_mutex_unlock(&mutex);
    wait_until("b", 0, 2000);
    assert_int_equal(check("a"), ERR_UNAUTHORIZED);
}

int main(void) {
    log_init("test", 1, "error", "text");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_revoked_soon_and_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_is_vouched_for_on_old_news, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale_set_asks_about_the_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_log_that_went_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
