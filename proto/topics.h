/*
 * topics.h: the topics of published messages and the kinds of event.
 *
 * A published message is two frames: the topic, then an EVENT or a COUNTERS frame. A row of the event log goes out as
 * `event.<kind>`, a process's counters as `counters.<process>`. A subscriber names a prefix: TOPIC_EVENTS takes all
 * events. Thread rule: constants only.
 */
#ifndef BORE_PROTO_TOPICS_H
#define BORE_PROTO_TOPICS_H

#define TOPIC_EVENTS   "event."
#define TOPIC_COUNTERS "counters."
#define TOPIC_MAX      80 /* bytes of the longest topic */

#define EVENT_KINDS(X)                            \
    X(STATUS, "status")                           \
    X(INSTANCE_CREATED, "instance.created")       \
    X(INSTANCE_RENAMED, "instance.renamed")       \
    X(INSTANCE_DELETED, "instance.deleted")       \
    X(TUNNEL_CONNECTED, "tunnel.connected")       \
    X(TUNNEL_DISCONNECTED, "tunnel.disconnected") \
    X(ALERT_SENT, "alert.sent")                   \
    X(USER_REVOKED, "user.revoked")

enum event_kind {
#define EVENT_KIND(NAME, name) EVENT_##NAME,
    EVENT_KINDS(EVENT_KIND)
#undef EVENT_KIND
        EVENT_KIND_COUNT
};

/* The name as in the log's column `kind` and in a topic. */
const char *event_kind_name(enum event_kind kind);
/* The kind of a name, or -1 when unknown (a newer process may write kinds that this one does not know). */
int event_kind_find(const char *name);

#endif
