/*
 * clock.c: the two clocks that the project uses.
 *
 * CLOCK_MONOTONIC for every deadline and duration, because it never jumps; the wall clock only where a person or
 * another machine reads the time. Both are read through the vDSO and cannot fail for these clock ids.
 */
#include "common/clock.h"

#include <time.h>

static int64_t clock_us(clockid_t clock) {
    struct timespec now = { 0 };
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_monotonic_ms(void) {
    return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_monotonic_us(void) {
    return clock_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void) {
    return clock_us(CLOCK_REALTIME) / 1000;
}
