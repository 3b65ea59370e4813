/*
 * summary.h: what the service does: hears all processes, stores what it knows every two seconds, and answers with the
 * text of what was stored.
 *
 * What a scrape shows was committed before, so no kill takes it back. Only when the database has been away for ten
 * seconds are values shown that are not stored; a restart of `metrics` before it is back can then lose what processes
 * counted that ended meanwhile. Thread rule: any thread, but summary_tick, which is a timer's.
 */
#ifndef BORE_METRICS_SUMMARY_H
#define BORE_METRICS_SUMMARY_H

#include "services/lib/service.h"

struct summary;

/* Hears from now on. bus must outlive it. */
struct summary *summary_new(struct bus_client *bus);
/* Stores a last time, when active. */
void summary_free(struct summary *self);

/* What a scrape gets (heap), or NULL when there is nothing yet, or another process is active. */
char *summary_text(struct summary *self);
/* Stores when it is time; becomes active or passive. */
void summary_tick(struct summary *self, struct service_context *context);

#endif
