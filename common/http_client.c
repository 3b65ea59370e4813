/*
 * http_client.c: see http_client.h.
 *
 * A submitted transfer waits in a list until the thread takes it; from there on only the thread knows it. The thread
 * sleeps in curl_multi_poll and is woken by curl_multi_wakeup. A body that exceeds its bound ends the transfer: the
 * status has come, and nobody reads on.
 */
#include "common/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/strbuf.h"

enum { POLL_MS = 1000 };

struct transfer {
    struct transfer *next;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    struct strbuf answer;
    size_t headers_size;
    bool is_cut;
    int64_t submitted_us;
    http_done_fn *done;
    void *user_data;
};

struct http_client {
    CURLM *multi;
    pthread_t thread;
    pthread_mutex_t lock; /* over the members below */
    struct transfer *waiting;
    int count; /* submitted and not done */
    bool is_stopping;
    /* set once */
    int most;
    char *user_agent;
    char *ca_file;
    /* of the thread */
    struct transfer *running;
};

/* --- a transfer --------------------------------------------------------------------------------------------------- */

static void transfer_free(struct transfer *self) {
    curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->headers);
    strbuf_release(&self->answer);
    free(self->body);
    free(self);
}

static size_t take_body(const char *data, size_t size, size_t count, void *user_data) {
    struct transfer *self = user_data;
    size_t bytes = size * count; /* curl: at most 16 KiB */
    size_t room = HTTP_BODY_MAX - self->answer.size;
    strbuf_append(&self->answer, data, bytes < room ? bytes : room);
    self->is_cut = bytes > room;
    return self->is_cut ? 0 : bytes;
}

static size_t take_header(const char *data, size_t size, size_t count, void *user_data) {
    struct transfer *self = user_data;
    (void)data;
    self->headers_size += size * count;
    return self->headers_size > HTTP_HEADERS_MAX ? 0 : size * count;
}

static int set_headers(struct transfer *self, const char *const *headers) {
    static const char *const none[] = { NULL };
    size_t count = 0;
    for (const char *const *header = headers ? headers : none; *header; header++) {
        struct curl_slist *longer = curl_slist_append(self->headers, *header);
        if (!longer || ++count > HTTP_REQUEST_HEADERS_MAX) return -EINVAL;
        self->headers = longer;
    }
    return 0;
}

/* Every option that decides what may happen. */
static int set_options(const struct http_client *client, struct transfer *self, const struct http_request *request) {
    CURL *easy = self->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, self);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, self);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, self);
    if (client->user_agent) curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
    if (client->ca_file) curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    if (self->headers) curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    if (self->body) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, self->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)request->body_size);
    }
    return curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK ? 0 : -EINVAL;
}

static struct transfer *transfer_new(const struct http_client *client, const struct http_request *request) {
    struct transfer *self = xcalloc(1, sizeof *self);
    strbuf_init(&self->answer);
    self->easy = curl_easy_init();
    self->body = request->body ? xmemdup(request->body, request->body_size ? request->body_size : 1) : NULL;
    self->done = request->done;
    self->user_data = request->user_data;
    self->submitted_us = clock_monotonic_us();
    if (self->easy && set_headers(self, request->headers) == 0 && set_options(client, self, request) == 0) return self;
    transfer_free(self);
    return NULL;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static int error_of(CURLcode code) {
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -ECONNREFUSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_PEER_FAILED_VERIFICATION:
        return -EPROTO;
    default:
        return -EIO;
    }
}

static void fill_answer(struct transfer *self, CURLcode code, struct http_answer *ret_answer) {
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(self->easy, CURLINFO_RETRY_AFTER, &retry_after);
    if (self->is_cut && status > 0) code = CURLE_OK;
    ret_answer->error = error_of(code);
    if (ret_answer->error) {
        ret_answer->problem = curl_easy_strerror(code);
        return;
    }
    ret_answer->status = (int)status;
    ret_answer->retry_after_s = retry_after > 0 ? retry_after : 0;
    ret_answer->body = self->answer.data;
    ret_answer->body_size = self->answer.size;
    ret_answer->is_cut = self->is_cut;
}

/* Takes a transfer out of the client's hands and tells how it ended. canceled: whatever curl made of it. */
static void finish(struct http_client *self, struct transfer *transfer, CURLcode code, bool canceled) {
    struct http_answer answer = { .error = -ECANCELED, .problem = "given up: the process ends" };
    if (!canceled) {
        answer = (struct http_answer){ .error = 0 };
        fill_answer(transfer, code, &answer);
    }
    answer.elapsed_us = clock_monotonic_us() - transfer->submitted_us;
    pthread_mutex_lock(&self->lock);
    self->count--;
    pthread_mutex_unlock(&self->lock);
    transfer->done(transfer->user_data, &answer);
    transfer_free(transfer);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void forget(struct http_client *self, struct transfer *transfer) {
    struct transfer **link = &self->running;
    while (*link != transfer)
        link = &(*link)->next;
    *link = transfer->next;
    curl_multi_remove_handle(self->multi, transfer->easy);
}

/* False when the client ends. */
static bool take_waiting(struct http_client *self) {
    pthread_mutex_lock(&self->lock);
    struct transfer *taken = self->waiting;
    bool is_stopping = self->is_stopping;
    self->waiting = NULL;
    pthread_mutex_unlock(&self->lock);
    while (taken) {
        struct transfer *transfer = taken;
        taken = transfer->next;
        transfer->next = self->running;
        self->running = transfer;
        if (curl_multi_add_handle(self->multi, transfer->easy) == CURLM_OK) continue;
        forget(self, transfer);
        finish(self, transfer, CURLE_FAILED_INIT, false);
    }
    return !is_stopping;
}

static void take_done(struct http_client *self) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(self->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        char *transfer = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        forget(self, (struct transfer *)(void *)transfer);
        finish(self, (struct transfer *)(void *)transfer, code, false);
    }
}

static void *run_thread(void *argument) {
    struct http_client *self = argument;
    int running;
    while (take_waiting(self)) {
        curl_multi_perform(self->multi, &running);
        take_done(self);
        curl_multi_poll(self->multi, NULL, 0, POLL_MS, NULL);
    }
    while (self->running) {
        struct transfer *transfer = self->running;
        forget(self, transfer);
        finish(self, transfer, CURLE_OK, true);
    }
    return NULL;
}

/* --- for the callers ---------------------------------------------------------------------------------------------- */

bool http_is_url(const char *text) {
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL;
    bool valid = url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                 (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && *host;
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(url);
    return valid;
}

struct http_client *http_client_new(const struct http_client_options *options) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        errno = EIO;
        return NULL;
    }
    struct http_client *self = xcalloc(1, sizeof *self);
    self->multi = curl_multi_init();
    self->most = options->most;
    self->user_agent = xstrdup_or_null(options->user_agent);
    self->ca_file = options->ca_file && *options->ca_file ? xstrdup(options->ca_file) : NULL;
    pthread_mutex_init(&self->lock, NULL);
    int error = self->multi ? pthread_create(&self->thread, NULL, run_thread, self) : ENOMEM;
    if (!error) {
        pthread_setname_np(self->thread, "http");
        return self;
    }
    curl_multi_cleanup(self->multi);
    pthread_mutex_destroy(&self->lock);
    free(self->user_agent);
    free(self->ca_file);
    free(self);
    errno = error;
    return NULL;
}

void http_client_free(struct http_client *self) {
    if (!self) return;
    pthread_mutex_lock(&self->lock);
    self->is_stopping = true;
    pthread_mutex_unlock(&self->lock);
    curl_multi_wakeup(self->multi);
    pthread_join(self->thread, NULL);
    curl_multi_cleanup(self->multi);
    pthread_mutex_destroy(&self->lock);
    free(self->user_agent);
    free(self->ca_file);
    free(self);
    curl_global_cleanup();
}

int http_client_submit(struct http_client *self, const struct http_request *request) {
    if (!http_is_url(request->url)) return -EINVAL;
    struct transfer *transfer = transfer_new(self, request);
    if (!transfer) return -EINVAL;
    pthread_mutex_lock(&self->lock);
    int error = self->is_stopping ? -ESHUTDOWN : self->count >= self->most ? -EAGAIN : 0;
    if (!error) {
        transfer->next = self->waiting;
        self->waiting = transfer;
        self->count++;
    }
    pthread_mutex_unlock(&self->lock);
    if (error) {
        transfer_free(transfer);
        return error;
    }
    curl_multi_wakeup(self->multi);
    return 0;
}
