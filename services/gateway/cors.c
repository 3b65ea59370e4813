/*
 * cors.c: see cors.h.
 */
#include "services/gateway/cors.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/memory.h"

enum { ORIGINS_MAX = 64 };

static const char vary_line[] = "Vary: Origin\r\n";

struct allowed_origin {
    char *origin;
    char *lines;
};

struct cors {
    size_t count;
    struct allowed_origin origins[ORIGINS_MAX];
    char *bad;
};

/* scheme://host[:port], without path or spaces. */
static bool is_origin(const char *text) {
    if (strcmp(text, "*") == 0) return true;
    const char *authority = strstr(text, "://");
    if (authority == NULL || authority == text) return false;
    authority += 3;
    return *authority != '\0' && strpbrk(authority, "/?#@\\ \t\r\n\"<>") == NULL;
}

static void add_origin(struct cors *self, const char *text) {
    if (!is_origin(text)) {
        if (self->bad == NULL) self->bad = xstrdup(text);
        return;
    }
    if (self->count == ORIGINS_MAX) return;
    bool is_any = strcmp(text, "*") == 0;
    struct allowed_origin *allowed = &self->origins[self->count++];
    allowed->origin = xstrdup(text);
    allowed->lines = xasprintf("%sAccess-Control-Allow-Origin: %s\r\n%s"
                               "Access-Control-Expose-Headers: X-Request-Id, Retry-After\r\n",
        vary_line, text, is_any ? "" : "Access-Control-Allow-Credentials: true\r\n");
}

struct cors *cors_new(const char *origins, const char **ret_bad) {
    struct cors *self = xcalloc(1, sizeof(*self));
    _cleanup_free_ char *copy = xstrdup(origins);
    char *rest = NULL;
    for (char *text = strtok_r(copy, ", \t", &rest); text != NULL; text = strtok_r(NULL, ", \t", &rest))
        add_origin(self, text);
    *ret_bad = self->bad;
    return self;
}

void cors_free(struct cors *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++) {
        free(self->origins[i].origin);
        free(self->origins[i].lines);
    }
    free(self->bad);
    free(self);
}

static const struct allowed_origin *find_origin(const struct cors *self, const char *origin) {
    const struct allowed_origin *any = NULL;
    for (size_t i = 0; origin != NULL && i < self->count; i++) {
        const struct allowed_origin *allowed = &self->origins[i];
        if (strcasecmp(allowed->origin, origin) == 0) return allowed;
        if (strcmp(allowed->origin, "*") == 0) any = allowed;
    }
    return any;
}

const char *cors_lines(const struct cors *self, const char *origin) {
    const struct allowed_origin *allowed = find_origin(self, origin);
    return allowed != NULL ? allowed->lines : vary_line;
}

bool cors_allows(const struct cors *self, const char *origin) {
    return find_origin(self, origin) != NULL;
}
