/*
 * main.c: alerter: tells people what is wrong with their instances, by Slack and e-mail.
 *
 * Follows the event log and records alerts (sql/050 to 056, where the rules are), delivers them (alerts.c), and serves
 * GET /admin/alerts. Emits `alert.sent` through the event log. Settings: those marked ALERTER in config.def. Any number
 * of alerters share the work. When the database is gone, answers are `unavailable` and alerts wait; when a receiver is,
 * each delivery is tried again for a day.
 */
#include "services/alerter/alerts.h"

static const struct service_query queries[] = {
    { .method = MSG_ADMIN_ALERT_LIST,
        .sql = "SELECT * FROM bore.admin_alert_list(:user_id, :alert_type, :instance_id, :state, :q, "
               "coalesce(:limit::integer, 100), :cursor)",
        .list = "alerts" },
    { 0 },
};

static const struct service_lane *lanes(void) {
    static const struct service_lane table[] = { { .name = "alerter", .threads = 1, .credits = 32 }, { 0 } };
    return table;
}

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){
            .name = "alerter",
            .purpose = "Alerts by Slack and e-mail.",
            .process = ALERTER,
            .database = true,
            .ping_method = MSG_PING_ALERTER,
            .lanes = lanes,
            .queries = queries,
            .init = alerts_start,
            .release = alerts_stop,
        });
}
