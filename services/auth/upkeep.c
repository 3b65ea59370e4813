/*
 * upkeep.c: the start of auth: settings checked, the first admin made or promoted; and its housekeeping.
 *
 * ADMIN_EMAIL names the first admin: an existing account is promoted and keeps its password; otherwise it is made with
 * ADMIN_PASSWORD and the plan enterprise. Several replicas may do so at once. A wrong setting ends the process in one
 * clear line. The sweep runs once a minute in one replica; when it fails, the next minute tries again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "services/auth/auth.h"
#include "services/auth/store.h"
#include "services/auth/validation.h"

enum { SWEEP_ROWS = 5000, SWEEP_ROUNDS = 20 };

/* --- start ----------------------------------------------------------------------------------------------------------
 */

static int complain(const char *setting, const char *complaint) {
    log_error("%s %s", setting, complaint);
    return -EINVAL;
}

static int check_settings(void) {
    char buffer[COMPLAINT_SIZE];
    if (strcmp(config.signup, "open") != 0 && strcmp(config.signup, "closed") != 0)
        return complain("SIGNUP", "must be open or closed");
    if (*config.admin_email && email_complaint(config.admin_email))
        return complain("ADMIN_EMAIL", email_complaint(config.admin_email));
    if (*config.admin_name && name_complaint(config.admin_name))
        return complain("ADMIN_NAME", name_complaint(config.admin_name));
    const char *complaint = password_complaint(config.admin_password, config.password_min_length, buffer);
    return *config.admin_password && complaint ? complain("ADMIN_PASSWORD", complaint) : 0;
}

/* Makes the account that is not there. */
static int create_admin(struct service_context *context, char ret_outcome[16]) {
    char hash[PASSWORD_HASH_SIZE];
    int error = password_hash(config.admin_password, (int)config.bcrypt_cost, hash);
    return error ? error : store_ensure_admin(context, hash, ret_outcome);
}

static int ensure_admin(struct service_context *context) {
    char outcome[16] = "";
    if (!*config.admin_email) return 0;
    int code = store_ensure_admin(context, NULL, outcome);
    if (!code && strcmp(outcome, "absent") == 0 && *config.admin_password) code = create_admin(context, outcome);
    if (code) {
        log_error("the first admin could not be made sure of: %s", db_error_message(context->db));
        return code;
    }
    if (strcmp(outcome, "absent") == 0) {
        log_warning("ADMIN_EMAIL names no account, and without ADMIN_PASSWORD none is made");
    } else if (strcmp(outcome, "present") != 0) {
        log_info("the admin %s was %s", config.admin_email, outcome);
    }
    return 0;
}

int auth_init(struct service_context *context, void **ret_state) {
    int error = check_settings();
    if (error) return error;
    struct auth_state *state = xcalloc(1, sizeof *state);
    error = password_checker_init(&state->checker, (int)config.bcrypt_cost);
    if (!error) error = ensure_admin(context);
    if (error) {
        free(state);
        return error;
    }
    *ret_state = state;
    return 0;
}

void auth_release(void *state) {
    free(state);
}

/* --- housekeeping ---------------------------------------------------------------------------------------------------
 */

void auth_sweep(struct service_context *context) {
    int64_t total = 0;
    for (int round = 0; round < SWEEP_ROUNDS; round++) {
        int64_t removed = 0;
        if (store_sweep(context, SWEEP_ROWS, &removed) != 0) {
            log_warning("expired sessions were not removed, the next minute tries again");
            return;
        }
        total += removed;
        if (removed < SWEEP_ROWS) break;
    }
    if (total > 0) log_info("%lld expired rows removed", (long long)total);
}
