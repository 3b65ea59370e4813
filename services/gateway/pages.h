/*
 * pages.h: the pages and their files (WEB_DIR), read into memory at start.
 *
 * A request never touches the file system: its path is looked up among the names that were there at the start, so no
 * path leads outside. `name.html` is served at /name, everything else at its own path. `index.html` is the dashboard:
 * it is served at / and at all its pages' paths; without it, / leads to /docs. A file beside which a compressed one
 * lies
 * (`a.js.gz`) goes out compressed to whoever accepts gzip. What is under assets/v-…/ never changes, and browsers are
 * told to keep it; everything else is revalidated by its entity tag. Thread rule: read-only after pages_new; any
 * thread.
 */
#ifndef BORE_GATEWAY_PAGES_H
#define BORE_GATEWAY_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "services/gateway/answer.h"
#include "services/gateway/headers.h"
#include "services/gateway/target.h"

struct pages;

/* Reads regular files of known types, at most PAGES_MAX, each at most PAGE_BYTES_MAX, five folders deep. Never NULL: an
 * unreadable directory has no pages. */
enum { PAGES_MAX = 500, PAGE_BYTES_MAX = 4 * 1024 * 1024 };
struct pages *pages_new(const char *directory);
void pages_free(struct pages *self);
size_t pages_count(const struct pages *self);

/* Whether there is a page or a redirection at that path. */
bool pages_find(const struct pages *self, const struct path *path);
/* Fills the answer; 304 when the browser has it already. The path must be one that pages_find knows. */
void pages_serve(
    const struct pages *self, const struct path *path, const struct headers *headers, struct answer *answer);

/* Whether the entity tag is the one that If-None-Match names. */
bool etag_matches(const char *if_none_match, const char *etag);

#endif
