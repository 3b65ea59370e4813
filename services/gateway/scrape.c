/*
 * scrape.c: see scrape.h. Without `metrics`, or before it has anything to say, 503: Prometheus notes the scrape as
 * failed and goes on where it was with the next one.
 */
#include "services/gateway/scrape.h"

#include <string.h>

#include "common/crypto.h"
#include "services/gateway/exchange.h"

bool scrape_is_allowed(const struct exchange *exchange) {
    const char *wanted = exchange->gateway->metrics_token;
    char token[TOKEN_MAX + 1];
    if (*wanted == '\0') return true;
    return caller_bearer(&exchange->request.headers, token, sizeof(token)) && constant_time_equal(token, wanted);
}

void scrape_serve(struct exchange *exchange) {
    const struct bus_call call = { .deadline_ms = exchange->deadline_ms, .request_id = exchange->request.id };
    const struct metrics_text request = {};
    struct metrics_text_reply reply;
    struct error_reply error = {};
    int code = bus_call(exchange->gateway->bus, MSG_METRICS_TEXT, &request, &call, &reply, &error);
    if (code != 0) {
        answer_error_reply(&exchange->answer, exchange->request.id, code, &error);
        message_release(&error_reply_descriptor, &error);
        return;
    }
    exchange->answer.status = 200;
    exchange->answer.content_type = SCRAPE_TYPE;
    strbuf_append_text(&exchange->answer.body, reply.text);
    message_release(&metrics_text_reply_descriptor, &reply);
}
