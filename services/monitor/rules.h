/*
 * rules.h: once a second: the canary, the rules of status that time alone makes true, and the gauges that one replica
 * tells for all. See sql/040 and sql/042. One thread: the timers'.
 */
#ifndef BORE_MONITOR_RULES_H
#define BORE_MONITOR_RULES_H

#include "services/lib/service.h"

/* service.init and service.release. Fails when CANARY_URL is no URL. */
int rules_init(struct service_context *context, void **ret_rules);
void rules_release(void *rules);

/* A service_timer's function. */
void rules_tick(struct service_context *context);

#endif
