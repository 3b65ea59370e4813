/* store.c: see store.h. */
#include "services/alerter/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "services/lib/config.h"

enum { STEP_EVENTS = 200 };

int store_step(struct db *db, const struct channels *channels, struct store_step *ret_step) {
    static const struct db_statement statement = { "alerter_step",
        "SELECT is_mine, more, gap, wait_ms, alerts, types, events FROM bore.alerter_step("
        "bore.duration($1), bore.duration($2), $3, bore.duration($4), $5, $6)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, config.alert_settle_ms);
    db_params_add_int(&params, config.alert_cooldown_ms);
    db_params_add_int(&params, config.high_error_rate_count);
    db_params_add_int(&params, config.high_error_rate_window_ms);
    db_params_add_array(&params, channels->names, channels->count);
    db_params_add_int(&params, STEP_EVENTS);
    int error = db_run(db, &statement, &params, &result);
    if (error) return error;
    *ret_step = (struct store_step){ .is_mine = db_result_bool(result, 0, 0, false),
        .more = db_result_bool(result, 0, 1, false),
        .has_gap = db_result_bool(result, 0, 2, false),
        .wait_ms = db_result_int(result, 0, 3, 1000),
        .alerts = db_result_int(result, 0, 4, 0),
        .types = xstrdup_or_null(db_result_text(result, 0, 5)),
        .events = xstrdup_or_null(db_result_text(result, 0, 6)) };
    return 0;
}

void store_step_release(struct store_step *self) {
    free(self->types);
    free(self->events);
    *self = (struct store_step){ .is_mine = false };
}

/* --- deliveries --------------------------------------------------------------------------------------------------- */

static void read_notice(const struct db_result *result, size_t row, struct notice *ret_notice) {
    int channel = channel_find(db_result_text(result, row, 1)); /* one that was asked for */
    *ret_notice = (struct notice){ .alert_id = xstrdup(db_result_text(result, row, 0)),
        .channel = channel < 0 ? CHANNEL_SLACK : (enum notice_channel)channel,
        .attempt = (int)db_result_int(result, row, 2, 0),
        .alert_type = xstrdup(db_result_text(result, row, 3)),
        .message = xstrdup(db_result_text(result, row, 4)),
        .sent_at_ms = db_result_int(result, row, 5, 0),
        .instance_id = xstrdup_or_null(db_result_text(result, row, 6)),
        .instance_name = xstrdup_or_null(db_result_text(result, row, 7)),
        .owner = xstrdup_or_null(db_result_text(result, row, 8)) };
}

int store_claim(struct db *db, const struct channels *channels, size_t most, int64_t lease_ms,
    struct notice *ret_notices, size_t *ret_count) {
    static const struct db_statement statement = { "alert_claim",
        "SELECT alert_id, channel, attempt, alert_type, message, sent_at, instance_id, instance_name, owner "
        "FROM bore.alert_claim($1, $2, bore.duration($3))" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_array(&params, channels->names, channels->count);
    db_params_add_int(&params, (int64_t)most);
    db_params_add_int(&params, lease_ms);
    int error = db_run(db, &statement, &params, &result);
    if (error) return error;
    *ret_count = db_result_rows(result);
    for (size_t row = 0; row < *ret_count; row++)
        read_notice(result, row, &ret_notices[row]);
    return 0;
}

int store_delivered(struct db *db, const struct notice *notice) {
    static const struct db_statement statement = { "alert_delivered", "SELECT bore.alert_delivered($1, $2)" };
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, notice->alert_id);
    db_params_add_text(&params, channel_name(notice->channel));
    return db_run(db, &statement, &params, NULL);
}

int store_failed(struct db *db, const struct notice *notice, const struct notice_verdict *verdict, double chance,
    char ret_state[STORE_STATE_SIZE], int64_t *ret_wait_ms) {
    static const struct db_statement statement = { "alert_failed",
        "SELECT new_state, wait_ms FROM bore.alert_failed($1, $2, $3, $4, $5, $6, $7)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_text(&params, notice->alert_id);
    db_params_add_text(&params, channel_name(notice->channel));
    db_params_add_int(&params, notice->attempt);
    db_params_add_text(&params, verdict->problem);
    db_params_add_bool(&params, verdict->is_permanent);
    db_params_add_int(&params, verdict->rest_ms);
    db_params_add_double(&params, chance);
    int error = db_run(db, &statement, &params, &result);
    if (error) return error;
    snprintf(ret_state, STORE_STATE_SIZE, "%s", db_result_text(result, 0, 0));
    *ret_wait_ms = db_result_int(result, 0, 1, 0);
    return 0;
}

int store_sweep(struct db *db, int64_t most, int64_t *ret_deleted) {
    static const struct db_statement statement = { "alert_sweep",
        "SELECT bore.alert_sweep(bore.duration($1), bore.duration($2), $3)" };
    _cleanup_db_result_ struct db_result *result = NULL;
    _cleanup_db_params_ struct db_params params;
    db_params_init(&params);
    db_params_add_int(&params, config.alert_retention_ms);
    db_params_add_int(&params, config.alert_cooldown_ms);
    db_params_add_int(&params, most);
    int error = db_run(db, &statement, &params, &result);
    if (!error) *ret_deleted = db_result_int(result, 0, 0, 0);
    return error;
}
