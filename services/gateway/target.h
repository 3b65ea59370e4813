/*
 * target.h: the target of a request (RFC 9112 §3.2), taken apart: segments of the path, parameters of the query.
 *
 * Strict on purpose: what a server further on, a log or a person could read in two ways is no path of ours. An empty
 * segment, `.` and `..` (percent-encoded too), a decoded slash, backslash, control character or NUL, and invalid UTF-8
 * are refused; one slash at the end is accepted. Thread rule: no shared state; any thread.
 */
#ifndef BORE_GATEWAY_TARGET_H
#define BORE_GATEWAY_TARGET_H

#include <stdbool.h>
#include <stddef.h>

enum {
    PATH_SEGMENTS_MAX = 8,
    PATH_BYTES_MAX = 1024, /* of all segments, decoded */
    QUERY_NAME_MAX = 64,
    QUERY_VALUE_MAX = 1024,
    QUERY_PARAMETERS_MAX = 64,
};

/* Embedded; segments point into bytes, so it must not be copied. */
struct path {
    size_t count;
    const char *segments[PATH_SEGMENTS_MAX];
    char bytes[PATH_BYTES_MAX];
};

/* Path and query inside a request target; both borrowed from it. query is NULL when there is none. */
struct target {
    const char *path;
    size_t path_size;
    const char *query;
};

/* Finds them in origin form ("/a?b") or absolute form ("http://host/a?b"); false for anything else ("*", "a"). */
bool target_parse(const char *text, struct target *ret_target);

/* Splits and decodes. 0, or -EINVAL for what is no path of ours; *ret_path has no segments then. "/" has none. */
int path_parse(const char *path, size_t size, struct path *ret_path);

/* One parameter, decoded. is_valid is false when the value is too long, is no UTF-8 or has a NUL: it is "" then. */
struct query_parameter {
    char name[QUERY_NAME_MAX + 1];
    char value[QUERY_VALUE_MAX + 1];
    bool is_valid;
};

/* Reads the parameter at *position and moves on; false at the end. Parameters whose name cannot be one of ours (too
 * long, undecodable) come with an empty name. */
bool query_next(const char **position, struct query_parameter *ret_parameter);

#endif
