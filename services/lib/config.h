/*
 * config.h: the settings of config.def as one struct, and how a process loads its own.
 *
 * Thread rule: config_load once in main, before threads; read-only afterwards.
 */
#ifndef BORE_SERVICES_LIB_CONFIG_H
#define BORE_SERVICES_LIB_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_process {
    BUS = 1 << 0,
    GATEWAY = 1 << 1,
    STREAM = 1 << 2,
    AUTH = 1 << 3,
    REGISTRY = 1 << 4,
    MONITOR = 1 << 5,
    ALERTER = 1 << 6,
    METRICS = 1 << 7,
    IMPORT = 1 << 8,
    ALL = (1 << 9) - 1,
    EDGE = 1 << 9,     /* HAProxy */
    STARTER = 1 << 10, /* ./bore */
    DATABASE = STREAM | AUTH | REGISTRY | MONITOR | ALERTER | METRICS,
};

#define CONFIG_TEXT                                                                char *
#define CONFIG_SECRET                                                              char *
#define CONFIG_INT                                                                 int64_t
#define CONFIG_SECONDS                                                             int64_t
#define CONFIG_BOOL                                                                bool
#define CONFIG(kind, NAME, field, default_text, minimum, maximum, processes, help) CONFIG_##kind field;
struct config {
#include "services/lib/config.def"
};
#undef CONFIG
#undef CONFIG_TEXT
#undef CONFIG_SECRET
#undef CONFIG_INT
#undef CONFIG_SECONDS
#undef CONFIG_BOOL

/* The process's settings; those of other processes are zero. */
extern struct config config;

/* Loads the settings marked with `process`, checks secrets (a weak or example JWT_SECRET or INTERNAL_API_KEY is
 * refused) and starts the log. name: "registry". Returns as settings_load does. */
int config_load(enum config_process process, const char *name, const char *purpose, int argc, char **argv);
void config_release(void);

/* A setting's value as text by its field's name ("tunnel_token_ttl_ms" -> "3600000"; heap, caller frees). NULL when
 * there is no such setting, this process does not read it, or it is a secret. */
char *config_text(const char *field);

/* What makes a secret unusable, as the rest of a sentence that begins with its name; NULL when it is good enough. */
const char *config_secret_weakness(const char *secret, size_t minimum);

#endif
