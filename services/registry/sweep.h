/*
 * sweep.h: registry's housekeeping: old events, closes that nobody asks for any more, expired tokens and keys.
 */
#ifndef BORE_SERVICES_REGISTRY_SWEEP_H
#define BORE_SERVICES_REGISTRY_SWEEP_H

#include "services/lib/service.h"

/* A timer's function: one run, in small transactions; of several replicas, one at a time does something. Logs what it
 * did and what failed. Timer thread. */
void registry_sweep(struct service_context *context);

#endif
