/*
 * fake_bus.h: the bus as one worker process sees it, for unit tests: takes HELLOs, hands out batches, collects answers
 * and publications. It keeps no credits and checks nothing. Every wait ends after a few seconds; then the test fails.
 */
#ifndef TESTS_UNIT_FAKE_BUS_H
#define TESTS_UNIT_FAKE_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/protocol.h"

struct fake_bus;

/* url: ipc:///directory/name; binds `.workers` and `.publish`. */
struct fake_bus *fake_bus_new(const char *url);
void fake_bus_free(struct fake_bus *self);

/* The next HELLO of that lane with that `leaving`; false after milliseconds. Release it. */
bool fake_bus_wait_hello(
    struct fake_bus *self, const char *lane, bool leaving, int milliseconds, struct worker_hello *ret);
/* Number of HELLOs of any lane so far. */
size_t fake_bus_hellos(const struct fake_bus *self);

/* A request of the batch that is being made; returns its correlation (1, 2, … in the life of the bus). */
int64_t fake_bus_add(struct fake_bus *self, int method, const void *request, int64_t budget_ms);
int64_t fake_bus_add_raw(struct fake_bus *self, int method, const void *body, size_t size, int64_t budget_ms);
/* Sends the batch to the worker that was heard last. */
void fake_bus_send(struct fake_bus *self, const char *lane);
/* Two frames as they are. */
void fake_bus_send_frames(struct fake_bus *self, const void *head, size_t head_size, const void *frame, size_t size);

/* An answer by its correlation: its code (0 or ERR_…), and the decoded message when there is room for it: the method's
 * reply for 0, else an error_reply. Fails the test after 5 s. */
int fake_bus_wait(
    struct fake_bus *self, int64_t correlation, const struct message_descriptor *descriptor, void *ret_message);
/* Whether the answer has come; waits at most so long. */
bool fake_bus_has(struct fake_bus *self, int64_t correlation, int milliseconds);
/* Position of an answer among all that came, from 0. */
size_t fake_bus_position(struct fake_bus *self, int64_t correlation);
void fake_bus_forget_answers(struct fake_bus *self);

/* The next publication whose topic begins with prefix, decoded; false after milliseconds. Release it. */
bool fake_bus_wait_publication(struct fake_bus *self, const char *prefix, int milliseconds,
    const struct message_descriptor *descriptor, void *ret_message);

#endif
