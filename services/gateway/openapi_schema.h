/*
 * openapi_schema.h: JSON schemas of messages (JSON Schema 2020-12, as OpenAPI 3.1 uses it), from their descriptors.
 *
 * The same descriptors check requests and write answers, so schemas cannot disagree with what the gateway does.
 * Requests and answers differ in what may be left out, hence two kinds. All results belong to the caller. Any thread.
 */
#ifndef BORE_GATEWAY_OPENAPI_SCHEMA_H
#define BORE_GATEWAY_OPENAPI_SCHEMA_H

#include <jansson.h>

#include "proto/message.h"

/* signed_in_reply -> SignedInReply; heap. */
char *schema_name(const char *message);
/* {"$ref":"#/components/<kind>/<name>"} */
json_t *schema_component(const char *kind, const char *name);
/* The same for a message's schema. */
json_t *schema_reference(const struct message_descriptor *descriptor);
/* Of one field's value, never null. */
json_t *schema_of_field(const struct field *field);
/* Of a request's body. */
json_t *schema_of_request(const struct message_descriptor *descriptor);
/* Adds the schema of an answer, and of all records in it, to components.schemas. */
void schema_add_answer(json_t *schemas, const struct message_descriptor *descriptor);

#endif
