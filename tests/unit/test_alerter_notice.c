/*
 * test_alerter_notice.c: what Slack and SendGrid are sent, what their answers mean, and what may be configured.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "services/alerter/channels.h"
#include "services/lib/config.h"

static struct notice sample(const char *type) {
    return (struct notice){ .alert_id = xstrdup("alert_1"),
        .alert_type = xstrdup(type),
        .message = xstrdup("\"<!channel> & <https://e.vil|w\xc3\xa4\xc3\xa4>\" is offline"),
        .sent_at_ms = 1700000000999,
        .instance_id = xstrdup("inst_1"),
        .instance_name = xstrdup("<!channel> & co"),
        .owner = xstrdup("a+b@c.d") };
}

static void assert_text(char *text, const char *expected) {
    assert_string_equal(text, expected);
    free(text);
}

/* --- payloads ----------------------------------------------------------------------------------------------------- */

static void test_slack(void **state) {
    (void)state;
    struct notice notice = sample("Instance Offline");
    assert_text(notice_slack_body(&notice),
        "{\"attachments\":[{\"color\":\"#a30200\",\"fallback\":\"Instance Offline: \\\"&lt;!channel&gt; &amp; "
        "&lt;https://e.vil|w\xc3\xa4\xc3\xa4&gt;\\\" is offline\",\"title\":\"Instance Offline\",\"text\":"
        "\"\\\"&lt;!channel&gt; &amp; &lt;https://e.vil|w\xc3\xa4\xc3\xa4&gt;\\\" is offline\",\"fields\":["
        "{\"title\":\"Instance\",\"value\":\"&lt;!channel&gt; &amp; co\",\"short\":true},"
        "{\"title\":\"Instance id\",\"value\":\"inst_1\",\"short\":true},"
        "{\"title\":\"Owner\",\"value\":\"a+b@c.d\",\"short\":true}],\"footer\":\"Bore Backend\",\"ts\":1700000000}]}");
    notice_release(&notice);
}

/* Of several instances, or of one that is gone, less is known. */
static void test_slack_without_instance(void **state) {
    (void)state;
    struct notice notice = { .alert_id = xstrdup("alert_1"),
        .alert_type = xstrdup("Instance Recovered"),
        .message = xstrdup("12 instances"),
        .sent_at_ms = 5000 };
    assert_text(notice_slack_body(&notice),
        "{\"attachments\":[{\"color\":\"#2eb886\",\"fallback\":\"Instance Recovered: 12 instances\",\"title\":"
        "\"Instance Recovered\",\"text\":\"12 instances\",\"fields\":[],\"footer\":\"Bore Backend\",\"ts\":5}]}");
    notice_release(&notice);
}

static void test_sendgrid(void **state) {
    (void)state;
    static const char *const to[] = { "x@y.z", "u@v.w", NULL };
    struct notice notice = sample("Instance Idle");
    assert_text(notice_sendgrid_body(&notice, "bore@y.z", to),
        "{\"personalizations\":[{\"to\":[{\"email\":\"x@y.z\"},{\"email\":\"u@v.w\"}]}],\"from\":{\"email\":"
        "\"bore@y.z\",\"name\":\"Bore Backend\"},\"subject\":\"[Bore] Instance Idle: <!channel> & co\",\"content\":["
        "{\"type\":\"text/plain\",\"value\":\"Instance Idle\\n\\n\\\"<!channel> & "
        "<https://e.vil|w\xc3\xa4\xc3\xa4>\\\" "
        "is offline\\n\\nInstance: <!channel> & co\\nInstance id: inst_1\\nOwner: a+b@c.d\\nAlert: alert_1\\n\"},"
        "{\"type\":\"text/html\",\"value\":\"<h2 style=\\\"color:#439fe0\\\">Instance Idle</h2><p>\\\"&lt;!channel&gt; "
        "&amp; &lt;https://e.vil|w\xc3\xa4\xc3\xa4&gt;\\\" is offline</p><table><tr><th "
        "align=\\\"left\\\">Instance</th>"
        "<td>&lt;!channel&gt; &amp; co</td></tr><tr><th align=\\\"left\\\">Instance id</th><td>inst_1</td></tr><tr><th "
        "align=\\\"left\\\">Owner</th><td>a+b@c.d</td></tr><tr><th align=\\\"left\\\">Alert</th><td>alert_1</td></tr>"
        "</table>\"}]}");
    notice_release(&notice);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void test_verdicts(void **state) {
    (void)state;
    static const struct {
        struct http_answer answer;
        bool is_delivered, is_permanent;
        int64_t rest_ms;
        const char *problem;
    } cases[] = {
        { { .status = 200, .body = "ok", .body_size = 2 }, true, false, 0, "" },
        { { .status = 202 }, true, false, 0, "" },
        { { .status = 200, .is_cut = true }, true, false, 0, "" },
        { { .status = 302 }, false, false, 0, "HTTP 302" },
        { { .status = 400, .body = "invalid_payload", .body_size = 15 }, false, true, 0, "HTTP 400 invalid_payload" },
        { { .status = 403, .body = "invalid_payload!", .body_size = 16 }, false, true, 0, "HTTP 403" },
        { { .status = 404, .body = "T1/B2/s3cret", .body_size = 12 }, false, true, 0, "HTTP 404" },
        { { .status = 404, .retry_after_s = 9 }, false, true, 0, "HTTP 404" },
        { { .status = 408 }, false, true, 0, "HTTP 408" },
        { { .status = 429 }, false, false, 0, "HTTP 429" },
        { { .status = 429, .retry_after_s = 30 }, false, false, 30000, "HTTP 429" },
        { { .status = 429, .retry_after_s = INT64_MAX }, false, false, 86400000, "HTTP 429" },
        { { .status = 500 }, false, false, 0, "HTTP 500" },
        { { .status = 503, .retry_after_s = 2 }, false, false, 2000, "HTTP 503" },
        { { .error = -ETIMEDOUT, .problem = "Timeout was reached" }, false, false, 0, "Timeout was reached" },
        { { .error = -EPROTO, .problem = "no trust" }, false, false, 0, "no trust" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct notice_verdict verdict;
        notice_judge(CHANNEL_SLACK, &cases[i].answer, &verdict);
        assert_string_equal(verdict.problem, cases[i].problem);
        assert_int_equal(verdict.is_delivered, cases[i].is_delivered);
        assert_int_equal(verdict.is_permanent, cases[i].is_permanent);
        assert_int_equal(verdict.rest_ms, cases[i].rest_ms);
    }
    /* Slack's words are nobody else's */
    struct notice_verdict verdict;
    notice_judge(CHANNEL_EMAIL, &cases[4].answer, &verdict);
    assert_string_equal(verdict.problem, "HTTP 400");
}

/* --- settings ----------------------------------------------------------------------------------------------------- */

static char *text_setting(const char *text) {
    return (char *)(uintptr_t)text;
}

static int configure(struct channels *channels, const char *slack, const char *key, const char *from, const char *to) {
    config.slack_webhook_url = text_setting(slack);
    config.sendgrid_api_key = text_setting(key);
    config.sendgrid_api_url = text_setting("https://api.sendgrid.com");
    config.alert_email_from = text_setting(from);
    config.alert_email_to = text_setting(to);
    config.alert_timeout_ms = 1000;
    return channels_init(channels);
}

static void test_settings(void **state) {
    (void)state;
    static const struct {
        const char *slack, *key, *from, *to;
        int error;
        size_t count;
    } cases[] = {
        { "", "", "", "", 0, 0 },
        { "https://hooks.example/a", "", "", "", 0, 1 },
        { "https://hooks.example/a", "k", "a@b.c", "d@e.f, g@h.i,", 0, 2 },
        { "", "k", "a@b.c", "d@e.f", 0, 1 },
        { "", "k", "a@b.c", "", 0, 0 },
        { "", "k", "", "d@e.f", 0, 0 },
        { "", "", "a@b.c", "d@e.f", 0, 0 },
        { "hooks.example", "", "", "", -EINVAL, 0 },
        { "ftp://hooks.example/a", "", "", "", -EINVAL, 0 },
        { "", "k", "a@b.c", "d@e.f, nobody", -EINVAL, 0 },
        { "", "k", "a@@b.c", "d@e.f", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct channels channels;
        assert_int_equal(
            configure(&channels, cases[i].slack, cases[i].key, cases[i].from, cases[i].to), cases[i].error);
        assert_int_equal(channels.count, cases[i].count);
        channels_release(&channels);
    }
}

static void test_requests(void **state) {
    (void)state;
    struct channels channels;
    struct http_request request;
    const char *headers[3];
    char *body;
    struct notice notice = sample("Instance Offline");
    assert_int_equal(configure(&channels, "https://hooks.example/a", "k3y", "a@b.c", "d@e.f"), 0);
    assert_true(channels_request(&channels, &notice, &request, headers, &body));
    assert_string_equal(request.url, "https://hooks.example/a");
    assert_string_equal(headers[0], "Content-Type: application/json");
    assert_null(headers[1]);
    assert_int_equal(request.body_size, strlen(body));
    free(body);
    notice.channel = CHANNEL_EMAIL;
    assert_true(channels_request(&channels, &notice, &request, headers, &body));
    assert_string_equal(request.url, "https://api.sendgrid.com/v3/mail/send");
    assert_string_equal(headers[1], "Authorization: Bearer k3y");
    assert_null(headers[2]);
    free(body);
    channels_release(&channels);
    assert_int_equal(configure(&channels, "https://hooks.example/a", "", "", ""), 0);
    assert_false(channels_request(&channels, &notice, &request, headers, &body));
    channels_release(&channels);
    notice_release(&notice);
}

static void test_addresses(void **state) {
    (void)state;
    static const char *const good[] = { "a@b", "a.b+c@d-e.example", "\xc3\xa4@b.c", "o'hara@b.c" };
    static const char *const bad[] = { "", "a", "@b", "a@", "a@b@c", "a b@c", "a@b c", "<a@b>", "a@b,c@d", "a@b\n",
        "a@[1.2.3.4]" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_null(channels_address_fault(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_non_null(channels_address_fault(bad[i]));
}

static void test_mail_send_url(void **state) {
    (void)state;
    assert_text(channels_mail_send_url("https://api.eu.sendgrid.com"), "https://api.eu.sendgrid.com/v3/mail/send");
    assert_text(channels_mail_send_url("https://api.sendgrid.com/"), "https://api.sendgrid.com/v3/mail/send");
    assert_text(channels_mail_send_url("https://api.sendgrid.com/v3/"), "https://api.sendgrid.com/v3/mail/send");
    assert_text(channels_mail_send_url("http://h:1/v3/mail/send"), "http://h:1/v3/mail/send");
    assert_text(channels_mail_send_url("http://proxy/sendgrid"), "http://proxy/sendgrid/v3/mail/send");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_slack), cmocka_unit_test(test_slack_without_instance),
        cmocka_unit_test(test_sendgrid), cmocka_unit_test(test_verdicts), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_requests), cmocka_unit_test(test_addresses), cmocka_unit_test(test_mail_send_url) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
