/* test_config.c: which settings a process sees, which secrets are refused, what a query may name. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/lib/config.h"

static const char good_secret[] = "9f2c4b7d1e8a6035c7d4e9b1f0a28364";
static const char good_key[] = "k7Gq2vX9pL4mZ8tR";
static char output[32768];

/* config_load with stdout and stderr caught in `output`. */
static int load(enum config_process process, const char *argument) {
    char *argv[] = { (char[]){ "bore-test" }, (char *)(uintptr_t)argument, NULL };
    fflush(NULL);
    int saved_out = dup(STDOUT_FILENO), saved_error = dup(STDERR_FILENO);
    int caught = memfd_create("output", MFD_CLOEXEC);
    dup2(caught, STDOUT_FILENO);
    dup2(caught, STDERR_FILENO);
    int result = config_load(process, "test", "tests.", argument ? 2 : 1, argv);
    fflush(NULL);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_error, STDERR_FILENO);
    close(saved_out);
    close(saved_error);
    ssize_t size = pread(caught, output, sizeof output - 1, 0);
    close(caught);
    output[size > 0 ? size : 0] = '\0';
    return result;
}

static int reset(void **state) {
    (void)state;
    config_release();
    static const char *const names[] = { "JWT_SECRET", "JWT_SECRET_PREVIOUS", "INTERNAL_API_KEY",
        "INTERNAL_API_KEY_PREVIOUS", "DB_PASSWORD", "DB_POOL_SIZE", "BORE_INSTANCE", "IDLE_TIMEOUT_SECONDS", "SIGNUP",
        "PRO_SELF_SERVICE" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        unsetenv(names[i]);
    setenv("JWT_SECRET", good_secret, 1);
    setenv("INTERNAL_API_KEY", good_key, 1);
    return 0;
}

static void test_defaults_and_environment(void **state) {
    (void)state;
    setenv("BORE_INSTANCE", "3", 1);
    setenv("IDLE_TIMEOUT_SECONDS", "0.5", 1);
    assert_int_equal(load(REGISTRY, NULL), 0);
    assert_int_equal(config.instance, 3);
    assert_int_equal(config.idle_timeout_ms, 500);
    assert_int_equal(config.starting_timeout_ms, 60000);
    assert_string_equal(config.db_name, "bore_db");
    assert_string_equal(output, "");
}

static void test_help_shows_own_settings(void **state) {
    (void)state;
    assert_int_equal(load(REGISTRY, "--help"), 1);
    assert_non_null(strstr(output, "TUNNEL_TOKEN_TTL_SECONDS"));
    assert_null(strstr(output, "JWT_SECRET"));
    assert_null(strstr(output, "GATEWAY_LISTEN"));
    assert_int_equal(load(GATEWAY, "--help"), 1);
    assert_non_null(strstr(output, "JWT_SECRET"));
    assert_null(strstr(output, "DB_HOST"));
}

static void test_weak_secrets_are_refused(void **state) {
    (void)state;
    static const char *const weak[] = { "", "short", "9f2c4b7d1e8a6035c7d4e9b1f0a2836",
        "your-super-long-jwt-key-for-tokens-0123", "this-is-a-very-long-SECRET-indeed-0123456789",
        "changeme-changeme-changeme-changeme", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababababababababababababab", "my-Password-is-longer-than-32-characters",
        "an-example-of-a-long-key-0123456789abcdef" };
    for (size_t i = 0; i < ARRAY_SIZE(weak); i++) {
        setenv("JWT_SECRET", weak[i], 1);
        assert_int_equal(load(AUTH, NULL), -EINVAL);
        assert_non_null(strstr(output, "bore-test: JWT_SECRET "));
        assert_null(strstr(output, "0123456789"));
        char *newline = strchr(output, '\n');
        assert_non_null(newline);
        assert_string_equal(newline, "\n");
    }
    setenv("JWT_SECRET", good_secret, 1);
    assert_int_equal(load(AUTH, NULL), 0);
}

static void test_weak_internal_key_is_refused(void **state) {
    (void)state;
    static const char *const weak[] = { "", "k7Gq2vX9pL4mZ8t", "secret-secret-secret", "1111111111111111" };
    for (size_t i = 0; i < ARRAY_SIZE(weak); i++) {
        setenv("INTERNAL_API_KEY", weak[i], 1);
        assert_int_equal(load(GATEWAY, NULL), -EINVAL);
        assert_non_null(strstr(output, "INTERNAL_API_KEY"));
    }
    /* others do not read it */
    assert_int_equal(load(STREAM, NULL), 0);
}

/* A former key may be absent; while it is accepted it guards as much as the present one. */
static void test_weak_former_keys_are_refused(void **state) {
    (void)state;
    setenv("JWT_SECRET_PREVIOUS", "k7Gq2vX9", 1);
    assert_int_equal(load(GATEWAY, NULL), -EINVAL);
    assert_int_equal(load(STREAM, NULL), -EINVAL);
    assert_non_null(strstr(output, "JWT_SECRET_PREVIOUS is shorter"));
    setenv("JWT_SECRET_PREVIOUS", good_secret, 1);
    setenv("INTERNAL_API_KEY_PREVIOUS", "1111111111111111", 1);
    assert_int_equal(load(STREAM, NULL), 0);
    config_release();
    assert_int_equal(load(GATEWAY, NULL), -EINVAL);
    assert_non_null(strstr(output, "INTERNAL_API_KEY_PREVIOUS repeats"));
}

static void test_weak_database_password_is_warned_about(void **state) {
    (void)state;
    setenv("DB_PASSWORD", "postgres", 1);
    assert_int_equal(load(REGISTRY, NULL), 0);
    assert_string_equal(output, "");
    config_release();
    setenv("DB_PASSWORD", "secret", 1);
    assert_int_equal(load(REGISTRY, NULL), 0);
    assert_non_null(strstr(output, "DB_PASSWORD"));
    assert_non_null(strstr(output, "WARN"));
}

static char *text_of(const char *field) {
    static char buffer[200];
    char *text = config_text(field);
    if (!text) return NULL;
    snprintf(buffer, sizeof buffer, "%s", text);
    free(text);
    return buffer;
}

static void test_text_of_a_setting(void **state) {
    (void)state;
    assert_int_equal(load(REGISTRY, NULL), 0);
    assert_string_equal(text_of("tunnel_token_ttl_ms"), "3600000");
    assert_string_equal(text_of("bore_server_host"), "127.0.0.1");
    assert_null(text_of("db_password")); /* a secret */
    assert_null(text_of("bcrypt_cost")); /* of another process */
    assert_null(text_of("no_such_field"));
    config_release();
    assert_int_equal(load(AUTH, NULL), 0);
    assert_string_equal(text_of("pro_self_service"), "true");
    assert_string_equal(text_of("bcrypt_cost"), "10");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_and_environment, reset),
        cmocka_unit_test_setup(test_help_shows_own_settings, reset),
        cmocka_unit_test_setup(test_weak_secrets_are_refused, reset),
        cmocka_unit_test_setup(test_weak_internal_key_is_refused, reset),
        cmocka_unit_test_setup(test_weak_former_keys_are_refused, reset),
        cmocka_unit_test_setup(test_weak_database_password_is_warned_about, reset),
        cmocka_unit_test_setup(test_text_of_a_setting, reset),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    config_release();
    return failed;
}
