/*
 * headers.h: the request headers that mean something to us, found in one walk over what the server parsed.
 *
 * Values are borrowed from the server's buffer and may hold any byte but NUL, CR and LF: whoever hands one on checks it
 * (header_text_clean, request_id_is_sane). Thread rule: no shared state; any thread.
 */
#ifndef BORE_GATEWAY_HEADERS_H
#define BORE_GATEWAY_HEADERS_H

#include <civetweb.h>
#include <stdbool.h>
#include <stddef.h>

/* X(member, "Name"): NULL when absent; of a repeated header the first. */
#define KNOWN_HEADERS(X)                                        \
    X(accept_encoding, "Accept-Encoding")                       \
    X(access_request_headers, "Access-Control-Request-Headers") \
    X(access_request_method, "Access-Control-Request-Method")   \
    X(authorization, "Authorization")                           \
    X(connection, "Connection")                                 \
    X(content_encoding, "Content-Encoding")                     \
    X(content_length, "Content-Length")                         \
    X(content_type, "Content-Type")                             \
    X(cookie, "Cookie")                                         \
    X(edge_secret, "X-Bore-Edge")                               \
    X(expect, "Expect")                                         \
    X(forwarded_for, "X-Forwarded-For")                         \
    X(forwarded_proto, "X-Forwarded-Proto")                     \
    X(host, "Host")                                             \
    X(idempotency_key, "Idempotency-Key")                       \
    X(if_modified_since, "If-Modified-Since")                   \
    X(if_none_match, "If-None-Match")                           \
    X(internal_api_key, "X-Internal-API-Key")                   \
    X(origin, "Origin")                                         \
    X(request_id, "X-Request-Id")                               \
    X(transfer_encoding, "Transfer-Encoding")                   \
    X(upgrade, "Upgrade")                                       \
    X(user_agent, "User-Agent")

struct headers {
#define HEADER_MEMBER(member, name) const char *member;
    KNOWN_HEADERS(HEADER_MEMBER)
#undef HEADER_MEMBER
    size_t bytes;              /* of all headers as they were sent, about */
    bool is_framing_ambiguous; /* Content-Length or Host twice, Content-Length beside Transfer-Encoding, or no number */
};

void headers_parse(const struct mg_header *list, int count, struct headers *ret_headers);

/* 1 to 64 characters of [A-Za-z0-9._-]. NULL is not sane. */
bool request_id_is_sane(const char *text);

/* Copies text as valid UTF-8 without control characters, at most limit characters; '?' stands for what was neither.
 * buffer holds at least 4 * limit + 1 bytes. */
void header_text_clean(const char *text, size_t limit, char *buffer);

/* Finds a cookie in a Cookie header (RFC 6265 §4.2); the first of that name. False when absent, empty or longer than
 * the buffer. */
bool cookie_find(const char *header, const char *name, char *buffer, size_t size);

/* Whether an Origin header names this host: its authority equals the Host header, without regard to case. */
bool origin_is_host(const char *origin, const char *host);

/* Whether a comma-separated header has that member ("keep-alive, Upgrade"). NULL has none. */
bool header_has_member(const char *header, const char *member);

#endif
