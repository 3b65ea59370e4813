/*
 * counters_publisher.h: a thread that publishes this process's counters once a second on `counters.<process>`
 * (ARCHITECTURE §7). Thread rule: new and free from one thread.
 */
#ifndef BORE_SERVICES_LIB_COUNTERS_PUBLISHER_H
#define BORE_SERVICES_LIB_COUNTERS_PUBLISHER_H

#include "services/lib/bus_client.h"

struct counters_publisher;

/* process is borrowed for the publisher's life; bus must outlive it. */
struct counters_publisher *counters_publisher_new(struct bus_client *bus, const char *process, int instance);
/* Stops and joins the thread, publishes a last time. Takes NULL. */
void counters_publisher_free(struct counters_publisher *self);

/* One publication now; what the thread does, for those that have a timer already. */
void counters_publish(struct bus_client *bus, const char *process, int instance);
/* The same for a process that ends in order and will not be heard again. */
void counters_publish_last(struct bus_client *bus, const char *process, int instance);

#endif
