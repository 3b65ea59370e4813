/*
 * test_proto_golden.c: the bytes of every message stay what they are.
 *
 * tests/unit/golden/messages.txt holds for each record and message two lines, `name full hex` and `name minimal hex`,
 * of the canonical messages of proto_samples.h. A line that changes means that old and new processes may misread each
 * other. After adding a message or a field on purpose, write the file anew and look at the difference:
 *
 *     build/test/test_proto_golden --write && git diff tests/unit/golden
 *
 * The test runs from the project's root.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/proto_samples.h"

#define GOLDEN_FILE "tests/unit/golden/messages.txt"

static void append_hex(struct strbuf *out, const struct strbuf *bytes) {
    for (size_t i = 0; i < bytes->size; i++)
        strbuf_append_format(out, "%02x", (unsigned)(unsigned char)bytes->data[i]);
}

/* The line that the file should hold. */
static void golden_line(const struct message_descriptor *descriptor, bool full, struct strbuf *out) {
    _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
    void *message = sample_new(descriptor, full);
    assert_int_equal(message_encode(descriptor, message, &bytes), 0);
    strbuf_append_format(out, "%s %s ", descriptor->name, full ? "full" : "minimal");
    append_hex(out, &bytes);
    strbuf_append_char(out, '\n');
    sample_free(descriptor, message);
}

static void all_lines(struct strbuf *out) {
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        golden_line(all_descriptors[i], true, out);
        golden_line(all_descriptors[i], false, out);
    }
}

static size_t parse_hex(const char *hex, unsigned char *bytes, size_t size) {
    size_t count = 0;
    unsigned byte;
    for (; count < size && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        bytes[count++] = (unsigned char)byte;
    return count;
}

static const struct message_descriptor *find_descriptor(const char *name) {
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        if (strcmp(all_descriptors[i]->name, name) == 0) return all_descriptors[i];
    }
    return NULL;
}

static void check_line(char *line) {
    char *name = line;
    char *kind = strchr(name, ' ');
    assert_non_null(kind);
    *kind++ = '\0';
    char *hex = strchr(kind, ' ');
    assert_non_null(hex);
    *hex++ = '\0';
    const struct message_descriptor *descriptor = find_descriptor(name);
    if (descriptor == NULL) {
        print_error("%s is in " GOLDEN_FILE " but not in messages.def\n", name);
        fail();
        return;
    }

    static unsigned char bytes[65536];
    size_t size = parse_hex(hex, bytes, sizeof(bytes));
    void *expected = sample_new(descriptor, strcmp(kind, "full") == 0);
    void *decoded = xcalloc(1, descriptor->size + 1);
    assert_int_equal(message_decode(descriptor, bytes, size, decoded), 0);
    assert_true(message_equal(descriptor, decoded, expected));
    _cleanup_strbuf_ struct strbuf again = STRBUF_INIT;
    assert_int_equal(message_encode(descriptor, decoded, &again), 0);
    if (again.size != size || memcmp(again.data, bytes, size) != 0)
        fail_msg("the bytes of %s %s are not those of " GOLDEN_FILE, name, kind);
    sample_free(descriptor, decoded);
    sample_free(descriptor, expected);
}

static void test_golden_bytes(void **state) {
    (void)state;
    FILE *file = fopen(GOLDEN_FILE, "r");
    if (file == NULL) fail_msg("cannot open " GOLDEN_FILE ": %s", strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    size_t count = 0;
    for (ssize_t size; (size = getline(&line, &capacity, file)) > 0; count++) {
        line[size - 1] = '\0';
        check_line(line);
    }
    free(line);
    fclose(file);
    size_t expected = 0;
    while (all_descriptors[expected] != NULL)
        expected++;
    if (count != 2 * expected) fail_msg(GOLDEN_FILE " lacks a message: see the top of this test");
}

/* Cut at any byte, a golden message is refused, and so is one with a byte too many. */
static void test_truncated(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct message_descriptor *descriptor = all_descriptors[i];
        _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
        void *message = sample_new(descriptor, true);
        assert_int_equal(message_encode(descriptor, message, &bytes), 0);
        message_release(descriptor, message);
        for (size_t size = 0; size < bytes.size; size++) {
            unsigned char *cut = xmemdup(bytes.data, size); /* its own block: reading past it is seen by ASan */
            assert_int_equal(message_decode(descriptor, cut, size, message), -EBADMSG);
            free(cut);
        }
        strbuf_append_char(&bytes, '\xc0');
        assert_int_equal(message_decode(descriptor, bytes.data, bytes.size, message), -EBADMSG);
        free(message);
    }
}

/* With any single bit flipped, a golden message is refused or decodes to one that encodes and decodes again. */
static void test_bit_flips(void **state) {
    (void)state;
    for (size_t i = 0; all_descriptors[i] != NULL; i++) {
        const struct message_descriptor *descriptor = all_descriptors[i];
        _cleanup_strbuf_ struct strbuf bytes = STRBUF_INIT;
        _cleanup_strbuf_ struct strbuf again = STRBUF_INIT;
        void *message = sample_new(descriptor, true);
        void *second = xcalloc(1, descriptor->size + 1);
        assert_int_equal(message_encode(descriptor, message, &bytes), 0);
        message_release(descriptor, message);
        for (size_t bit = 0; bit < bytes.size * 8; bit++) {
            bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ (1 << bit % 8));
            if (message_decode(descriptor, bytes.data, bytes.size, message) == 0) {
                strbuf_clear(&again);
                assert_int_equal(message_encode(descriptor, message, &again), 0);
                assert_int_equal(message_decode(descriptor, again.data, again.size, second), 0);
                assert_true(message_equal(descriptor, message, second));
                message_release(descriptor, second);
                message_release(descriptor, message);
            }
            bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ (1 << bit % 8));
        }
        free(second);
        free(message);
    }
}

static int write_golden(void) {
    _cleanup_strbuf_ struct strbuf lines = STRBUF_INIT;
    all_lines(&lines);
    FILE *file = fopen(GOLDEN_FILE, "w");
    if (file == NULL || fwrite(lines.data, 1, lines.size, file) != lines.size || fclose(file) != 0) {
        perror(GOLDEN_FILE);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--write") == 0) return write_golden();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_bit_flips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
