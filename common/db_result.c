/*
 * db_result.c: rows and columns of a result, in text form.
 *
 * A row or column that does not exist is a mistake of ours and stops the process; what the database holds never is.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/db_internal.h"
#include "common/memory.h"

struct db_result {
    PGresult *result;
};

struct db_result *db_result_new(PGresult *result) {
    struct db_result *self = xcalloc(1, sizeof(*self));
    self->result = result;
    return self;
}

void db_result_free(struct db_result *self) {
    if (!self) return;
    PQclear(self->result);
    free(self);
}

void cleanup_db_result(struct db_result **self) {
    db_result_free(*self);
}

size_t db_result_rows(const struct db_result *self) {
    return (size_t)PQntuples(self->result);
}

size_t db_result_columns(const struct db_result *self) {
    return (size_t)PQnfields(self->result);
}

const char *db_result_column_name(const struct db_result *self, size_t column) {
    assert(column < db_result_columns(self));
    return PQfname(self->result, (int)column);
}

/* Not PQfnumber, which folds case and reads quotes. */
int db_result_column(const struct db_result *self, const char *name) {
    int count = PQnfields(self->result);
    for (int i = 0; i < count; i++) {
        if (strcmp(PQfname(self->result, i), name) == 0) return i;
    }
    return -1;
}

const char *db_result_text(const struct db_result *self, size_t row, size_t column) {
    assert(row < db_result_rows(self) && column < db_result_columns(self));
    if (PQgetisnull(self->result, (int)row, (int)column)) return NULL;
    return PQgetvalue(self->result, (int)row, (int)column);
}

int64_t db_result_int(const struct db_result *self, size_t row, size_t column, int64_t if_null) {
    const char *text = db_result_text(self, row, column);
    return text ? strtoll(text, NULL, 10) : if_null;
}

bool db_result_bool(const struct db_result *self, size_t row, size_t column, bool if_null) {
    const char *text = db_result_text(self, row, column);
    return text ? text[0] == 't' : if_null;
}
