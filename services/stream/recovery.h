/*
 * recovery.h: what a Socket.IO client proves itself with when it comes back (connection state recovery): its `pid`.
 *
 * A pid is a random number and the signature of it, the user and the sign-in session (HMAC-SHA256, RFC 2104, keyed with
 * JWT_SECRET). It names no server and no server keeps it, so any replica, and this one after a restart, can check it.
 * It opens nothing by itself: the token does. Thread rule: no state; any thread.
 */
#ifndef BORE_SERVICES_STREAM_RECOVERY_H
#define BORE_SERVICES_STREAM_RECOVERY_H

#include <stdbool.h>

enum { RECOVERY_PID_SIZE = 16 + 1 + 32 + 1 };

void recovery_pid_new(const char *secret, const char *user_id, const char *session_id, char ret_pid[RECOVERY_PID_SIZE]);
bool recovery_pid_is_of(const char *secret, const char *user_id, const char *session_id, const char *pid);

#endif
