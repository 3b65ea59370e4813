/*
 * validation.h: what may be an e-mail address, a name and a password of a new account.
 *
 * Each function answers NULL when the text is good, else the rest of a sentence that begins with the field's name, for
 * a `validation_error`. Texts are valid UTF-8 without NUL (the codec saw to that). Thread rule: no shared state.
 */
#ifndef BORE_SERVICES_AUTH_VALIDATION_H
#define BORE_SERVICES_AUTH_VALIDATION_H

#include <stddef.h>
#include <stdint.h>

enum { PASSWORD_BYTES_MAX = 72, COMPLAINT_SIZE = 80 };

/* local@domain: no spaces, quotes or control characters; the domain has a dot, or is `localhost`. */
const char *email_complaint(const char *email);

/* Something visible, and no control characters. */
const char *name_complaint(const char *name);

/* At least `minimum` characters (code points) and at most bcrypt's 72 bytes. The sentence may lie in buffer. */
const char *password_complaint(const char *password, int64_t minimum, char buffer[COMPLAINT_SIZE]);

#endif
