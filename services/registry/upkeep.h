/*
 * upkeep.h: what registry does by itself: tunnels that it took for ended by mistake, and housekeeping.
 *
 * Timers' functions: each logs what it did and what failed, and finds at its next run what it has left. Several
 * replicas may run them at once. Timer thread.
 */
#ifndef BORE_SERVICES_REGISTRY_UPKEEP_H
#define BORE_SERVICES_REGISTRY_UPKEEP_H

#include "services/lib/service.h"

/* Opens again what a doubtful report closed and no proof followed; publishes its events. */
void registry_settle_doubts(struct service_context *context);
/* Removes old events, closes that nobody asks for any more, expired tokens and keys, in small transactions. */
void registry_sweep(struct service_context *context);

#endif
