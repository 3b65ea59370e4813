/*
 * service.h: the skeleton of a worker process: options, log, signals, bus thread, worker threads, database, timers.
 *
 * A service is tables: lanes (names on the bus, each with its own threads and credits, so that a storm in one cannot
 * starve another), handlers (C), queries (one SQL call, no C; query.h), batches (many requests in one SQL call) and
 * timers. The skeleton decodes requests, drops those whose deadline has passed, sets the request id for the log, times,
 * counts, encodes replies and frees. A handler returns 0 (its reply is sent) or a negative code (the standard error is
 * sent, with what service_fail added). Replies leave only after the handler returned, so a handler that committed says
 * 2xx truthfully. SIGTERM: HELLO "leaving", finish what is held (5 s at most), end with 0. Thread rule: handlers run in
 * their lane's threads, each with its own context and database connection.
 */
#ifndef BORE_SERVICES_LIB_SERVICE_H
#define BORE_SERVICES_LIB_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/db.h"
#include "proto/protocol.h"
#include "services/lib/bus_client.h"
#include "services/lib/config.h"

struct service;

struct service_context {
    const struct service *service;
    struct db *db;          /* of this thread; NULL when the service has none */
    struct bus_client *bus; /* for calls to others and for publishing */
    void *state;            /* what service.init returned */
    const char *request_id;
    int64_t deadline_ms;      /* of the request being served; clock_monotonic_ms */
    struct error_reply error; /* see service_fail */
};

/* Says more beside an error code: a sentence for a person (NULL: errors.def's), seconds for Retry-After (0: none).
 * Returns code, so that `return service_fail(…)` reads well. */
int service_fail(struct service_context *self, int code, const char *sentence, int64_t retry_after);
/* Adds {field, message} to a validation_error; returns ERR_VALIDATION. */
int service_fail_field(struct service_context *self, const char *field, const char *message);
/* The ERR_ code for a failed db call (its refusal, sentence, field and a log line for what an operator should know). */
int service_fail_database(struct service_context *self, int db_error);

/* request and *ret_reply are the method's structs; the skeleton releases both. Define handlers with HANDLER. */
typedef int service_handler_fn(struct service_context *context, const void *request, void *ret_reply);

/* HANDLER(on_me, me, me_reply) { … context, request, ret_reply are there, typed … return 0; } */
#define HANDLER(function, request_type, reply_type)                                                         \
    static int function##_typed(                                                                            \
        struct service_context *context, const struct request_type *request, struct reply_type *ret_reply); \
    static int function(struct service_context *context, const void *request, void *ret_reply) {            \
        return function##_typed(context, request, ret_reply);                                               \
    }                                                                                                       \
    static int function##_typed(struct service_context *context __attribute__((unused)),                    \
        const struct request_type *request __attribute__((unused)),                                         \
        struct reply_type *ret_reply __attribute__((unused)))

struct service_handler {
    int method; /* MSG_… of the request; 0 ends the table */
    service_handler_fn *function;
};

/* A method answered by one SQL statement. `:field` is the request's field of that name (NULL when unset).
 * Columns go to reply fields of the same name; with `into` to that OBJECT of the reply (columns that name a top-level
 * field of the reply still go there); with `list` every row becomes an element of that LIST field, and columns that
 * name a top-level field are taken from the first row, and a row whose element columns are all NULL adds no element
 * (an outer join's way to answer `cursor` or `total` beside an empty list). OBJECT and LIST fields are filled from
 * columns of JSON text, STRINGS from text[], TIME from milliseconds. Column `events` is published. No row: the error
 * `none`. */
struct service_query {
    int method;
    const char *sql;
    const char *into; /* may be NULL */
    const char *list; /* may be NULL */
    int none;         /* ERR_ code for no row; 0: an empty list or zeroed reply is fine */
};

/* Methods of one lane answered by one SQL statement for as many requests as wait, up to `maximum`, in arrival order.
 * `:field[]` is the array of that field over the batch (NULL where the request has none), `:method[]` the message
 * ids. Rows carry `ord` (1-based), columns of the replies, `error` (wire code or NULL) with `error_message` and, of a
 * validation_error, `error_field`; and `events`. Requests without a row are left to `rest`, another such statement,
 * which runs after the first one's commit with them alone; without it, or without a row of it, they get ERR_INTERNAL.
 * When a statement fails as a whole, it has changed nothing: if the connection is the reason each gets that error, else
 * the requests are run one by one, so that one poisonous request hurts itself. */
struct service_batch {
    const int *methods; /* ends with 0 */
    const char *lane;
    const char *sql;
    const char *rest; /* may be NULL */
    int maximum;
    const char *counter; /* counts those answered without an error, all committed then; may be NULL */
};

struct service_lane {
    const char *name;      /* NULL ends the table */
    int threads;           /* one database connection each; for a batch lane 1 */
    int credits;           /* requests held at once: > threads means a queue here; batch lanes: hundreds */
    int nice;              /* added to the threads' niceness */
    bool without_database; /* its threads have no connection, whatever the service has */
};

struct service_timer {
    int64_t interval_ms; /* 0 ends the table */
    void (*function)(struct service_context *context);
    const char *name;
    bool without_database; /* runs also while context->db has no connection */
};

struct service {
    const char *name; /* "registry" */
    const char *purpose;
    enum config_process process;
    bool database;
    int ping_method;                           /* MSG_PING_…, answered by the skeleton; 0 = none */
    const struct service_lane *(*lanes)(void); /* after the settings are loaded */
    const struct service_handler *handlers;
    const struct service_query *queries;
    const struct service_batch *batches; /* ends with NULL methods */
    const struct service_timer *timers;  /* run in a thread of their own, with a connection of their own */
    /* After settings, migrations and database are there, before the first request. 0 or a negative error (the process
     * ends). */
    int (*init)(struct service_context *context, void **ret_state);
    void (*release)(void *state);
};

/* While held, the bus gives this process no requests: what only one process at a time may answer, and this one may not.
 * From init (held from the start) or any thread with a context. */
void service_hold(struct service_context *self, bool is_held);

/* main of a service. Returns the exit status. */
int service_main(int argc, char **argv, const struct service *service);

/* The process's database options from the settings; application_name = "bore-<name>-<instance>". Strings borrowed.
 * From main, before threads. */
void service_database_options(const char *name, struct db_options *ret_options);

/* How many connections a process may open when DB_POOL_SIZE is 20, scaled to what it is; at least 1. Lanes with as many
 * threads in all keep the system's sum at DB_POOL_SIZE. After the settings are loaded. */
int service_database_share(int of_20);

/* Constants that SQL texts may name as `:config.field`, e.g. :config.tunnel_token_ttl_ms (numbers and texts of struct
 * config) are substituted as parameters by query.c. */

#endif
