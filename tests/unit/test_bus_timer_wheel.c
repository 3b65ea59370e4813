/*
 * test_bus_timer_wheel.c: deadlines fire once, in time, never early, whatever is added and removed meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "services/lib/timer_wheel.h"

enum { ENTRIES = 500 };

struct world {
    struct timer_wheel wheel;
    struct timer_entry entries[ENTRIES];
    int64_t due[ENTRIES]; /* 0: not set */
    int64_t now_ms;
    int fired;
};

static void on_timer(void *user_data, struct timer_entry *entry) {
    struct world *world = user_data;
    size_t index = (size_t)(entry - world->entries);
    assert_int_not_equal(world->due[index], 0);
    assert_true(world->now_ms >= world->due[index]);
    assert_false(timer_entry_is_set(entry));
    world->due[index] = 0;
    world->fired++;
}

/* Nothing may be overdue by more than a tick after an expiry, and next_ms may not lie after any firing. */
static void check(struct world *world) {
    int64_t next_ms = timer_wheel_next_ms(&world->wheel);
    for (size_t i = 0; i < ENTRIES; i++) {
        if (world->due[i] == 0) continue;
        assert_true(world->due[i] > world->now_ms - 2 * TIMER_WHEEL_TICK_MS);
        assert_true(next_ms <= world->due[i] + 2 * TIMER_WHEEL_TICK_MS);
    }
}

static void test_random_life(void **state) {
    struct world *world = calloc(1, sizeof(*world));
    (void)state;
    srand(7);
    world->now_ms = 123456789;
    timer_wheel_init(&world->wheel, world->now_ms);
    for (int step = 0; step < 20000; step++) {
        size_t index = (size_t)rand() % ENTRIES;
        if (world->due[index] != 0) {
            timer_entry_remove(&world->entries[index]);
            world->due[index] = 0;
        } else {
            int64_t distance = rand() % 3 == 0 ? rand() % 30000 : rand() % 300;
            world->due[index] = world->now_ms + distance - 5;
            timer_wheel_add(&world->wheel, &world->entries[index], world->due[index]);
        }
        if (rand() % 4 == 0) world->now_ms += rand() % (rand() % 50 == 0 ? 20000 : 20);
        timer_wheel_expire(&world->wheel, world->now_ms, on_timer, world);
        if (step % 16 == 0) check(world);
    }
    world->now_ms += 60000;
    timer_wheel_expire(&world->wheel, world->now_ms, on_timer, world);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_int_equal(world->due[i], 0);
    assert_true(world->fired > 1000);
    assert_true(timer_wheel_next_ms(&world->wheel) == INT64_MAX);
    free(world);
}

static struct timer_entry first, second;
static int fired;

static void remove_the_other(void *wheel, struct timer_entry *entry) {
    fired++;
    timer_entry_remove(entry == &first ? &second : &first);
    if (fired == 1) timer_wheel_add(wheel, entry, 2000);
}

static void test_a_timer_may_remove_and_add(void **state) {
    struct timer_wheel wheel;
    (void)state;
    timer_wheel_init(&wheel, 1000);
    timer_wheel_add(&wheel, &first, 1100);
    timer_wheel_add(&wheel, &second, 1100);
    timer_wheel_expire(&wheel, 1099, remove_the_other, &wheel);
    assert_int_equal(fired, 0);
    timer_wheel_expire(&wheel, 1100 + TIMER_WHEEL_TICK_MS, remove_the_other, &wheel);
    assert_int_equal(fired, 1);
    timer_wheel_expire(&wheel, 2000 + TIMER_WHEEL_TICK_MS, remove_the_other, &wheel);
    assert_int_equal(fired, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_life),
        cmocka_unit_test(test_a_timer_may_remove_and_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
