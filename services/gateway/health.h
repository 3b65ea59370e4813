/*
 * health.h: GET /health and GET /livez.
 *
 * /health asks the bus which lanes live, and auth and registry whether they and their database work; stream is seen by
 * what it counts. The findings are kept for a quarter of a second, so that asking often costs the database nothing.
 * /livez is about this process alone: 200 while it serves, 503 once it is stopping, so that the edge sends no more.
 * Thread rule: any thread.
 */
#ifndef BORE_GATEWAY_HEALTH_H
#define BORE_GATEWAY_HEALTH_H

struct exchange;
struct health;

struct health *health_new(void);
void health_free(struct health *self);

void health_serve(struct exchange *exchange);
void livez_serve(struct exchange *exchange);

#define HEALTH_CHECK_SCHEMA                                                                             \
    "{\"type\":\"object\",\"required\":[\"status\"],\"properties\":{\"status\":{\"enum\":[\"healthy\"," \
    "\"unhealthy\"]},\"message\":{\"type\":\"string\"}}}"
#define HEALTH_SCHEMA                                                                                            \
    "{\"type\":\"object\",\"required\":[\"status\",\"uptime\",\"timestamp\",\"version\",\"checks\"],"            \
    "\"properties\":{\"status\":{\"enum\":[\"healthy\",\"degraded\"]},\"uptime\":{\"type\":\"integer\","         \
    "\"description\":\"Seconds since this gateway started.\"},\"timestamp\":{\"type\":\"integer\","              \
    "\"description\":\"Unix milliseconds.\"},\"version\":{\"type\":\"string\"},\"checks\":{\"type\":\"object\"," \
    "\"additionalProperties\":" HEALTH_CHECK_SCHEMA "}}}"
#define LIVEZ_SCHEMA                                                                                  \
    "{\"type\":\"object\",\"required\":[\"status\"],\"properties\":{\"status\":{\"enum\":[\"alive\"," \
    "\"stopping\"]}}}"

#endif
