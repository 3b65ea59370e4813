/*
 * channels.h: where alerts are sent, from the settings.
 *
 * Settings: SLACK_WEBHOOK_URL; SENDGRID_API_KEY, SENDGRID_API_URL, ALERT_EMAIL_FROM, ALERT_EMAIL_TO.
 * Thread rule: set up once; read-only afterwards.
 */
#ifndef BORE_SERVICES_ALERTER_CHANNELS_H
#define BORE_SERVICES_ALERTER_CHANNELS_H

#include "services/alerter/notice.h"

enum { EMAIL_RECEIVERS_MAX = 50 };

struct channels {
    const char *names[CHANNEL_COUNT]; /* of those that are configured */
    size_t count;
    const char *slack_url; /* borrowed from the settings; NULL: not configured */
    char *email_url;       /* NULL: not configured */
    char *email_authorization;
    const char *email_from;
    char *email_to_text;
    const char *email_to[EMAIL_RECEIVERS_MAX + 1]; /* into email_to_text, ends with NULL */
};

/* Says in the log what is set up, what is set up by half, and what is wrong. 0, or -EINVAL for a value that is wrong.
 */
int channels_init(struct channels *self);
void channels_release(struct channels *self);

/* Makes the request that carries the notice to its channel; `done` and `user_data` are the caller's. ret_body is to be
 * freed after the request was submitted; ret_headers has room for 3. False when the channel is not configured. */
bool channels_request(const struct channels *self, const struct notice *notice, struct http_request *ret_request,
    const char *ret_headers[3], char **ret_body);

/* Where mail/send is, given SENDGRID_API_URL: that, when it ends so, else below it. Heap. */
char *channels_mail_send_url(const char *given);

/* What is wrong with an e-mail address, as the rest of a sentence; NULL when nothing is. */
const char *channels_address_fault(const char *address);

#endif
