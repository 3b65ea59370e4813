/*
 * config.c: the settings of config.def, loaded into one struct, and the checks that a bounds table cannot express.
 *
 * A process sees only the settings marked with its letter. JWT_SECRET and INTERNAL_API_KEY guard everything, so a
 * process that reads them does not start with one that is missing, short, copied from an example or made of one
 * repeated character; a weak DB_PASSWORD is only warned about, because the database may not be ours. Secrets are never
 * printed.
 */
#include "services/lib/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "common/settings.h"
#include "gen/version.h"

struct config config;

enum {
    JWT_SECRET_MIN = 32,
    INTERNAL_API_KEY_MIN = 16,
    EDGE_SECRET_MIN = 8,
    METRICS_TOKEN_MIN = 16,
    DB_PASSWORD_MIN = 8,
    DISTINCT_MIN = 5
};

struct config_entry {
    const char *name;  /* environment variable */
    const char *field; /* of struct config */
    enum setting_type type;
    void *target;
    const char *default_text;
    double minimum;
    double maximum;
    int processes;
    const char *help;
};

static const struct config_entry entries[] = {
#define CONFIG(kind, NAME, field, default_text, minimum, maximum, processes, help) \
    { #NAME, #field, SETTING_##kind, &config.field, default_text, minimum, maximum, processes, help },
#include "services/lib/config.def"
#undef CONFIG
};

/* The part of the table that this process reads; it stays, since settings_release needs it. */
static struct setting settings[ARRAY_SIZE(entries) + 1];
static int loaded_process; /* 0 while nothing is loaded */
static char process_name[64];
static struct settings_table table = { .process = process_name, .version = BORE_VERSION, .settings = settings };

static void select_settings(enum config_process process) {
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        const struct config_entry *entry = &entries[i];
        if (!(entry->processes & (int)process)) continue;
        settings[count++] = (struct setting){ .name = entry->name,
            .type = entry->type,
            .target = entry->target,
            .default_text = entry->default_text,
            .minimum = entry->minimum,
            .maximum = entry->maximum,
            .help = entry->help };
    }
    settings[count] = (struct setting){ 0 };
}

/* --- secrets ----------------------------------------------------------------------------------------------------- */

static size_t distinct_characters(const char *text) {
    bool seen[256] = { false };
    size_t count = 0;
    for (; *text; text++) {
        unsigned char character = (unsigned char)*text;
        if (!seen[character]) count++;
        seen[character] = true;
    }
    return count;
}

const char *config_secret_weakness(const char *secret, size_t minimum) {
    static const char *const words[] = { "secret", "changeme", "change-me", "change_me", "change-in", "password",
        "passwort", "your-", "your_", "example", "default", "12345678", "qwerty", "letmein" };
    static char too_short[64];
    if (!secret || !*secret) return "is not set";
    if (strlen(secret) < minimum) {
        snprintf(too_short, sizeof too_short, "is shorter than %zu characters", minimum);
        return too_short;
    }
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasestr(secret, words[i])) return "contains a word of examples (secret, changeme, password, your-…)";
    if (distinct_characters(secret) < DISTINCT_MIN) return "repeats the same few characters";
    return NULL;
}

static int require_secret(const char *name, const char *secret, size_t minimum) {
    const char *weakness = config_secret_weakness(secret, minimum);
    if (!weakness) return 0;
    fprintf(stderr, "%s: %s %s; make one with: openssl rand -hex 32\n", process_name, name, weakness);
    return -EINVAL;
}

/* A key that was replaced guards as much as the present one, as long as it is accepted. */
static int check_previous(const char *name, const char *secret, size_t minimum) {
    return secret && *secret ? require_secret(name, secret, minimum) : 0;
}

static int check_secrets(enum config_process process) {
    int error = 0;
    if (process & (GATEWAY | STREAM | AUTH)) error = require_secret("JWT_SECRET", config.jwt_secret, JWT_SECRET_MIN);
    if (!error && (process & MONITOR)) error = require_secret("EDGE_SECRET", config.edge_secret, EDGE_SECRET_MIN);
    if (!error && (process & GATEWAY))
        error = require_secret("INTERNAL_API_KEY", config.internal_api_key, INTERNAL_API_KEY_MIN);
    if (!error && (process & (GATEWAY | STREAM)))
        error = check_previous("JWT_SECRET_PREVIOUS", config.jwt_secret_previous, JWT_SECRET_MIN);
    if (!error && (process & GATEWAY))
        error = check_previous("INTERNAL_API_KEY_PREVIOUS", config.internal_api_key_previous, INTERNAL_API_KEY_MIN);
    if (!error && (process & GATEWAY) && *config.metrics_token != '\0')
        error = require_secret("METRICS_TOKEN", config.metrics_token, METRICS_TOKEN_MIN);
    if (!error && (process & DATABASE) && config.db_password && *config.db_password) {
        const char *weakness = config_secret_weakness(config.db_password, DB_PASSWORD_MIN);
        if (weakness) log_warning("DB_PASSWORD %s; choose a stronger one", weakness);
    }
    return error;
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

int config_load(enum config_process process, const char *name, const char *purpose, int argc, char **argv) {
    snprintf(process_name, sizeof process_name, "bore-%s", name);
    table.purpose = purpose;
    select_settings(process);
    int status = settings_load(&table, argc, argv);
    if (status != SETTINGS_LOADED) return status;
    loaded_process = (int)process;
    log_init(name, (int)config.instance, config.log_level, config.log_format);
    int error = check_secrets(process);
    if (error) config_release();
    return error;
}

void config_release(void) {
    if (loaded_process) settings_release(&table);
    loaded_process = 0;
}

static bool is_readable(const struct config_entry *entry) {
    return entry->type != SETTING_SECRET && (!loaded_process || (entry->processes & loaded_process));
}

char *config_text(const char *field) {
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        const struct config_entry *entry = &entries[i];
        if (strcmp(entry->field, field) != 0 || !is_readable(entry)) continue;
        if (entry->type == SETTING_TEXT) {
            const char *text = *(char **)entry->target;
            return xstrdup(text ? text : "");
        }
        if (entry->type == SETTING_BOOL) return xstrdup(*(bool *)entry->target ? "true" : "false");
        return xasprintf("%" PRId64, *(int64_t *)entry->target);
    }
    return NULL;
}
