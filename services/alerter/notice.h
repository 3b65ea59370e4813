/*
 * notice.h: an alert on its way to a channel: what is known of it, as JSON for Slack and for SendGrid, and what a
 * channel's answer to it means.
 *
 * Thread rule: no shared state; any thread.
 */
#ifndef BORE_SERVICES_ALERTER_NOTICE_H
#define BORE_SERVICES_ALERTER_NOTICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/http_client.h"

enum notice_channel { CHANNEL_SLACK, CHANNEL_EMAIL, CHANNEL_COUNT };

struct notice {
    char *alert_id;
    enum notice_channel channel;
    int attempt;
    char *alert_type;
    char *message;
    int64_t sent_at_ms;
    char *instance_id;   /* NULL: of several instances */
    char *instance_name; /* NULL: of several, or deleted meanwhile */
    char *owner;         /* e-mail address; NULL likewise */
};

void notice_release(struct notice *self);

/* "slack", "email": as the column `channel`. */
const char *channel_name(enum notice_channel channel);
/* -1 when unknown. */
int channel_find(const char *name);

/* The body for an incoming webhook (https://api.slack.com/reference/messaging/attachments). Heap. */
char *notice_slack_body(const struct notice *self);
/* The body for mail/send (https://docs.sendgrid.com/api-reference/mail-send/mail-send). `to` ends with NULL. Heap. */
char *notice_sendgrid_body(const struct notice *self, const char *from, const char *const *to);

enum { NOTICE_PROBLEM_SIZE = 160 };

/* What came of an attempt. */
struct notice_verdict {
    bool is_delivered;
    bool is_permanent;                 /* another attempt would fail likewise */
    int64_t rest_ms;                   /* the channel asked for so long a rest; 0: it did not */
    char problem[NOTICE_PROBLEM_SIZE]; /* "" when delivered; for a person, without a secret */
};
void notice_judge(enum notice_channel channel, const struct http_answer *answer, struct notice_verdict *ret_verdict);

#endif
