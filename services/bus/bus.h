/*
 * bus.h: the bus as a whole: four sockets and one loop. See ARCHITECTURE §2; what it decides is in router.h.
 *
 * Thread rule: new, run and free from one thread.
 */
#ifndef BORE_SERVICES_BUS_BUS_H
#define BORE_SERVICES_BUS_BUS_H

#include <stdbool.h>
#include <stddef.h>

struct bus;

struct bus_options {
    const char *url;             /* as BUS_URL */
    const char *curve_directory; /* "" = no encryption */
    bool allow_plaintext;        /* a tcp bind beyond loopback without keys */
    size_t queue_max;            /* requests that may wait in each lane */
    int instance;
};

/* Binds all endpoints. NULL after one log line that says what is wrong. Strings are borrowed during the call only. */
struct bus *bus_new(const struct bus_options *options);
/* Serves until stop_fd is readable, then takes no new requests and ends when those under way are answered (2 s at
 * most). */
void bus_run(struct bus *self, int stop_fd);
/* Closes the sockets after what was sent has left (0.5 s at most). */
void bus_free(struct bus *self);

#endif
