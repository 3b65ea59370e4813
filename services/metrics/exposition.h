/*
 * exposition.h: series as Prometheus text, format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Thread rule: no shared state; any thread.
 */
#ifndef BORE_METRICS_EXPOSITION_H
#define BORE_METRICS_EXPOSITION_H

#include "common/strbuf.h"
#include "services/metrics/series.h"

/* Appends the summed list, family by family in order of their names, with HELP and TYPE from the table. A family
 * without labels that nobody told is zero. Ends before the family with which it would be longer than maximum bytes;
 * false then. */
bool exposition_write(const struct series_list *sums, size_t maximum, struct strbuf *out);

#endif
