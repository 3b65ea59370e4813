/*
 * crypto.c: random bytes, hashes and comparisons.
 *
 * SHA-256 is libcrypto's, bcrypt is libxcrypt's (crypt(5): `$2b$`), randomness is the kernel's. A failure of the
 * kernel's generator or of SHA-256 leaves nothing sensible to do, so the process aborts. bcrypt's working space (32
 * KiB) is on the heap, because some threads have small stacks, and is wiped before it is freed.
 */
#include "common/crypto.h"

#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/memory.h"

enum {
    SHA256_BYTES = 32,
    BCRYPT_SALT_BYTES = 16,
    BCRYPT_PASSWORD_MAX = 72,
    BCRYPT_HASH_SIZE = 60,
    BCRYPT_COST_MAX = 16, /* about four seconds; beyond it a stored hash would only block its thread */
};

static void hex(const unsigned char *data, size_t size, char *ret_text) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        ret_text[2 * i] = digits[data[i] >> 4];
        ret_text[2 * i + 1] = digits[data[i] & 15];
    }
    ret_text[2 * size] = '\0';
}

void random_bytes(void *data, size_t size) {
    unsigned char *bytes = data;
    while (size) {
        ssize_t got = getrandom(bytes, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) abort();
        bytes += got;
        size -= (size_t)got;
    }
}

void random_hex(size_t bytes, char *ret_text) {
    unsigned char data[64];
    while (bytes) {
        size_t size = bytes < sizeof(data) ? bytes : sizeof(data);
        random_bytes(data, size);
        hex(data, size, ret_text);
        ret_text += 2 * size;
        bytes -= size;
    }
    *ret_text = '\0';
    memory_wipe(data, sizeof(data));
}

void sha256_hex(const void *data, size_t size, char ret_text[65]) {
    unsigned char digest[SHA256_BYTES];
    if (EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) != 1) abort();
    hex(digest, sizeof(digest), ret_text);
}

void hmac_sha256_hex(const char *secret, const void *data, size_t size, char ret_text[65]) {
    unsigned char digest[SHA256_BYTES];
    if (HMAC(EVP_sha256(), secret, (int)strlen(secret), data, size, digest, NULL) == NULL) abort();
    hex(digest, sizeof(digest), ret_text);
}

bool constant_time_equal(const char *left, const char *right) {
    if (!left || !right) return false;
    size_t size = strlen(left);
    if (strlen(right) != size) return false;
    return CRYPTO_memcmp(left, right, size) == 0;
}

/* crypt_rn with working space on the heap. False when it refused. */
static bool run_crypt(const char *password, const char *setting, char ret_hash[128]) {
    struct crypt_data *space = xcalloc(1, sizeof(*space));
    const char *hash = crypt_rn(password, setting, space, (int)sizeof(*space));
    size_t size = hash && hash[0] != '*' ? strnlen(hash, 128) : 128;
    if (size < 128) memcpy(ret_hash, hash, size + 1);
    memory_wipe(space, sizeof(*space));
    free(space);
    return size < 128;
}

int password_hash(const char *password, int cost, char ret_hash[128]) {
    size_t size = strlen(password);
    if (size < 1 || size > BCRYPT_PASSWORD_MAX || cost < 4 || cost > BCRYPT_COST_MAX) return -EINVAL;
    char salt[BCRYPT_SALT_BYTES];
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    random_bytes(salt, sizeof(salt));
    if (!crypt_gensalt_rn("$2b$", (unsigned long)cost, salt, (int)sizeof(salt), setting, (int)sizeof(setting)))
        return -EINVAL;
    return run_crypt(password, setting, ret_hash) ? 0 : -ENOMEM;
}

static bool is_bcrypt(const char *hash) {
    if (!hash || strlen(hash) != BCRYPT_HASH_SIZE) return false;
    if (strncmp(hash, "$2a$", 4) != 0 && strncmp(hash, "$2b$", 4) != 0 && strncmp(hash, "$2y$", 4) != 0) return false;
    int cost = atoi(hash + 4);
    return cost >= 4 && cost <= BCRYPT_COST_MAX;
}

/* Of a password over 72 bytes only the first 72 count, as everywhere: imported accounts may have such a one. */
bool password_verify(const char *password, const char *hash) {
    char computed[128];
    if (!password || !is_bcrypt(hash) || !run_crypt(password, hash, computed)) return false;
    return constant_time_equal(computed, hash);
}
