/*
 * timer_wheel.h: deadlines of many things at once, where nearly all are removed before they are due.
 *
 * Adding and removing are O(1): a ring of slots of TIMER_WHEEL_TICK_MS each, an intrusive list in each slot. An entry
 * fires at most one tick late, never early. Thread rule: one thread.
 */
#ifndef BORE_SERVICES_LIB_TIMER_WHEEL_H
#define BORE_SERVICES_LIB_TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

enum { TIMER_WHEEL_TICK_MS = 8, TIMER_WHEEL_SLOTS = 512 };

/* Embedded in what has the deadline; zeroed = in no wheel. */
struct timer_entry {
    struct timer_entry *next;
    struct timer_entry **previous;
    int64_t due_ms; /* clock_monotonic_ms */
};

struct timer_wheel {
    int64_t tick; /* the last one that was looked at */
    uint64_t used[TIMER_WHEEL_SLOTS / 64];
    struct timer_entry *slots[TIMER_WHEEL_SLOTS];
};

typedef void timer_fn(void *user_data, struct timer_entry *entry);

void timer_wheel_init(struct timer_wheel *self, int64_t now_ms);
/* Adds an entry that is in no wheel. */
void timer_wheel_add(struct timer_wheel *self, struct timer_entry *entry, int64_t due_ms);
/* Takes it out; nothing happens when it is in none. */
void timer_entry_remove(struct timer_entry *entry);
bool timer_entry_is_set(const struct timer_entry *entry);
/* Takes out each entry that is due and hands it to the function, which may add and remove entries. */
void timer_wheel_expire(struct timer_wheel *self, int64_t now_ms, timer_fn *function, void *user_data);
/* When to call timer_wheel_expire next: a time not after the first entry's firing; INT64_MAX when there is none. */
int64_t timer_wheel_next_ms(struct timer_wheel *self);

#endif
