/* test_strbuf.c: growing, cutting, formatting and giving away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "common/strbuf.h"

static void test_empty(void **state) {
    (void)state;
    struct strbuf text = STRBUF_INIT;
    assert_string_equal(text.data, "");
    strbuf_clear(&text);
    strbuf_truncate(&text, 0);
    strbuf_append(&text, NULL, 0);
    strbuf_append_text(&text, "");
    strbuf_add_size(&text, 0);
    assert_int_equal(text.capacity, 0);
    strbuf_release(&text);
    strbuf_release(&text);
    assert_int_equal(strbuf_empty[0], 0);
}

static void test_append(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    strbuf_append_text(&text, "one");
    strbuf_append_char(&text, ' ');
    strbuf_append(&text, "t\0o", 3);
    assert_int_equal(text.size, 7);
    assert_memory_equal(text.data, "one t\0o", 8);
}

static void test_always_terminated(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    for (size_t i = 0; i < 10000; i++) {
        strbuf_append_char(&text, 'x');
        assert_int_equal(text.size, i + 1);
        assert_int_equal(text.data[i + 1], 0);
        assert_true(text.capacity > text.size);
    }
    assert_int_equal(strlen(text.data), 10000);
    strbuf_clear(&text);
    assert_string_equal(text.data, "");
    assert_true(text.capacity > 10000);
}

static void test_reserve(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    strbuf_append_text(&text, "ab");
    char *place = strbuf_reserve(&text, 500);
    memset(place, 'c', 500);
    strbuf_add_size(&text, 3);
    assert_string_equal(text.data, "abccc");
}

/* Around the size of the first guess, where vsnprintf has to run twice. */
static void test_format(void **state) {
    (void)state;
    for (size_t size = 0; size < 300; size++) {
        _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
        _cleanup_free_ char *word = xmalloc(size + 1);
        memset(word, 'w', size);
        word[size] = '\0';
        strbuf_append_format(&text, "%s", word);
        strbuf_append_format(&text, "[%s]", word);
        assert_int_equal(text.size, 2 * size + 2);
        assert_memory_equal(text.data, word, size);
        assert_int_equal(text.data[size], '[');
        assert_string_equal(text.data + 2 * size + 1, "]");
    }
}

static void test_truncate(void **state) {
    (void)state;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    strbuf_append_text(&text, "abcdef");
    strbuf_truncate(&text, 2);
    assert_string_equal(text.data, "ab");
    strbuf_append_text(&text, "z");
    assert_string_equal(text.data, "abz");
}

static void test_detach(void **state) {
    (void)state;
    struct strbuf text = STRBUF_INIT;
    char *nothing = strbuf_detach(&text);
    assert_string_equal(nothing, "");
    strbuf_append_text(&text, "kept");
    char *kept = strbuf_detach(&text);
    assert_string_equal(kept, "kept");
    assert_string_equal(text.data, "");
    assert_int_equal(text.capacity, 0);
    free(nothing);
    free(kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_always_terminated),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_detach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
