/*
 * query.c: compiles SQL with named parameters and runs it for one message or for a batch of them.
 *
 * The scanner knows as much of PostgreSQL's lexical rules as it takes not to mistake a literal for a name: '…' with
 * doubled quotes, E'…' with backslashes, "…", $tag$…$tag$, -- and nested block comments, the cast `::` and the argument
 * sign `:=`. Values travel as parameters in text form, never inside the SQL. Rows are read by query_rows.c.
 */
#include "services/lib/query.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/config.h"

enum { NAME_MAX_SIZE = 64, NUMBER_TEXT_SIZE = 40, REQUESTS_MAX = 16 };

enum parameter_kind { PARAMETER_FIELD, PARAMETER_FIELD_ARRAY, PARAMETER_METHOD_ARRAY, PARAMETER_CONSTANT };

struct parameter {
    enum parameter_kind kind;
    char name[NAME_MAX_SIZE];
    char *constant;                           /* of a setting */
    const struct field *fields[REQUESTS_MAX]; /* per descriptor of the query; NULL where it has no such field */
};

struct query {
    const char *name;
    bool is_batch;
    char *sql;
    const struct message_descriptor *requests[REQUESTS_MAX];
    size_t request_count;
    struct parameter parameters[DB_PARAMS_MAX];
    int parameter_count;
};

/* --- compiling --------------------------------------------------------------------------------------------------- */

static bool is_name_start(char character) {
    return (character >= 'a' && character <= 'z') || character == '_';
}

static bool is_identifier(char character) {
    return isalnum((unsigned char)character) || character == '_' || character == '$' || (character & 0x80);
}

/* Behind the closing quote of what begins at text, or the end of the text. A doubled quote is part of it. */
static const char *skip_quoted(const char *text, bool backslashes) {
    char quote = *text++;
    while (*text) {
        if (backslashes && *text == '\\' && text[1]) {
            text += 2;
        } else if (*text != quote) {
            text++;
        } else if (text[1] == quote) {
            text += 2;
        } else {
            return text + 1;
        }
    }
    return text;
}

static const char *skip_line_comment(const char *text) {
    return text + strcspn(text, "\n");
}

static const char *skip_block_comment(const char *text) {
    int depth = 0;
    while (*text) {
        if (text[0] == '/' && text[1] == '*') {
            depth++;
            text += 2;
        } else if (text[0] == '*' && text[1] == '/') {
            text += 2;
            if (--depth == 0) break;
        } else {
            text++;
        }
    }
    return text;
}

/* Behind $tag$…$tag$; text itself when it does not begin one. */
static const char *skip_dollar_quoted(const char *text) {
    size_t tag = 1;
    if (isdigit((unsigned char)text[1])) return text;
    while (is_identifier(text[tag]) && text[tag] != '$')
        tag++;
    if (text[tag] != '$') return text;
    tag++;
    for (const char *end = strchr(text + tag, '$'); end; end = strchr(end + 1, '$'))
        if (strncmp(end, text, tag) == 0) return end + tag;
    return text + strlen(text);
}

/* Behind whatever must be copied as it is: a literal, a comment, a word, `::`, `:=` or one character; text itself when
 * a parameter's name begins there. */
static const char *skip_verbatim(const char *text) {
    if (*text == '\'' || *text == '"') return skip_quoted(text, false);
    if ((*text == 'e' || *text == 'E') && text[1] == '\'') return skip_quoted(text + 1, true);
    if (text[0] == '-' && text[1] == '-') return skip_line_comment(text);
    if (text[0] == '/' && text[1] == '*') return skip_block_comment(text);
    if (*text == '$') {
        const char *end = skip_dollar_quoted(text);
        return end > text ? end : text + 1;
    }
    if (is_identifier(*text)) {
        while (is_identifier(*text))
            text++;
        return text;
    }
    if (text[0] == ':' && (text[1] == ':' || text[1] == '=')) return text + 2;
    if (text[0] == ':' && is_name_start(text[1])) return text;
    return text + 1;
}

static int complain(const struct query *self, const char *name, const char *what) {
    log_error("query %s: :%s %s", self->name, name, what);
    return -EINVAL;
}

static int resolve_field(struct query *self, struct parameter *parameter) {
    bool found = false;
    for (size_t i = 0; i < self->request_count; i++) {
        const struct field *field = message_field(self->requests[i], parameter->name);
        parameter->fields[i] = field;
        if (!field) continue;
        found = true;
        if (field->kind == FIELD_OBJECT || field->kind == FIELD_LIST || field->kind == FIELD_BIN)
            return complain(self, parameter->name, "is of a kind that cannot be a parameter here");
    }
    return found ? 0 : complain(self, parameter->name, "is no field of the request");
}

static int resolve(struct query *self, struct parameter *parameter) {
    static const char prefix[] = "config.";
    if (strncmp(parameter->name, prefix, sizeof prefix - 1) == 0) {
        parameter->kind = PARAMETER_CONSTANT;
        parameter->constant = config_text(parameter->name + sizeof prefix - 1);
        return parameter->constant ? 0 : complain(self, parameter->name, "is no setting of this process");
    }
    if (self->is_batch != (parameter->kind == PARAMETER_FIELD_ARRAY))
        return complain(self, parameter->name, self->is_batch ? "lacks its [] in a batch" : "is no array here: no []");
    if (self->is_batch && strcmp(parameter->name, "method") == 0) {
        parameter->kind = PARAMETER_METHOD_ARRAY;
        return 0;
    }
    return resolve_field(self, parameter);
}

/* The number of the parameter of that name and form, made if need be; or negative. */
static int intern_parameter(struct query *self, const char *name, size_t size, bool array) {
    if (size >= NAME_MAX_SIZE) return complain(self, "…", "has a name that is too long");
    struct parameter fresh = { .kind = array ? PARAMETER_FIELD_ARRAY : PARAMETER_FIELD };
    memcpy(fresh.name, name, size);
    int error = resolve(self, &fresh);
    if (error) return error;
    for (int i = 0; i < self->parameter_count; i++) {
        const struct parameter *known = &self->parameters[i];
        if (known->kind != fresh.kind || strcmp(known->name, fresh.name) != 0) continue;
        free(fresh.constant);
        return i + 1;
    }
    if (self->parameter_count == DB_PARAMS_MAX) {
        free(fresh.constant);
        return complain(self, fresh.name, "is one parameter too many");
    }
    self->parameters[self->parameter_count++] = fresh;
    return self->parameter_count;
}

/* Reads `:name`, `:name[]` or `:config.name` at *text and writes its $n. */
static int compile_parameter(struct query *self, const char **text, struct strbuf *sql) {
    const char *name = *text + 1;
    size_t size = 0;
    while (is_name_start(name[size]) || isdigit((unsigned char)name[size]))
        size++;
    if (size == 6 && strncmp(name, "config", 6) == 0 && name[size] == '.' && is_name_start(name[size + 1])) {
        size++;
        while (is_name_start(name[size]) || isdigit((unsigned char)name[size]))
            size++;
    }
    bool array = name[size] == '[' && name[size + 1] == ']';
    int number = intern_parameter(self, name, size, array);
    if (number < 0) return number;
    strbuf_append_format(sql, "$%d", number);
    *text = name + size + (array ? 2 : 0);
    return 0;
}

static int compile(struct query *self, const char *text) {
    _cleanup_strbuf_ struct strbuf sql = STRBUF_INIT;
    while (*text) {
        const char *end = skip_verbatim(text);
        if (end > text) {
            strbuf_append(&sql, text, (size_t)(end - text));
            text = end;
            continue;
        }
        int error = compile_parameter(self, &text, &sql);
        if (error) return error;
    }
    self->sql = strbuf_detach(&sql);
    return 0;
}

static struct query *new_query(
    const char *name, const char *sql, const struct message_descriptor *const *requests, bool is_batch) {
    struct query *self = xcalloc(1, sizeof *self);
    self->name = name;
    self->is_batch = is_batch;
    for (; requests[self->request_count]; self->request_count++) {
        assert(self->request_count < REQUESTS_MAX);
        self->requests[self->request_count] = requests[self->request_count];
    }
    if (compile(self, sql) < 0) {
        query_free(self);
        return NULL;
    }
    return self;
}

struct query *query_new(const char *name, const char *sql, const struct message_descriptor *request) {
    const struct message_descriptor *const requests[] = { request, NULL };
    return new_query(name, sql, requests, false);
}

struct query *query_new_batch(const char *name, const char *sql, const struct message_descriptor *const *requests) {
    return new_query(name, sql, requests, true);
}

void query_free(struct query *self) {
    if (!self) return;
    for (int i = 0; i < self->parameter_count; i++)
        free(self->parameters[i].constant);
    free(self->sql);
    free(self);
}

const char *query_sql(const struct query *self) {
    return self->sql;
}

/* --- running ----------------------------------------------------------------------------------------------------- */

/* The value as PostgreSQL reads it: borrowed from the message, or written into buffer; NULL when unset. */
static const char *value_text(const struct field *field, const void *message, char buffer[NUMBER_TEXT_SIZE]) {
    if (!field || !message) return NULL;
    const char *place = (const char *)message + field->offset;
    if (field->kind == FIELD_STR) return *(char *const *)(const void *)place;
    bool optional = field->flags & FIELD_OPTIONAL;
    if (optional && !*(const bool *)((const char *)message + field->extra_offset)) return NULL;
    switch (field->kind) {
    case FIELD_INT:
    case FIELD_TIME:
        snprintf(buffer, NUMBER_TEXT_SIZE, "%" PRId64, *(const int64_t *)(const void *)place);
        return buffer;
    case FIELD_DOUBLE:
        snprintf(buffer, NUMBER_TEXT_SIZE, "%.17g", *(const double *)(const void *)place);
        return buffer;
    case FIELD_BOOL:
        return *(const bool *)place ? "t" : "f";
    default:
        return NULL;
    }
}

static void add_field(struct db_params *params, const struct field *field, const void *request, char *buffer) {
    if (field && request && field->kind == FIELD_STRINGS) {
        const char *message = request;
        char *const *texts = *(char **const *)(const void *)(message + field->offset);
        size_t count = *(const size_t *)(const void *)(message + field->extra_offset);
        db_params_add_array(params, (const char *const *)texts, count);
    } else {
        db_params_add_text(params, value_text(field, request, buffer));
    }
}

int query_run(const struct query *self, struct db *db, const void *request, struct db_result **ret_result) {
    assert(!self->is_batch);
    char buffers[DB_PARAMS_MAX][NUMBER_TEXT_SIZE];
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    for (int i = 0; i < self->parameter_count; i++) {
        const struct parameter *parameter = &self->parameters[i];
        if (parameter->kind == PARAMETER_CONSTANT) {
            db_params_add_text(&params, parameter->constant);
        } else {
            add_field(&params, parameter->fields[0], request, buffers[i]);
        }
    }
    struct db_statement statement = { .name = self->name, .sql = self->sql };
    return db_run(db, &statement, &params, ret_result);
}

/* What an array parameter is made of, for all requests of a batch. */
struct batch {
    const struct query *query;
    const struct message_descriptor *const *descriptors;
    const int *method_ids;
    const void *const *requests;
    size_t count;
    const char **texts;
    char (*buffers)[NUMBER_TEXT_SIZE];
    char **literals; /* of STRINGS fields; freed before the next parameter */
};

static const struct field *batch_field(
    const struct batch *batch, const struct parameter *parameter, const struct message_descriptor *descriptor) {
    for (size_t i = 0; i < batch->query->request_count; i++)
        if (batch->query->requests[i] == descriptor) return parameter->fields[i];
    return NULL;
}

/* A list of texts becomes the text of an array: PostgreSQL's arrays of arrays must be rectangular. NULL when empty. */
static char *strings_literal(const struct field *field, const void *message) {
    const char *place = message;
    char *const *texts = *(char **const *)(const void *)(place + field->offset);
    size_t count = *(const size_t *)(const void *)(place + field->extra_offset);
    return count ? db_array_literal((const char *const *)texts, count) : NULL;
}

static const char *batch_text(struct batch *batch, const struct field *field, size_t index) {
    if (!field || field->kind != FIELD_STRINGS) return value_text(field, batch->requests[index], batch->buffers[index]);
    batch->literals[index] = strings_literal(field, batch->requests[index]);
    return batch->literals[index];
}

static void free_literals(struct batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->literals[i]);
        batch->literals[i] = NULL;
    }
}

static void add_batch_parameter(struct batch *batch, const struct parameter *parameter, struct db_params *params) {
    if (parameter->kind == PARAMETER_CONSTANT) {
        db_params_add_text(params, parameter->constant);
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (parameter->kind == PARAMETER_METHOD_ARRAY) {
            snprintf(batch->buffers[i], NUMBER_TEXT_SIZE, "%d", batch->method_ids[i]);
            batch->texts[i] = batch->buffers[i];
        } else {
            batch->texts[i] = batch_text(batch, batch_field(batch, parameter, batch->descriptors[i]), i);
        }
    }
    db_params_add_array(params, batch->texts, batch->count);
    free_literals(batch);
}

int query_run_batch(const struct query *self, struct db *db, const struct message_descriptor *const *descriptors,
    const int *method_ids, const void *const *requests, size_t count, struct db_result **ret_result) {
    assert(self->is_batch && count > 0 && count <= QUERY_BATCH_MAX);
    _cleanup_free_ const char **texts = xcalloc(count, sizeof *texts);
    _cleanup_free_ char(*buffers)[NUMBER_TEXT_SIZE] = xcalloc(count, sizeof *buffers);
    _cleanup_free_ char **literals = xcalloc(count, sizeof *literals);
    struct batch batch = { self, descriptors, method_ids, requests, count, texts, buffers, literals };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    for (int i = 0; i < self->parameter_count; i++)
        add_batch_parameter(&batch, &self->parameters[i], &params);
    struct db_statement statement = { .name = self->name, .sql = self->sql };
    return db_run(db, &statement, &params, ret_result);
}
