/*
 * service_internal.h: what the files of the service skeleton share; nobody else includes it.
 *
 * service.c starts and ends the process, service_bus.c owns the socket, service_lane.c the queues and worker threads,
 * service_route.c the table of methods, service_query.c and service_batch.c answer by SQL, service_error.c says why
 * not, service_timer.c runs the timers. A request is one `struct job` from the socket to its answer: decoded batches
 * become jobs, a job waits in its lane, a worker thread writes the answer into it, the outbox takes it back to the bus
 * thread, which sends and frees it.
 */
#ifndef BORE_SERVICES_LIB_SERVICE_INTERNAL_H
#define BORE_SERVICES_LIB_SERVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/strbuf.h"
#include "services/lib/counters.h"
#include "services/lib/database_meter.h"
#include "services/lib/query.h"
#include "services/lib/service.h"

enum {
    STATEMENT_TIMEOUT_MS = 2200,
    DATABASE_FIRST_MS = 2000,   /* how long a thread tries before it takes its first request */
    DATABASE_PATIENCE_MS = 800, /* how long a request waits for a connection that is not there */
    DATABASE_REST_MS = 500,     /* after that failed, nobody waits for one for so long */
    SHUTDOWN_MS = 5000,
    JOIN_MS = 3000, /* beyond that, a thread is given up: more than statement_timeout */
    BATCH_NUMBER_SIZE = 8,
    ERROR_NUMBERS = 64, /* of errors.def, for counters */
};

struct route;

/* --- jobs (service_job.c) ---------------------------------------------------------------------------------------- */

struct job {
    struct job *next;
    unsigned char batch[BATCH_NUMBER_SIZE]; /* the bus's, opaque */
    int64_t correlation;
    struct route *route; /* NULL: not a method of ours */
    int64_t arrived_us;
    int64_t deadline_ms;
    char *request_id;
    unsigned char *body;
    size_t body_size;
    int code;             /* 0 or negative ERR_ */
    struct strbuf answer; /* msgpack of the reply or of an error_reply; empty until answered */
};

void job_free(struct job *self);
/* Answers with an error that needs no words of its own, and counts it. */
void job_refuse(struct job *self, int code, int64_t retry_after);
/* Answers with what a handler returned: 0 and the reply, or a code and what service_fail kept in error. Counts it. A
 * reply that cannot be encoded becomes ERR_INTERNAL, logged. */
void job_answer(struct job *self, int code, const void *reply, const struct error_reply *error);

struct job_list {
    struct job *first;
    struct job *last;
    size_t count;
};

void job_list_append(struct job_list *self, struct job *job);
struct job *job_list_take(struct job_list *self);
void job_list_free(struct job_list *self);

/* Answered jobs on their way to the bus thread, which event_fd wakes. Any thread. */
struct outbox {
    pthread_mutex_t mutex;
    struct job_list jobs;
    int event_fd;
};

int outbox_init(struct outbox *self); /* 0 or a negative errno */
void outbox_release(struct outbox *self);
void outbox_put(struct outbox *self, struct job_list *jobs); /* takes them all; *jobs is empty then */
void outbox_take(struct outbox *self, struct job_list *ret_jobs);
void outbox_wake(struct outbox *self);

/* --- routes (service_route.c) ------------------------------------------------------------------------------------ */

struct service_run;

struct batch_plan {
    const struct service_batch *spec;
    struct query *query;
    struct query *rest;      /* or NULL */
    struct counter *counter; /* or NULL */
    char name[80];
    char rest_name[80];
};

/* One method of this process and how it is answered: by exactly one of handler, query, batch and ping. */
struct route {
    const struct method *method;
    service_handler_fn *handler;
    const struct service_query *spec;
    struct query *query;
    char name[80]; /* of the query */
    const struct field *into;
    const struct field *list;
    const struct batch_plan *batch;
    bool is_ping;
    struct counter *seconds;
    _Atomic(struct counter *) results[ERROR_NUMBERS]; /* looked up when first needed */
};

struct routes {
    struct route *items;
    size_t count;
    struct batch_plan *batches;
    size_t batch_count;
};

/* Compiles the service's tables. 0, or -EINVAL after logging what is wrong with them. */
int routes_init(struct routes *self, const struct service *service);
void routes_release(struct routes *self);
/* NULL when the method is not served here. */
struct route *routes_find(const struct routes *self, int method);
/* Counts one answered request; code is 0 or an ERR_ code. */
void route_count(struct route *self, int code, int64_t microseconds);

/* --- lanes (service_lane.c) -------------------------------------------------------------------------------------- */

struct lane {
    struct service_run *run;
    const struct service_lane *spec;
    pthread_mutex_t mutex;
    pthread_cond_t ready;
    struct job_list queue;
    size_t held; /* queued and being served */
    bool stopping;
    pthread_t *threads;
    int thread_count;
    struct counter *depth;
};

/* Starts the threads. 0 or a negative errno (threads that started are in thread_count). */
int lane_start(struct lane *self, struct service_run *run, const struct service_lane *spec);
/* Takes the jobs, in order: queues them, or answers those beyond the credits overloaded. All at once, so that what came
 * as one batch of the bus can be taken as one. */
void lane_put(struct lane *self, struct job_list *jobs);
size_t lane_held(struct lane *self);
/* No more work: what is queued is answered `unavailable`, threads end after what they are doing. */
void lane_stop(struct lane *self);
/* Joins the threads; false when one does not end in time. */
bool lane_join(struct lane *self);
void lane_release(struct lane *self);

/* --- answering --------------------------------------------------------------------------------------------------- */

/* A worker thread's: what handlers see, and what only the skeleton needs. `context` comes first. */
struct worker {
    struct service_context context;
    struct service_run *run;
    struct database_meter meter;
};

/* Opens no connection yet. */
void worker_init(struct worker *self, struct service_run *run);
void worker_release(struct worker *self);
/* 0, or ERR_UNAVAILABLE when there is no connection and none within DATABASE_PATIENCE_MS. */
int worker_ensure_database(struct worker *self, int64_t deadline_ms);
/* Adds the connection's statistics since the last call to the process's counters. */
void worker_count_database(struct worker *self);

/* Serves one job and answers it. */
void worker_run_job(struct worker *self, struct job *job);
/* Decodes the job's body into a fresh struct (heap; message_release and free it). 0, or ERR_TIMEOUT when its deadline
 * has passed, or ERR_MALFORMED, with *ret_request NULL. */
int job_decode(const struct job *self, void **ret_request);
/* What every request costs after its handler: the context's error goes into the answer and is freed. */
void worker_answer(struct worker *self, struct job *job, int code, const void *reply);

/* Runs a query route. 0 or an ERR_ code (service_query.c). */
int worker_run_query(struct worker *self, const struct route *route, const void *request, void *ret_reply);
/* Answers jobs of one plan's methods by one statement, or by several when it fails; moves them to answered
 * (service_batch.c). */
void worker_run_batch(
    struct worker *self, const struct batch_plan *plan, struct job_list *jobs, struct job_list *answered);
/* Publishes column `events` of every row. */
void publish_events(struct service_context *context, const struct db_result *result);
/* Frees what service_fail kept. */
void context_clear_error(struct service_context *self);

/* --- the process (service.c, service_bus.c, service_timer.c) ----------------------------------------------------- */

struct service_run {
    const struct service *service;
    struct bus_client *bus;
    struct db_options database; /* when the service has one */
    struct routes routes;
    struct lane *lanes;
    size_t lane_count;
    struct outbox outbox;
    void *state;
    int64_t started_ms;
    int wake_main_fd;                           /* eventfd: something happened that main should look at */
    atomic_int_fast64_t database_rest_until_ms; /* clock_monotonic_ms */
    atomic_bool leaving;                        /* the bus thread says so in its HELLO */
    atomic_bool held;                           /* the same, for as long as service_hold says */
    atomic_bool closing;                        /* the bus thread sends what is left and ends */
    atomic_bool refused;                        /* the bus did not take us */
    /* Of the bus thread: */
    pthread_t bus_thread;
    bool has_bus_thread;
    void *zmq_context;
    void *socket;
    /* Of the timers: */
    pthread_t timer_thread;
    bool has_timer_thread;
    pthread_mutex_t timer_mutex;
    pthread_cond_t timer_wake;
    bool timers_stopping;
};

/* Connects the socket and starts the thread, which announces the lanes. 0 or a negative errno. */
int bus_thread_start(struct service_run *run);
/* Ends it after what waits in the outbox is sent. */
void bus_thread_stop(struct service_run *run);

int timers_start(struct service_run *run);
/* False when the running timer does not end in time. */
bool timers_stop(struct service_run *run);

/* pthread_create with a name (cut to 15 bytes). 0 or a negative errno. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*function)(void *), void *argument);
/* pthread_join, given up after milliseconds. */
bool thread_join(pthread_t thread, int64_t milliseconds);
/* A condition variable that waits by CLOCK_MONOTONIC, and waiting on it until clock_monotonic_ms() is deadline_ms. */
void monotonic_condition_init(pthread_cond_t *condition);
void monotonic_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ms);

#endif
