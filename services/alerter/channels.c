/* channels.c: see channels.h. Values of secrets are never logged, not even in part. */
#include "services/alerter/channels.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/config.h"

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static bool is_set(const char *text) {
    return text && *text;
}

static void warn_of_plain_http(const char *setting, const char *url) {
    if (strncasecmp(url, "http:", 5) == 0)
        log_warning("%s is not https: its secret and the alerts can be read on the way", setting);
}

/* --- Slack -------------------------------------------------------------------------------------------------------- */

static int init_slack(struct channels *self) {
    if (!is_set(config.slack_webhook_url)) return 0;
    if (!http_is_url(config.slack_webhook_url)) {
        log_error("SLACK_WEBHOOK_URL is no http(s) address");
        return -EINVAL;
    }
    warn_of_plain_http("SLACK_WEBHOOK_URL", config.slack_webhook_url);
    self->slack_url = config.slack_webhook_url;
    self->names[self->count++] = channel_name(CHANNEL_SLACK);
    return 0;
}

/* --- e-mail ------------------------------------------------------------------------------------------------------- */

const char *channels_address_fault(const char *address) {
    size_t size = strlen(address);
    const char *at = strrchr(address, '@');
    if (size > 320) return "is longer than 320 characters";
    if (!at || at == address || !at[1] || strchr(address, '@') != at) return "is no e-mail address";
    for (const char *character = address; *character; character++)
        if ((unsigned char)*character <= ' ' || strchr("<>()[]\",;:\\\x7f", *character)) return "is no e-mail address";
    for (const char *character = at + 1; *character; character++)
        if (!isalnum((unsigned char)*character) && !strchr(".-", *character)) return "has no domain that can be";
    return NULL;
}

char *channels_mail_send_url(const char *given) {
    _cleanup_free_ char *base = xstrdup(given);
    for (size_t size = strlen(base); size > 0 && base[size - 1] == '/'; size--)
        base[size - 1] = '\0';
    if (ends_with(base, "/mail/send")) return TAKE_PTR(base);
    return xasprintf("%s%s", base, ends_with(base, "/v3") ? "/mail/send" : "/v3/mail/send");
}

/* Splits ALERT_EMAIL_TO at its commas. */
static int split_receivers(struct channels *self) {
    size_t count = 0;
    char *rest = NULL;
    self->email_to_text = xstrdup(config.alert_email_to);
    for (char *word = strtok_r(self->email_to_text, ", \t", &rest); word; word = strtok_r(NULL, ", \t", &rest)) {
        const char *fault = channels_address_fault(word);
        if (!fault && count == EMAIL_RECEIVERS_MAX) fault = "is one receiver too many: 50 are allowed";
        if (fault) {
            log_error("ALERT_EMAIL_TO: \"%s\" %s", word, fault);
            return -EINVAL;
        }
        self->email_to[count++] = word;
    }
    return 0;
}

/* Which settings of e-mail are not there; "" when none or all are missing. */
static const char *missing_settings(const struct channels *self) {
    bool has_key = is_set(config.sendgrid_api_key), has_from = is_set(config.alert_email_from);
    bool has_to = self->email_to[0] != NULL;
    static const char *const missing[8] = { "", "SENDGRID_API_KEY and ALERT_EMAIL_FROM",
        "SENDGRID_API_KEY and ALERT_EMAIL_TO", "SENDGRID_API_KEY", "ALERT_EMAIL_FROM and ALERT_EMAIL_TO",
        "ALERT_EMAIL_FROM", "ALERT_EMAIL_TO", "" };
    return missing[(has_key ? 4 : 0) + (has_from ? 2 : 0) + (has_to ? 1 : 0)];
}

static int init_email(struct channels *self) {
    if (split_receivers(self) != 0) return -EINVAL;
    const char *fault = is_set(config.alert_email_from) ? channels_address_fault(config.alert_email_from) : NULL;
    if (fault) {
        log_error("ALERT_EMAIL_FROM %s", fault);
        return -EINVAL;
    }
    if (!http_is_url(config.sendgrid_api_url)) {
        log_error("SENDGRID_API_URL is no http(s) address");
        return -EINVAL;
    }
    const char *missing = missing_settings(self);
    if (*missing) log_warning("no alert goes out by e-mail: %s is not set", missing);
    if (*missing || !is_set(config.sendgrid_api_key)) return 0;
    warn_of_plain_http("SENDGRID_API_URL", config.sendgrid_api_url);
    self->email_url = channels_mail_send_url(config.sendgrid_api_url);
    self->email_authorization = xasprintf("Authorization: Bearer %s", config.sendgrid_api_key);
    self->email_from = config.alert_email_from;
    self->names[self->count++] = channel_name(CHANNEL_EMAIL);
    return 0;
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

int channels_init(struct channels *self) {
    *self = (struct channels){ .count = 0 };
    if (init_slack(self) != 0 || init_email(self) != 0) {
        channels_release(self);
        return -EINVAL;
    }
    log_info("alerts go to: %s%s%s", self->slack_url ? "Slack" : "", self->count == 2 ? " and " : "",
        self->email_url    ? "e-mail"
        : self->count == 0 ? "nobody; they are recorded only"
                           : "");
    return 0;
}

void channels_release(struct channels *self) {
    free(self->email_url);
    free(self->email_to_text);
    if (self->email_authorization) memory_wipe(self->email_authorization, strlen(self->email_authorization));
    free(self->email_authorization);
    *self = (struct channels){ .count = 0 };
}

bool channels_request(const struct channels *self, const struct notice *notice, struct http_request *ret_request,
    const char *ret_headers[3], char **ret_body) {
    bool is_slack = notice->channel == CHANNEL_SLACK;
    if (is_slack ? !self->slack_url : !self->email_url) return false;
    ret_headers[0] = "Content-Type: application/json";
    ret_headers[1] = is_slack ? NULL : self->email_authorization;
    ret_headers[2] = NULL;
    *ret_body = is_slack ? notice_slack_body(notice) : notice_sendgrid_body(notice, self->email_from, self->email_to);
    *ret_request = (struct http_request){ .url = is_slack ? self->slack_url : self->email_url,
        .headers = ret_headers,
        .body = *ret_body,
        .body_size = strlen(*ret_body),
        .connect_timeout_ms = config.alert_timeout_ms / 2 > 0 ? config.alert_timeout_ms / 2 : 1,
        .timeout_ms = config.alert_timeout_ms };
    return true;
}
