/*
 * caller.c: see caller.h.
 */
#include "services/gateway/caller.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "common/crypto.h"
#include "common/memory.h"
#include "proto/protocol.h"

static bool is_address(const char *text) {
    unsigned char address[sizeof(struct in6_addr)];
    return strlen(text) < ADDRESS_MAX &&
           (inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1);
}

void caller_locate(struct caller *self, const struct headers *headers, const char *peer, const char *edge_secret) {
    bool is_edge =
        *edge_secret != '\0' && headers->edge_secret != NULL && constant_time_equal(headers->edge_secret, edge_secret);
    bool has_address = is_edge && headers->forwarded_for != NULL && is_address(headers->forwarded_for);
    const char *address = has_address ? headers->forwarded_for : peer;
    size_t size = strnlen(address, sizeof(self->address) - 1);
    memcpy(self->address, address, size);
    self->address[size] = '\0';
    self->is_https = is_edge && headers->forwarded_proto != NULL && strcasecmp(headers->forwarded_proto, "https") == 0;
    self->is_cookie = false;
}

bool caller_bearer(const struct headers *headers, char *token, size_t size) {
    const char *authorization = headers->authorization;
    if (authorization == NULL || strncasecmp(authorization, "Bearer", 6) != 0) return false;
    const char *text = authorization + 6;
    if (*text != ' ' && *text != '\t' && *text != '\0') return false;
    text += strspn(text, " \t");
    size_t length = strcspn(text, " \t");
    if (length >= size) length = 0; /* longer than any token of ours: refused like every other bad one */
    memcpy(token, text, length);
    token[length] = '\0';
    return true;
}

int caller_authenticate(struct caller *self, const struct headers *headers, bool is_change, struct token_cache *tokens,
    struct revocation_set *revocations, int64_t deadline_ms, const char **ret_sentence) {
    *ret_sentence = NULL;
    if (!caller_bearer(headers, self->token, sizeof(self->token))) {
        if (!cookie_find(headers->cookie, SESSION_COOKIE, self->token, sizeof(self->token))) return ERR_UNAUTHORIZED;
        self->is_cookie = true;
    }
    if (token_cache_verify(tokens, self->token, &self->claims) != 0) {
        *ret_sentence = "The token is not valid, or has expired: sign in again.";
        return ERR_UNAUTHORIZED;
    }
    if (self->is_cookie && is_change && !origin_is_host(headers->origin, headers->host)) {
        *ret_sentence = "With the cookie, a change must come from a page of this host (header Origin).";
        return ERR_FORBIDDEN;
    }
    int error = revocations_check(revocations, &self->claims, deadline_ms);
    if (error == ERR_UNAUTHORIZED) *ret_sentence = "This session has ended: sign in again.";
    return error;
}

static const char *const value_names[] = {
    [CALLER_USER_ID] = "user_id",
    [CALLER_EMAIL] = "email",
    [CALLER_IS_ADMIN] = "is_admin",
    [CALLER_TOKEN_SESSION] = "token_session",
    [CALLER_ADDRESS] = "address",
    [CALLER_USER_AGENT] = "user_agent",
    [CALLER_IDEMPOTENCY_KEY] = "idempotency_key",
};

int caller_value_find(const char *field_name) {
    for (size_t i = 0; i < ARRAY_SIZE(value_names); i++) {
        if (strcmp(value_names[i], field_name) == 0) return (int)i;
    }
    return -1;
}

static const char *clean_user_agent(struct caller *self, const struct headers *headers) {
    if (headers->user_agent == NULL || *headers->user_agent == '\0') return NULL;
    header_text_clean(headers->user_agent, USER_AGENT_MAX, self->user_agent);
    return self->user_agent;
}

/* Visible ASCII, 1 to 255 characters. */
static bool is_idempotency_key(const char *text) {
    size_t size = 0;
    for (; text[size] != '\0'; size++) {
        if (size == IDEMPOTENCY_KEY_MAX || text[size] < 0x21 || text[size] > 0x7e) return false;
    }
    return size > 0;
}

static const char *value_text(struct caller *self, const struct headers *headers, enum caller_value value) {
    switch (value) {
    case CALLER_USER_ID:
        return self->claims.user_id;
    case CALLER_EMAIL:
        return self->claims.email;
    case CALLER_IS_ADMIN:
        return self->claims.is_admin ? "true" : "false";
    case CALLER_TOKEN_SESSION:
        return self->claims.session_id;
    case CALLER_ADDRESS:
        return self->address;
    case CALLER_USER_AGENT:
        return clean_user_agent(self, headers);
    case CALLER_IDEMPOTENCY_KEY:
        return headers->idempotency_key;
    }
    return NULL;
}

void caller_fill(struct caller *self, const struct headers *headers, enum caller_value value, const struct field *field,
    void *message, struct field_errors *errors) {
    const char *text = value_text(self, headers, value);
    if (text == NULL) return;
    bool fits = value != CALLER_IDEMPOTENCY_KEY || is_idempotency_key(text);
    if (!fits || message_set_text(field, message, text) != 0)
        field_errors_add(errors, value == CALLER_IDEMPOTENCY_KEY ? "Idempotency-Key" : field->name,
            "must be 1 to %d visible ASCII characters", IDEMPOTENCY_KEY_MAX);
}
