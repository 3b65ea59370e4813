/* metric.c: see metric.h. */
#include "services/lib/metric.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define METRIC(type_, name_, scope_, labels_, help_) \
    { .type = type_, .name = #name_, .scope = SCOPE_##scope_, .labels = labels_, .help = help_ },
const struct metric metric_table[] = {
#include "services/lib/metrics.def"
    { .name = NULL },
};
#undef METRIC

static int compare_name(const void *name, const void *metric) {
    return strcmp(name, ((const struct metric *)metric)->name);
}

const struct metric *metric_find(const char *name) {
    return bsearch(name, metric_table, ARRAY_SIZE(metric_table) - 1, sizeof(metric_table[0]), compare_name);
}

/* --- labels ------------------------------------------------------------------------------------------------------- */

static bool is_name_character(char character, bool is_first) {
    bool is_letter = (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z');
    return is_letter || character == '_' || (!is_first && character >= '0' && character <= '9');
}

/* Past `name="value"`, or NULL. */
static const char *skip_label(const char *text) {
    const char *at = text;
    while (is_name_character(*at, at == text))
        at++;
    if (at == text || at[0] != '=' || at[1] != '"') return NULL;
    for (at += 2; *at != '"'; at++) {
        if (*at == '\0' || *at == '\n') return NULL;
        if (*at == '\\' && *++at != '\\' && *at != '"' && *at != 'n') return NULL;
    }
    return at + 1;
}

bool metric_labels_valid(const char *text) {
    if (*text == '\0') return true;
    for (const char *at = skip_label(text); at != NULL; at = skip_label(at + 1)) {
        if (*at == '\0') return true;
        if (*at != ',') return false;
    }
    return false;
}

void metric_label_append(struct strbuf *out, const char *name, const char *value) {
    if (out->size > 0) strbuf_append_char(out, ',');
    strbuf_append_format(out, "%s=\"", name);
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\\' || *at == '"') strbuf_append_char(out, '\\');
        if (*at == '\n') {
            strbuf_append_text(out, "\\n");
        } else {
            strbuf_append_char(out, *at);
        }
    }
    strbuf_append_char(out, '"');
}
