/* series.c: see series.h. */
#include "services/metrics/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

static void series_release(struct series *self) {
    free(self->labels);
    free(self->buckets);
}

void series_list_release(struct series_list *self) {
    for (size_t i = 0; i < self->count; i++)
        series_release(&self->items[i]);
    free(self->items);
    *self = (struct series_list){ .count = 0 };
}

/* --- buckets ------------------------------------------------------------------------------------------------------ */

/* "0.0005:3,…,+Inf:9". Ascending bounds, the last one infinite; counts that never fall. Number of buckets, 0: none. */
static size_t parse_buckets(const char *text, struct bucket *ret_buckets) {
    size_t count = 0;
    for (const char *at = text; count < SERIES_BUCKETS_MAX; at++) {
        char *end;
        struct bucket bucket = { .bound = strtod(at, &end) };
        if (end == at || *end != ':') return 0;
        at = end + 1;
        bucket.count = strtod(at, &end);
        if (end == at || !isfinite(bucket.count) || bucket.count < 0) return 0;
        bool is_next =
            count == 0 || (bucket.bound > ret_buckets[count - 1].bound && bucket.count >= ret_buckets[count - 1].count);
        if (isnan(bucket.bound) || !is_next) return 0;
        ret_buckets[count++] = bucket;
        at = end;
        if (*at == '\0') return isinf(bucket.bound) ? count : 0;
        if (*at != ',') return 0;
    }
    return 0;
}

static char *buckets_text(const struct series *self) {
    struct strbuf text = STRBUF_INIT;
    for (size_t i = 0; i < self->bucket_count; i++) {
        const struct bucket *bucket = &self->buckets[i];
        if (isinf(bucket->bound)) {
            strbuf_append_format(&text, "+Inf:%.0f", bucket->count);
        } else {
            strbuf_append_format(&text, "%g:%.0f,", bucket->bound, bucket->count);
        }
    }
    return strbuf_detach(&text);
}

/* How many of them are known to be at most bound. */
static double count_up_to(const struct series *self, double bound) {
    double count = 0;
    for (size_t i = 0; i < self->bucket_count && self->buckets[i].bound <= bound; i++)
        count = self->buckets[i].count;
    return count;
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

static struct series *append(struct series_list *self) {
    bool is_full = (self->count & (self->count - 1)) == 0; /* a power of two, or none */
    if (is_full)
        self->items = xreallocarray(self->items, self->count == 0 ? 1 : self->count * 2, sizeof(struct series));
    return &self->items[self->count++];
}

void series_list_add(struct series_list *self, const struct series *series) {
    struct series *added = append(self);
    *added = *series;
    added->labels = xstrdup(series->labels);
    added->buckets = NULL;
    if (series->bucket_count == 0) return;
    added->buckets = xcalloc(series->bucket_count, sizeof(struct bucket));
    memcpy(added->buckets, series->buckets, series->bucket_count * sizeof(struct bucket));
}

void series_list_add_value(struct series_list *self, const char *name, const char *labels, double value) {
    *append(self) = (struct series){ .metric = metric_find(name), .labels = xstrdup(labels), .value = value };
}

/* What the value says, without its labels. False when it says nothing. buckets has room for SERIES_BUCKETS_MAX. */
static bool read_value(const struct counter_value *value, struct bucket *buckets, struct series *ret_series) {
    *ret_series = (struct series){ .metric = metric_find(value->name), .value = value->value, .buckets = buckets };
    if (ret_series->metric == NULL || (int)ret_series->metric->type != (int)value->type) return false;
    if (!metric_labels_valid(value->labels)) return false;
    if (ret_series->metric->type == HISTOGRAM)
        ret_series->bucket_count = value->buckets != NULL ? parse_buckets(value->buckets, buckets) : 0;
    return ret_series->metric->type == HISTOGRAM ? ret_series->bucket_count > 0 : true;
}

bool series_list_add_told(
    struct series_list *self, const struct counter_value *told, const char *process, int64_t replica) {
    struct bucket buckets[SERIES_BUCKETS_MAX];
    struct series series;
    if (!read_value(told, buckets, &series)) return false;
    _cleanup_strbuf_ struct strbuf labels = STRBUF_INIT;
    enum metric_scope scope = series.metric->scope;
    if (scope == SCOPE_SERVICE || scope == SCOPE_REPLICA) metric_label_append(&labels, "process", process);
    if (scope == SCOPE_REPLICA) strbuf_append_format(&labels, ",replica=\"%lld\"", (long long)replica);
    if (labels.size > 0 && *told->labels != '\0') strbuf_append_char(&labels, ',');
    strbuf_append_text(&labels, told->labels);
    series.labels = labels.data;
    series_list_add(self, &series);
    return true;
}

bool series_list_add_kept(struct series_list *self, const struct counter_value *kept) {
    struct bucket buckets[SERIES_BUCKETS_MAX];
    struct series series;
    if (!read_value(kept, buckets, &series)) return false;
    series.labels = kept->labels;
    series_list_add(self, &series);
    return true;
}

void series_to_value(const struct series *self, struct counter_value *ret_value) {
    *ret_value = (struct counter_value){ .name = xstrdup(self->metric->name),
        .labels = xstrdup(self->labels),
        .type = self->metric->type,
        .value = self->value,
        .buckets = self->bucket_count > 0 ? buckets_text(self) : NULL };
}

/* --- summing ------------------------------------------------------------------------------------------------------ */

static int compare(const void *left, const void *right) {
    const struct series *one = left, *other = right;
    if (one->metric != other->metric) return one->metric < other->metric ? -1 : 1; /* the table is in order */
    return strcmp(one->labels, other->labels);
}

static void merge(struct series *self, const struct series *other) {
    if (self->metric->scope == SCOPE_HOLDER) {
        if (other->value > self->value) self->value = other->value;
        return;
    }
    self->value += other->value;
    for (size_t i = 0; i < self->bucket_count; i++)
        self->buckets[i].count += count_up_to(other, self->buckets[i].bound);
}

void series_list_sum(struct series_list *self) {
    if (self->count == 0) return;
    qsort(self->items, self->count, sizeof(struct series), compare);
    size_t kept = 0;
    for (size_t i = 1; i < self->count; i++) {
        if (compare(&self->items[kept], &self->items[i]) == 0) {
            merge(&self->items[kept], &self->items[i]);
            series_release(&self->items[i]);
        } else {
            self->items[++kept] = self->items[i];
        }
    }
    self->count = kept + 1;
    size_t room = 1;
    while (room < self->count)
        room *= 2;
    self->items = xreallocarray(self->items, room, sizeof(struct series));
}
