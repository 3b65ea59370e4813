/* test_clock.c: units, and that the monotonic clock never goes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

static void test_monotonic(void **state) {
    (void)state;
    int64_t before = clock_monotonic_us();
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_monotonic_us();
        assert_true(now >= before);
        before = now;
    }
    int64_t milliseconds = clock_monotonic_ms();
    usleep(20000);
    int64_t elapsed = clock_monotonic_ms() - milliseconds;
    assert_true(elapsed >= 19 && elapsed < 5000);
}

static void test_same_clock(void **state) {
    (void)state;
    int64_t us = clock_monotonic_us();
    int64_t ms = clock_monotonic_ms();
    assert_true(ms >= us / 1000 && ms - us / 1000 < 5000);
}

static void test_wall(void **state) {
    (void)state;
    int64_t seconds = (int64_t)time(NULL);
    int64_t now = clock_wall_ms() / 1000;
    assert_true(now >= seconds - 1 && now <= seconds + 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_same_clock),
        cmocka_unit_test(test_wall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
