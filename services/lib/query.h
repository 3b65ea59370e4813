/*
 * query.h: SQL with named parameters, taken from messages; rows mapped onto messages. See service.h for the rules.
 *
 * Names in the text, outside of literals, quoted identifiers and comments:
 *   :name         the request's field (NULL when unset; a STRINGS field becomes text[]); `:name::type` casts it
 *   :name[]       in a batch: the array of that field over the requests (NULL where a request has none; of a STRINGS
 *                 field each element is the text of an array, which a reply's STRINGS field takes back as it is)
 *   :method[]     in a batch: the array of message ids
 *   :config.name  the setting with that field name in struct config (never a secret)
 * The same name used twice is one parameter. Compiled once at start: a `:name` that is no field of the request and no
 * setting is refused with a clear line, so a misspelling cannot reach production.
 * Thread rule: compiled queries are read-only, any thread.
 */
#ifndef BORE_SERVICES_LIB_QUERY_H
#define BORE_SERVICES_LIB_QUERY_H

#include "common/db.h"
#include "proto/protocol.h"

struct query;

enum { QUERY_BATCH_MAX = 1024 };

/* For query_run: request is the descriptor whose fields may be named; NULL for a statement without fields (settings
 * only). name must be unique in the process; name and descriptor are borrowed for good. NULL after logging an error. */
struct query *query_new(const char *name, const char *sql, const struct message_descriptor *request);
/* For query_run_batch: requests are NULL-terminated descriptors; each name must be a field of at least one. */
struct query *query_new_batch(const char *name, const char *sql, const struct message_descriptor *const *requests);
void query_free(struct query *self);
/* The text with $1, $2 … instead of names. Borrowed. */
const char *query_sql(const struct query *self);

/* Runs it for one message. Errors as db_run. ret_result may be NULL. */
int query_run(const struct query *self, struct db *db, const void *request, struct db_result **ret_result);
/* Runs it for many: descriptors[i] describes requests[i]; method_ids for :method[]. At most QUERY_BATCH_MAX. */
int query_run_batch(const struct query *self, struct db *db, const struct message_descriptor *const *descriptors,
    const int *method_ids, const void *const *requests, size_t count, struct db_result **ret_result);

/* Which field of a message each column of a result fills. Embedded, owns nothing; valid as long as the result. */
enum { ROW_COLUMNS_MAX = 64 };
struct row_mapping {
    const struct message_descriptor *descriptor;
    const struct db_result *result;
    size_t count;
    struct {
        size_t column;
        const struct field *field;
    } columns[ROW_COLUMNS_MAX];
};

/* Columns named like a field of descriptor, less those named like a field of `except` (may be NULL); others are
 * ignored. */
void row_mapping_init(struct row_mapping *self, const struct db_result *result,
    const struct message_descriptor *descriptor, const struct message_descriptor *except);
/* Whether every mapped column of the row is NULL (or none is mapped). */
bool row_mapping_is_null(const struct row_mapping *self, size_t row);
/* Sets the fields from one row; NULL leaves a field as it is (unset). STRINGS from text[], OBJECT and LIST from JSON
 * text, TIME from milliseconds; BIN columns are ignored. 0, or -EBADMSG when a value does not fit (logged at debug with
 * the column's name); then *message holds what was set before, for message_release. */
int row_mapping_apply(const struct row_mapping *self, size_t row, void *message);

/* The two in one, for a single row. */
int query_row_to_message(
    const struct db_result *result, size_t row, const struct message_descriptor *descriptor, void *message);

/* Appends the elements of PostgreSQL's text form of a one-dimensional array to a STRINGS field; NULL elements are left
 * out. 0 or -EBADMSG. */
int strings_from_array(const struct field *field, void *message, const char *text);

#endif
