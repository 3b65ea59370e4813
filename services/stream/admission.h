/*
 * admission.h: what a new stream needs that may block: asking auth, reading the log in the database.
 *
 * The loop hands over a job and goes on; a thread of this module (with a database connection of its own) fills it and
 * gives it back through `on_done`, in the thread. Jobs that need neither never come here. Bounded: ADMISSION_QUEUE_MAX.
 */
#ifndef BORE_SERVICES_STREAM_ADMISSION_H
#define BORE_SERVICES_STREAM_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/db.h"
#include "proto/protocol.h"
#include "services/lib/bus_client.h"
#include "services/lib/revocations.h"
#include "services/lib/token.h"

enum { ADMISSION_QUEUE_MAX = 16384, ADMISSION_REPLAY_MAX = 5000 };

struct admission_job {
    /* asked */
    void *connection; /* the loop's own */
    struct token_claims claims;
    char request_id[65];
    bool everything; /* needs admin rights as they are now */
    bool replay;     /* read the events after `cursor` */
    char epoch[20];  /* of the client's cursor */
    int64_t cursor;
    int64_t deadline_ms;
    bool recheck; /* only: is this user still an admin */
    /* answered */
    int error;    /* 0 or ERR_… */
    bool reset;   /* the cursor cannot be served: start at `head`, tell the client */
    int64_t head; /* everything up to here is in `events` */
    struct event *events;
    size_t event_count;
};

struct admission;

struct admission_options {
    struct bus_client *bus;
    struct revocation_set *revocations;
    const struct db_options *database;
    void (*on_done)(void *user_data, struct admission_job *job); /* takes the job */
    void *user_data;
};

struct admission *admission_new(const struct admission_options *options);
/* Stops the thread; jobs still waiting are freed. */
void admission_free(struct admission *self);
/* Takes the job. False when the queue is full: then the job stays the caller's. */
bool admission_submit(struct admission *self, struct admission_job *job);
void admission_job_free(struct admission_job *job);

#endif
