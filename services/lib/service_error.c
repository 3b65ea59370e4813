/*
 * service_error.c: why a request was refused: what a handler says beside an error code, and what a failed database call
 * means to the caller.
 *
 * Sentences are cut to what error_reply allows, at a character's border. A failure that an operator should know is
 * logged once, here, without values: the statement's message as PostgreSQL worded it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

enum { SENTENCE_MAX = 1000, DETAIL_MAX = 400, FIELD_NAME_MAX = 100, RETRY_AFTER_MAX = 86400 };

/* A copy of at most `limit` bytes that ends between characters. */
static char *copy_cut(const char *text, size_t limit) {
    size_t size = strlen(text);
    if (size > limit) {
        size = limit;
        while (size && ((unsigned char)text[size] & 0xc0) == 0x80)
            size--;
    }
    char *copy = xmalloc(size + 1);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

void context_clear_error(struct service_context *self) {
    message_release(&error_reply_descriptor, &self->error);
}

int service_fail(struct service_context *self, int code, const char *sentence, int64_t retry_after) {
    free(self->error.message);
    self->error.message = sentence && *sentence ? copy_cut(sentence, SENTENCE_MAX) : NULL;
    self->error.has_retry_after = retry_after > 0;
    self->error.retry_after = retry_after > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : retry_after > 0 ? retry_after : 0;
    return code;
}

int service_fail_field(struct service_context *self, const char *field, const char *message) {
    struct error_detail *detail = message_list_add(message_field(&error_reply_descriptor, "details"), &self->error);
    if (detail) {
        detail->field = copy_cut(field, FIELD_NAME_MAX);
        detail->message = copy_cut(message, DETAIL_MAX);
    }
    return ERR_VALIDATION;
}

/* A function of ours raised a wire code. */
static int fail_refused(struct service_context *self) {
    const char *name = db_refusal(self->db);
    const char *sentence = db_refusal_detail(self->db);
    const char *column = db_refusal_column(self->db);
    int code = error_from_name(name);
    if (code == ERR_INTERNAL) {
        log_error("the database refused with a code that errors.def does not have: %s", name);
        return service_fail(self, ERR_INTERNAL, NULL, 0);
    }
    if (column && *column) service_fail_field(self, column, sentence && *sentence ? sentence : "is not valid");
    return service_fail(self, code, sentence, 0);
}

int service_fail_database(struct service_context *self, int db_error) {
    switch (db_error) {
    case -EPERM:
        return fail_refused(self);
    case -ENOTCONN:
    case -ECONNRESET:
        log_debug("database: %s", db_error_message(self->db));
        return service_fail(self, ERR_UNAVAILABLE, NULL, 1);
    case -ENOSPC:
        log_error("database: %s", db_error_message(self->db));
        return service_fail(self, ERR_UNAVAILABLE, NULL, 1);
    case -ETIMEDOUT:
        log_warning("database: %s", db_error_message(self->db));
        return service_fail(self, ERR_TIMEOUT, NULL, 0);
    default:
        log_error("database: %s", db_error_message(self->db));
        return service_fail(self, ERR_INTERNAL, NULL, 0);
    }
}
