/*
 * settings.h: one table of settings a process: names, types, defaults, bounds, help.
 *
 * Order: the table's default < `.env` in the working directory < the environment. A SECRET setting NAME may also come
 * from the one-line file that NAME_FILE in the environment names; NAME beats it. `--help` prints the table, `--version`
 * the version. An unknown option, a value of the wrong type or out of its bounds ends in one clear line naming the
 * setting. An empty value counts as not set. Bounds hold for the default too; 0 and 0 is unbounded; a minimum above 0
 * without a default makes a text required. Values of SECRET settings are never printed. Thread rule: load once at
 * start, before threads.
 */
#ifndef BORE_COMMON_SETTINGS_H
#define BORE_COMMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_type {
    SETTING_TEXT,    /* char **target, heap; bounds are bytes */
    SETTING_SECRET,  /* as TEXT, never printed */
    SETTING_INT,     /* int64_t *target */
    SETTING_SECONDS, /* int64_t *target in milliseconds; the text may have a fraction; bounds in seconds */
    SETTING_BOOL,    /* bool *target; true|false|1|0|yes|no */
};

struct setting {
    const char *name; /* environment variable */
    enum setting_type type;
    void *target;
    const char *default_text; /* NULL or "" = empty */
    double minimum;
    double maximum;
    const char *help;
};

struct settings_table {
    const char *process; /* for --help: "bore-registry" */
    const char *purpose; /* one sentence */
    const char *version;
    const struct setting *settings; /* ends with a NULL name */
};

enum { SETTINGS_LOADED = 0, SETTINGS_EXIT = 1 };

/* Returns SETTINGS_LOADED; SETTINGS_EXIT when --help or --version was answered on stdout (exit 0 then); -EINVAL after
 * writing one line to stderr (exit 2 then). */
int settings_load(const struct settings_table *table, int argc, char **argv);
/* Frees the TEXT values. */
void settings_release(const struct settings_table *table);

#endif
