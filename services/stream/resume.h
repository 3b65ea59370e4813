/*
 * resume.h: where a stream continues, whatever its transport: now, from memory, or from the log in the database.
 *
 * A stream that resumes gets everything after its cursor exactly once, or is told to reload (`reset`), never a part.
 * Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_RESUME_H
#define BORE_SERVICES_STREAM_RESUME_H

#include "services/stream/server.h"

struct resume {
    int64_t cursor;             /* where the client continues */
    bool reset;                 /* it cannot: tell it */
    const struct event *events; /* from the database, in order, up to `head`; borrowed */
    size_t event_count;
    int64_t head; /* events up to here are dealt with when `events` are told; 0: none were read */
};

/* What memory alone can tell about a client that asks for what follows cursor_text ("" or NULL: for news only). Fills
 * the job's wishes where the database must be asked: then job->replay is true. */
void resume_plan(struct server *server, const char *cursor_text, struct admission_job *job, struct resume *ret_resume);
/* Hands the job to admission: job->connection and on_answer are the caller's. 0 (the job is taken), or an error (it
 * stays the caller's): ERR_OVERLOADED, ERR_TOO_MANY_REQUESTS (this user reads the log too often at once). */
int resume_submit(struct server *server, struct admission_job *job, const char *request_id);
/* What admission found; events stay the job's. 0, or the error that it or the time it took brought. */
int resume_from_job(struct server *server, const struct admission_job *job, struct resume *ret_resume);
/* Calls tell for each event that is missing, in order, and moves the subscriber's cursor behind the last. */
void resume_tell(struct server *server, struct subscriber *subscriber, const char *user_id, const struct resume *resume,
    void (*tell)(const struct event *event, void *user_data), void *user_data);

#endif
