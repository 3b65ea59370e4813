/*
 * message_json.h: messages from and to JSON (RFC 8259), by descriptor.
 *
 * Requests: each field is found under its snake_case name or the camelCase form of it; types are strict; unknown
 * members are ignored; CALLER, PATH and BIN fields are never read; a TIME is RFC 3339 or, as in the database's JSON,
 * milliseconds. Answers: snake_case plus the declared aliases; unset
 * optional fields are null, or left out when OMIT. Thread rule: no shared state; any thread.
 */
#ifndef BORE_PROTO_MESSAGE_JSON_H
#define BORE_PROTO_MESSAGE_JSON_H

#include <jansson.h>

#include "proto/message.h"

/* Fills the body fields of *ret_message from a JSON object. Returns 0, or -EINVAL with *ret_errors filled; then
 * *ret_message is zeroed and owns nothing. *ret_message needs no initialisation. Required CALLER and PATH fields are
 * left zero for the caller to fill. */
int message_from_json(const struct message_descriptor *descriptor, const json_t *object, void *ret_message,
    struct field_errors *ret_errors);

/* The same from one query parameter: sets the field `name` from text (decimal numbers, true|false).
 * -ENOENT when there is no such body field, -EINVAL with *errors extended when the text does not fit. */
int message_from_query(const struct message_descriptor *descriptor, const char *name, const char *text, void *message,
    struct field_errors *errors);

/* After all sources: complains of required fields (STR NULL or shorter than its minimum) that are still unset. */
int message_check(const struct message_descriptor *descriptor, const void *message, struct field_errors *errors);

/* Appends the message as a JSON object. Invalid UTF-8 cannot occur: it is refused at every entrance. */
void message_to_json(const struct message_descriptor *descriptor, const void *message, struct strbuf *out);

/* Appends text as a JSON string literal, quotes included. */
void json_append_string(struct strbuf *out, const char *text);

/* Whether key is name or the camelCase form of name. */
bool json_key_matches(const char *name, const char *key);

/* RFC 3339 UTC with milliseconds, e.g. 2026-01-31T12:00:00.000Z; outside the years 1 to 9999 the nearest time inside.
 * buffer has at least 32 bytes. */
void time_to_rfc3339(int64_t milliseconds, char *buffer, size_t size);
/* Accepts what the above writes (fraction optional, offset Z or +hh:mm or -hh:mm). 0 or -EINVAL. */
int time_from_rfc3339(const char *text, int64_t *ret_milliseconds);

#endif
