/*
 * event_fixture.h: an event log in a real database (sql/001 and 002), a reader of it, and the publishing side of the
 * bus.
 *
 * Each test begins with an empty log and without a reader. What the reader hands out is noted.
 */
#ifndef TESTS_UNIT_EVENT_FIXTURE_H
#define TESTS_UNIT_EVENT_FIXTURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/lib/event_log.h"

enum { EVENTS_SEEN_MAX = 20000 };

extern struct db *events_db; /* the test's own connection */
extern struct bus_client *events_bus;
extern struct event_reader *events_reader;
extern int64_t events_seen[EVENTS_SEEN_MAX]; /* ids; its address is the reader's user_data */
extern size_t events_seen_count;
extern int64_t events_reset_head; /* of the last reset */
extern size_t events_reset_count;

int events_main(char **argv, int (*run_all)(void));
int events_setup(void **state);
int events_teardown(void **state);

/* start and epoch as in struct event_reader_options. */
void events_start_reader(int64_t start, const char *epoch);
/* Until the reader has read the log, and hears what is published. */
void events_wait_until_following(void);
void events_on_event(void *user_data, const struct event *event);
/* While true, events_on_event does not return. */
void events_set_paused(bool value);

/* One statement's first value (heap), and a script. */
char *events_ask(const char *name, const char *sql);
void events_run(const char *sql);
/* Appends so many events; returns their JSON array. */
json_t *events_append(int count);
void events_publish(json_t *object); /* one element of it */
void events_append_and_publish(int count);
void events_append_only(int count);

size_t events_count_seen(void);
size_t events_count_resets(void);
/* Milliseconds until so many events were seen; the test fails after `limit`. */
int64_t events_wait_for(size_t count, int64_t limit);
void events_wait_for_reset(size_t count, int64_t limit);
void events_assert_seen_in_order(int64_t first);

#endif
