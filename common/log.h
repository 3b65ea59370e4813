/*
 * log.h: one line an event to stderr, as text or JSON (LOG_FORMAT), from LOG_LEVEL up.
 *
 * Text:  2026-01-31T12:00:00.123Z INFO registry-1 [request id] sentence key=value
 * JSON:  {"time":…,"level":…,"process":"registry","instance":1,"request_id":…,"message":…}
 * A line is written with one write(2), at most 4 KiB; control characters and invalid UTF-8 are escaped, so no peer
 * can forge a line. common/ and proto/ log at debug only (STYLE rule 7). Thread rule: any thread; the request id is
 * thread-local.
 */
#ifndef BORE_COMMON_LOG_H
#define BORE_COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG_LEVEL, LOG_INFO_LEVEL, LOG_WARNING_LEVEL, LOG_ERROR_LEVEL };

/* process is borrowed for good. level: debug|info|warning|error; format: text|json. Unknown words mean info and text.
 */
void log_init(const char *process, int instance, const char *level, const char *format);
/* For the calling thread; NULL or "" ends it. Copied, at most 64 bytes. */
void log_set_request_id(const char *request_id);
const char *log_request_id(void);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)                                                             \
    do {                                                                           \
        if (log_enabled(LOG_DEBUG_LEVEL)) log_write(LOG_DEBUG_LEVEL, __VA_ARGS__); \
    } while (0)
#define log_info(...)    log_write(LOG_INFO_LEVEL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING_LEVEL, __VA_ARGS__)
#define log_error(...)   log_write(LOG_ERROR_LEVEL, __VA_ARGS__)

#endif
