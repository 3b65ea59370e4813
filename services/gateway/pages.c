/*
 * pages.c: see pages.h.
 */
#include "services/gateway/pages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/crypto.h"
#include "common/memory.h"

enum { DEPTH_MAX = 5, ETAG_SIZE = 40, DATE_SIZE = 32 };

static const char gzip_end[] = ".gz";
static const char date_format[] = "%a, %d %b %Y %H:%M:%S GMT";

struct page {
    char *path; /* "docs", "assets/docs.css"; "" for /; what is compressed ends with ".gz" */
    const char *type;
    char *content;
    size_t size;
    time_t modified;
    bool is_gzip;            /* served only as another page's content */
    const struct page *gzip; /* the same content compressed, or NULL */
    char etag[ETAG_SIZE];
    char date[DATE_SIZE];
};

struct pages {
    size_t count;
    struct page *pages; /* sorted by path */
};

/* The dashboard is one page that shows itself by its path; `*` is any one segment. */
static const char *const dashboard_paths[] = { "signup", "login", "claim-trial", "dashboard", "instances/*", "account",
    "admin", "admin/*" };

static const char *const types[][2] = {
    { ".html", "text/html; charset=utf-8" },
    { ".css", "text/css; charset=utf-8" },
    { ".js", "text/javascript; charset=utf-8" },
    { ".mjs", "text/javascript; charset=utf-8" },
    { ".json", "application/json" },
    { ".webmanifest", "application/manifest+json" },
    { ".svg", "image/svg+xml" },
    { ".png", "image/png" },
    { ".ico", "image/x-icon" },
    { ".txt", "text/plain; charset=utf-8" },
    { ".woff2", "font/woff2" },
};

/* --- reading ------------------------------------------------------------------------------------------------------ */

static bool ends_with(const char *name, size_t size, const char *end) {
    size_t end_size = strlen(end);
    return size > end_size && memcmp(name + size - end_size, end, end_size) == 0;
}

/* The size of a name without `.gz`. */
static size_t plain_size(const char *name) {
    size_t size = strlen(name);
    return ends_with(name, size, gzip_end) ? size - strlen(gzip_end) : size;
}

static const char *type_of(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (ends_with(name, plain_size(name), types[i][0])) return types[i][1];
    }
    return NULL;
}

/* The path at which a file is served; what is compressed keeps its `.gz`. */
static char *served_path(const char *name) {
    size_t plain = plain_size(name);
    size_t size = plain;
    bool is_html = ends_with(name, size, ".html");
    if (is_html) size -= strlen(".html");
    if (is_html && size == strlen("index") && strncmp(name, "index", size) == 0) size = 0;
    return xasprintf("%.*s%s", (int)size, name, name + plain);
}

/* All of a file; NULL when it is too large or cannot be read. */
static char *read_content(int file, size_t size) {
    char *content = xmalloc(size + 1);
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(file, content + done, size - done);
        if (got <= 0) break;
        done += (size_t)got;
    }
    content[done] = '\0';
    if (done == size) return content;
    free(content);
    return NULL;
}

static void describe(struct page *page) {
    char hash[65];
    sha256_hex(page->content, page->size, hash);
    snprintf(page->etag, sizeof(page->etag), "\"%.32s\"", hash);
    struct tm parts;
    gmtime_r(&page->modified, &parts);
    strftime(page->date, sizeof(page->date), date_format, &parts);
}

static void add_file(struct pages *self, int directory, const char *name, const char *relative) {
    const char *type = type_of(name);
    if (type == NULL || self->count == PAGES_MAX) return;
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) return;
    struct stat status;
    char *content = NULL;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= PAGE_BYTES_MAX)
        content = read_content(file, (size_t)status.st_size);
    close(file);
    if (content == NULL) return;
    self->pages = xreallocarray(self->pages, self->count + 1, sizeof(*self->pages));
    struct page *page = &self->pages[self->count++];
    *page = (struct page){ .path = served_path(relative),
        .type = type,
        .content = content,
        .size = (size_t)status.st_size,
        .modified = status.st_mtime,
        .is_gzip = name[plain_size(name)] != '\0' };
    describe(page);
}

static void read_directory(struct pages *self, int directory, const char *prefix, int depth) {
    DIR *entries = fdopendir(directory);
    if (entries == NULL) {
        close(directory);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.') continue;
        _cleanup_free_ char *relative = xasprintf("%s%s", prefix, entry->d_name);
        int inner = depth < DEPTH_MAX
                        ? openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                        : -1;
        if (inner >= 0) {
            _cleanup_free_ char *folder = xasprintf("%s/", relative);
            read_directory(self, inner, folder, depth + 1);
        } else {
            add_file(self, dirfd(entries), entry->d_name, relative);
        }
    }
    closedir(entries);
}

static int compare_pages(const void *left, const void *right) {
    return strcmp(((const struct page *)left)->path, ((const struct page *)right)->path);
}

static int compare_path(const void *path, const void *page) {
    return strcmp(path, ((const struct page *)page)->path);
}

static const struct page *find(const struct pages *self, const char *path) {
    if (self->count == 0) return NULL;
    return bsearch(path, self->pages, self->count, sizeof(*self->pages), compare_path);
}

/* Once all are sorted: each page finds what is compressed of it. */
static void pair(struct pages *self) {
    for (size_t i = 0; i < self->count; i++) {
        struct page *page = &self->pages[i];
        _cleanup_free_ char *path = xasprintf("%s%s", page->path, gzip_end);
        if (!page->is_gzip) page->gzip = find(self, path);
    }
}

struct pages *pages_new(const char *directory) {
    struct pages *self = xcalloc(1, sizeof(*self));
    int opened = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened >= 0) read_directory(self, opened, "", 0);
    if (self->count > 0) qsort(self->pages, self->count, sizeof(*self->pages), compare_pages);
    pair(self);
    return self;
}

void pages_free(struct pages *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++) {
        free(self->pages[i].path);
        free(self->pages[i].content);
    }
    free(self->pages);
    free(self);
}

size_t pages_count(const struct pages *self) {
    return self->count;
}

/* --- serving ------------------------------------------------------------------------------------------------------ */

static bool is_dashboard(const char *path) {
    for (size_t i = 0; i < ARRAY_SIZE(dashboard_paths); i++) {
        size_t fixed = strcspn(dashboard_paths[i], "*");
        bool any_end = dashboard_paths[i][fixed] == '*';
        if (strncmp(path, dashboard_paths[i], fixed) != 0) continue;
        if (any_end ? path[fixed] != '\0' && strchr(path + fixed, '/') == NULL : path[fixed] == '\0') return true;
    }
    return false;
}

static const struct page *find_page(const struct pages *self, const struct path *path) {
    char text[PATH_BYTES_MAX + PATH_SEGMENTS_MAX];
    size_t size = 0;
    text[0] = '\0';
    for (size_t i = 0; i < path->count; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%s", i > 0 ? "/" : "", path->segments[i]);
    if (is_dashboard(text)) text[0] = '\0';
    const struct page *page = find(self, text);
    return page != NULL && !page->is_gzip ? page : NULL;
}

bool pages_find(const struct pages *self, const struct path *path) {
    return path->count == 0 || find_page(self, path) != NULL;
}

bool etag_matches(const char *if_none_match, const char *etag) {
    if (if_none_match == NULL) return false;
    return strcmp(if_none_match, "*") == 0 || strstr(if_none_match, etag) != NULL;
}

/* RFC 9110 §13.2.2: If-Modified-Since counts only without If-None-Match. */
static bool is_fresh(const struct page *page, const struct headers *headers) {
    if (headers->if_none_match != NULL) return etag_matches(headers->if_none_match, page->etag);
    if (headers->if_modified_since == NULL) return false;
    struct tm parts = { .tm_year = 0 };
    const char *end = strptime(headers->if_modified_since, date_format, &parts);
    return end != NULL && *end == '\0' && page->modified <= timegm(&parts);
}

void pages_serve(
    const struct pages *self, const struct path *path, const struct headers *headers, struct answer *answer) {
    const struct page *page = find_page(self, path);
    answer->is_page = true;
    if (page == NULL) {
        answer->status = 302;
        answer_header(answer, "Location", "/docs");
        return;
    }
    answer->is_immutable = path->count > 2 && strncmp(path->segments[1], "v-", 2) == 0;
    const char *type = page->type;
    if (page->gzip != NULL) answer_header(answer, "Vary", "Accept-Encoding");
    if (page->gzip != NULL && header_has_member(headers->accept_encoding, "gzip")) {
        page = page->gzip;
        answer_header(answer, "Content-Encoding", "gzip");
    }
    answer_header(answer, "ETag", page->etag);
    answer_header(answer, "Last-Modified", page->date);
    answer->status = is_fresh(page, headers) ? 304 : 200;
    if (answer->status == 304) return;
    answer->content_type = type;
    answer->content = page->content;
    answer->content_size = page->size;
}
