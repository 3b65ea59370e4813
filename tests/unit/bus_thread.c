/*
 * bus_thread.c: see bus_thread.h.
 */
#include "tests/unit/bus_thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/memory.h"

struct bus_thread {
    pthread_t thread;
    struct bus *bus;
    int stop_fd;
};

static void *run(void *argument) {
    struct bus_thread *self = argument;
    bus_run(self->bus, self->stop_fd);
    return NULL;
}

struct bus_thread *bus_thread_start(const struct bus_options *options) {
    struct bus *bus = bus_new(options);
    if (bus == NULL) return NULL;
    struct bus_thread *self = xcalloc(1, sizeof(*self));
    self->bus = bus;
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_create(&self->thread, NULL, run, self);
    return self;
}

void bus_thread_stop(struct bus_thread *self) {
    if (self == NULL) return;
    (void)!eventfd_write(self->stop_fd, 1);
    pthread_join(self->thread, NULL);
    bus_free(self->bus);
    close(self->stop_fd);
    free(self);
}
