/* scrape.h: GET /metrics: what the service `metrics` answers, as it is. Thread rule: any thread. */
#ifndef BORE_GATEWAY_SCRAPE_H
#define BORE_GATEWAY_SCRAPE_H

#include <stdbool.h>

struct exchange;

#define SCRAPE_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Whether the caller may scrape: there is no METRICS_TOKEN, or it is the bearer token. */
bool scrape_is_allowed(const struct exchange *exchange);
void scrape_serve(struct exchange *exchange);

#endif
