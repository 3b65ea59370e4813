/*
 * log.c: one line an event to stderr.
 *
 * A line is composed in a buffer on the stack and written with one write(2), so that lines of several threads and
 * processes never mix. What does not fit in 4 KiB is cut, at a whole character, and marked with "...". Control
 * characters and bytes that are not UTF-8 are written as \xNN: a peer whose text gets into a line can neither end it
 * nor steer a terminal. A line that cannot be written is lost: nobody could be told. errno is left as it was, so that a
 * line may stand between a failing call and the test of errno.
 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    LINE_MAX_BYTES = 4096,
    LINE_RESERVE = 16, /* for what closes a line: ...", a brace, the newline */
    REQUEST_ID_MAX = 64,
};

struct line {
    char data[LINE_MAX_BYTES];
    size_t size;
};

static const char *const level_names[] = { "debug", "info", "warning", "error" };
static const char *const level_labels[] = { "DEBUG", "INFO", "WARNING", "ERROR" };

static const char *log_process = "bore";
static int log_instance;
static enum log_level log_threshold = LOG_INFO_LEVEL;
static bool log_as_json;
static _Thread_local char thread_request_id[REQUEST_ID_MAX + 1];

void log_init(const char *process, int instance, const char *level, const char *format) {
    log_process = process;
    log_instance = instance;
    log_threshold = LOG_INFO_LEVEL;
    for (int i = LOG_DEBUG_LEVEL; level && i <= LOG_ERROR_LEVEL; i++) {
        if (strcasecmp(level, level_names[i]) == 0) log_threshold = (enum log_level)i;
    }
    log_as_json = format && strcasecmp(format, "json") == 0;
}

void log_set_request_id(const char *request_id) {
    size_t size = request_id ? strnlen(request_id, REQUEST_ID_MAX) : 0;
    if (size) memcpy(thread_request_id, request_id, size);
    thread_request_id[size] = '\0';
}

const char *log_request_id(void) {
    return thread_request_id;
}

bool log_enabled(enum log_level level) {
    return level >= log_threshold;
}

/* Bytes of the UTF-8 character at text (Unicode 15, table 3-7), or 0 where none begins; C1 controls count as none. */
static size_t utf8_size(const unsigned char *text, size_t left) {
    unsigned char first = text[0];
    if (first < 0x80) return 1;
    size_t size = first >= 0xc2 && first <= 0xdf   ? 2
                  : first >= 0xe0 && first <= 0xef ? 3
                  : first >= 0xf0 && first <= 0xf4 ? 4
                                                   : 0;
    if (size == 0 || size > left) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
    }
    if (first == 0xc2 && text[1] < 0xa0) return 0;
    if (first == 0xe0 && text[1] < 0xa0) return 0;
    if (first == 0xed && text[1] > 0x9f) return 0;
    if (first == 0xf0 && text[1] < 0x90) return 0;
    if (first == 0xf4 && text[1] > 0x8f) return 0;
    return size;
}

static bool line_add(struct line *self, const char *data, size_t size) {
    if (self->size + size > LINE_MAX_BYTES - LINE_RESERVE) return false;
    memcpy(self->data + self->size, data, size);
    self->size += size;
    return true;
}

static void line_add_text(struct line *self, const char *text) {
    line_add(self, text, strlen(text));
}

/* Text that may come from a peer. In JSON a quote and a backslash are escaped too, and \xNN becomes \\xNN. */
static void line_add_escaped(struct line *self, const char *text, size_t text_size) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0, size; i < text_size; i += size) {
        char escape[8];
        size = utf8_size(bytes + i, text_size - i);
        const char *piece = text + i;
        size_t piece_size = size;
        if (size == 0 || bytes[i] < 0x20 || bytes[i] == 0x7f) {
            piece_size = (size_t)snprintf(escape, sizeof(escape), "%s\\x%02x", log_as_json ? "\\" : "", bytes[i]);
            piece = escape;
            size = 1;
        } else if (log_as_json && (bytes[i] == '"' || bytes[i] == '\\')) {
            piece_size = (size_t)snprintf(escape, sizeof(escape), "\\%c", bytes[i]);
            piece = escape;
        }
        if (!line_add(self, piece, piece_size)) {
            memcpy(self->data + self->size, "...", 3);
            self->size += 3;
            return;
        }
    }
}

static void line_begin_text(struct line *self, enum log_level level, const char *time) {
    char number[16] = "";
    if (log_instance > 0) snprintf(number, sizeof(number), "-%d", log_instance);
    line_add_text(self, time);
    line_add_text(self, " ");
    line_add_text(self, level_labels[level]);
    line_add_text(self, " ");
    line_add_text(self, log_process);
    line_add_text(self, number);
    if (thread_request_id[0]) {
        line_add_text(self, " [");
        line_add_escaped(self, thread_request_id, strlen(thread_request_id));
        line_add_text(self, "]");
    }
    line_add_text(self, " ");
}

static void line_begin_json(struct line *self, enum log_level level, const char *time) {
    char instance[32];
    snprintf(instance, sizeof(instance), "\",\"instance\":%d", log_instance);
    line_add_text(self, "{\"time\":\"");
    line_add_text(self, time);
    line_add_text(self, "\",\"level\":\"");
    line_add_text(self, level_names[level]);
    line_add_text(self, "\",\"process\":\"");
    line_add_text(self, log_process);
    line_add_text(self, instance);
    if (thread_request_id[0]) {
        line_add_text(self, ",\"request_id\":\"");
        line_add_escaped(self, thread_request_id, strlen(thread_request_id));
        line_add_text(self, "\"");
    }
    line_add_text(self, ",\"message\":\"");
}

static void format_time(char *ret_text, size_t room) {
    int64_t now = clock_wall_ms();
    time_t seconds = (time_t)(now / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t size = strftime(ret_text, room, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret_text + size, room - size, ".%03dZ", (int)(now % 1000));
}

static void line_write(struct line *self) {
    const char *closing = log_as_json ? "\"}\n" : "\n";
    memcpy(self->data + self->size, closing, strlen(closing));
    self->size += strlen(closing);
    for (size_t done = 0; done < self->size;) {
        ssize_t written = write(STDERR_FILENO, self->data + done, self->size - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        done += (size_t)written;
    }
}

void log_write(enum log_level level, const char *format, ...) {
    if (!log_enabled(level)) return;
    int saved_errno = errno;
    char message[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);

    char time[40];
    format_time(time, sizeof(time));
    struct line line;
    line.size = 0;
    if (log_as_json) {
        line_begin_json(&line, level, time);
    } else {
        line_begin_text(&line, level, time);
    }
    if (size > 0) line_add_escaped(&line, message, strnlen(message, sizeof(message)));
    line_write(&line);
    errno = saved_errno;
}
