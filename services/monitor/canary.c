/*
 * canary.c: see canary.h.
 *
 * By libcurl's easy interface (https://curl.se/libcurl/c/libcurl-easy.html): no redirects, no proxy, no more of an
 * answer than ANSWER_MAX. On this machine the canary comes from an address of its own, so that the edge's limits of
 * connections per address, which 127.0.0.1 may have used up, do not silence it.
 */
#include "services/monitor/canary.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "proto/message_json.h"

enum { TIMEOUT_MS = 2000, ANSWER_MAX = 4096 };

#define OWN_LOOPBACK_ADDRESS "host!127.0.0.2"

struct canary_post {
    CURL *curl;
    struct curl_slist *headers;
    struct strbuf answer;
    char message[CURL_ERROR_SIZE];
    char reason[CURL_ERROR_SIZE + 64];
};

static size_t on_answer(char *data, size_t size, size_t count, void *argument) {
    struct strbuf *answer = argument;
    size_t bytes = size * count;
    if (answer->size + bytes > ANSWER_MAX) return 0;
    strbuf_append(answer, data, bytes);
    return bytes;
}

/* Whether the host of the URL is this machine; false for what is no URL too. */
static bool is_loopback(const char *url, bool *ret_is_ipv4) {
    CURLU *parts = curl_url();
    char *host = NULL;
    bool is_url = curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                  curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    *ret_is_ipv4 = is_url && strncmp(host, "127.", 4) == 0;
    bool is_here = *ret_is_ipv4 || (is_url && (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0));
    curl_free(host);
    curl_url_cleanup(parts);
    return is_here;
}

static bool is_http_url(const char *url) {
    return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

struct canary_post *canary_post_new(const char *url, const char *key) {
    if (!is_http_url(url)) return NULL;
    struct canary_post *self = xcalloc(1, sizeof *self);
    _cleanup_free_ char *address = xasprintf("%s/api/internal/canary", url);
    _cleanup_free_ char *header = xasprintf("X-Internal-API-Key: %s", key);
    bool is_ipv4;
    bool is_here = is_loopback(url, &is_ipv4);
    self->headers = curl_slist_append(NULL, header);
    self->headers = curl_slist_append(self->headers, "Content-Type: application/json");
    self->curl = curl_easy_init();
    curl_easy_setopt(self->curl, CURLOPT_URL, address);
    curl_easy_setopt(self->curl, CURLOPT_HTTPHEADER, self->headers);
    curl_easy_setopt(self->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(self->curl, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
    curl_easy_setopt(self->curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(self->curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(self->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(self->curl, CURLOPT_SSL_VERIFYPEER, is_here ? 0L : 1L);
    curl_easy_setopt(self->curl, CURLOPT_SSL_VERIFYHOST, is_here ? 0L : 2L);
    if (is_ipv4) curl_easy_setopt(self->curl, CURLOPT_INTERFACE, OWN_LOOPBACK_ADDRESS);
    curl_easy_setopt(self->curl, CURLOPT_ERRORBUFFER, self->message);
    curl_easy_setopt(self->curl, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(self->curl, CURLOPT_WRITEDATA, &self->answer);
    return self;
}

void canary_post_free(struct canary_post *self) {
    if (!self) return;
    curl_easy_cleanup(self->curl);
    curl_slist_free_all(self->headers);
    strbuf_release(&self->answer);
    free(self);
}

static int perform(struct canary_post *self, const char *body) {
    strbuf_clear(&self->answer);
    self->message[0] = '\0';
    curl_easy_setopt(self->curl, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(self->curl);
    if (code == CURLE_OK) {
        long status = 0;
        curl_easy_getinfo(self->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200) return 0;
        snprintf(self->reason, sizeof self->reason, "the answer is %ld", status);
        return -EPROTO;
    }
    snprintf(self->reason, sizeof self->reason, "%s", *self->message ? self->message : curl_easy_strerror(code));
    return code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -ENOTCONN;
}

static int read_answer(struct canary_post *self, struct canary_reply *ret_reply) {
    struct field_errors errors = { .count = 0 };
    json_t *object = json_loadb(self->answer.data, self->answer.size, JSON_REJECT_DUPLICATES, NULL);
    int error = message_from_json(&canary_reply_descriptor, object, ret_reply, &errors);
    json_decref(object);
    if (error) snprintf(self->reason, sizeof self->reason, "the answer is not a canary's");
    return error;
}

int canary_post_send(
    struct canary_post *self, const struct canary *canary, struct canary_reply *ret_reply, const char **ret_reason) {
    _cleanup_strbuf_ struct strbuf body = STRBUF_INIT;
    message_to_json(&canary_descriptor, canary, &body);
    int error = perform(self, body.data);
    if (!error) error = read_answer(self, ret_reply);
    *ret_reason = self->reason;
    return error;
}
