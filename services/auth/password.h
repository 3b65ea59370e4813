/*
 * password.h: checking passwords in time that tells nothing about the account, and making one-time passwords.
 *
 * Thread rule: password_checker_init before threads, the rest from any thread. Slow on purpose (crypto.h).
 */
#ifndef BORE_SERVICES_AUTH_PASSWORD_H
#define BORE_SERVICES_AUTH_PASSWORD_H

#include <stdbool.h>

enum { PASSWORD_HASH_SIZE = 128, ONE_TIME_PASSWORD_SIZE = 24 };

/* Embedded, owns nothing. */
struct password_checker {
    int cost;                            /* of new hashes */
    int milliseconds;                    /* of processor time that one takes here */
    char dummy_hash[PASSWORD_HASH_SIZE]; /* of a password that nobody knows, at that cost */
};

/* 0, or -EINVAL for a cost that bcrypt does not have. */
int password_checker_init(struct password_checker *self, int cost);

/* Whether the password is the hash's. An unknown account (hash NULL), an unusable hash and one of lower cost take as
 * long as one of the present cost; a hash of higher cost takes longer. */
bool password_checker_verify(const struct password_checker *self, const char *password, const char *hash);

/* Whether the hash should be replaced, now that its password is known, because its cost is below the present one. */
bool password_checker_is_outdated(const struct password_checker *self, const char *hash);

/* Four groups of five letters and digits that nobody mixes up (99 random bits), and a NUL. */
void one_time_password(char ret_password[ONE_TIME_PASSWORD_SIZE]);

#endif
