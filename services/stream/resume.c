/* resume.c: see resume.h. */
#include "services/stream/resume.h"

#include <string.h>

#include "common/clock.h"
#include "services/lib/event_log.h"

enum { ADMISSION_MS = 2500 };

void resume_plan(struct server *server, const char *cursor_text, struct admission_job *job, struct resume *ret_resume) {
    int64_t id;
    *ret_resume = (struct resume){ .cursor = recent_head(server->recent) };
    memcpy(job->epoch, server->epoch, sizeof job->epoch);
    job->cursor = ret_resume->cursor;
    if (!cursor_text || !cursor_text[0]) return;
    char epoch[sizeof job->epoch];
    if (event_cursor_parse(cursor_text, epoch, sizeof epoch, &id) != 0) {
        ret_resume->reset = job->wants_reset = true; /* a cursor that is none is told like one that cannot be served */
    } else if (strcmp(epoch, server->epoch) == 0 && recent_covers(server->recent, id)) {
        ret_resume->cursor = job->cursor = id;
    } else {
        memcpy(job->epoch, epoch, sizeof epoch);
        job->replay = true;
        job->cursor = id;
    }
}

int resume_submit(struct server *server, struct admission_job *job, const char *request_id) {
    job->deadline_ms = clock_monotonic_ms() + ADMISSION_MS;
    snprintf(job->request_id, sizeof job->request_id, "%s", request_id);
    if (job->replay) {
        job->replays_of_user = tally_take(server->replays, job->claims.user_id);
        if (!job->replays_of_user) return ERR_TOO_MANY_REQUESTS;
    }
    if (admission_submit(server->admission, job)) return 0;
    tally_drop(server->replays, job->replays_of_user);
    job->replays_of_user = NULL;
    return ERR_OVERLOADED;
}

int resume_from_job(struct server *server, const struct admission_job *job, struct resume *ret_resume) {
    if (job->error) return job->error;
    *ret_resume = (struct resume){ .cursor = job->reset ? job->head : job->cursor,
        .reset = job->reset || job->wants_reset,
        .events = job->events,
        .event_count = job->event_count,
        .head = job->replay ? job->head : 0 };
    int64_t known = ret_resume->head > ret_resume->cursor ? ret_resume->head : ret_resume->cursor;
    bool is_late = known < recent_head(server->recent) && !recent_covers(server->recent, known);
    return is_late ? ERR_UNAVAILABLE : 0;
}

void resume_tell(struct server *server, struct subscriber *subscriber, const char *user_id, const struct resume *resume,
    void (*tell)(const struct event *event, void *user_data), void *user_data) {
    for (size_t i = 0; i < resume->event_count; i++)
        tell(&resume->events[i], user_data);
    int64_t cursor = resume->head > resume->cursor ? resume->head : resume->cursor;
    recent_each(server->recent, subscriber->everything ? NULL : user_id, cursor, tell, user_data);
    if (recent_head(server->recent) > cursor) cursor = recent_head(server->recent);
    subscriber->cursor = cursor;
}
