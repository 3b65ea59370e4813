/* recovery.c: see recovery.h. */
#include "services/stream/recovery.h"

#include <string.h>

#include "common/crypto.h"
#include "common/strbuf.h"

enum { NONCE_BYTES = 8, NONCE_SIZE = 2 * NONCE_BYTES, SIGNATURE_SIZE = 32 };

/* nonce: NONCE_SIZE characters. */
static void sign(const char *secret, const char *user_id, const char *session_id, const char *nonce,
    char ret_pid[RECOVERY_PID_SIZE]) {
    char signature[65];
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    /* neither id holds a line break */
    strbuf_append_format(&text, "recovery\n%.*s\n%s\n%s", NONCE_SIZE, nonce, user_id, session_id);
    hmac_sha256_hex(secret, text.data, text.size, signature);
    memcpy(ret_pid, nonce, NONCE_SIZE);
    ret_pid[NONCE_SIZE] = '.';
    memcpy(ret_pid + NONCE_SIZE + 1, signature, SIGNATURE_SIZE);
    ret_pid[RECOVERY_PID_SIZE - 1] = '\0';
}

void recovery_pid_new(
    const char *secret, const char *user_id, const char *session_id, char ret_pid[RECOVERY_PID_SIZE]) {
    char nonce[NONCE_SIZE + 1];
    random_hex(NONCE_BYTES, nonce);
    sign(secret, user_id, session_id, nonce, ret_pid);
}

bool recovery_pid_is_of(const char *secret, const char *user_id, const char *session_id, const char *pid) {
    if (strlen(pid) != RECOVERY_PID_SIZE - 1) return false;
    char expected[RECOVERY_PID_SIZE];
    sign(secret, user_id, session_id, pid, expected);
    return constant_time_equal(expected, pid);
}
