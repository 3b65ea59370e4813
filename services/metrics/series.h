/*
 * series.h: single values with their labels (series, as Prometheus calls them), and lists of them that can be summed.
 *
 * Owns its memory. Thread rule: one thread at a time.
 */
#ifndef BORE_METRICS_SERIES_H
#define BORE_METRICS_SERIES_H

#include <stddef.h>

#include "services/lib/metric.h"

enum { SERIES_BUCKETS_MAX = 32 };

struct bucket {
    double bound; /* infinite in the last one */
    double count; /* of observations up to the bound */
};

struct series {
    const struct metric *metric;
    char *labels;
    double value; /* HISTOGRAM: the sum */
    size_t bucket_count;
    struct bucket *buckets; /* HISTOGRAM: ascending */
};

struct series_list {
    size_t count;
    struct series *items;
};

void series_list_release(struct series_list *self);

/* Adds what a process told; process and replica become labels as the metric's scope wants it. False, and nothing is
 * added, when there is no such metric, or labels or buckets are none. */
bool series_list_add_told(
    struct series_list *self, const struct counter_value *told, const char *process, int64_t replica);
/* Adds a value whose labels are complete. labels and buckets are copied. */
void series_list_add(struct series_list *self, const struct series *series);
/* The same by name, which is in the table, for one that is no histogram. */
void series_list_add_value(struct series_list *self, const char *name, const char *labels, double value);

/* Brings them into order, by name, then labels, and makes those of the same name and labels one: their sum; of a
 * HOLDER's, the largest. Histograms of other bounds are counted into the first one's: an observation is never counted
 * under a bound that it may have been above. */
void series_list_sum(struct series_list *self);

/* The value as a message's; labels stay as they are. Release it. */
void series_to_value(const struct series *self, struct counter_value *ret_value);
/* Reads what the former wrote; false when it is none. */
bool series_list_add_kept(struct series_list *self, const struct counter_value *kept);

#endif
