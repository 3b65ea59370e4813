/* exposition.c: see exposition.h. */
#include "services/metrics/exposition.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const type_names[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

/* The shortest decimal text that reads back as the same number. */
static void write_number(struct strbuf *out, double value) {
    char text[40];
    int digits = 15;
    if (isinf(value)) {
        strbuf_append_text(out, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    do {
        snprintf(text, sizeof(text), "%.*g", digits, value);
    } while (digits++ < 17 && strtod(text, NULL) != value);
    strbuf_append_text(out, text);
}

static void write_sample(
    struct strbuf *out, const char *name, const char *suffix, const char *labels, const char *further, double value) {
    strbuf_append_text(out, name);
    strbuf_append_text(out, suffix);
    if (*labels != '\0' || *further != '\0')
        strbuf_append_format(out, "{%s%s%s}", labels, *labels != '\0' && *further != '\0' ? "," : "", further);
    strbuf_append_char(out, ' ');
    write_number(out, value);
    strbuf_append_char(out, '\n');
}

static void write_histogram(struct strbuf *out, const struct series *series) {
    double count = 0;
    for (size_t i = 0; i < series->bucket_count; i++) {
        _cleanup_strbuf_ struct strbuf bound = STRBUF_INIT;
        strbuf_append_text(&bound, "le=\"");
        write_number(&bound, series->buckets[i].bound);
        strbuf_append_char(&bound, '"');
        count = series->buckets[i].count;
        write_sample(out, series->metric->name, "_bucket", series->labels, bound.data, count);
    }
    write_sample(out, series->metric->name, "_sum", series->labels, "", series->value);
    write_sample(out, series->metric->name, "_count", series->labels, "", count);
}

static void write_series(struct strbuf *out, const struct series *series) {
    if (series->metric->type == HISTOGRAM) {
        write_histogram(out, series);
    } else {
        write_sample(out, series->metric->name, "", series->labels, "", series->value);
    }
}

static void write_head(struct strbuf *out, const struct metric *metric) {
    strbuf_append_format(out, "# HELP %s ", metric->name);
    for (const char *at = metric->help; *at != '\0'; at++) {
        if (*at == '\\') strbuf_append_char(out, '\\');
        if (*at == '\n') {
            strbuf_append_text(out, "\\n");
        } else {
            strbuf_append_char(out, *at);
        }
    }
    strbuf_append_format(out, "\n# TYPE %s %s\n", metric->name, type_names[metric->type]);
}

/* Such a family is there from the beginning, so that its first increase is seen as one. */
static void write_nothing_yet(struct strbuf *out, const struct metric *metric) {
    struct bucket infinite = { .bound = INFINITY };
    struct series zero = { .metric = metric, .labels = (char[]){ "" } };
    if (metric->type == HISTOGRAM) {
        zero.bucket_count = 1;
        zero.buckets = &infinite;
    }
    write_head(out, metric);
    write_series(out, &zero);
}

bool exposition_write(const struct series_list *sums, size_t maximum, struct strbuf *out) {
    size_t next = 0;
    for (const struct metric *metric = metric_table; metric->name != NULL; metric++) {
        size_t before = out->size;
        bool is_told = next < sums->count && sums->items[next].metric == metric;
        if (is_told) write_head(out, metric);
        if (!is_told && metric->scope == SCOPE_TOTAL && *metric->labels == '\0') write_nothing_yet(out, metric);
        for (; next < sums->count && sums->items[next].metric == metric; next++) {
            if (out->size <= maximum) write_series(out, &sums->items[next]);
        }
        if (out->size > maximum) {
            strbuf_truncate(out, before);
            return false;
        }
    }
    return true;
}
