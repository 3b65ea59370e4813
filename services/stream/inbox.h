/*
 * inbox.h: what other threads tell the loop. They post and wake it (lws_cancel_service); the loop takes all at once.
 *
 * Bounded by INBOX_EVENTS_MAX for events: beyond it the log's reader waits (the log is the truth, nothing is lost).
 * Thread rule: post from any thread, take in the loop.
 */
#ifndef BORE_SERVICES_STREAM_INBOX_H
#define BORE_SERVICES_STREAM_INBOX_H

#include <stdint.h>

#include "proto/protocol.h"
#include "services/stream/admission.h"

enum { INBOX_EVENTS_MAX = 50000 };

enum letter_kind { LETTER_EVENT, LETTER_RESET, LETTER_CAUGHT_UP, LETTER_REVOKED, LETTER_ADMITTED, LETTER_STOP };

struct letter {
    enum letter_kind kind;
    struct event event;        /* LETTER_EVENT */
    int64_t head;              /* LETTER_RESET */
    char session_id[65];       /* LETTER_REVOKED */
    struct admission_job *job; /* LETTER_ADMITTED */
    struct letter *next;
};

struct inbox;

/* wake is called after each post that found the box empty. */
struct inbox *inbox_new(void (*wake)(void *user_data), void *user_data);
void inbox_free(struct inbox *self);
/* Take what they are given; all copy. LETTER_EVENT blocks while the box holds INBOX_EVENTS_MAX events. */
void inbox_post_event(struct inbox *self, const struct event *event);
void inbox_post_reset(struct inbox *self, int64_t head);
void inbox_post_caught_up(struct inbox *self);
void inbox_post_revoked(struct inbox *self, const char *session_id);
void inbox_post_admitted(struct inbox *self, struct admission_job *job);
void inbox_post_stop(struct inbox *self);
/* All letters in order of arrival; free each with letter_free. */
struct letter *inbox_take(struct inbox *self);
void letter_free(struct letter *letter);
/* From now on nothing blocks and events are dropped: the loop has ended. */
void inbox_close(struct inbox *self);

#endif
