/*
 * event_json.h: events of the log as the JSON objects that clients get, the same in every transport (API.md "Real
 * time").
 *
 * Thread rule: no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_EVENT_JSON_H
#define BORE_SERVICES_STREAM_EVENT_JSON_H

#include "common/strbuf.h"
#include "proto/protocol.h"

/* As what a kind of event is told to clients. */
enum told { TOLD_NOT, TOLD_STATUS, TOLD_INSTANCE, TOLD_ALERT };

enum told event_told_as(const char *kind);
/* Appends the object; nothing when the kind is not told. */
void event_append_json(struct strbuf *out, const char *epoch, const struct event *event);

#endif
