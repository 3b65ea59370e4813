/*
 * bus_worker.h: for tests and measurements, the far end of the bus: a worker process's side of the wire, in a thread,
 * and an address for a bus of one's own.
 *
 * The worker answers each request with its own body, after delay_ms, or as its mode says. Everything may be changed
 * while it runs. Thread rule: any thread.
 */
#ifndef BORE_TESTS_UNIT_BUS_WORKER_H
#define BORE_TESTS_UNIT_BUS_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum bus_worker_mode {
    WORKER_ECHO,        /* replies with the request's body */
    WORKER_HOLD,        /* keeps requests; replies to them once the mode changes */
    WORKER_REFUSE,      /* replies with ERR_FORBIDDEN and an error_reply */
    WORKER_UNAVAILABLE, /* replies with ERR_UNAVAILABLE */
};

struct bus_worker;

struct bus_worker_options {
    const char *url;
    const char *curve_directory; /* NULL: none */
    const char *lane;
    int instance;
    int credits;
    int version; /* 0: this one's */
    int delay_ms;
};

struct bus_worker *bus_worker_new(const struct bus_worker_options *options);
/* Ends without a word, as a killed process does. */
void bus_worker_free(struct bus_worker *self);
void bus_worker_set_mode(struct bus_worker *self, enum bus_worker_mode mode);
/* No more signs of life, while the connection stays: a stopped process. */
void bus_worker_set_mute(struct bus_worker *self, bool mute);
void bus_worker_set_leaving(struct bus_worker *self, bool leaving);
/* So far received. */
uint64_t bus_worker_requests(struct bus_worker *self);
uint64_t bus_worker_batches(struct bus_worker *self);
/* The most requests it ever held at once. */
uint64_t bus_worker_most_held(struct bus_worker *self);
/* The smallest budget that it saw, in milliseconds. */
int64_t bus_worker_least_budget(struct bus_worker *self);
bool bus_worker_was_refused(struct bus_worker *self);

/* Makes "ipc:///tmp/…/bus" in a new directory of mode 0700; heap. The directory is removed by bus_url_free. */
char *bus_url_new(void);
void bus_url_free(char *url);

void sleep_ms(int64_t milliseconds);

#endif
