/*
 * token_cache.c: verified tokens, so that a signature is computed once and not at each request.
 *
 * The whole token is the key, so a hit is as good as a verification; `exp` is checked at each hit. Only good tokens are
 * kept: a flood of forged ones costs their verification and no room. Shards with a mutex each, in them sets of a few
 * entries; a full set gives up the entry that was not used for longest.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/token.h"

enum { SHARDS = 16, WAYS = 8, CAPACITY_MAX = 1 << 20, HASHED = 16 };

struct entry {
    uint64_t hash;
    uint64_t used; /* the shard's tick at the last hit */
    struct token_claims claims;
    char token[];
};

struct shard {
    pthread_mutex_t mutex;
    uint64_t tick;
    struct entry **entries; /* sets * WAYS; NULL where free */
};

struct token_cache {
    char *secret;
    char *previous_secret; /* NULL: none */
    size_t sets;           /* in each shard */
    struct shard shards[SHARDS];
};

/* A secret's end. */
static void forget(char **text) {
    if (*text) memory_wipe(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

struct token_cache *token_cache_new(const char *secret, size_t capacity) {
    struct token_cache *self = xcalloc(1, sizeof *self);
    if (capacity > CAPACITY_MAX) capacity = CAPACITY_MAX;
    self->secret = xstrdup(secret);
    self->sets = capacity / (SHARDS * WAYS);
    if (self->sets == 0) self->sets = 1;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&self->shards[i].mutex, NULL);
        self->shards[i].entries = xcalloc(self->sets * WAYS, sizeof(struct entry *));
    }
    return self;
}

void token_cache_accept(struct token_cache *self, const char *previous_secret) {
    forget(&self->previous_secret);
    if (previous_secret && *previous_secret) self->previous_secret = xstrdup(previous_secret);
}

static void entry_free(struct entry *self) {
    if (!self) return;
    memory_wipe(self->token, strlen(self->token));
    free(self);
}

void token_cache_free(struct token_cache *self) {
    if (!self) return;
    for (size_t i = 0; i < SHARDS; i++) {
        for (size_t j = 0; j < self->sets * WAYS; j++)
            entry_free(self->shards[i].entries[j]);
        free(self->shards[i].entries);
        pthread_mutex_destroy(&self->shards[i].mutex);
    }
    forget(&self->secret);
    forget(&self->previous_secret);
    free(self);
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) of a token's last characters: they are of its signature, and so
 * as good as random. Collisions cost a comparison: the token itself decides. */
static uint64_t hash_of(const char *token) {
    size_t size = strlen(token);
    uint64_t hash = 14695981039346656037u;
    for (size_t at = size > HASHED ? size - HASHED : 0; at < size; at++)
        hash = (hash ^ (unsigned char)token[at]) * 1099511628211u;
    return hash ^ hash >> 29;
}

static struct entry **set_of(const struct token_cache *self, struct shard *shard, uint64_t hash) {
    return shard->entries + (hash >> 8) % self->sets * WAYS;
}

/* 0 on a hit, -ETIMEDOUT when the token has expired (and is forgotten), -ENOENT when it is not here. */
static int look_up(
    struct token_cache *self, const char *token, uint64_t hash, int64_t now, struct token_claims *ret_claims) {
    struct shard *shard = &self->shards[hash % SHARDS];
    int result = -ENOENT;
    pthread_mutex_lock(&shard->mutex);
    struct entry **set = set_of(self, shard, hash);
    for (size_t i = 0; i < WAYS && result == -ENOENT; i++) {
        struct entry *entry = set[i];
        if (!entry || entry->hash != hash || strcmp(entry->token, token) != 0) continue;
        if (now >= entry->claims.expires_at) {
            entry_free(entry);
            set[i] = NULL;
            result = -ETIMEDOUT;
        } else {
            entry->used = ++shard->tick;
            *ret_claims = entry->claims;
            result = 0;
        }
    }
    pthread_mutex_unlock(&shard->mutex);
    return result;
}

/* Takes fresh over. Two threads may have verified the same token at once: the second finds it there. */
static void keep(struct token_cache *self, struct entry *fresh) {
    struct shard *shard = &self->shards[fresh->hash % SHARDS];
    pthread_mutex_lock(&shard->mutex);
    struct entry **set = set_of(self, shard, fresh->hash);
    struct entry **place = &set[0];
    fresh->used = ++shard->tick;
    for (size_t i = 0; i < WAYS; i++) {
        struct entry *entry = set[i];
        bool same = entry && entry->hash == fresh->hash && strcmp(entry->token, fresh->token) == 0;
        if (!entry || same || (*place && entry->used < (*place)->used)) place = &set[i];
        if (same) break;
    }
    struct entry *evicted = *place;
    *place = fresh;
    pthread_mutex_unlock(&shard->mutex);
    entry_free(evicted);
}

int token_cache_verify(struct token_cache *self, const char *token, struct token_claims *ret_claims) {
    int64_t now = clock_wall_ms() / 1000;
    uint64_t hash = hash_of(token);
    int result = look_up(self, token, hash, now, ret_claims);
    if (result != -ENOENT) return result;
    struct token_claims claims;
    result = token_verify(self->secret, token, now, &claims);
    if (result == -EINVAL && self->previous_secret) result = token_verify(self->previous_secret, token, now, &claims);
    if (result) return result;
    size_t size = strlen(token) + 1;
    struct entry *fresh = xmalloc(sizeof *fresh + size);
    fresh->hash = hash;
    fresh->claims = claims;
    memcpy(fresh->token, token, size);
    keep(self, fresh);
    *ret_claims = claims;
    return 0;
}
