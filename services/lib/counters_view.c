/*
 * counters_view.c: what other processes published; see counters.h.
 *
 * Of each process the last ten seconds are kept, reduced to one sum a name, since that is what is asked for. A process
 * that was silent for 5 s, or whose identity is new (a restart), has no past. At most PROCESSES_MAX processes.
 * Not for exact totals over the life of ended processes: that is the metrics process's work.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/counters.h"

enum { PROCESSES_MAX = 256, SAMPLES = 11, SILENT_MS = 5000, RATE_MIN_MS = 1900, RATE_MAX_MS = 10500 };

struct total {
    char *name;
    double value;
};

struct sample {
    int64_t at_ms; /* 0: none */
    size_t count;
    struct total *totals; /* sorted by name */
};

struct process {
    char *name;
    char *identity;
    size_t newest;
    struct sample samples[SAMPLES];
};

struct counters_view {
    pthread_mutex_t lock;
    size_t count;
    struct process *processes[PROCESSES_MAX];
};

static int compare_totals(const void *left, const void *right) {
    return strcmp(((const struct total *)left)->name, ((const struct total *)right)->name);
}

static void sample_release(struct sample *self) {
    for (size_t i = 0; i < self->count; i++)
        free(self->totals[i].name);
    free(self->totals);
    *self = (struct sample){ 0 };
}

/* Sums values of one name into one total. */
static void sample_fill(struct sample *self, const struct counters *counters, int64_t now_ms) {
    sample_release(self);
    self->at_ms = now_ms;
    self->totals = xcalloc(counters->values_count + 1, sizeof(struct total));
    for (size_t i = 0; i < counters->values_count; i++)
        self->totals[i] = (struct total){ counters->values[i].name, counters->values[i].value };
    qsort(self->totals, counters->values_count, sizeof(struct total), compare_totals);
    for (size_t i = 0; i < counters->values_count; i++) {
        struct total *last = self->count > 0 ? &self->totals[self->count - 1] : NULL;
        if (last != NULL && strcmp(last->name, self->totals[i].name) == 0) {
            last->value += self->totals[i].value;
        } else {
            self->totals[self->count] = self->totals[i];
            self->totals[self->count++].name = xstrdup(self->totals[i].name);
        }
    }
}

static double sample_get(const struct sample *self, const char *name) {
    struct total key = { .name = (char *)(uintptr_t)name };
    if (self->count == 0) return 0;
    const struct total *total = bsearch(&key, self->totals, self->count, sizeof(struct total), compare_totals);
    return total != NULL ? total->value : 0;
}

static void process_free(struct process *self) {
    for (size_t i = 0; i < SAMPLES; i++)
        sample_release(&self->samples[i]);
    free(self->name);
    free(self->identity);
    free(self);
}

struct counters_view *counters_view_new(void) {
    struct counters_view *self = xcalloc(1, sizeof(*self));
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

void counters_view_free(struct counters_view *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++)
        process_free(self->processes[i]);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

static void drop_silent(struct counters_view *self, int64_t now_ms) {
    for (size_t i = 0; i < self->count;) {
        struct process *process = self->processes[i];
        if (now_ms - process->samples[process->newest].at_ms <= SILENT_MS) {
            i++;
            continue;
        }
        process_free(process);
        self->processes[i] = self->processes[--self->count];
    }
}

static struct process *get_process(struct counters_view *self, const struct counters *counters) {
    for (size_t i = 0; i < self->count; i++) {
        if (strcmp(self->processes[i]->identity, counters->identity) == 0) return self->processes[i];
    }
    if (self->count == PROCESSES_MAX) return NULL;
    struct process *process = xcalloc(1, sizeof(*process));
    process->name = xstrdup(counters->process);
    process->identity = xstrdup(counters->identity);
    self->processes[self->count++] = process;
    return process;
}

void counters_view_on_message(void *view, const char *topic, const void *frame, size_t size) {
    struct counters_view *self = view;
    struct counters counters;
    (void)topic;
    if (message_decode_frame(&counters_descriptor, frame, size, &counters) != 0) return;
    int64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&self->lock);
    drop_silent(self, now_ms);
    struct process *process = get_process(self, &counters);
    if (process != NULL) {
        process->newest = (process->newest + 1) % SAMPLES;
        sample_fill(&process->samples[process->newest], &counters, now_ms);
    }
    pthread_mutex_unlock(&self->lock);
    message_release(&counters_descriptor, &counters);
}

double counters_view_sum(struct counters_view *self, const char *name) {
    double sum = 0;
    pthread_mutex_lock(&self->lock);
    drop_silent(self, clock_monotonic_ms());
    for (size_t i = 0; i < self->count; i++) {
        const struct process *process = self->processes[i];
        sum += sample_get(&process->samples[process->newest], name);
    }
    pthread_mutex_unlock(&self->lock);
    return sum;
}

/* The oldest sample that is still young enough, when it is old enough. */
static double process_rate(const struct process *process, const char *name) {
    const struct sample *newest = &process->samples[process->newest];
    const struct sample *oldest = NULL;
    for (size_t i = 0; i < SAMPLES; i++) {
        const struct sample *sample = &process->samples[i];
        int64_t age = newest->at_ms - sample->at_ms;
        if (sample->at_ms == 0 || age < RATE_MIN_MS || age > RATE_MAX_MS) continue;
        if (oldest == NULL || sample->at_ms < oldest->at_ms) oldest = sample;
    }
    if (oldest == NULL) return 0;
    double increase = sample_get(newest, name) - sample_get(oldest, name);
    return increase > 0 ? increase * 1000.0 / (double)(newest->at_ms - oldest->at_ms) : 0;
}

double counters_view_rate(struct counters_view *self, const char *name) {
    double rate = 0;
    pthread_mutex_lock(&self->lock);
    drop_silent(self, clock_monotonic_ms());
    for (size_t i = 0; i < self->count; i++)
        rate += process_rate(self->processes[i], name);
    pthread_mutex_unlock(&self->lock);
    return rate;
}

int counters_view_processes(struct counters_view *self, const char *process) {
    int count = 0;
    pthread_mutex_lock(&self->lock);
    drop_silent(self, clock_monotonic_ms());
    for (size_t i = 0; i < self->count; i++)
        count += strcmp(self->processes[i]->name, process) == 0;
    pthread_mutex_unlock(&self->lock);
    return count;
}
