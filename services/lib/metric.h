/*
 * metric.h: the table of all metrics (metrics.def): how each is summed and what GET /metrics says of it.
 *
 * Thread rule: constants only; any thread.
 */
#ifndef BORE_SERVICES_LIB_METRIC_H
#define BORE_SERVICES_LIB_METRIC_H

#include <stdbool.h>

#include "common/strbuf.h"
#include "services/lib/counters.h"

/* See metrics.def. */
enum metric_scope { SCOPE_TOTAL, SCOPE_SERVICE, SCOPE_REPLICA, SCOPE_HOLDER };

struct metric {
    enum counter_type type;
    const char *name;
    enum metric_scope scope;
    const char *labels; /* names, separated by commas */
    const char *help;
};

/* In order of their names; ends with a NULL name. */
extern const struct metric metric_table[];

/* NULL when there is none of that name. */
const struct metric *metric_find(const char *name);

/* Whether text is what stands between the braces of Prometheus text: a="b",c="d", with \\, \" and \n escaped; "" too.
 */
bool metric_labels_valid(const char *text);

/* Appends name="value", the value escaped, with a comma before it unless out is empty. */
void metric_label_append(struct strbuf *out, const char *name, const char *value);

#endif
