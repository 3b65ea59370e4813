/*
 * routes.c: routes.def as a table, with the functions that some of its lines name.
 */
#include "services/gateway/health.h"
#include "services/gateway/openapi.h"
#include "services/gateway/route.h"
#include "services/gateway/scrape.h"
#include "services/gateway/statistics.h"

enum { MSG_NONE = 0 };

#define ACTION(action) .fixed_field = "action", .fixed_value = action
#define ROUTE(method_, pattern_, access_, message_, status_, summary_, ...) \
    { .method = HTTP_##method_,                                             \
        .pattern = pattern_,                                                \
        .access = access_,                                                  \
        .message = MSG_##message_,                                          \
        .status = status_,                                                  \
        .summary = summary_,                                                \
        __VA_ARGS__ },

const struct route routes[] = {
#include "services/gateway/routes.def"
    { .pattern = NULL },
};
