/* tally.c: see tally.h. */
#include "services/stream/tally.h"

#include <czmq.h>
#include <stdlib.h>

#include "common/memory.h"

struct tally {
    zhashx_t *entries; /* key -> struct tally_entry */
    unsigned most;
};

struct tally_entry {
    char *key;
    unsigned count;
};

struct tally *tally_new(unsigned most_a_key) {
    struct tally *self = xcalloc(1, sizeof *self);
    self->entries = zhashx_new();
    self->most = most_a_key;
    return self;
}

static void entry_free(struct tally_entry *entry) {
    free(entry->key);
    free(entry);
}

void tally_free(struct tally *self) {
    if (!self) return;
    for (struct tally_entry *entry = zhashx_first(self->entries); entry; entry = zhashx_next(self->entries))
        entry_free(entry);
    zhashx_destroy(&self->entries);
    free(self);
}

struct tally_entry *tally_take(struct tally *self, const char *key) {
    struct tally_entry *entry = zhashx_lookup(self->entries, key);
    if (!entry) {
        entry = xcalloc(1, sizeof *entry);
        entry->key = xstrdup(key);
        zhashx_insert(self->entries, key, entry);
    }
    if (entry->count >= self->most) return NULL;
    entry->count++;
    return entry;
}

void tally_drop(struct tally *self, struct tally_entry *entry) {
    if (!entry || --entry->count > 0) return;
    zhashx_delete(self->entries, entry->key);
    entry_free(entry);
}

unsigned tally_count(const struct tally *self, const char *key) {
    const struct tally_entry *entry = zhashx_lookup(self->entries, key);
    return entry ? entry->count : 0;
}
