/*
 * cors.h: which other origins may read our answers in a browser (ALLOWED_ORIGINS; the Fetch standard's CORS protocol).
 *
 * Nothing that a request says is echoed: an allowed origin is answered with the configured text. Thread rule: read-only
 * after cors_new; any thread.
 */
#ifndef BORE_GATEWAY_CORS_H
#define BORE_GATEWAY_CORS_H

#include <stdbool.h>

struct cors;

/* origins: separated by commas, e.g. "https://a.example, http://localhost:5173"; "*" allows all, without credentials.
 * At most 64; a text that is no origin is skipped and its first such text put into *ret_bad (NULL when all are fine;
 * borrowed until cors_free). */
struct cors *cors_new(const char *origins, const char **ret_bad);
void cors_free(struct cors *self);

/* Ready header lines for an answer to a request with this Origin header (may be NULL). Borrowed until cors_free. */
const char *cors_lines(const struct cors *self, const char *origin);

/* Whether that origin is allowed. */
bool cors_allows(const struct cors *self, const char *origin);

#endif
