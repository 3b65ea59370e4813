/*
 * counters.h: what a process counts, in memory, cumulative since its start; published once a second (ARCHITECTURE §7).
 *
 * A counter is found by (name, labels) once and then added to without a lock. Labels are Prometheus text
 * (`method="GET",status="200"`) of a bounded set that the program chooses, never a peer.
 * Every name stands in metrics.def, which says what it means and how it is summed; `make lint` compares.
 * At most COUNTERS_MAX values; further ones all count into `bore_counters_overflow_total`.
 * Thread rule: any thread.
 */
#ifndef BORE_SERVICES_LIB_COUNTERS_H
#define BORE_SERVICES_LIB_COUNTERS_H

#include <stdint.h>

#include "proto/protocol.h"

enum { COUNTERS_MAX = 2000 };
enum counter_type { COUNTER = 0, GAUGE = 1, HISTOGRAM = 2 };

struct counter;

/* Never NULL; the same (name, labels) gives the same counter for good. Look it up once, keep the pointer. */
struct counter *counter_get(enum counter_type type, const char *name, const char *labels);
void counter_add(struct counter *self, int64_t amount);
void gauge_set(struct counter *self, double value);
/* Withdraws a gauge until it is set again: what only one replica at a time may tell (the holder of a sweep). A fresh
 * gauge is 0, so a replica that is not the holder clears it right after counter_get. */
void gauge_clear(struct counter *self);
/* Buckets 0.0005 … 10 s. In a COUNTERS message a histogram's value is the sum in seconds, and its buckets are the text
 * "0.0005:3,0.001:5,…,10:9,+Inf:9": bound and count up to there, as Prometheus has them. */
void histogram_observe(struct counter *self, double seconds);

/* Fills a COUNTERS message with all values now, and the process's own memory and processor time. Release it. */
void counters_snapshot(const char *process, int instance, struct counters *ret_counters);

/* What other processes published, latest of each, those silent for 5 s dropped. */
struct counters_view;
struct counters_view *counters_view_new(void);
void counters_view_free(struct counters_view *self);
/* A subscriber for bus_subscribe("counters.", …, view). */
void counters_view_on_message(void *view, const char *topic, const void *frame, size_t size);
/* Sum over live processes of the named value (any labels). */
double counters_view_sum(struct counters_view *self, const char *name);
/* Sum over live processes of the named counter's increase a second, over the last 2 to 10 s. */
double counters_view_rate(struct counters_view *self, const char *name);
/* Number of live processes of that name ("stream"). */
int counters_view_processes(struct counters_view *self, const char *process);

#endif
