/*
 * counters.c: see counters.h.
 *
 * A fixed table of values, found by hash under a lock and changed with atomic operations without one. A slot is never
 * freed or moved, so a pointer to it is good for the process's life. When the table is full, or a name or its labels
 * are longer than a COUNTERS message takes, what would be lost is counted in `bore_counters_overflow_total`. Each
 * snapshot also tells the process's own memory, processor time, open files, start and version.
 */
#include "services/lib/counters.h"

#include <assert.h>
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "gen/version.h"

enum { INDEX_SIZE = 4096, NAME_MAX_SIZE = 100, LABELS_MAX_SIZE = 300, PROCESS_VALUES = 5, OPEN_FILES_MS = 10000 };

static const double bucket_bounds[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10 };
enum { BUCKETS = ARRAY_SIZE(bucket_bounds) };

struct counter {
    enum counter_type type;
    char *name;
    char *labels;
    _Atomic int64_t value;                /* COUNTER; HISTOGRAM: sum in nanoseconds */
    _Atomic double level;                 /* GAUGE; not a number while withdrawn */
    _Atomic int64_t buckets[BUCKETS + 1]; /* each alone; the last one is above all bounds */
};

static struct {
    pthread_mutex_t lock;
    size_t count;
    uint16_t index[INDEX_SIZE]; /* slot + 1; 0 is free */
    struct counter slots[COUNTERS_MAX - PROCESS_VALUES];
    char identity[17];
    int64_t started;
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint32_t hash_text(uint32_t hash, const char *text) {
    do {
        hash = (hash ^ (unsigned char)*text) * 16777619u; /* FNV-1a */
    } while (*text++ != '\0');
    return hash;
}

/* Under the lock. The index's place of (name, labels), or the free one where it belongs. */
static size_t find_place(const char *name, const char *labels) {
    size_t place = hash_text(hash_text(2166136261u, name), labels) % INDEX_SIZE;
    while (table.index[place] != 0) {
        const struct counter *counter = &table.slots[table.index[place] - 1];
        if (strcmp(counter->name, name) == 0 && strcmp(counter->labels, labels) == 0) break;
        place = (place + 1) % INDEX_SIZE;
    }
    return place;
}

static struct counter *add_counter(size_t place, enum counter_type type, const char *name, const char *labels) {
    struct counter *counter = &table.slots[table.count++];
    counter->type = type;
    counter->name = xstrdup(name);
    counter->labels = xstrdup(labels);
    table.index[place] = (uint16_t)table.count;
    return counter;
}

static void start_table(void) {
    if (table.started != 0) return;
    random_hex(8, table.identity);
    table.started = clock_wall_ms();
    add_counter(find_place("bore_counters_overflow_total", ""), COUNTER, "bore_counters_overflow_total", "");
}

struct counter *counter_get(enum counter_type type, const char *name, const char *labels) {
    if (labels == NULL) labels = "";
    pthread_mutex_lock(&table.lock);
    start_table();
    size_t place = find_place(name, labels);
    struct counter *counter = &table.slots[0]; /* the overflow */
    if (table.index[place] != 0) {
        counter = &table.slots[table.index[place] - 1];
        assert(counter->type == type);
    } else if (table.count < ARRAY_SIZE(table.slots) && strlen(name) <= NAME_MAX_SIZE &&
               strlen(labels) <= LABELS_MAX_SIZE) {
        counter = add_counter(place, type, name, labels);
    } else {
        counter_add(counter, 1);
    }
    pthread_mutex_unlock(&table.lock);
    return counter;
}

void counter_add(struct counter *self, int64_t amount) {
    atomic_fetch_add_explicit(&self->value, amount, memory_order_relaxed);
}

void gauge_set(struct counter *self, double value) {
    atomic_store_explicit(&self->level, value, memory_order_relaxed);
}

void gauge_clear(struct counter *self) {
    gauge_set(self, NAN);
}

void histogram_observe(struct counter *self, double seconds) {
    size_t bucket = 0;
    if (!(seconds > 0)) seconds = 0;
    while (bucket < BUCKETS && seconds > bucket_bounds[bucket])
        bucket++;
    atomic_fetch_add_explicit(&self->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&self->value, (int64_t)(seconds * 1e9), memory_order_relaxed);
}

/* "0.0005:3,0.001:5,…,+Inf:9", each count including those before, as Prometheus wants them. */
static char *buckets_text(struct counter *counter) {
    struct strbuf text = STRBUF_INIT;
    int64_t count = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        count += atomic_load_explicit(&counter->buckets[i], memory_order_relaxed);
        strbuf_append_format(&text, "%g:%lld,", bucket_bounds[i], (long long)count);
    }
    count += atomic_load_explicit(&counter->buckets[BUCKETS], memory_order_relaxed);
    strbuf_append_format(&text, "+Inf:%lld", (long long)count);
    return strbuf_detach(&text);
}

/* False when there is nothing to tell: a gauge that is withdrawn. */
static bool snapshot_counter(struct counter *counter, struct counter_value *ret_value) {
    double value = (double)atomic_load_explicit(&counter->value, memory_order_relaxed);
    if (counter->type == GAUGE) value = atomic_load_explicit(&counter->level, memory_order_relaxed);
    if (counter->type == HISTOGRAM) value /= 1e9;
    if (isnan(value)) return false;
    *ret_value = (struct counter_value){
        .name = xstrdup(counter->name),
        .labels = xstrdup(counter->labels),
        .type = counter->type,
        .value = value,
        .buckets = counter->type == HISTOGRAM ? buckets_text(counter) : NULL,
    };
    return true;
}

static double resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double processor_seconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Counted every ten seconds: stream may have thousands. */
static double open_files(void) {
    static _Atomic int64_t counted_ms;
    static _Atomic int count;
    int64_t now = clock_monotonic_ms();
    if (counted_ms != 0 && now - counted_ms < OPEN_FILES_MS) return count;
    counted_ms = now;
    DIR *directory = opendir("/proc/self/fd");
    int found = 0;
    while (directory != NULL && readdir(directory) != NULL)
        found++;
    if (directory != NULL) closedir(directory);
    count = found > 3 ? found - 3 : 0; /* ".", ".." and the directory itself */
    return count;
}

static void snapshot_process(struct counter_value *ret_values) {
    const struct {
        enum counter_type type;
        const char *name;
        const char *labels;
        double value;
    } values[PROCESS_VALUES] = {
        { GAUGE, "bore_build_info", "version=\"" BORE_VERSION "\"", 1 },
        { COUNTER, "bore_process_cpu_seconds_total", "", processor_seconds() },
        { GAUGE, "bore_process_open_fds", "", open_files() },
        { GAUGE, "bore_process_resident_memory_bytes", "", resident_bytes() },
        { GAUGE, "bore_process_start_time_seconds", "", (double)table.started / 1000 },
    };
    for (size_t i = 0; i < PROCESS_VALUES; i++)
        ret_values[i] = (struct counter_value){ .name = xstrdup(values[i].name),
            .labels = xstrdup(values[i].labels),
            .type = values[i].type,
            .value = values[i].value };
}

void counters_snapshot(const char *process, int instance, struct counters *ret_counters) {
    pthread_mutex_lock(&table.lock);
    start_table();
    size_t count = table.count; /* slots below it stay as they are */
    pthread_mutex_unlock(&table.lock);
    *ret_counters = (struct counters){
        .process = xstrdup(process),
        .instance = instance,
        .identity = xasprintf("%s-%d-%s", process, instance, table.identity),
        .started = table.started,
        .values = xcalloc(count + PROCESS_VALUES, sizeof(struct counter_value)),
    };
    for (size_t i = 0; i < count; i++)
        if (snapshot_counter(&table.slots[i], &ret_counters->values[ret_counters->values_count]))
            ret_counters->values_count++;
    snapshot_process(ret_counters->values + ret_counters->values_count);
    ret_counters->values_count += PROCESS_VALUES;
}
