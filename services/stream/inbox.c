/* inbox.c: a list behind a mutex. See inbox.h. */
#include "services/stream/inbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/memory.h"

struct inbox {
    pthread_mutex_t mutex;
    pthread_cond_t emptied;
    struct letter *first, **last;
    unsigned events;
    bool closed;
    void (*wake)(void *user_data);
    void *user_data;
};

struct inbox *inbox_new(void (*wake)(void *user_data), void *user_data) {
    struct inbox *self = xcalloc(1, sizeof *self);
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->emptied, NULL);
    self->last = &self->first;
    self->wake = wake;
    self->user_data = user_data;
    return self;
}

void letter_free(struct letter *letter) {
    if (letter->kind == LETTER_EVENT) message_release(&event_descriptor, &letter->event);
    admission_job_free(letter->job);
    free(letter);
}

void inbox_free(struct inbox *self) {
    if (!self) return;
    struct letter *next;
    for (struct letter *letter = self->first; letter; letter = next) {
        next = letter->next;
        letter_free(letter);
    }
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->emptied);
    free(self);
}

static void post(struct inbox *self, struct letter *letter) {
    bool is_event = letter->kind == LETTER_EVENT;
    pthread_mutex_lock(&self->mutex);
    while (is_event && self->events >= INBOX_EVENTS_MAX && !self->closed)
        pthread_cond_wait(&self->emptied, &self->mutex);
    if (self->closed) {
        pthread_mutex_unlock(&self->mutex);
        letter_free(letter);
        return;
    }
    bool was_empty = self->first == NULL;
    *self->last = letter;
    self->last = &letter->next;
    self->events += is_event;
    pthread_mutex_unlock(&self->mutex);
    if (was_empty) self->wake(self->user_data);
}

static struct letter *letter_new(enum letter_kind kind) {
    struct letter *letter = xcalloc(1, sizeof *letter);
    letter->kind = kind;
    return letter;
}

void inbox_post_event(struct inbox *self, const struct event *event) {
    struct letter *letter = letter_new(LETTER_EVENT);
    message_copy(&event_descriptor, event, &letter->event);
    post(self, letter);
}

void inbox_post_reset(struct inbox *self, int64_t head) {
    struct letter *letter = letter_new(LETTER_RESET);
    letter->head = head;
    post(self, letter);
}

void inbox_post_caught_up(struct inbox *self) {
    post(self, letter_new(LETTER_CAUGHT_UP));
}

void inbox_post_revoked(struct inbox *self, const char *session_id) {
    struct letter *letter = letter_new(LETTER_REVOKED);
    snprintf(letter->session_id, sizeof letter->session_id, "%s", session_id);
    post(self, letter);
}

void inbox_post_admitted(struct inbox *self, struct admission_job *job) {
    struct letter *letter = letter_new(LETTER_ADMITTED);
    letter->job = job;
    post(self, letter);
}

void inbox_post_stop(struct inbox *self) {
    post(self, letter_new(LETTER_STOP));
}

struct letter *inbox_take(struct inbox *self) {
    pthread_mutex_lock(&self->mutex);
    struct letter *first = self->first;
    self->first = NULL;
    self->last = &self->first;
    self->events = 0;
    pthread_cond_broadcast(&self->emptied);
    pthread_mutex_unlock(&self->mutex);
    return first;
}

void inbox_close(struct inbox *self) {
    pthread_mutex_lock(&self->mutex);
    self->closed = true;
    pthread_cond_broadcast(&self->emptied);
    pthread_mutex_unlock(&self->mutex);
}
