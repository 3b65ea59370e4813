/*
 * alerts.h: the alerter's work: rules and deliveries, in a thread of its own with a database connection of its own.
 *
 * Settings: ALERT_*, HIGH_ERROR_RATE_*, and those of channels.h. Emits `alert.sent` through the event log.
 */
#ifndef BORE_SERVICES_ALERTER_ALERTS_H
#define BORE_SERVICES_ALERTER_ALERTS_H

#include "services/lib/service.h"

/* service.init and service.release: starts the thread (ret_state is a struct alerts), and ends it: attempts that are
 * under way have a moment to end. */
int alerts_start(struct service_context *context, void **ret_state);
void alerts_stop(void *state);

#endif
