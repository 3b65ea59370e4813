/* test_proto_time.c: RFC 3339 to milliseconds and back, beside gmtime. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "proto/message_json.h"
#include "tests/unit/proto_samples.h"

static void time_is(int64_t milliseconds, const char *expected) {
    char text[32];
    int64_t back = -1;
    time_to_rfc3339(milliseconds, text, sizeof(text));
    assert_string_equal(text, expected);
    assert_int_equal(time_from_rfc3339(text, &back), 0);
    assert_true(back == milliseconds);
}

static void test_times(void **state) {
    (void)state;
    time_is(0, "1970-01-01T00:00:00.000Z");
    time_is(-1, "1969-12-31T23:59:59.999Z");
    time_is(951782400000, "2000-02-29T00:00:00.000Z");
    time_is(1769860800123, "2026-01-31T12:00:00.123Z");
    time_is(4107542399999, "2100-02-28T23:59:59.999Z");
    time_is(4107542400000, "2100-03-01T00:00:00.000Z");
    time_is(-62135596800000, "0001-01-01T00:00:00.000Z");
    time_is(253402300799999, "9999-12-31T23:59:59.999Z");
    struct sample_random random = { 11 };
    for (int i = 0; i < 100000; i++) {
        int64_t milliseconds = (int64_t)(sample_next(&random) % 315537897600000u) - 62135596800000;
        char text[32];
        char expected[32];
        time_t seconds = (time_t)((milliseconds - ((milliseconds % 1000) + 1000) % 1000) / 1000);
        struct tm parts;
        gmtime_r(&seconds, &parts);
        size_t size = strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", &parts);
        time_to_rfc3339(milliseconds, text, sizeof(text));
        if (parts.tm_year >= -900) assert_memory_equal(text, expected, size);
        int64_t back = -1;
        assert_int_equal(time_from_rfc3339(text, &back), 0);
        assert_true(back == milliseconds);
    }
    char text[32];
    time_to_rfc3339(INT64_MAX, text, sizeof(text));
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    time_to_rfc3339(INT64_MIN, text, sizeof(text));
    assert_string_equal(text, "0001-01-01T00:00:00.000Z");
}

static void test_times_from_text(void **state) {
    (void)state;
    int64_t value;
    assert_int_equal(time_from_rfc3339("2026-01-31T12:00:00Z", &value), 0);
    assert_true(value == 1769860800000);
    assert_int_equal(time_from_rfc3339("2026-01-31t14:30:00.5+02:30", &value), 0);
    assert_true(value == 1769860800500);
    assert_int_equal(time_from_rfc3339("2026-01-31 11:00:00.1239999-01:00", &value), 0);
    assert_true(value == 1769860800123);
    static const char *const wrong[] = { "", "2026", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z",
        "2026-02-29T12:00:00Z", "1900-02-29T12:00:00Z", "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z",
        "2026-01-32T12:00:00Z", "2026-01-00T12:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00+0200", "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+02:60", "2026-01-31T12:00:00Zx", "2026-01-31T12:00:00+02:00x", " 2026-01-31T12:00:00Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "20260131T120000Z",
        "+026-01-31T12:00:00Z", "2026-1-31T12:00:00Z" };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        if (time_from_rfc3339(wrong[i], &value) != -EINVAL) fail_msg("accepted: %s", wrong[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_times_from_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
