/* ledger.c: see ledger.h. */
#include "services/metrics/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"

enum { HEARING_MS = 2000 }; /* with nobody heard for longer, the clock stands */

static const char restarts[] = "bore_process_restarts_total";

struct process {
    char *name;
    int64_t replica;
    char *identity;
    int64_t started; /* its own clock, milliseconds since the epoch */
    int64_t heard;   /* the ledger's clock */
    bool is_heard;   /* not only kept */
    bool has_ended;  /* in order; it said so */
    struct series_list series;
};

struct ledger {
    int64_t clock; /* milliseconds in which somebody was heard */
    int64_t last_ms;
    struct series_list totals;
    size_t count;
    struct process *processes[LEDGER_PROCESSES_MAX];
    size_t folded_count; /* ever */
    char *folded[LEDGER_FOLDED_MAX];
};

static void process_free(struct process *self) {
    series_list_release(&self->series);
    free(self->name);
    free(self->identity);
    free(self);
}

struct ledger *ledger_new(void) {
    return xcalloc(1, sizeof(struct ledger));
}

static void clear_kept(struct ledger *self) {
    series_list_release(&self->totals);
    for (size_t i = 0; i < LEDGER_FOLDED_MAX; i++)
        cleanup_free(&self->folded[i]);
    self->folded_count = 0;
}

void ledger_free(struct ledger *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++)
        process_free(self->processes[i]);
    clear_kept(self);
    free(self);
}

/* --- who there is ------------------------------------------------------------------------------------------------- */

static struct process *find_process(const struct ledger *self, const char *identity) {
    for (size_t i = 0; i < self->count; i++) {
        if (strcmp(self->processes[i]->identity, identity) == 0) return self->processes[i];
    }
    return NULL;
}

static bool is_folded(const struct ledger *self, const char *identity) {
    for (size_t i = 0; i < LEDGER_FOLDED_MAX && self->folded[i] != NULL; i++) {
        if (strcmp(self->folded[i], identity) == 0) return true;
    }
    return false;
}

static void remember_folded(struct ledger *self, const char *identity) {
    char **place = &self->folded[self->folded_count++ % LEDGER_FOLDED_MAX];
    free(*place);
    *place = xstrdup(identity);
}

static bool is_same_replica(const struct process *one, const struct process *other) {
    return one->replica == other->replica && strcmp(one->name, other->name) == 0;
}

static bool is_newer(const struct process *one, const struct process *other) {
    if (one->started != other->started) return one->started > other->started;
    return strcmp(one->identity, other->identity) > 0;
}

static bool is_replaced(const struct ledger *self, const struct process *process) {
    for (size_t i = 0; i < self->count; i++) {
        const struct process *other = self->processes[i];
        if (is_same_replica(other, process) && is_newer(other, process)) return true;
    }
    return false;
}

static int64_t silence_of(const struct ledger *self, const struct process *process) {
    return self->clock - process->heard;
}

/* --- folding ------------------------------------------------------------------------------------------------------ */

static bool is_cumulative(const struct series *series) {
    return series->metric->type != GAUGE && series->metric->scope != SCOPE_REPLICA;
}

static void fold(struct ledger *self, size_t index) {
    struct process *process = self->processes[index];
    for (size_t i = 0; i < process->series.count; i++) {
        if (is_cumulative(&process->series.items[i])) series_list_add(&self->totals, &process->series.items[i]);
    }
    series_list_sum(&self->totals);
    while (self->totals.count > LEDGER_TOTALS_MAX) {
        struct series *last = &self->totals.items[--self->totals.count];
        log_warning("there is no room for %s{%s} of ended processes", last->metric->name, last->labels);
        free(last->labels);
        free(last->buckets);
    }
    remember_folded(self, process->identity);
    process_free(process);
    self->processes[index] = self->processes[--self->count];
}

void ledger_settle(struct ledger *self) {
    for (size_t i = 0; i < self->count;) {
        const struct process *process = self->processes[i];
        int64_t limit = is_replaced(self, process) ? LEDGER_REPLACED_MS : LEDGER_FORGET_MS;
        if (silence_of(self, process) > limit) {
            fold(self, i);
        } else {
            i++;
        }
    }
}

static void make_room(struct ledger *self) {
    if (self->count < LEDGER_PROCESSES_MAX) return;
    size_t longest = 0;
    int64_t silence = -1;
    for (size_t i = 0; i < self->count; i++) {
        const struct process *process = self->processes[i];
        int64_t its = silence_of(self, process) + (is_replaced(self, process) ? LEDGER_FORGET_MS : 0);
        if (its <= silence) continue;
        longest = i;
        silence = its;
    }
    fold(self, longest);
}

/* --- hearing ------------------------------------------------------------------------------------------------------ */

static struct process *add_process(
    struct ledger *self, const char *name, int64_t replica, const char *identity, int64_t started) {
    make_room(self);
    struct process *process = xcalloc(1, sizeof(*process));
    process->name = xstrdup(name);
    process->replica = replica;
    process->identity = xstrdup(identity);
    process->started = started;
    process->heard = self->clock;
    self->processes[self->count++] = process;
    return process;
}

static void count_restart(struct ledger *self, const struct process *process, double count) {
    _cleanup_strbuf_ struct strbuf labels = STRBUF_INIT;
    metric_label_append(&labels, "process", process->name);
    series_list_add_value(&self->totals, restarts, labels.data, count);
    series_list_sum(&self->totals);
}

static struct process *meet_process(struct ledger *self, const struct counters *told) {
    struct process *process = add_process(self, told->process, told->instance, told->identity, told->started);
    bool is_known = false;
    for (size_t i = 0; i < self->count; i++)
        is_known |= self->processes[i] != process && is_same_replica(self->processes[i], process);
    count_restart(self, process, is_known ? 1 : 0);
    return process;
}

static void advance_clock(struct ledger *self, int64_t now_ms) {
    int64_t passed = self->last_ms != 0 ? now_ms - self->last_ms : 0;
    self->clock += passed < HEARING_MS ? passed : HEARING_MS;
    self->last_ms = now_ms;
}

void ledger_hear(struct ledger *self, const struct counters *told, int64_t now_ms) {
    advance_clock(self, now_ms);
    if (is_folded(self, told->identity)) return;
    struct process *process = find_process(self, told->identity);
    if (process == NULL) process = meet_process(self, told);
    process->heard = self->clock;
    process->is_heard = true;
    process->has_ended = told->has_ended && told->ended;
    series_list_release(&process->series);
    size_t refused = 0;
    for (size_t i = 0; i < told->values_count; i++) {
        if (!series_list_add_told(&process->series, &told->values[i], told->process, told->instance)) refused++;
    }
    if (refused == 0) return;
    log_debug("%s tells %zu values that are not in metrics.def, or are none", told->process, refused);
    series_list_add_value(&self->totals, "bore_metrics_refused_values_total", "", (double)refused);
    series_list_sum(&self->totals);
}

/* --- summing ------------------------------------------------------------------------------------------------------ */

static bool is_living(const struct ledger *self, const struct process *process) {
    return process->is_heard && !process->has_ended && silence_of(self, process) <= LEDGER_SILENT_MS;
}

/* Whether the process has been away long enough to say that it is down. */
static bool is_down(const struct ledger *self, const struct process *process) {
    return process->has_ended || silence_of(self, process) > LEDGER_SILENT_MS;
}

/* Whether it is the only one of its service that could be told of. */
static bool is_last_of_service(const struct ledger *self, const struct process *process) {
    for (size_t i = 0; i < self->count; i++) {
        const struct process *other = self->processes[i];
        if (other == process || strcmp(other->name, process->name) != 0) continue;
        if (!is_down(self, other) || (process->has_ended && (!other->has_ended || is_newer(other, process))))
            return false;
    }
    return true;
}

static void sum_up(const struct ledger *self, const struct process *process, struct series_list *sums) {
    bool is_up = is_living(self, process);
    if (!is_up && !is_down(self, process)) return; /* kept, and not heard yet */
    if (process->has_ended && !is_last_of_service(self, process)) return;
    _cleanup_strbuf_ struct strbuf labels = STRBUF_INIT;
    metric_label_append(&labels, "process", process->name);
    strbuf_append_format(&labels, ",replica=\"%lld\"", (long long)process->replica);
    series_list_add_value(sums, "bore_process_up", labels.data, is_up ? 1 : 0);
}

static void sum_process(const struct ledger *self, const struct process *process, struct series_list *sums) {
    bool is_current = !is_replaced(self, process);
    bool is_up = is_living(self, process);
    for (size_t i = 0; i < process->series.count; i++) {
        const struct series *series = &process->series.items[i];
        bool is_own = series->metric->scope == SCOPE_REPLICA;
        if (is_cumulative(series) || (is_up && (is_current || !is_own))) series_list_add(sums, series);
    }
    if (is_current) sum_up(self, process, sums);
}

void ledger_sum(const struct ledger *self, struct series_list *ret_sums) {
    *ret_sums = (struct series_list){ .count = 0 };
    for (size_t i = 0; i < self->totals.count; i++)
        series_list_add(ret_sums, &self->totals.items[i]);
    for (size_t i = 0; i < self->count; i++)
        sum_process(self, self->processes[i], ret_sums);
    series_list_add_value(ret_sums, "bore_metrics_processes", "", (double)self->count);
    series_list_sum(ret_sums);
}

/* --- keeping ------------------------------------------------------------------------------------------------------ */

/* Those of the list that are cumulative and not zero; the number kept. */
static size_t keep_series(const struct series_list *list, struct counter_value *ret_values) {
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct series *series = &list->items[i];
        bool is_zero =
            series->value == 0 && (series->bucket_count == 0 || series->buckets[series->bucket_count - 1].count == 0);
        if (is_cumulative(series) && !is_zero) series_to_value(series, &ret_values[count++]);
    }
    return count;
}

static void keep_process(const struct ledger *self, const struct process *process, struct counted_process *ret_kept) {
    *ret_kept = (struct counted_process){ .process = xstrdup(process->name),
        .instance = process->replica,
        .identity = xstrdup(process->identity),
        .started = process->started,
        .silent_ms = silence_of(self, process),
        .ended = process->has_ended,
        .values = xcalloc(process->series.count + 1, sizeof(struct counter_value)) };
    ret_kept->values_count = keep_series(&process->series, ret_kept->values);
}

void ledger_keep(const struct ledger *self, struct metrics_state *ret_state) {
    *ret_state = (struct metrics_state){ .totals = xcalloc(self->totals.count + 1, sizeof(struct counter_value)),
        .processes = xcalloc(self->count + 1, sizeof(struct counted_process)),
        .processes_count = self->count,
        .folded = xcalloc(LEDGER_FOLDED_MAX, sizeof(char *)) };
    ret_state->totals_count = keep_series(&self->totals, ret_state->totals);
    for (size_t i = 0; i < self->count; i++)
        keep_process(self, self->processes[i], &ret_state->processes[i]);
    size_t oldest = self->folded_count > LEDGER_FOLDED_MAX ? self->folded_count - LEDGER_FOLDED_MAX : 0;
    for (size_t i = oldest; i < self->folded_count; i++)
        ret_state->folded[ret_state->folded_count++] = xstrdup(self->folded[i % LEDGER_FOLDED_MAX]);
}

static void adopt_series(struct series_list *list, const struct counter_value *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        series_list_add_kept(list, &values[i]); /* what a later version no longer has is forgotten */
}

/* Whether it was met before it was known what had been, and something had. */
static bool has_restarted_unseen(const struct process *process, const struct metrics_state *state) {
    bool is_known = false;
    for (size_t i = 0; i < state->processes_count; i++) {
        const struct counted_process *kept = &state->processes[i];
        if (strcmp(kept->identity, process->identity) == 0) return false;
        is_known |= kept->instance == process->replica && strcmp(kept->process, process->name) == 0;
    }
    return is_known;
}

/* Who was folded is not in the ledger twice. */
static void drop_folded(struct ledger *self) {
    for (size_t i = 0; i < self->count;) {
        if (is_folded(self, self->processes[i]->identity)) {
            process_free(self->processes[i]);
            self->processes[i] = self->processes[--self->count];
        } else {
            i++;
        }
    }
}

void ledger_adopt(struct ledger *self, const struct metrics_state *state) {
    clear_kept(self);
    adopt_series(&self->totals, state->totals, state->totals_count);
    for (size_t i = 0; i < state->folded_count; i++)
        remember_folded(self, state->folded[i]);
    drop_folded(self);
    for (size_t i = 0; i < state->processes_count; i++) {
        const struct counted_process *kept = &state->processes[i];
        if (find_process(self, kept->identity) != NULL) continue;
        struct process *process = add_process(self, kept->process, kept->instance, kept->identity, kept->started);
        process->has_ended = kept->ended;
        process->heard = self->clock - kept->silent_ms;
        adopt_series(&process->series, kept->values, kept->values_count);
    }
    for (size_t i = 0; i < self->count; i++)
        count_restart(self, self->processes[i], has_restarted_unseen(self->processes[i], state) ? 1 : 0);
}
