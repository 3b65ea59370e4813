/*
 * notice.c: see notice.h.
 *
 * What an answer's body says is believed only where it is one of the words that Slack documents: anything else could
 * repeat what we sent, a secret included, and goes neither into a log nor into last_error.
 */
#include "services/alerter/notice.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/strbuf.h"

enum { REST_MAX_S = 86400 };

static const char *const channel_names[CHANNEL_COUNT] = { [CHANNEL_SLACK] = "slack", [CHANNEL_EMAIL] = "email" };

void notice_release(struct notice *self) {
    free(self->alert_id);
    free(self->alert_type);
    free(self->message);
    free(self->instance_id);
    free(self->instance_name);
    free(self->owner);
    *self = (struct notice){ 0 };
}

const char *channel_name(enum notice_channel channel) {
    return channel_names[channel];
}

int channel_find(const char *name) {
    for (int i = 0; i < CHANNEL_COUNT; i++)
        if (strcmp(channel_names[i], name) == 0) return i;
    return -1;
}

/* Appends text in which the characters & < > (and, for HTML, the quote) are named. */
static void append_escaped(struct strbuf *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&':
            strbuf_append_text(out, "&amp;");
            break;
        case '<':
            strbuf_append_text(out, "&lt;");
            break;
        case '>':
            strbuf_append_text(out, "&gt;");
            break;
        default:
            strbuf_append_char(out, *text);
        }
    }
}

/* The text as JSON, escaped as Slack and HTML both want it. */
static json_t *escaped_json(const char *text) {
    _cleanup_strbuf_ struct strbuf out = STRBUF_INIT;
    append_escaped(&out, text);
    return json_stringn(out.data, out.size);
}

static char *dump(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text) abort(); /* out of memory, or text that is no UTF-8: the database has none */
    return text;
}

/* --- Slack -------------------------------------------------------------------------------------------------------- */

static const char *color_of(const char *alert_type) {
    if (strcmp(alert_type, "Instance Recovered") == 0) return "#2eb886";
    if (strcmp(alert_type, "Instance Idle") == 0) return "#439fe0";
    if (strcmp(alert_type, "Instance Degraded") == 0) return "#daa038";
    return "#a30200";
}

static void add_field(json_t *fields, const char *title, const char *value) {
    if (value)
        json_array_append_new(
            fields, json_pack("{s:s, s:o, s:b}", "title", title, "value", escaped_json(value), "short", 1));
}

char *notice_slack_body(const struct notice *self) {
    _cleanup_free_ char *fallback = xasprintf("%s: %s", self->alert_type, self->message);
    json_t *fields = json_array();
    add_field(fields, "Instance", self->instance_name);
    add_field(fields, "Instance id", self->instance_id);
    add_field(fields, "Owner", self->owner);
    return dump(json_pack("{s:[{s:s, s:o, s:o, s:o, s:o, s:s, s:I}]}", "attachments", "color",
        color_of(self->alert_type), "fallback", escaped_json(fallback), "title", escaped_json(self->alert_type), "text",
        escaped_json(self->message), "fields", fields, "footer", "Bore Backend", "ts",
        (json_int_t)(self->sent_at_ms / 1000)));
}

/* --- SendGrid ----------------------------------------------------------------------------------------------------- */

struct line {
    const char *title;
    const char *value; /* NULL: left out */
};

static void append_lines(struct strbuf *plain, struct strbuf *html, const struct line *lines, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!lines[i].value) continue;
        strbuf_append_format(plain, "%s: %s\n", lines[i].title, lines[i].value);
        strbuf_append_format(html, "<tr><th align=\"left\">%s</th><td>", lines[i].title);
        append_escaped(html, lines[i].value);
        strbuf_append_text(html, "</td></tr>");
    }
}

static void write_mail(const struct notice *self, struct strbuf *plain, struct strbuf *html) {
    const struct line lines[] = { { "Instance", self->instance_name }, { "Instance id", self->instance_id },
        { "Owner", self->owner }, { "Alert", self->alert_id } };
    strbuf_append_format(plain, "%s\n\n%s\n\n", self->alert_type, self->message);
    strbuf_append_format(html, "<h2 style=\"color:%s\">%s</h2><p>", color_of(self->alert_type), self->alert_type);
    append_escaped(html, self->message);
    strbuf_append_text(html, "</p><table>");
    append_lines(plain, html, lines, ARRAY_SIZE(lines));
    strbuf_append_text(html, "</table>");
}

char *notice_sendgrid_body(const struct notice *self, const char *from, const char *const *to) {
    _cleanup_strbuf_ struct strbuf plain = STRBUF_INIT, html = STRBUF_INIT;
    write_mail(self, &plain, &html);
    json_t *receivers = json_array();
    for (; *to; to++)
        json_array_append_new(receivers, json_pack("{s:s}", "email", *to));
    _cleanup_free_ char *subject = xasprintf("[Bore] %s%s%s", self->alert_type, self->instance_name ? ": " : "",
        self->instance_name ? self->instance_name : "");
    return dump(json_pack("{s:[{s:o}], s:{s:s, s:s}, s:s, s:[{s:s, s:s}, {s:s, s:s}]}", "personalizations", "to",
        receivers, "from", "email", from, "name", "Bore Backend", "subject", subject, "content", "type", "text/plain",
        "value", plain.data, "type", "text/html", "value", html.data));
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* The word of Slack's that the body is, or NULL. */
static const char *slack_word(const struct http_answer *answer) {
    static const char *const words[] = { "action_prohibited", "channel_is_archived", "channel_not_found",
        "invalid_payload", "invalid_token", "no_active_hooks", "no_service", "no_service_id", "no_team", "no_text",
        "posting_to_general_channel_denied", "rollup_error", "team_disabled", "too_many_attachments",
        "user_not_found" };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strlen(words[i]) == answer->body_size && memcmp(words[i], answer->body, answer->body_size) == 0)
            return words[i];
    return NULL;
}

void notice_judge(enum notice_channel channel, const struct http_answer *answer, struct notice_verdict *ret_verdict) {
    *ret_verdict = (struct notice_verdict){ .is_delivered = !answer->error && answer->status / 100 == 2 };
    if (ret_verdict->is_delivered) return;
    if (answer->error) {
        snprintf(ret_verdict->problem, NOTICE_PROBLEM_SIZE, "%s", answer->problem);
        return;
    }
    const char *word = channel == CHANNEL_SLACK ? slack_word(answer) : NULL;
    snprintf(
        ret_verdict->problem, NOTICE_PROBLEM_SIZE, "HTTP %d%s%s", answer->status, word ? " " : "", word ? word : "");
    bool asks_for_rest = answer->status == 429 || answer->status >= 500;
    ret_verdict->is_permanent = answer->status / 100 == 4 && answer->status != 429;
    if (!asks_for_rest) return;
    ret_verdict->rest_ms = 1000 * (answer->retry_after_s < REST_MAX_S ? answer->retry_after_s : REST_MAX_S);
}
