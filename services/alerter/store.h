/*
 * store.h: all of the alerter's SQL (sql/050 to 056). Errors are those of db_run. Thread rule: that of the connection.
 */
#ifndef BORE_SERVICES_ALERTER_STORE_H
#define BORE_SERVICES_ALERTER_STORE_H

#include "common/db.h"
#include "services/alerter/channels.h"

struct store_step {
    bool is_mine; /* false: another alerter takes it at this moment */
    bool more;    /* call again at once */
    bool has_gap; /* the event log could not be read on: the instances are looked at as they are */
    int64_t wait_ms;
    int64_t alerts;
    char *types;  /* JSON: how many of each type; may be NULL */
    char *events; /* JSON, to be published; may be NULL */
};

int store_step(struct db *db, const struct channels *channels, struct store_step *ret_step);
void store_step_release(struct store_step *self);

/* Claims up to `most` notices for lease_ms; release each. */
int store_claim(struct db *db, const struct channels *channels, size_t most, int64_t lease_ms,
    struct notice *ret_notices, size_t *ret_count);

int store_delivered(struct db *db, const struct notice *notice);

enum { STORE_STATE_SIZE = 16 };
/* chance: 0 to 1. ret_state: "pending", "failed", or "" when there is a newer attempt. */
int store_failed(struct db *db, const struct notice *notice, const struct notice_verdict *verdict, double chance,
    char ret_state[STORE_STATE_SIZE], int64_t *ret_wait_ms);

/* Rows deleted, at most `most` of a kind. */
int store_sweep(struct db *db, int64_t most, int64_t *ret_deleted);

#endif
