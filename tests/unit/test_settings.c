/* test_settings.c: where a value comes from, what is refused and how, what --help shows, and the forms of `.env`. */
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/memory.h"
#include "common/settings.h"

static char *host;
static char *secret;
static int64_t port;
static int64_t interval_ms;
static bool verbose;

static const struct setting settings[] = {
    { "T_HOST", SETTING_TEXT, &host, "localhost", 0, 20, "Where it is." },
    { "T_SECRET", SETTING_SECRET, &secret, "", 0, 0, "What nobody sees." },
    { "T_PORT", SETTING_INT, &port, "3000", 1, 65535, "The port." },
    { "T_INTERVAL", SETTING_SECONDS, &interval_ms, "1.5", 0.1, 3600, "How often." },
    { "T_VERBOSE", SETTING_BOOL, &verbose, "no", 0, 0, "Whether it talks." },
    { NULL, SETTING_TEXT, NULL, NULL, 0, 0, NULL },
};
static const struct settings_table table = { "bore-test", "Tests.", "1.2.3", settings };

static char directory[] = "/tmp/bore-settings.XXXXXX";
static char output[16384];

/* settings_load with stdout or stderr caught in `output`. */
static int load_with(const struct settings_table *what, int argc, char **argv, int descriptor) {
    fflush(NULL);
    int saved = dup(descriptor);
    int caught = memfd_create("output", MFD_CLOEXEC);
    dup2(caught, descriptor);
    int result = settings_load(what, argc, argv);
    fflush(NULL);
    dup2(saved, descriptor);
    close(saved);
    ssize_t size = pread(caught, output, sizeof(output) - 1, 0);
    close(caught);
    output[size > 0 ? size : 0] = '\0';
    return result;
}

static int load(void) {
    char *argv[] = { (char[]){ "bore-test" }, NULL };
    return load_with(&table, 1, argv, STDERR_FILENO);
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void write_env_bytes(const char *data, size_t size) {
    FILE *file = fopen(".env", "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_env(const char *text) {
    write_env_bytes(text, strlen(text));
}

static int setup(void **state) {
    (void)state;
    unlink(".env");
    rmdir(".env");
    for (size_t i = 0; settings[i].name; i++)
        unsetenv(settings[i].name);
    return 0;
}

static int teardown(void **state) {
    settings_release(&table);
    return setup(state);
}

static void test_defaults(void **state) {
    (void)state;
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_string_equal(output, "");
    assert_string_equal(host, "localhost");
    assert_string_equal(secret, "");
    assert_int_equal(port, 3000);
    assert_int_equal(interval_ms, 1500);
    assert_false(verbose);
}

static void test_order(void **state) {
    (void)state;
    write_env("T_HOST=file\nT_PORT=1\nT_VERBOSE=yes\nOTHER=ignored\n");
    setenv("T_PORT", "2", 1);
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_string_equal(host, "file");
    assert_int_equal(port, 2);
    assert_true(verbose);
    assert_int_equal(interval_ms, 1500);
}

/* `NAME=${NAME:-}` in a container's configuration. */
static void test_empty_is_not_set(void **state) {
    (void)state;
    write_env("T_HOST=file\nT_PORT=\n");
    setenv("T_HOST", "", 1);
    setenv("T_PORT", "", 1);
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_string_equal(host, "file");
    assert_int_equal(port, 3000);
}

static void test_env_forms(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *value;
    } cases[] = {
        { "T_SECRET=plain", "plain" },
        { "  T_SECRET = spaced out  ", "spaced out" },
        { "export T_SECRET=exported", "exported" },
        { "export\tT_SECRET=tab", "tab" },
        { "T_SECRET=a#b", "a#b" },
        { "T_SECRET=a #b", "a" },
        { "T_SECRET=#b", "" },
        { "T_SECRET='single # \"quoted\" \\n'", "single # \"quoted\" \\n" },
        { "T_SECRET=\"double # 'quoted'\"  # comment", "double # 'quoted'" },
        { "T_SECRET=\"a\\nb\\tc\\\"d\\\\e\\$f\\g\"", "a\nb\tc\"d\\e$f\\g" },
        { "T_SECRET=''", "" },
        { "T_SECRET=\"\"", "" },
        { "T_SECRET=a=b==", "a=b==" },
        { "T_SECRET=it's", "it's" },
        { "T_SECRET=$HOME", "$HOME" },
        { "T_SECRET=crlf\r", "crlf" },
        { "T_SECRET=first\nT_SECRET=last", "last" },
        { "\xef\xbb\xbfT_SECRET=bom", "bom" },
        { "# comment\n\n   # another\nT_SECRET=after", "after" },
        { "_x9=1\nT_SECRET=underscore", "underscore" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (int newline = 0; newline < 2; newline++) {
            char text[200];
            snprintf(text, sizeof(text), "%s%s", cases[i].line, newline ? "\n" : "");
            write_env(text);
            if (load() != SETTINGS_LOADED) fail_msg("refused: %s: %s", cases[i].line, output);
            assert_string_equal(secret, cases[i].value);
            settings_release(&table);
        }
    }
}

static void test_malformed_lines(void **state) {
    (void)state;
    static const char *const lines[] = { "T_SECRET", "hush", "=hush", "9T=hush", "T-SECRET=hush", "T_SECRET 'hush'",
        "T_SECRET='hush", "T_SECRET=\"hush", "T_SECRET=\"hush\\\"", "T_SECRET='hush' more", "export", "export hush",
        "\xc3\xa4=hush" };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        char text[200];
        snprintf(text, sizeof(text), "# one\nT_PORT=5\n%s\nT_HOST=x\n", lines[i]);
        write_env(text);
        assert_int_equal(load(), -EINVAL);
        if (!strstr(output, "bore-test: .env line 3 ")) fail_msg("%s: %s", lines[i], output);
        assert_null(strstr(output, "hush"));
        assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1);
        assert_null(host);
    }
    write_env_bytes("T_HOST=a\0b\n", 11);
    assert_int_equal(load(), -EINVAL);
    assert_non_null(strstr(output, ".env line 1 "));
}

static void test_unreadable_file(void **state) {
    (void)state;
    assert_int_equal(mkdir(".env", 0700), 0);
    assert_int_equal(load(), -EINVAL);
    assert_non_null(strstr(output, "bore-test: cannot read .env: "));
    rmdir(".env");
    static char big[1024 * 1024 + 10];
    memset(big, '#', sizeof(big));
    write_env_bytes(big, sizeof(big));
    assert_int_equal(load(), -EINVAL);
    assert_non_null(strstr(output, "File too large"));
    write_env("");
    assert_int_equal(load(), SETTINGS_LOADED);
}

static void test_refused_values(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *complaint;
    } cases[] = {
        { "T_PORT", "x", "bore-test: T_PORT must be a whole number, not \"x\"\n" },
        { "T_PORT", "1.5", "whole number" },
        { "T_PORT", " 1", "whole number" },
        { "T_PORT", "1 ", "whole number" },
        { "T_PORT", "99999999999999999999", "whole number" },
        { "T_PORT", "0", "bore-test: T_PORT must be 1 to 65535\n" },
        { "T_PORT", "65536", "T_PORT must be 1 to 65535\n" },
        { "T_PORT", "-1", "1 to 65535" },
        { "T_INTERVAL", "0.01", "T_INTERVAL must be 0.1 to 3600 seconds\n" },
        { "T_INTERVAL", "-1", "number of seconds" },
        { "T_INTERVAL", "1e3", "number of seconds" },
        { "T_INTERVAL", "inf", "number of seconds" },
        { "T_INTERVAL", "nan", "number of seconds" },
        { "T_INTERVAL", ".", "number of seconds" },
        { "T_INTERVAL", "1.2.3", "number of seconds" },
        { "T_INTERVAL", "9999999999999999999999", "number of seconds" },
        { "T_VERBOSE", "maybe", "T_VERBOSE must be true or false, not \"maybe\"\n" },
        { "T_HOST", "123456789012345678901", "T_HOST must be 0 to 20 bytes long\n" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setenv(cases[i].name, cases[i].value, 1);
        assert_int_equal(load(), -EINVAL);
        if (!strstr(output, cases[i].complaint)) fail_msg("%s: %s", cases[i].value, output);
        unsetenv(cases[i].name);
    }
}

static void test_accepted_values(void **state) {
    (void)state;
    static const char *const yes[] = { "true", "TRUE", "1", "yes", "Yes" };
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        setenv("T_VERBOSE", yes[i], 1);
        assert_int_equal(load(), SETTINGS_LOADED);
        assert_true(verbose);
        settings_release(&table);
    }
    setenv("T_VERBOSE", "0", 1);
    setenv("T_INTERVAL", ".25", 1);
    setenv("T_PORT", "65535", 1);
    setenv("T_HOST", "12345678901234567890", 1);
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_false(verbose);
    assert_int_equal(interval_ms, 250);
    assert_int_equal(port, 65535);
    assert_int_equal(strlen(host), 20);
    settings_release(&table);
    setenv("T_INTERVAL", "3600.", 1);
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_int_equal(interval_ms, 3600000);
}

static void test_required(void **state) {
    (void)state;
    static char *key;
    const struct setting required[] = {
        { "T_SECRET", SETTING_SECRET, &key, NULL, 16, 64, "Needed." },
        { NULL, SETTING_TEXT, NULL, NULL, 0, 0, NULL },
    };
    const struct settings_table needy = { "bore-test", "Tests.", "1", required };
    char *argv[] = { (char[]){ "bore-test" }, NULL };
    assert_int_equal(load_with(&needy, 1, argv, STDERR_FILENO), -EINVAL);
    assert_string_equal(output, "bore-test: T_SECRET must be set\n");
    setenv("T_SECRET", "hush", 1);
    assert_int_equal(load_with(&needy, 1, argv, STDERR_FILENO), -EINVAL);
    assert_string_equal(output, "bore-test: T_SECRET must be 16 to 64 bytes long\n");
}

/* A secret's own file: the environment's NAME beats it, it beats `.env`; one line; other settings know no such thing.
 */
static void test_secret_file(void **state) {
    (void)state;
    write_env("T_SECRET=from-env-file\n");
    setenv("T_SECRET_FILE", "key", 1);
    assert_int_equal(load(), -EINVAL);
    assert_string_equal(output, "bore-test: T_SECRET_FILE: cannot read key: No such file or directory\n");
    static const char *const contents[][2] = { { "from-its-file\n", "from-its-file" }, { "x\r\n", "x" },
        { "no newline", "no newline" }, { "", "from-env-file" }, { "\n", "from-env-file" } };
    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        write_file("key", contents[i][0]);
        assert_int_equal(load(), SETTINGS_LOADED);
        assert_string_equal(secret, contents[i][1]);
        settings_release(&table);
    }
    write_file("key", "two\nlines\n");
    assert_int_equal(load(), -EINVAL);
    assert_string_equal(output, "bore-test: T_SECRET_FILE: key is not one line of text\n");
    setenv("T_SECRET", "from-environment", 1);
    setenv("T_HOST_FILE", "key", 1);
    assert_int_equal(load(), SETTINGS_LOADED);
    assert_string_equal(secret, "from-environment");
    assert_string_equal(host, "localhost");
    settings_release(&table);
    unsetenv("T_SECRET_FILE");
    unsetenv("T_HOST_FILE");
    unlink("key");
}

static void test_options(void **state) {
    (void)state;
    setenv("T_SECRET", "hush", 1);
    char *help[] = { (char[]){ "bore-test" }, (char[]){ "--help" }, NULL };
    assert_int_equal(load_with(&table, 2, help, STDOUT_FILENO), SETTINGS_EXIT);
    for (size_t i = 0; settings[i].name; i++) {
        assert_non_null(strstr(output, settings[i].name));
        assert_non_null(strstr(output, settings[i].help));
    }
    assert_non_null(strstr(output, "T_PORT (number, 1 to 65535; default 3000)"));
    assert_null(strstr(output, "hush"));
    char *version[] = { (char[]){ "bore-test" }, (char[]){ "--version" }, NULL };
    assert_int_equal(load_with(&table, 2, version, STDOUT_FILENO), SETTINGS_EXIT);
    assert_string_equal(output, "bore-test 1.2.3\n");
    char *unknown[] = { (char[]){ "bore-test" }, (char[]){ "--port=1" }, NULL };
    assert_int_equal(load_with(&table, 2, unknown, STDERR_FILENO), -EINVAL);
    assert_string_equal(output, "bore-test: unknown option \"--port=1\" (--help tells what there is)\n");
}

static int enter_directory(void **state) {
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave_directory(void **state) {
    setup(state);
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_is_not_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_env_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreadable_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accepted_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_required, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secret_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options, setup, teardown),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
