/*
 * bus_thread.h: for tests, the bus itself, in a thread of the test. Thread rule: one thread.
 */
#ifndef BORE_TESTS_UNIT_BUS_THREAD_H
#define BORE_TESTS_UNIT_BUS_THREAD_H

#include "services/bus/bus.h"

struct bus_thread;

/* NULL when the bus does not start. */
struct bus_thread *bus_thread_start(const struct bus_options *options);
/* As SIGTERM does. */
void bus_thread_stop(struct bus_thread *self);

#endif
