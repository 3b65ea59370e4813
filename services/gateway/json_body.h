/*
 * json_body.h: a request's body as a JSON object (RFC 8259), bounded before the parser sees it.
 *
 * The parser recurses, about 100 bytes of stack a level, and the server's threads have 100 KiB: deeper nesting than
 * JSON_DEPTH_MAX is refused first.
 * Numbers that no 64-bit integer or double can hold are valid JSON, but the parser refuses the whole text for one of
 * them: they are made into a number that is out of every field's range, so that the field they belong to decides.
 * Refused: anything but one object, duplicate keys, invalid UTF-8, NUL. Thread rule: no shared state; any thread.
 */
#ifndef BORE_GATEWAY_JSON_BODY_H
#define BORE_GATEWAY_JSON_BODY_H

#include <jansson.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 512, JSON_COMPLAINT_MAX = 200 };

/* The object, which the caller decrefs; or NULL with a sentence for a person in complaint (JSON_COMPLAINT_MAX bytes).
 * data may be changed. An empty body is an empty object. */
json_t *json_body_parse(char *data, size_t size, char *complaint);

#endif
