/*
 * settings.c: the loader of a process's table of settings.
 *
 * A value is taken from the environment, else from `.env` in the working directory, else from the table. A secret NAME
 * may also be the content of the file that NAME_FILE in the environment names, without the line's end. An empty value
 * counts as not set, so that `NAME=${NAME:-}` in a container's configuration means the default. `.env` holds one
 * KEY=VALUE a line: `#` begins a comment, `export ` may stand before, 'single' quotes keep everything, "double" quotes
 * know \n \r \t \" \\ \$ and keep the rest; the last line of a key wins; keys that the table does not have are ignored,
 * because the file is shared by all processes. A line that is none of this ends the start, named by its number: a
 * setting that is silently lost is worse. Bounds hold for defaults too; 0 and 0 means unbounded.
 */
#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/strbuf.h"

enum { ENV_FILE_MAX = 1024 * 1024, SECRET_FILE_MAX = 64 * 1024 };

static const char env_file[] = ".env";

static int complain(const struct settings_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int complain(const struct settings_table *table, const char *format, ...) {
    _cleanup_strbuf_ struct strbuf line = STRBUF_INIT;
    strbuf_append_format(&line, "%s: ", table->process);
    va_list arguments;
    va_start(arguments, format);
    strbuf_append_vformat(&line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s\n", line.data);
    return -EINVAL;
}

static size_t table_size(const struct settings_table *table) {
    size_t count = 0;
    while (table->settings[count].name)
        count++;
    return count;
}

static bool is_text(const struct setting *setting) {
    return setting->type == SETTING_TEXT || setting->type == SETTING_SECRET;
}

static bool is_bounded(const struct setting *setting) {
    return setting->minimum < 0 || setting->minimum > 0 || setting->maximum < 0 || setting->maximum > 0;
}

/* --- .env -------------------------------------------------------------------------------------------------------- */

static const char *skip_blanks(const char *text) {
    return text + strspn(text, " \t");
}

static bool is_key_character(char character, bool first) {
    bool letter = (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') || character == '_';
    return letter || (!first && character >= '0' && character <= '9');
}

static const char *parse_single_quoted(const char *text, struct strbuf *value) {
    size_t size = strcspn(text, "'");
    strbuf_append(value, text, size);
    return text[size] ? text + size + 1 : NULL;
}

static const char *parse_double_quoted(const char *text, struct strbuf *value) {
    for (; *text && *text != '"'; text++) {
        char character = *text;
        if (character == '\\' && text[1] && strchr("nrt\"\\$", text[1])) {
            text++;
            character = *text == 'n' ? '\n' : *text == 'r' ? '\r' : *text == 't' ? '\t' : *text;
        }
        strbuf_append_char(value, character);
    }
    return *text ? text + 1 : NULL;
}

/* Up to a comment, which begins with # after a blank; trailing blanks do not belong to it. */
static const char *parse_bare(const char *text, struct strbuf *value) {
    size_t size = 0;
    while (text[size] && !(text[size] == '#' && (size == 0 || strchr(" \t", text[size - 1]))))
        size++;
    const char *end = text + size;
    while (size && strchr(" \t", text[size - 1]))
        size--;
    strbuf_append(value, text, size);
    return end;
}

/* One line without its end. False when it is neither empty, nor a comment, nor KEY=VALUE. An empty key means nothing.
 */
static bool parse_line(const char *text, struct strbuf *key, struct strbuf *value) {
    text = skip_blanks(text);
    if (*text == '\0' || *text == '#') return true;
    if (strncmp(text, "export", 6) == 0 && (text[6] == ' ' || text[6] == '\t')) text = skip_blanks(text + 6);
    size_t size = 0;
    while (is_key_character(text[size], size == 0))
        size++;
    if (size == 0) return false;
    strbuf_append(key, text, size);
    text = skip_blanks(text + size);
    if (*text != '=') return false;
    text = skip_blanks(text + 1);
    if (*text == '\'') {
        text = parse_single_quoted(text + 1, value);
    } else if (*text == '"') {
        text = parse_double_quoted(text + 1, value);
    } else {
        text = parse_bare(text, value);
    }
    if (!text) return false;
    text = skip_blanks(text);
    return *text == '\0' || *text == '#';
}

/* The file's bytes. 0 or a negative errno. */
static int read_file(const char *path, size_t maximum, struct strbuf *ret_text) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    struct stat status;
    int error = fstat(file, &status) < 0 ? -errno : S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode) ? 0 : -EINVAL;
    while (error == 0) {
        char *place = strbuf_reserve(ret_text, 4096);
        ssize_t got = read(file, place, 4096);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) error = -errno;
        if (got <= 0) break;
        strbuf_add_size(ret_text, (size_t)got);
        if (ret_text->size > maximum) error = -EFBIG;
    }
    close(file);
    return error;
}

/* Keeps the value under the key's setting, if the table has one. */
static void keep_value(const struct settings_table *table, const char *key, struct strbuf *value, char **values) {
    for (size_t i = 0; table->settings[i].name; i++) {
        if (strcmp(table->settings[i].name, key) != 0) continue;
        free(values[i]);
        values[i] = strbuf_detach(value);
        return;
    }
}

/* values: one heap string, or NULL, for each setting. */
static int parse_env_file(const struct settings_table *table, char **values) {
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    int error = read_file(env_file, ENV_FILE_MAX, &text);
    if (error < 0 && error != -ENOENT) return complain(table, "cannot read %s: %s", env_file, strerror(-error));
    char *line = text.data;
    char *end = text.data + text.size;
    if (strncmp(line, "\xef\xbb\xbf", 3) == 0) line += 3;
    for (int number = 1; line < end; number++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *next = newline ? newline + 1 : end;
        char *stop = newline ? newline : end;
        if (stop > line && stop[-1] == '\r') stop--;
        bool has_nul = memchr(line, '\0', (size_t)(stop - line)) != NULL;
        *stop = '\0';
        _cleanup_strbuf_ struct strbuf key = STRBUF_INIT;
        _cleanup_strbuf_ struct strbuf value = STRBUF_INIT;
        if (has_nul || !parse_line(line, &key, &value))
            return complain(table, "%s line %d is not KEY=VALUE (or a quote in it does not end)", env_file, number);
        keep_value(table, key.data, &value, values);
        line = next;
    }
    return 0;
}

/* Where NAME_FILE is set, the secret's value from that file into *ret_value (heap; NULL: none). */
static int read_secret_file(const struct settings_table *table, const struct setting *setting, char **ret_value) {
    _cleanup_free_ char *variable = xasprintf("%s_FILE", setting->name);
    const char *path = setting->type == SETTING_SECRET ? getenv(variable) : NULL;
    if (!path || !*path) return 0;
    struct strbuf text = STRBUF_INIT;
    int error = read_file(path, SECRET_FILE_MAX, &text);
    size_t size = error ? 0 : strcspn(text.data, "\r\n");
    if (!error && strspn(text.data + size, "\r\n") != text.size - size) error = -EINVAL;
    if (!error) *ret_value = xasprintf("%.*s", (int)size, text.data);
    memory_wipe(text.data, text.size);
    strbuf_release(&text);
    if (error == -EINVAL) return complain(table, "%s: %s is not one line of text", variable, path);
    return error ? complain(table, "%s: cannot read %s: %s", variable, path, strerror(-error)) : 0;
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static bool parse_int(const char *text, int64_t *ret_value) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || strchr(" \t\n\v\f\r", text[0])) return false;
    *ret_value = value;
    return true;
}

/* Digits with at most one point: neither an exponent, nor a sign, nor "inf". */
static bool parse_seconds(const char *text, int64_t *ret_milliseconds) {
    size_t whole = strspn(text, "0123456789");
    size_t fraction = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    size_t point = text[whole] == '.' ? 1 : 0;
    if (whole + fraction == 0 || whole > 12 || text[whole + point + fraction]) return false;
    *ret_milliseconds = llround(strtod(text, NULL) * 1000);
    return true;
}

static bool parse_bool(const char *text, bool *ret_value) {
    static const char *const words[][2] = { { "true", "false" }, { "1", "0" }, { "yes", "no" } };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        for (size_t no = 0; no < 2; no++) {
            if (strcasecmp(text, words[i][no]) != 0) continue;
            *ret_value = no == 0;
            return true;
        }
    }
    return false;
}

static bool is_within(const struct setting *setting, double value) {
    return !is_bounded(setting) || (value >= setting->minimum && value <= setting->maximum);
}

static int out_of_bounds(const struct settings_table *table, const struct setting *setting) {
    const char *unit = is_text(setting) ? " bytes long" : setting->type == SETTING_SECONDS ? " seconds" : "";
    return complain(table, "%s must be %.15g to %.15g%s", setting->name, setting->minimum, setting->maximum, unit);
}

static int set_number(const struct settings_table *table, const struct setting *setting, const char *text) {
    bool seconds = setting->type == SETTING_SECONDS;
    int64_t value;
    if (seconds ? !parse_seconds(text, &value) : !parse_int(text, &value))
        return complain(table, "%s must be a %s, not \"%.100s\"", setting->name,
            seconds ? "number of seconds" : "whole number", text);
    if (!is_within(setting, seconds ? (double)value / 1000 : (double)value)) return out_of_bounds(table, setting);
    *(int64_t *)setting->target = value;
    return 0;
}

static int set_value(const struct settings_table *table, const struct setting *setting, const char *text) {
    switch (setting->type) {
    case SETTING_TEXT:
    case SETTING_SECRET:
        if (!*text && setting->minimum > 0) return complain(table, "%s must be set", setting->name);
        if (!is_within(setting, (double)strlen(text))) return out_of_bounds(table, setting);
        *(char **)setting->target = xstrdup(text);
        return 0;
    case SETTING_INT:
    case SETTING_SECONDS:
        return set_number(table, setting, text);
    case SETTING_BOOL:
        if (parse_bool(text, setting->target)) return 0;
        return complain(table, "%s must be true or false, not \"%.100s\"", setting->name, text);
    }
    return complain(table, "%s has an unknown type", setting->name);
}

static const char *default_of(const struct setting *setting) {
    if (setting->default_text && *setting->default_text) return setting->default_text;
    return is_text(setting) ? "" : setting->type == SETTING_BOOL ? "false" : "0";
}

static int load_values(const struct settings_table *table, char *const *file_values) {
    for (size_t i = 0; table->settings[i].name; i++) {
        const struct setting *setting = &table->settings[i];
        const char *text = getenv(setting->name);
        char *secret = NULL;
        int error = text && *text ? 0 : read_secret_file(table, setting, &secret);
        if (!text || !*text) text = secret;
        if (!text || !*text) text = file_values[i];
        if (!text || !*text) text = default_of(setting);
        if (!error) error = set_value(table, setting, text);
        if (secret) memory_wipe(secret, strlen(secret));
        free(secret);
        if (error < 0) return error;
    }
    return 0;
}

/* --- the command line -------------------------------------------------------------------------------------------- */

static void print_setting(const struct setting *setting) {
    static const char *const type_names[] = {
        [SETTING_TEXT] = "text",
        [SETTING_SECRET] = "secret",
        [SETTING_INT] = "number",
        [SETTING_SECONDS] = "seconds",
        [SETTING_BOOL] = "true or false",
    };
    printf("  %s (%s", setting->name, type_names[setting->type]);
    if (setting->type == SETTING_SECRET) printf(", also from the file %s_FILE", setting->name);
    if (is_bounded(setting) && setting->type != SETTING_BOOL)
        printf(", %.15g to %.15g%s", setting->minimum, setting->maximum, is_text(setting) ? " bytes" : "");
    if (setting->type == SETTING_SECRET) {
        printf(")\n");
    } else if (*default_of(setting)) {
        printf("; default %s)\n", default_of(setting));
    } else {
        printf("; default empty)\n");
    }
    printf("      %s\n", setting->help ? setting->help : "");
}

static void print_help(const struct settings_table *table) {
    printf("%s: %s\n\nUsage: %s [--help | --version]\n\n", table->process, table->purpose, table->process);
    printf("Settings, from the environment or from %s in the working directory (the environment wins):\n", env_file);
    for (size_t i = 0; table->settings[i].name; i++)
        print_setting(&table->settings[i]);
}

static int handle_arguments(const struct settings_table *table, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(table);
            return SETTINGS_EXIT;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", table->process, table->version);
            return SETTINGS_EXIT;
        }
        return complain(table, "unknown option \"%.100s\" (--help tells what there is)", argv[i]);
    }
    return SETTINGS_LOADED;
}

int settings_load(const struct settings_table *table, int argc, char **argv) {
    int result = handle_arguments(table, argc, argv);
    if (result != SETTINGS_LOADED) return result;
    size_t count = table_size(table);
    for (size_t i = 0; i < count; i++) {
        if (is_text(&table->settings[i])) *(char **)table->settings[i].target = NULL;
    }
    char **file_values = xcalloc(count, sizeof(*file_values));
    result = parse_env_file(table, file_values);
    if (result == 0) result = load_values(table, file_values);
    for (size_t i = 0; i < count; i++) {
        if (file_values[i]) memory_wipe(file_values[i], strlen(file_values[i]));
        free(file_values[i]);
    }
    free(file_values);
    if (result < 0) settings_release(table);
    return result;
}

void settings_release(const struct settings_table *table) {
    for (size_t i = 0; table->settings[i].name; i++) {
        const struct setting *setting = &table->settings[i];
        if (!is_text(setting)) continue;
        char **target = setting->target;
        if (*target && setting->type == SETTING_SECRET) memory_wipe(*target, strlen(*target));
        free(*target);
        *target = NULL;
    }
}
