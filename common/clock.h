/* clock.h: time. Thread rule: any thread. */
#ifndef BORE_COMMON_CLOCK_H
#define BORE_COMMON_CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: for deadlines and durations, never jumps. */
int64_t clock_monotonic_ms(void);
/* Microseconds of CLOCK_MONOTONIC. */
int64_t clock_monotonic_us(void);
/* Milliseconds since the Unix epoch. */
int64_t clock_wall_ms(void);

#endif
