/*
 * openapi.h: the description of the HTTP interface (OpenAPI 3.1), made at start from the tables of routes and messages,
 * served at /api/openapi.json. Thread rule: read-only after openapi_new; any thread.
 */
#ifndef BORE_GATEWAY_OPENAPI_H
#define BORE_GATEWAY_OPENAPI_H

struct exchange;
struct openapi;
struct router;

struct openapi *openapi_new(struct router *router);
void openapi_free(struct openapi *self);
/* The text; borrowed until openapi_free. */
const char *openapi_text(const struct openapi *self);

void openapi_serve(struct exchange *exchange);

#endif
