/* test_setup.c: the secrets and keys of a system of containers: made once, kept, replaced when given, refused when
 * weak. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/lib/bus_socket.h"
#include "services/setup/setup.h"

static char directory[64];

/* The file's content; heap. */
static char *content(const char *name) {
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = xcalloc(1, 1000);
    (void)!fread(text, 1, 999, file);
    fclose(file);
    return text;
}

static mode_t mode_of(const char *name) {
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 07777;
}

/* setup_run without its lines on stdout and stderr. */
static int run(void) {
    fflush(NULL);
    int out = dup(STDOUT_FILENO), complaints = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    int result = setup_run(directory);
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(complaints, STDERR_FILENO);
    close(out);
    close(complaints);
    close(nowhere);
    return result;
}

static int enter(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/bore-setup.XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int leave(void **state) {
    (void)state;
    static const char *const names[] = { "JWT_SECRET", "JWT_SECRET_PREVIOUS", "INTERNAL_API_KEY", "EDGE_SECRET" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        unsetenv(names[i]);
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);
    return system(command);
}

static void test_made_once(void **state) {
    (void)state;
    assert_int_equal(run(), 0);
    static const char *const made[] = { "tokens/jwt_secret", "tokens/internal_api_key", "admin/admin_password",
        "edge/edge_secret", "database/postgres_password", "database/db_password" };
    _cleanup_free_ char *previous = xstrdup("");
    for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
        _cleanup_free_ char *value = content(made[i]);
        assert_int_equal(strlen(value), 64);
        assert_int_equal(strspn(value, "0123456789abcdef"), 64);
        assert_string_not_equal(value, previous);
        bool is_of_database = strncmp(made[i], "database/", 9) == 0;
        assert_int_equal(mode_of(made[i]), is_of_database ? 0444 : 0400);
        free(previous);
        previous = xstrdup(value);
    }
    _cleanup_free_ char *empty = content("tokens/jwt_secret_previous");
    assert_string_equal(empty, "");

    _cleanup_free_ char *jwt = content("tokens/jwt_secret");
    _cleanup_free_ char *key = content("bus/bus.key_secret");
    assert_int_equal(run(), 0);
    _cleanup_free_ char *jwt_again = content("tokens/jwt_secret");
    _cleanup_free_ char *key_again = content("bus/bus.key_secret");
    assert_string_equal(jwt, jwt_again);
    assert_string_equal(key, key_again);
}

/* The two sides' keys fit each other, and the clients' side lacks the bus's secret. */
static void test_keys(void **state) {
    (void)state;
    assert_int_equal(run(), 0);
    _cleanup_free_ char *bus = xasprintf("%s/bus", directory);
    _cleanup_free_ char *client = xasprintf("%s/client", directory);
    struct bus_keys *of_bus = bus_keys_load(bus, true), *of_client = bus_keys_load(client, false);
    assert_non_null(of_bus);
    assert_non_null(of_client);
    bus_keys_free(of_bus);
    bus_keys_free(of_client);
    assert_null(bus_keys_load(client, true));
    _cleanup_free_ char *from = content("bus/client.key_secret");
    _cleanup_free_ char *to = content("client/client.key_secret");
    assert_string_equal(from, to);
    _cleanup_free_ char *public_part = content("client/bus.key");
    assert_null(strstr(public_part, "secret-key"));
    assert_int_equal(mode_of("bus/bus.key_secret"), 0600);
    assert_int_equal(mode_of("client/client.key_secret"), 0400);
}

static void test_given(void **state) {
    (void)state;
    assert_int_equal(run(), 0);
    setenv("JWT_SECRET", "0f9c2b7d5e8a41630f9c2b7d5e8a4163", 1);
    setenv("JWT_SECRET_PREVIOUS", "5e8a41630f9c2b7d5e8a41630f9c2b7d", 1);
    assert_int_equal(run(), 0);
    _cleanup_free_ char *jwt = content("tokens/jwt_secret");
    _cleanup_free_ char *previous = content("tokens/jwt_secret_previous");
    assert_string_equal(jwt, "0f9c2b7d5e8a41630f9c2b7d5e8a4163");
    assert_string_equal(previous, "5e8a41630f9c2b7d5e8a41630f9c2b7d");
    /* no longer given: the key stays, the former one is forgotten */
    unsetenv("JWT_SECRET");
    unsetenv("JWT_SECRET_PREVIOUS");
    assert_int_equal(run(), 0);
    _cleanup_free_ char *kept = content("tokens/jwt_secret");
    _cleanup_free_ char *forgotten = content("tokens/jwt_secret_previous");
    assert_string_equal(kept, jwt);
    assert_string_equal(forgotten, "");
}

static void test_refused(void **state) {
    (void)state;
    static const char *const weak[][2] = { { "JWT_SECRET", "0f9c2b7d" },
        { "JWT_SECRET", "changeme-0f9c2b7d5e8a41630f9c2b7d5e8a4163" }, { "JWT_SECRET_PREVIOUS", "short" },
        { "INTERNAL_API_KEY", "aaaaaaaaaaaaaaaaaaaaaaaa" }, { "EDGE_SECRET", "two lines\nof text, long enough" } };
    for (size_t i = 0; i < ARRAY_SIZE(weak); i++) {
        setenv(weak[i][0], weak[i][1], 1);
        assert_int_equal(run(), -EINVAL);
        _cleanup_free_ char *path = xasprintf("%s/tokens", directory);
        assert_int_equal(access(path, F_OK), -1); /* nothing was written */
        unsetenv(weak[i][0]);
    }
    snprintf(directory + strlen(directory), 10, "/nowhere");
    assert_int_equal(run(), -ENOENT);
    *strrchr(directory, '/') = '\0';
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made_once, enter, leave),
        cmocka_unit_test_setup_teardown(test_keys, enter, leave),
        cmocka_unit_test_setup_teardown(test_given, enter, leave),
        cmocka_unit_test_setup_teardown(test_refused, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
