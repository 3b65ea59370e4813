/*
 * timer_wheel.c: see timer_wheel.h. After Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987), scheme 6:
 * one ring, where an entry further away than one turn stays in its slot until its turn has come.
 */
#include "services/lib/timer_wheel.h"

#include <stddef.h>
#include <string.h>

static int64_t tick_of(int64_t due_ms) {
    return (due_ms + TIMER_WHEEL_TICK_MS - 1) / TIMER_WHEEL_TICK_MS;
}

static void link_entry(struct timer_entry **head, struct timer_entry *entry) {
    entry->next = *head;
    entry->previous = head;
    if (*head != NULL) (*head)->previous = &entry->next;
    *head = entry;
}

void timer_wheel_init(struct timer_wheel *self, int64_t now_ms) {
    memset(self, 0, sizeof(*self));
    self->tick = now_ms / TIMER_WHEEL_TICK_MS;
}

void timer_wheel_add(struct timer_wheel *self, struct timer_entry *entry, int64_t due_ms) {
    int64_t tick = tick_of(due_ms);
    if (tick <= self->tick) tick = self->tick + 1;
    size_t slot = (size_t)(tick % TIMER_WHEEL_SLOTS);
    entry->due_ms = due_ms;
    link_entry(&self->slots[slot], entry);
    self->used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

void timer_entry_remove(struct timer_entry *entry) {
    if (entry->previous == NULL) return;
    *entry->previous = entry->next;
    if (entry->next != NULL) entry->next->previous = entry->previous;
    entry->next = NULL;
    entry->previous = NULL;
}

bool timer_entry_is_set(const struct timer_entry *entry) {
    return entry->previous != NULL;
}

/* Moves what is due from one slot to the list. */
static void take_due(struct timer_wheel *self, size_t slot, int64_t now_tick, struct timer_entry **list) {
    struct timer_entry *next;
    for (struct timer_entry *entry = self->slots[slot]; entry != NULL; entry = next) {
        next = entry->next;
        if (tick_of(entry->due_ms) > now_tick) continue;
        timer_entry_remove(entry);
        link_entry(list, entry);
    }
    if (self->slots[slot] == NULL) self->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

void timer_wheel_expire(struct timer_wheel *self, int64_t now_ms, timer_fn *function, void *user_data) {
    int64_t now_tick = now_ms / TIMER_WHEEL_TICK_MS;
    if (now_tick <= self->tick) return;
    int64_t steps = now_tick - self->tick < TIMER_WHEEL_SLOTS ? now_tick - self->tick : TIMER_WHEEL_SLOTS;
    struct timer_entry *due = NULL;
    for (int64_t tick = now_tick - steps + 1; tick <= now_tick; tick++) {
        size_t slot = (size_t)(tick % TIMER_WHEEL_SLOTS);
        if ((self->used[slot / 64] >> (slot % 64) & 1) != 0) take_due(self, slot, now_tick, &due);
    }
    self->tick = now_tick;
    while (due != NULL) {
        struct timer_entry *entry = due;
        timer_entry_remove(entry);
        function(user_data, entry);
    }
}

int64_t timer_wheel_next_ms(struct timer_wheel *self) {
    for (int64_t distance = 1; distance <= TIMER_WHEEL_SLOTS;) {
        size_t slot = (size_t)((self->tick + distance) % TIMER_WHEEL_SLOTS);
        uint64_t bits = self->used[slot / 64] >> (slot % 64);
        if (bits == 0) {
            distance += 64 - (int64_t)(slot % 64);
            continue;
        }
        distance += __builtin_ctzll(bits);
        slot = (size_t)((self->tick + distance) % TIMER_WHEEL_SLOTS);
        if (self->slots[slot] != NULL) {
            return distance <= TIMER_WHEEL_SLOTS ? (self->tick + distance) * TIMER_WHEEL_TICK_MS : INT64_MAX;
        }
        self->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64)); /* emptied by removals */
    }
    return INT64_MAX;
}
