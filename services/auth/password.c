/*
 * password.c: checking passwords in time that tells nothing about the account, and making one-time passwords.
 *
 * bcrypt's work doubles with each step of cost. A hash of a lower cost c is therefore followed by comparisons with a
 * dummy at costs c, c+1 … C-1, which add up to exactly what one at the present cost C takes.
 */
#include "services/auth/password.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/crypto.h"
#include "common/memory.h"

enum { BCRYPT_SIZE = 60, BCRYPT_COST_MIN = 4 };

/* The cost in "$2b$10$…"; 0 for what is no bcrypt hash. */
static int hash_cost(const char *hash) {
    int cost = 0, end = 0;
    char kind = 0;
    if (!hash || strlen(hash) != BCRYPT_SIZE) return 0;
    if (sscanf(hash, "$2%c$%2d$%n", &kind, &cost, &end) != 2 || end != 7 || !strchr("aby", kind)) return 0;
    return cost >= BCRYPT_COST_MIN ? cost : 0;
}

/* Processor time of this thread. Where everything starts at once, real time would measure the crowd, and what was
 * measured decides for as long as the process lives which sign-ins are refused. */
static int64_t processor_ms(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

int password_checker_init(struct password_checker *self, int cost) {
    char nobody[2 * 16 + 1];
    self->cost = cost;
    random_hex(16, nobody);
    int64_t begun = processor_ms();
    int error = password_hash(nobody, cost, self->dummy_hash);
    self->milliseconds = (int)(processor_ms() - begun);
    memory_wipe(nobody, sizeof nobody);
    return error;
}

/* The work of one comparison at this cost. Only the setting at a hash's front decides about it. */
static void burn(const struct password_checker *self, const char *password, int cost) {
    char dummy[PASSWORD_HASH_SIZE];
    memcpy(dummy, self->dummy_hash, sizeof dummy);
    dummy[4] = (char)('0' + cost / 10);
    dummy[5] = (char)('0' + cost % 10);
    (void)password_verify(password, dummy);
}

bool password_checker_verify(const struct password_checker *self, const char *password, const char *hash) {
    int cost = hash_cost(hash);
    if (!cost) {
        burn(self, password, self->cost);
        return false;
    }
    bool right = password_verify(password, hash);
    for (; cost < self->cost; cost++)
        burn(self, password, cost);
    return right;
}

bool password_checker_is_outdated(const struct password_checker *self, const char *hash) {
    return hash_cost(hash) < self->cost;
}

void one_time_password(char ret_password[ONE_TIME_PASSWORD_SIZE]) {
    static const char alphabet[] = "abcdefghjkmnpqrstuvwxyz23456789"; /* 31: no i, l, o, 0, 1 */
    enum { LETTERS = sizeof alphabet - 1, FAIR = 256 - 256 % LETTERS, GROUPS = 4, GROUP = 5 };
    char *place = ret_password;
    for (int i = 0; i < GROUPS * GROUP;) {
        unsigned char byte;
        random_bytes(&byte, 1);
        if (byte >= FAIR) continue;
        if (i && i % GROUP == 0) *place++ = '-';
        *place++ = alphabet[byte % LETTERS];
        i++;
    }
    *place = '\0';
}
