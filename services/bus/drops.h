/*
 * drops.h: what the bus threw away, counted by reason (`bore_bus_dropped_total{reason=…}`), and logged at most once a
 * second a reason. Thread rule: the bus's one thread.
 */
#ifndef BORE_SERVICES_BUS_DROPS_H
#define BORE_SERVICES_BUS_DROPS_H

#define DROP_REASONS(X)                                                                                   \
    X(MALFORMED_REQUEST, "malformed_request", "a caller's message cannot be read")                        \
    X(MALFORMED_WORKER, "malformed_worker", "a worker's message cannot be read")                          \
    X(MALFORMED_PUBLICATION, "malformed_publication", "a published message is no pair of topic and body") \
    X(LATE_REPLY, "late_reply", NULL)                                                                     \
    X(ABANDONED, "abandoned_request", NULL)                                                               \
    X(CALLER_GONE, "caller_gone", NULL)                                                                   \
    X(CALLER_FULL, "caller_full", "a caller takes no more answers")                                       \
    X(SUBSCRIBER_FULL, "subscriber_full", "a subscriber takes no more messages")                          \
    X(TOO_MANY_WORKERS, "too_many_workers", "too many worker processes or lanes")                         \
    X(KEY_REFUSED, "key_refused", "a peer without the right key was turned away")

enum drop_reason {
#define DROP_REASON(NAME, label, sentence) DROP_##NAME,
    DROP_REASONS(DROP_REASON)
#undef DROP_REASON
        DROP_REASON_COUNT
};

/* Makes all counters, so that the first drop is seen as an increase. Once, before drop_count. */
void drops_begin(void);
/* Reasons without a sentence are only counted: they are part of life. */
void drop_count(enum drop_reason reason);

#endif
