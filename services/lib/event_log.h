/*
 * event_log.h: the event log's one writer and one reader (ARCHITECTURE §3).
 *
 * Writing happens inside SQL (bore.append_events in the call that commits); after COMMIT the rows are published here.
 * Reading: a cursor is the id of the last row used. A row from PUB whose id is the cursor's successor is used at once;
 * a hole, or a second without news, sends the reader to the log. So a lost message, a dead process, a restarted bus
 * delay an event by a second at most and lose none. Everything arrives exactly once, in order of id. Outside, a cursor
 * is "<epoch>-<id>"; a restore from backup begins a new epoch.
 */
#ifndef BORE_SERVICES_LIB_EVENT_LOG_H
#define BORE_SERVICES_LIB_EVENT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/db.h"
#include "proto/protocol.h"
#include "services/lib/bus_client.h"

/* Publishes the rows of a JSON array as bore.append_events returns it (id, at in ms, kind, user_id, instance_id,
 * payload). Any thread. Nothing is reported: the log is the truth. */
void event_log_publish(struct bus_client *bus, const char *events_json);

struct event_reader;

/* Called in the reader's thread, in order of id. */
typedef void event_reader_fn(void *user_data, const struct event *event);

struct event_reader_options {
    struct bus_client *bus;
    const struct db_options *database; /* the reader has a connection of its own */
    int64_t start;                     /* first wanted id - 1; -1 = the head of the log when first reached */
    int64_t history;                   /* with a start of -1: so many rows before the head are handed out first */
    const char *epoch;                 /* to which start belongs; NULL or "" = whichever the log has */
    event_reader_fn *on_event;
    /* The reader goes on from `head`: when a start of -1 was first placed, when the log no longer holds the cursor's
     * successor, or when the epoch changed. All state from before is void. May be NULL. */
    void (*on_reset)(void *user_data, int64_t head);
    /* Once, when the log was read to its end for the first time. May be NULL. */
    void (*on_caught_up)(void *user_data);
    void *user_data;
};

/* Starts the reader's thread. Strings are copied. */
struct event_reader *event_reader_new(const struct event_reader_options *options);
/* Stops and joins the thread. The bus client must still be there. NULL-safe. */
void event_reader_free(struct event_reader *self);
/* The last id handed to on_event (or the start). Any thread. */
int64_t event_reader_cursor(const struct event_reader *self);
/* The epoch, "" while not yet known. Any thread. Copies at most size-1 bytes. */
void event_reader_epoch(struct event_reader *self, char *ret_epoch, size_t size);
/* Milliseconds since all rows then committed are known to have been handed out: the log was read to its end, or the
 * cursor's successor came from PUB. INT64_MAX before the log was first reached. Beyond a few seconds: the log cannot be
 * read, and news may be missing. Any thread. */
int64_t event_reader_age_ms(const struct event_reader *self);

/* "<epoch>-<id>". 0, or -EINVAL for text that is none. */
int event_cursor_parse(const char *text, char *ret_epoch, size_t epoch_size, int64_t *ret_id);
void event_cursor_format(const char *epoch, int64_t id, char *ret_text, size_t size);

#endif
