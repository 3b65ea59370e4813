/*
 * db_error.c: what a failure of the database means, as a code and as a sentence.
 *
 * Codes come from the SQLSTATE (PostgreSQL 15, appendix A). Sentences go to logs and must not carry what users sent:
 * only the primary message is used, and for classes 22 and 23, whose messages quote values, one of our own. Of the
 * context only the line that names a PL/pgSQL function is kept. What our own functions raise with BE000 is meant for
 * the caller and taken over whole.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/db_internal.h"
#include "common/memory.h"

static const struct {
    const char *sqlstate; /* or its beginning; the first that fits counts */
    int code;
} codes[] = {
    { "BE000", -EPERM },
    { "08", -ECONNRESET },
    { "22", -EINVAL },
    { "23505", -EEXIST },
    { "25006", -ENOTCONN }, /* a standby: the next connection may find the primary */
    { "25P03", -ECONNRESET },
    { "53", -ENOSPC },
    { "55P03", -ETIMEDOUT }, /* lock_timeout */
    { "57014", -ETIMEDOUT }, /* statement_timeout */
    { "57P", -ECONNRESET },
};

static int code_of(const char *sqlstate) {
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        if (strncmp(sqlstate, codes[i].sqlstate, strlen(codes[i].sqlstate)) == 0) return codes[i].code;
    }
    return -EIO;
}

/* Cuts after a whole UTF-8 character; line ends and tabs become blanks, and trailing ones go. NULL is "". */
static void copy_text(char *ret_text, size_t room, const char *text) {
    size_t size = text ? strlen(text) : 0;
    if (size >= room) {
        size = room - 1;
        while (size && ((unsigned char)text[size] & 0xc0) == 0x80)
            size--;
    }
    while (size && strchr(" \t\r\n", text[size - 1]))
        size--;
    for (size_t i = 0; i < size; i++)
        ret_text[i] = text[i] == '\n' || text[i] == '\r' ? ' ' : text[i];
    ret_text[size] = '\0';
}

void db_failure_clear(struct db *self) {
    self->failure = (struct db_failure){ 0 };
}

int db_failure_set(struct db *self, int code, const char *format, ...) {
    char text[sizeof(self->failure.message)];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    db_failure_clear(self);
    copy_text(self->failure.message, sizeof(self->failure.message), text);
    return code;
}

static void describe_refusal(struct db_failure *failure, const PGresult *result) {
    copy_text(failure->refusal, sizeof(failure->refusal), PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    copy_text(
        failure->refusal_detail, sizeof(failure->refusal_detail), PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL));
    copy_text(
        failure->refusal_column, sizeof(failure->refusal_column), PQresultErrorField(result, PG_DIAG_COLUMN_NAME));
}

/* " in bore.f(text) line 3 at RAISE", or "" when it did not happen in a function. */
static void describe_place(const PGresult *result, char *ret_text, size_t room) {
    static const char opening[] = "PL/pgSQL function ";
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
    const char *place = context ? strstr(context, opening) : NULL;
    ret_text[0] = '\0';
    if (!place || (place != context && place[-1] != '\n')) return;
    place += strlen(opening);
    snprintf(ret_text, room, " in %.*s", (int)strcspn(place, "\n"), place);
}

static void describe(struct db_failure *failure, const PGresult *result) {
    const char *sqlstate = failure->sqlstate;
    const char *constraint = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char place[200];
    describe_place(result, place, sizeof(place));
    char text[sizeof(failure->message)];
    if (strncmp(sqlstate, "22", 2) == 0) {
        snprintf(text, sizeof(text), "a value does not fit its type (SQLSTATE %s)%s", sqlstate, place);
    } else if (strncmp(sqlstate, "23", 2) == 0) {
        snprintf(text, sizeof(text), "a constraint does not hold: %.100s (SQLSTATE %s)%s",
            constraint ? constraint : "unnamed", sqlstate, place);
    } else {
        snprintf(text, sizeof(text), "%.250s (SQLSTATE %s)%s", primary ? primary : "unknown error", sqlstate, place);
    }
    copy_text(failure->message, sizeof(failure->message), text);
}

int db_failure_from_result(struct db *self, const PGresult *result) {
    db_failure_clear(self);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (!sqlstate) {
        /* libpq made this result itself. */
        bool lost = PQstatus(self->connection) != CONNECTION_OK;
        const char *message = PQresultErrorMessage(result);
        return db_failure_set(self, lost ? -ECONNRESET : -EIO, "%.400s",
            message && *message ? message : PQresStatus(PQresultStatus(result)));
    }
    copy_text(self->failure.sqlstate, sizeof(self->failure.sqlstate), sqlstate);
    int code = code_of(sqlstate);
    if (code == -EPERM) describe_refusal(&self->failure, result);
    describe(&self->failure, result);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool fatal = severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
    return fatal ? -ECONNRESET : code;
}

const char *db_error_message(const struct db *self) {
    return self->failure.message;
}

const char *db_refusal(const struct db *self) {
    return self->failure.refusal;
}

const char *db_refusal_detail(const struct db *self) {
    return self->failure.refusal_detail;
}

const char *db_refusal_column(const struct db *self) {
    return self->failure.refusal_column;
}
