/*
 * api.c: a plain endpoint. JSON body or query, path and caller become the route's message; one call over the bus; the
 * reply becomes JSON. Everything about a message comes from its descriptor, so no endpoint has code here.
 *
 * All complaints about a request are collected before it is refused (validation_error). What a service refuses comes
 * back with its sentence; a call that got no answer is 503 or 504 by its code. Nothing is ever repeated here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/memory.h"
#include "proto/message_json.h"
#include "services/gateway/exchange.h"
#include "services/gateway/json_body.h"

/* --- the request message ------------------------------------------------------------------------------------------ */

static int read_body(struct exchange *self, const struct message_descriptor *descriptor, struct field_errors *errors) {
    char complaint[JSON_COMPLAINT_MAX];
    struct strbuf *body = &self->request.body;
    json_t *object = json_body_parse(body->data, body->size, complaint);
    if (object == NULL) {
        exchange_fail(self, ERR_INVALID_JSON, complaint);
        return ERR_INVALID_JSON;
    }
    int error = message_from_json(descriptor, object, self->message, errors);
    json_decref(object);
    return error != 0 ? ERR_VALIDATION : 0;
}

static int read_query(struct exchange *self, const struct message_descriptor *descriptor, struct field_errors *errors) {
    memset(self->message, 0, descriptor->size);
    const char *position = self->request.query;
    struct query_parameter parameter;
    for (int count = 0; count < QUERY_PARAMETERS_MAX && query_next(&position, &parameter); count++) {
        const struct field *field = message_field(descriptor, parameter.name);
        bool is_ours = field != NULL && (field->flags & (CALLER | PATH)) == 0;
        if (!parameter.is_valid && is_ours) {
            field_errors_add(errors, field->name, "must be valid UTF-8 of at most %d bytes", QUERY_VALUE_MAX);
        } else if (parameter.is_valid) {
            message_from_query(descriptor, parameter.name, parameter.value, self->message, errors);
        }
    }
    if (errors->count == 0) return 0;
    message_release(descriptor, self->message);
    return ERR_VALIDATION;
}

/* A path value that does not fit its field names nothing that exists. */
static int error_of_missing(const struct field *field) {
    if (strcmp(field->name, "instance_id") == 0) return ERR_INSTANCE_NOT_FOUND;
    return strcmp(field->name, "target_id") == 0 ? ERR_USER_NOT_FOUND : ERR_NOT_FOUND;
}

/* Fills what the path names and what the caller is. */
static int fill_rest(struct exchange *self, struct field_errors *errors) {
    const struct compiled_route *compiled = self->match.route;
    for (size_t i = 0; i < compiled->parts_count; i++) {
        const struct field *field = compiled->parts[i].field;
        if (field == NULL) continue;
        if (message_set_text(field, self->message, self->match.segments[i]) != 0) return error_of_missing(field);
    }
    if (compiled->fixed_field != NULL)
        message_set_text(compiled->fixed_field, self->message, compiled->route->fixed_value);
    for (size_t i = 0; i < compiled->caller_count; i++) {
        const struct route_caller_field *caller = &compiled->caller_fields[i];
        caller_fill(&self->caller, &self->request.headers, caller->value, caller->field, self->message, errors);
    }
    message_check(compiled->method->request, self->message, errors);
    return errors->count > 0 ? ERR_VALIDATION : 0;
}

/* Builds self->message. False after answering why not; the message owns nothing then. */
static bool build_message(struct exchange *self) {
    const struct message_descriptor *descriptor = self->match.route->method->request;
    struct field_errors errors = { .count = 0 };
    bool has_body = http_method_has_body(self->request.method);
    int error = has_body ? read_body(self, descriptor, &errors) : read_query(self, descriptor, &errors);
    if (error == 0) {
        error = fill_rest(self, &errors);
        if (error != 0) message_release(descriptor, self->message);
    }
    if (error == ERR_VALIDATION) {
        answer_error_fields(&self->answer, self->request.id, &errors);
    } else if (error != 0 && error != ERR_INVALID_JSON) {
        exchange_fail(self, error, NULL);
    }
    return error == 0;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

void exchange_set_cookie(struct exchange *self, const char *token, int64_t max_age) {
    strbuf_append_format(&self->answer.headers,
        "Set-Cookie: %s=%s; Path=/; Max-Age=%" PRId64 "; HttpOnly; SameSite=Strict%s\r\n", SESSION_COOKIE, token,
        max_age, self->caller.is_https ? "; Secure" : "");
}

/* A page of another origin signs nobody in here: it gets the token it asked for, the browser keeps no cookie. */
static bool may_set_cookie(struct exchange *self) {
    const struct headers *headers = &self->request.headers;
    if (headers->origin != NULL && !origin_is_host(headers->origin, headers->host)) return false;
    if ((self->match.route->route->flags & SETS_COOKIE) != 0) return true;
    return cookie_find(headers->cookie, SESSION_COOKIE, self->caller.token, sizeof(self->caller.token));
}

static void set_cookie(struct exchange *self) {
    const struct field *field = message_field(self->match.route->method->reply, "token");
    if (field == NULL || !may_set_cookie(self)) return;
    struct strbuf token = STRBUF_INIT;
    message_get_text(field, self->reply, &token);
    struct token_claims claims;
    if (token_cache_verify(self->gateway->tokens, token.data, &claims) == 0)
        exchange_set_cookie(self, token.data, claims.expires_at - (int64_t)time(NULL));
    strbuf_release(&token);
}

static void answer_with_reply(struct exchange *self) {
    const struct compiled_route *compiled = self->match.route;
    const struct message_descriptor *descriptor = compiled->method->reply;
    const void *value = self->reply;
    if (compiled->unwrapped != NULL) {
        descriptor = compiled->unwrapped->record;
        value = *(void *const *)((const char *)self->reply + compiled->unwrapped->offset);
    }
    answer_json(&self->answer, compiled->route->status);
    message_to_json(descriptor, value, &self->answer.body);
    strbuf_append_char(&self->answer.body, '\n');
    if ((compiled->route->flags & (SETS_COOKIE | RENEWS_COOKIE)) != 0) set_cookie(self);
    if ((compiled->route->flags & CLEARS_COOKIE) != 0) exchange_set_cookie(self, "", 0);
}

void api_serve(struct exchange *self) {
    const struct compiled_route *compiled = self->match.route;
    if (!build_message(self)) return;
    struct bus_call call = { .deadline_ms = self->deadline_ms, .request_id = self->request.id };
    struct error_reply refusal = { .message = NULL };
    int error = bus_call(self->gateway->bus, compiled->route->message, self->message, &call, self->reply, &refusal);
    message_release(compiled->method->request, self->message);
    if (error == 0) {
        if (compiled->route->complete != NULL) compiled->route->complete(self, self->reply);
        answer_with_reply(self);
        message_release(compiled->method->reply, self->reply);
    } else {
        if (error == ERR_INTERNAL || error == ERR_MALFORMED)
            log_warning("%s %s failed in %s", self->request.method_name, compiled->path, compiled->method->lane);
        answer_error_reply(&self->answer, self->request.id, error, &refusal);
        message_release(&error_reply_descriptor, &refusal);
    }
}
