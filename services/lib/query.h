/*
 * query.h: SQL with named parameters, taken from messages; rows mapped onto messages. See service.h for the rules.
 *
 * Compiled once at start: a `:name` that is no field of the request (and no setting: `:config.name`) ends the process
 * with a clear line, so a misspelling cannot reach production. Thread rule: compiled queries are read-only, any thread.
 */
#ifndef BORE_SERVICES_LIB_QUERY_H
#define BORE_SERVICES_LIB_QUERY_H

#include "common/db.h"
#include "proto/protocol.h"

struct query;

/* request may be NULL for a statement without fields (settings only). name must be unique; both borrowed for good.
 * batch: `:field[]` allowed, looked up in each of `requests` (NULL-terminated descriptors). NULL after logging an error. */
struct query *query_new(const char *name, const char *sql, const struct message_descriptor *const *requests);
void query_free(struct query *self);
/* Runs it for one message. Errors as db_run. */
int query_run(const struct query *self, struct db *db, const void *request, struct db_result **ret_result);
/* Runs it for many: descriptors[i] describes requests[i]; method ids for :method[]. */
int query_run_batch(const struct query *self, struct db *db, const struct message_descriptor *const *descriptors,
                    const int *methods, const void *const *requests, size_t count, struct db_result **ret_result);

/* Row -> message: columns named like a field are set; NULL leaves an optional field unset. Unknown columns are ignored.
 * 0, or -EBADMSG when a value does not fit (logged at debug with the column's name). */
int query_row_to_message(const struct db_result *result, size_t row, const struct message_descriptor *descriptor,
                         void *message);

#endif
