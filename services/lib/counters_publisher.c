/* counters_publisher.c: see counters_publisher.h. A lost publication costs nothing: values are cumulative. */
#include "services/lib/counters_publisher.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/memory.h"
#include "common/strbuf.h"
#include "services/lib/counters.h"

struct counters_publisher {
    struct bus_client *bus;
    const char *process;
    int instance;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t stop;
    bool stopping;
};

static void publish(struct bus_client *bus, const char *process, int instance, bool is_last) {
    struct counters values;
    counters_snapshot(process, instance, &values);
    values.has_ended = is_last;
    values.ended = is_last;
    _cleanup_strbuf_ struct strbuf frame = STRBUF_INIT;
    if (message_encode_frame(&counters_descriptor, &values, &frame) == 0) {
        char topic[64];
        snprintf(topic, sizeof topic, "counters.%s", process);
        bus_publish(bus, topic, frame.data, frame.size);
    }
    message_release(&counters_descriptor, &values);
}

void counters_publish(struct bus_client *bus, const char *process, int instance) {
    publish(bus, process, instance, false);
}

void counters_publish_last(struct bus_client *bus, const char *process, int instance) {
    publish(bus, process, instance, true);
}

static void *run(void *argument) {
    struct counters_publisher *self = argument;
    pthread_setname_np(pthread_self(), "counters");
    pthread_mutex_lock(&self->mutex);
    while (!self->stopping) {
        pthread_mutex_unlock(&self->mutex);
        counters_publish(self->bus, self->process, self->instance);
        pthread_mutex_lock(&self->mutex);
        struct timespec next;
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec++;
        if (!self->stopping) pthread_cond_timedwait(&self->stop, &self->mutex, &next);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

struct counters_publisher *counters_publisher_new(struct bus_client *bus, const char *process, int instance) {
    struct counters_publisher *self = xcalloc(1, sizeof *self);
    self->bus = bus;
    self->process = process;
    self->instance = instance;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_create(&self->thread, NULL, run, self);
    return self;
}

void counters_publisher_free(struct counters_publisher *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stopping = true;
    pthread_cond_signal(&self->stop);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    counters_publish_last(self->bus, self->process, self->instance);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->stop);
    free(self);
}
