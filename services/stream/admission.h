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

struct server;
struct tally_entry;

enum admission_kind {
    ADMISSION_OPEN,    /* may this user have a stream, and what did it miss */
    ADMISSION_RECHECK, /* is this user still an admin */
    ADMISSION_OWNER    /* may this user hear of instance_id */
};

struct admission_job {
    /* asked */
    enum admission_kind kind;
    void (*on_answer)(struct server *server, struct admission_job *job); /* in the loop; takes the job */
    void *connection;                                                    /* the loop's own, and so are the next */
    struct tally_entry *replays_of_user;
    void *details;    /* heap, freed with the job */
    bool wants_reset; /* tell the client to reload, whatever the log says */
    int64_t ack_id;
    struct token_claims claims;
    char request_id[65];
    bool everything; /* needs admin rights as they are now */
    bool replay;     /* read the events after `cursor` */
    char epoch[20];  /* of the client's cursor */
    int64_t cursor;
    int64_t deadline_ms;
    char instance_id[65];
    bool unsubscribe;
    /* answered */
    int error;    /* 0 or ERR_… */
    bool is_own;  /* ADMISSION_OWNER: the instance is this user's; else the user is an admin */
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
