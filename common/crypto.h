/*
 * crypto.h: random bytes, hashes and comparisons, by libcrypto's and libcrypt's own functions.
 *
 * Sources: SHA-256 FIPS 180-4; HMAC RFC 2104; bcrypt crypt(5) `$2b$`. Thread rule: any thread; random_hex uses
 * getrandom(2).
 */
#ifndef BORE_COMMON_CRYPTO_H
#define BORE_COMMON_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

void random_bytes(void *data, size_t size);
/* Writes 2 * bytes lower-case hex digits and a NUL: `ret_text` holds at least 2 * bytes + 1. */
void random_hex(size_t bytes, char *ret_text);
/* SHA-256 of data as 64 hex digits and a NUL. */
void sha256_hex(const void *data, size_t size, char ret_text[65]);
/* HMAC-SHA256 of data under a secret (text) as 64 hex digits and a NUL. */
void hmac_sha256_hex(const char *secret, const void *data, size_t size, char ret_text[65]);
/* Compares in time that depends on the lengths alone; NULL is equal to nothing. */
bool constant_time_equal(const char *left, const char *right);
/* bcrypt $2b$ of a password of 1..72 bytes. 0, or -EINVAL (length, NUL), or -ENOMEM. Takes ~50 ms at cost 10 on
 * purpose. */
int password_hash(const char *password, int cost, char ret_hash[128]);
/* Whether password matches hash ($2a$, $2b$, $2y$); same duration whether or not it does. Of a password over 72 bytes
 * the first 72 count. False for an unusable hash. */
bool password_verify(const char *password, const char *hash);

#endif
