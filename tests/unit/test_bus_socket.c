/*
 * test_bus_socket.c: addresses of the bus, and key files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <czmq.h>
#include <errno.h>
#include <string.h>

#include "common/memory.h"
#include "services/lib/bus_socket.h"

static void expect_url(const char *url, enum bus_endpoint endpoint, const char *expected) {
    char text[300] = "untouched";
    assert_int_equal(bus_endpoint_url(url, endpoint, text, sizeof(text)), expected != NULL ? 0 : -EINVAL);
    assert_string_equal(text, expected != NULL ? expected : "untouched");
}

static void test_endpoints(void **state) {
    (void)state;
    expect_url("ipc:///dir/bus", BUS_CALLERS, "ipc:///dir/bus.callers");
    expect_url("ipc:///dir/bus", BUS_WORKERS, "ipc:///dir/bus.workers");
    expect_url("ipc:///dir/bus", BUS_PUBLISH, "ipc:///dir/bus.publish");
    expect_url("ipc:///dir/bus", BUS_SUBSCRIBE, "ipc:///dir/bus.subscribe");
    expect_url("tcp://bus:5550", BUS_CALLERS, "tcp://bus:5550");
    expect_url("tcp://bus:5550", BUS_SUBSCRIBE, "tcp://bus:5553");
    expect_url("tcp://*:5550", BUS_WORKERS, "tcp://*:5551");
    expect_url("tcp://[::1]:5550", BUS_PUBLISH, "tcp://[::1]:5552");
}

static void test_what_is_no_url(void **state) {
    char long_url[200] = "ipc:///";
    (void)state;
    expect_url("", BUS_CALLERS, NULL);
    expect_url("ipc://relative", BUS_CALLERS, NULL);
    expect_url("ipc://@abstract", BUS_CALLERS, NULL);
    expect_url("ipc:///", BUS_CALLERS, NULL);
    expect_url("inproc://bus", BUS_CALLERS, NULL);
    expect_url("tcp://bus", BUS_CALLERS, NULL);
    expect_url("tcp://:5550", BUS_CALLERS, NULL);
    expect_url("tcp://bus:0", BUS_CALLERS, NULL);
    expect_url("tcp://bus:65533", BUS_CALLERS, NULL);
    expect_url("tcp://bus:55x", BUS_CALLERS, NULL);
    expect_url("tcp://bus:-1", BUS_CALLERS, NULL);
    memset(long_url + 7, 'x', 100);
    expect_url(long_url, BUS_CALLERS, NULL);
}

static void test_which_addresses_stay_inside(void **state) {
    (void)state;
    assert_true(bus_url_is_loopback("tcp://127.0.0.1:5550"));
    assert_true(bus_url_is_loopback("tcp://127.9.8.7:5550"));
    assert_true(bus_url_is_loopback("tcp://localhost:5550"));
    assert_true(bus_url_is_loopback("tcp://[::1]:5550"));
    assert_false(bus_url_is_loopback("tcp://*:5550"));
    assert_false(bus_url_is_loopback("tcp://0.0.0.0:5550"));
    assert_false(bus_url_is_loopback("tcp://127.example.org:5550"));
    assert_false(bus_url_is_loopback("tcp://10.0.0.1:5550"));
    assert_false(bus_url_is_loopback("tcp://[::]:5550"));
    assert_true(bus_url_is_tcp("tcp://a:1"));
    assert_false(bus_url_is_tcp("ipc:///a"));
}

static void save(const char *directory, const char *name, zcert_t **ret_certificate) {
    char *path = xasprintf("%s/%s", directory, name);
    *ret_certificate = zcert_new();
    assert_int_equal(zcert_save(*ret_certificate, path), 0);
    free(path);
}

static void remove_file(const char *directory, const char *name) {
    char *path = xasprintf("%s/%s", directory, name);
    unlink(path);
    free(path);
}

static void expect_no_keys(const char *directory, bool server, int error) {
    errno = 0;
    assert_null(bus_keys_load(directory, server));
    assert_int_equal(errno, error);
}

static void test_keys(void **state) {
    char directory[] = "/tmp/bore-keys-XXXXXX";
    zcert_t *bus, *client;
    (void)state;
    assert_non_null(mkdtemp(directory));
    expect_no_keys("", true, 0);
    expect_no_keys(directory, true, ENOENT);
    save(directory, "bus.key", &bus);
    expect_no_keys(directory, true, ENOENT);
    save(directory, "client.key", &client);

    struct bus_keys *keys = bus_keys_load(directory, true);
    assert_non_null(keys);
    assert_true(bus_keys_accept(keys, zcert_public_key(client), 32));
    assert_false(bus_keys_accept(keys, zcert_public_key(bus), 32));
    assert_false(bus_keys_accept(keys, zcert_public_key(client), 31));
    bus_keys_free(keys);

    remove_file(directory, "bus.key_secret"); /* a machine of clients has no use for it */
    keys = bus_keys_load(directory, false);
    assert_non_null(keys);
    assert_false(bus_keys_accept(keys, zcert_public_key(client), 32));
    bus_keys_free(keys);
    expect_no_keys(directory, true, ENOENT);

    remove_file(directory, "client.key_secret");
    expect_no_keys(directory, false, ENOENT);
    char *path = xasprintf("%s/client.key_secret", directory);
    FILE *file = fopen(path, "w");
    fputs("curve\n    public-key = \"too short\"\n", file);
    fclose(file);
    expect_no_keys(directory, false, EKEYREJECTED);
    unlink(path);
    free(path);
    remove_file(directory, "bus.key");
    remove_file(directory, "client.key");
    rmdir(directory);
    zcert_destroy(&bus);
    zcert_destroy(&client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_what_is_no_url),
        cmocka_unit_test(test_which_addresses_stay_inside),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
