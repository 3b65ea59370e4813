/*
 * answer.h: the answer to one request, and its head as bytes.
 *
 * An answer is JSON (security headers for data, never cached) unless it is a page (headers for documents, revalidated
 * or kept for good). Errors have API.md's form and bring the headers that belong to their status. Embedded; one thread
 * at a time.
 */
#ifndef BORE_GATEWAY_ANSWER_H
#define BORE_GATEWAY_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"
#include "proto/protocol.h"

struct answer {
    int status;
    const char *content_type; /* NULL: no body; borrowed for good */
    struct strbuf body;
    const void *content; /* not NULL: this instead of body, borrowed until the answer is written */
    size_t content_size;
    struct strbuf headers; /* further lines, each ended */
    bool is_page;
    bool is_immutable; /* a page whose content at this path never changes: browsers keep it */
    bool closes;       /* the connection, after this answer */
};

void answer_init(struct answer *self);
void answer_release(struct answer *self);
/* Ready for the next request; keeps its memory. */
void answer_clear(struct answer *self);
/* Once it is written: gives a large body's memory back to the system, what the messages behind it took included. */
void answer_trim(struct answer *self);

/* Adds a header line. The value is ours or checked: a CR or LF in it is our bug. */
void answer_header(struct answer *self, const char *name, const char *value);

/* Makes it an error: code is an ERR_ code; sentence NULL means errors.def's; retry_after 0 means the usual for the
 * status. What was in it before is dropped, headers too. */
void answer_error(struct answer *self, const char *request_id, int code, const char *sentence, int64_t retry_after);
/* The same for a validation_error with its details. */
void answer_error_fields(struct answer *self, const char *request_id, const struct field_errors *errors);
/* The same with what a service said beside its code. */
void answer_error_reply(struct answer *self, const char *request_id, int code, const struct error_reply *reply);

/* A JSON answer whose text the caller then appends to body. */
void answer_json(struct answer *self, int status);

/* What the head needs to know of the request. */
struct answer_context {
    const char *request_id;
    const char *cors; /* ready header lines */
    bool is_https;
    bool is_head;   /* HEAD: the length of the body, without the body */
    bool is_http10; /* says keep-alive when the connection stays open */
};

/* Appends status line and headers, and the body too when it is small enough to be copied; returns what is left to be
 * sent after that (NULL with *ret_size 0: nothing). */
const void *answer_write(
    const struct answer *self, const struct answer_context *context, struct strbuf *out, size_t *ret_size);

#endif
