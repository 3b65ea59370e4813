/*
 * db_params.c: the parameters of a statement, in text form.
 *
 * Texts are borrowed, everything else is formatted into memory of ours. More parameters than DB_PARAMS_MAX, or an array
 * too long for memory, is a mistake of ours and stops the process.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/db.h"
#include "common/memory.h"
#include "common/strbuf.h"

void db_params_init(struct db_params *self) {
    *self = (struct db_params){ 0 };
}

void db_params_release(struct db_params *self) {
    for (int i = 0; i < self->count; i++)
        free(self->owned[i]);
    db_params_init(self);
}

void db_params_add_text(struct db_params *self, const char *text) {
    assert(self->count < DB_PARAMS_MAX);
    self->values[self->count] = text;
    self->owned[self->count] = NULL;
    self->count++;
}

static void add_owned(struct db_params *self, char *text) {
    db_params_add_text(self, text);
    self->owned[self->count - 1] = text;
}

void db_params_add_int(struct db_params *self, int64_t value) {
    add_owned(self, xasprintf("%" PRId64, value));
}

/* 17 digits bring every double back unchanged. PostgreSQL reads C's "inf" and "nan" too. */
void db_params_add_double(struct db_params *self, double value) {
    add_owned(self, xasprintf("%.17g", value));
}

void db_params_add_bool(struct db_params *self, bool value) {
    db_params_add_text(self, value ? "true" : "false");
}

void db_params_add_null(struct db_params *self) {
    db_params_add_text(self, NULL);
}

/* Every element is quoted, so that commas, braces, blanks and the word NULL mean themselves. */
static void append_element(struct strbuf *literal, const char *text) {
    if (!text) {
        strbuf_append_text(literal, "NULL");
        return;
    }
    strbuf_append_char(literal, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') strbuf_append_char(literal, '\\');
        strbuf_append_char(literal, *text);
    }
    strbuf_append_char(literal, '"');
}

char *db_array_literal(const char *const *texts, size_t count) {
    struct strbuf literal = STRBUF_INIT;
    strbuf_append_char(&literal, '{');
    for (size_t i = 0; i < count; i++) {
        if (i) strbuf_append_char(&literal, ',');
        append_element(&literal, texts[i]);
    }
    strbuf_append_char(&literal, '}');
    return strbuf_detach(&literal);
}

void db_params_add_array(struct db_params *self, const char *const *texts, size_t count) {
    add_owned(self, db_array_literal(texts, count));
}
