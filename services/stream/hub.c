/* hub.c: the lists of subscribers, and how an event finds them. See hub.h. */
#include "services/stream/hub.h"

#include <czmq.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/lib/counters.h"

enum { TRANSPORTS_MAX = 4 };

struct user_group {
    char *user_id;
    struct subscriber *first;
    unsigned count;
};

/* An instance that is watched, and by whom. */
struct watched {
    char *instance_id;
    struct watch *first;
};

struct watch {
    struct subscriber *subscriber;
    struct watched *watched;
    struct watch *next, *previous; /* of the instance */
    struct watch *next_of_subscriber;
};

struct hub {
    struct hub_options options;
    zhashx_t *groups;  /* user id -> struct user_group */
    zhashx_t *watched; /* instance id -> struct watched */
    struct subscriber *first, *last;
    unsigned count, everything_count, watch_count;
    struct counter *slow_readers, *lag;
};

struct hub *hub_new(const struct hub_options *options) {
    struct hub *self = xcalloc(1, sizeof *self);
    self->options = *options;
    self->groups = zhashx_new();
    self->watched = zhashx_new();
    self->slow_readers = counter_get(COUNTER, "bore_streams_ended_total", "reason=\"slow_reader\"");
    self->lag = counter_get(HISTOGRAM, "bore_status_lag_seconds", "");
    return self;
}

void hub_free(struct hub *self) {
    if (!self) return;
    zhashx_destroy(&self->groups);
    zhashx_destroy(&self->watched);
    free(self);
}

static struct user_group *group_of(struct hub *self, const char *user_id) {
    struct user_group *group = zhashx_lookup(self->groups, user_id);
    if (!group) {
        group = xcalloc(1, sizeof *group);
        group->user_id = xstrdup(user_id);
        zhashx_insert(self->groups, user_id, group);
    }
    return group;
}

int hub_add(struct hub *self, struct subscriber *subscriber, const char *user_id) {
    if (self->count >= self->options.most) return ERR_OVERLOADED;
    struct user_group *group = group_of(self, user_id);
    if (group->count >= self->options.most_a_user) return ERR_TOO_MANY_REQUESTS;
    subscriber->group = group;
    subscriber->group_previous = NULL;
    subscriber->group_next = group->first;
    if (group->first) group->first->group_previous = subscriber;
    group->first = subscriber;
    group->count++;

    subscriber->previous = NULL;
    subscriber->next = self->first;
    if (self->first)
        self->first->previous = subscriber;
    else
        self->last = subscriber;
    self->first = subscriber;
    self->count++;
    self->everything_count += subscriber->everything;
    return 0;
}

/* ---- instances of others ---- */

int hub_watch(struct hub *self, struct subscriber *subscriber, const char *instance_id) {
    for (const struct watch *watch = subscriber->watches; watch; watch = watch->next_of_subscriber) {
        if (strcmp(watch->watched->instance_id, instance_id) == 0) return 0;
    }
    if (subscriber->watch_count >= HUB_WATCHES_MAX) return ERR_TOO_MANY_REQUESTS;
    struct watched *watched = zhashx_lookup(self->watched, instance_id);
    if (!watched) {
        watched = xcalloc(1, sizeof *watched);
        watched->instance_id = xstrdup(instance_id);
        zhashx_insert(self->watched, instance_id, watched);
    }
    struct watch *watch = xcalloc(1, sizeof *watch);
    *watch = (struct watch){
        .subscriber = subscriber, .watched = watched, .next = watched->first, .next_of_subscriber = subscriber->watches
    };
    if (watched->first) watched->first->previous = watch;
    watched->first = watch;
    subscriber->watches = watch;
    subscriber->watch_count++;
    self->watch_count++;
    return 0;
}

/* `place` is where the subscriber's list holds it. */
static void watch_remove(struct hub *self, struct watch **place) {
    struct watch *watch = *place;
    struct watched *watched = watch->watched;
    *place = watch->next_of_subscriber;
    watch->subscriber->watch_count--;
    self->watch_count--;
    if (watch->next) watch->next->previous = watch->previous;
    if (watch->previous)
        watch->previous->next = watch->next;
    else
        watched->first = watch->next;
    free(watch);
    if (watched->first) return;
    zhashx_delete(self->watched, watched->instance_id);
    free(watched->instance_id);
    free(watched);
}

bool hub_unwatch(struct hub *self, struct subscriber *subscriber, const char *instance_id) {
    for (struct watch **place = &subscriber->watches; *place; place = &(*place)->next_of_subscriber) {
        if (strcmp((*place)->watched->instance_id, instance_id) == 0) {
            watch_remove(self, place);
            return true;
        }
    }
    return false;
}

/* The instance is gone: nobody watches it any more. */
static void unwatch_all(struct hub *self, const char *instance_id) {
    struct watched *watched;
    while ((watched = zhashx_lookup(self->watched, instance_id)) != NULL) {
        struct subscriber *subscriber = watched->first->subscriber;
        hub_unwatch(self, subscriber, instance_id);
        if (subscriber->transport->unwatched) subscriber->transport->unwatched(subscriber, instance_id);
    }
}

/* ---- subscribers ---- */

void hub_remove(struct hub *self, struct subscriber *subscriber) {
    outgoing_queue_release(&subscriber->queue);
    struct user_group *group = subscriber->group;
    if (!group) return;
    subscriber->group = NULL;
    while (subscriber->watches)
        watch_remove(self, &subscriber->watches);
    if (subscriber->group_previous)
        subscriber->group_previous->group_next = subscriber->group_next;
    else
        group->first = subscriber->group_next;
    if (subscriber->group_next) subscriber->group_next->group_previous = subscriber->group_previous;
    if (--group->count == 0) {
        zhashx_delete(self->groups, group->user_id);
        free(group->user_id);
        free(group);
    }
    if (subscriber->previous)
        subscriber->previous->next = subscriber->next;
    else
        self->first = subscriber->next;
    if (subscriber->next)
        subscriber->next->previous = subscriber->previous;
    else
        self->last = subscriber->previous;
    self->count--;
    self->everything_count -= subscriber->everything;
}

static void end(struct hub *self, struct subscriber *subscriber, const char *reason) {
    hub_remove(self, subscriber);
    subscriber->transport->end(subscriber, reason);
}

void hub_send(struct hub *self, struct subscriber *subscriber, struct outgoing *text, bool counted) {
    if (counted && subscriber->queue.bytes + outgoing_size(text) > self->options.queue_bytes) {
        log_info("stream ended reason=slow_reader user=%s waiting_bytes=%zu", subscriber->group->user_id,
            subscriber->queue.bytes);
        counter_add(self->slow_readers, 1);
        end(self, subscriber, "slow_reader");
        return;
    }
    outgoing_queue_push(&subscriber->queue, text, counted);
    subscriber->transport->wake(subscriber);
}

const char *hub_user_id(const struct subscriber *subscriber) {
    return subscriber->group ? subscriber->group->user_id : "";
}

/* An event as text, made once for each transport that needs it. */
struct rendering {
    const struct event *event;
    const char *epoch;
    struct {
        const struct transport *transport;
        struct outgoing *text; /* NULL: not told */
    } texts[TRANSPORTS_MAX];
    unsigned count;
};

static struct outgoing *render(struct rendering *self, const struct transport *transport) {
    for (unsigned i = 0; i < self->count; i++) {
        if (self->texts[i].transport == transport) return self->texts[i].text;
    }
    if (self->count == TRANSPORTS_MAX) return NULL;
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    transport->append_event(&out, self->epoch, self->event);
    self->texts[self->count].transport = transport;
    self->texts[self->count].text = out.size ? outgoing_new(out.data, out.size) : NULL;
    return self->texts[self->count++].text;
}

static void rendering_release(struct rendering *self) {
    for (unsigned i = 0; i < self->count; i++)
        outgoing_unref(self->texts[i].text);
}

static void give(struct hub *self, struct subscriber *subscriber, struct rendering *rendering) {
    if (rendering->event->id <= subscriber->cursor) return;
    subscriber->cursor = rendering->event->id;
    struct outgoing *text = render(rendering, subscriber->transport);
    if (text) hub_send(self, subscriber, text, true);
}

static void give_watchers(struct hub *self, struct rendering *rendering) {
    const struct event *event = rendering->event;
    struct watched *watched = event->instance_id ? zhashx_lookup(self->watched, event->instance_id) : NULL;
    struct watch *next;
    for (struct watch *watch = watched ? watched->first : NULL; watch; watch = next) {
        next = watch->next;
        give(self, watch->subscriber, rendering);
    }
    if (watched && strcmp(event->kind, "instance.deleted") == 0) unwatch_all(self, event->instance_id);
}

void hub_publish(struct hub *self, const char *epoch, const struct event *event) {
    struct rendering rendering = { .event = event, .epoch = epoch };
    struct subscriber *next;
    if (event->user_id) {
        struct user_group *group = zhashx_lookup(self->groups, event->user_id);
        for (struct subscriber *subscriber = group ? group->first : NULL; subscriber; subscriber = next) {
            next = subscriber->group_next;
            give(self, subscriber, &rendering);
        }
    }
    if (self->everything_count) {
        for (struct subscriber *subscriber = self->first; subscriber; subscriber = next) {
            next = subscriber->next;
            if (subscriber->everything) give(self, subscriber, &rendering);
        }
    }
    if (self->watch_count) give_watchers(self, &rendering);
    if (rendering.count) histogram_observe(self->lag, (double)(clock_wall_ms() - event->at) / 1000.0);
    rendering_release(&rendering);
}

void hub_each(struct hub *self, void (*visit)(struct subscriber *subscriber, void *user_data), void *user_data) {
    struct subscriber *next;
    for (struct subscriber *subscriber = self->first; subscriber; subscriber = next) {
        next = subscriber->next;
        visit(subscriber, user_data);
    }
}

/* Ends those for which `is_due` holds. */
static unsigned end_where(
    struct hub *self, bool (*is_due)(const struct subscriber *, const void *), const void *key, const char *reason) {
    unsigned ended = 0;
    struct subscriber *next;
    for (struct subscriber *subscriber = self->first; subscriber; subscriber = next) {
        next = subscriber->next;
        if (is_due(subscriber, key)) {
            end(self, subscriber, reason);
            ended++;
        }
    }
    return ended;
}

static bool is_of_session(const struct subscriber *subscriber, const void *session_id) {
    return strcmp(subscriber->session_id, session_id) == 0;
}

static bool is_expired(const struct subscriber *subscriber, const void *now) {
    return subscriber->expires_at <= *(const int64_t *)now;
}

static bool is_any(const struct subscriber *subscriber, const void *key) {
    (void)subscriber;
    (void)key;
    return true;
}

bool hub_is_privileged(const struct subscriber *subscriber) {
    return subscriber->everything || subscriber->watches;
}

static bool is_privileged_of(const struct subscriber *subscriber, const void *user_id) {
    return hub_is_privileged(subscriber) && strcmp(hub_user_id(subscriber), user_id) == 0;
}

unsigned hub_end_session(struct hub *self, const char *session_id, const char *reason) {
    return end_where(self, is_of_session, session_id, reason);
}

unsigned hub_end_expired(struct hub *self, int64_t now) {
    return end_where(self, is_expired, &now, "token_expired");
}

unsigned hub_end_all(struct hub *self, const char *reason) {
    return end_where(self, is_any, NULL, reason);
}

unsigned hub_end_privileged_of(struct hub *self, const char *user_id, const char *reason) {
    return end_where(self, is_privileged_of, user_id, reason);
}

unsigned hub_end_some(struct hub *self, unsigned most, const char *reason) {
    while (most-- > 0 && self->last)
        end(self, self->last, reason);
    return self->count;
}

unsigned hub_privileged_count(const struct hub *self) {
    return self->everything_count + self->watch_count;
}

unsigned hub_count(const struct hub *self) {
    return self->count;
}
