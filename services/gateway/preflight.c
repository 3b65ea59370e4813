/*
 * preflight.c: OPTIONS. A CORS preflight (the Fetch standard: Origin and Access-Control-Request-Method) from an allowed
 * origin hears what it may send; anybody else hears which methods the path has.
 */
#include <stdio.h>
#include <string.h>

#include "services/gateway/exchange.h"

void methods_text(unsigned allowed, char *buffer, size_t size) {
    size_t written = 0;
    buffer[0] = '\0';
    for (int method = HTTP_GET; method < HTTP_OPTIONS; method++) {
        if ((allowed & (1u << method)) == 0) continue;
        const char *name = method == HTTP_GET ? "GET, HEAD" : http_method_name((enum http_method)method);
        written += (size_t)snprintf(buffer + written, size - written, "%s, ", name);
        if (written >= size) return;
    }
    snprintf(buffer + written, size - written, "OPTIONS");
}

void preflight_serve(struct exchange *self) {
    char allowed[64];
    methods_text(self->match.methods, allowed, sizeof(allowed));
    const struct headers *headers = &self->request.headers;
    self->answer.status = 204;
    bool is_preflight = headers->origin != NULL && headers->access_request_method != NULL;
    if (!is_preflight || !cors_allows(self->gateway->cors, headers->origin)) {
        answer_header(&self->answer, "Allow", allowed);
        return;
    }
    answer_header(&self->answer, "Access-Control-Allow-Methods", allowed);
    answer_header(&self->answer, "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id");
    answer_header(&self->answer, "Access-Control-Max-Age", "600");
}
