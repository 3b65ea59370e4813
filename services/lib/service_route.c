/*
 * service_route.c: the table of a process's methods, compiled from the service's tables at start.
 *
 * Whatever is wrong with them ends the start with one line: a method twice, one that methods.def does not have, a lane
 * that the process does not announce, a name in SQL that is no field, an `into` or `list` that the reply lacks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "services/lib/service_internal.h"

enum { BATCH_METHODS_MAX = 16 };

static const char metric_requests[] = "bore_service_requests_total";
static const char metric_seconds[] = "bore_service_request_seconds";

static int complain(const char *name, const char *what) {
    log_error("%s: %s", name, what);
    return -EINVAL;
}

static bool has_lane(const struct service *service, const char *name) {
    for (const struct service_lane *lane = service->lanes(); lane->name; lane++)
        if (strcmp(lane->name, name) == 0) return true;
    return false;
}

/* --- building ---------------------------------------------------------------------------------------------------- */

static size_t count_routes(const struct service *service) {
    size_t count = service->ping_method ? 1 : 0;
    for (const struct service_handler *handler = service->handlers; handler && handler->method; handler++)
        count++;
    for (const struct service_query *query = service->queries; query && query->method; query++)
        count++;
    for (const struct service_batch *batch = service->batches; batch && batch->methods; batch++)
        for (const int *method = batch->methods; *method; method++)
            count++;
    return count;
}

static int add_route(struct routes *self, const struct service *service, int id, struct route **ret_route) {
    const struct method *method = method_find(id);
    if (!method) {
        const struct message_descriptor *descriptor = message_descriptor(id);
        return complain(descriptor ? descriptor->name : "a message of no name", "is no method of methods.def");
    }
    if (!has_lane(service, method->lane)) return complain(method->lane, "is a lane that this process does not have");
    if (routes_find(self, id)) return complain(method->request->name, "is answered twice");
    struct route *route = &self->items[self->count++];
    route->method = method;
    char labels[128];
    snprintf(labels, sizeof labels, "method=\"%s\"", method->request->name);
    route->seconds = counter_get(HISTOGRAM, metric_seconds, labels);
    *ret_route = route;
    return 0;
}

static int find_reply_field(
    const struct route *route, const char *name, enum field_kind kind, const struct field **ret) {
    if (!name) return 0;
    *ret = message_field(route->method->reply, name);
    if (*ret && (*ret)->kind == kind) return 0;
    return complain(name, "is no such field of the reply");
}

static int add_query(struct routes *self, const struct service *service, const struct service_query *spec) {
    struct route *route;
    int error = add_route(self, service, spec->method, &route);
    if (error) return error;
    route->spec = spec;
    snprintf(route->name, sizeof route->name, "%s", route->method->request->name);
    route->query = query_new(route->name, spec->sql, route->method->request);
    if (!route->query) return -EINVAL;
    error = find_reply_field(route, spec->into, FIELD_OBJECT, &route->into);
    return error ? error : find_reply_field(route, spec->list, FIELD_LIST, &route->list);
}

static int add_batch(struct routes *self, const struct service *service, const struct service_batch *spec) {
    struct batch_plan *plan = &self->batches[self->batch_count++];
    const struct message_descriptor *requests[BATCH_METHODS_MAX + 1] = { NULL };
    plan->spec = spec;
    snprintf(plan->name, sizeof plan->name, "%s batch %zu", spec->lane, self->batch_count);
    if (spec->maximum < 1 || spec->maximum > QUERY_BATCH_MAX) return complain(plan->name, "has a wrong maximum");
    for (size_t i = 0; spec->methods[i]; i++) {
        struct route *route;
        int error = add_route(self, service, spec->methods[i], &route);
        if (error) return error;
        if (i == BATCH_METHODS_MAX) return complain(plan->name, "has too many methods");
        if (strcmp(route->method->lane, spec->lane) != 0) return complain(plan->name, "has a method of another lane");
        requests[i] = route->method->request;
        route->batch = plan;
    }
    if (spec->counter) plan->counter = counter_get(COUNTER, spec->counter, "");
    plan->query = query_new_batch(plan->name, spec->sql, requests);
    if (spec->rest) {
        snprintf(plan->rest_name, sizeof plan->rest_name, "%s batch %zu rest", spec->lane, self->batch_count);
        plan->rest = query_new_batch(plan->rest_name, spec->rest, requests);
    }
    return plan->query && (plan->rest || !spec->rest) ? 0 : -EINVAL;
}

static int add_all(struct routes *self, const struct service *service) {
    struct route *route;
    int error = 0;
    for (const struct service_handler *spec = service->handlers; !error && spec && spec->method; spec++) {
        error = add_route(self, service, spec->method, &route);
        if (!error) route->handler = spec->function;
    }
    for (const struct service_query *spec = service->queries; !error && spec && spec->method; spec++)
        error = add_query(self, service, spec);
    for (const struct service_batch *spec = service->batches; !error && spec && spec->methods; spec++)
        error = add_batch(self, service, spec);
    if (!error && service->ping_method) {
        error = add_route(self, service, service->ping_method, &route);
        if (!error) route->is_ping = true;
    }
    return error;
}

int routes_init(struct routes *self, const struct service *service) {
    size_t batches = 0;
    while (service->batches && service->batches[batches].methods)
        batches++;
    *self = (struct routes){ .items = xcalloc(count_routes(service) + 1, sizeof *self->items),
        .batches = xcalloc(batches + 1, sizeof *self->batches) };
    int error = add_all(self, service);
    if (error) routes_release(self);
    return error;
}

void routes_release(struct routes *self) {
    for (size_t i = 0; i < self->count; i++)
        query_free(self->items[i].query);
    for (size_t i = 0; i < self->batch_count; i++) {
        query_free(self->batches[i].query);
        query_free(self->batches[i].rest);
    }
    free(self->items);
    free(self->batches);
    *self = (struct routes){ 0 };
}

/* --- using ------------------------------------------------------------------------------------------------------- */

/* A few dozen at most: a walk costs less than the allocation of the request. */
struct route *routes_find(const struct routes *self, int method) {
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].method->request_id == method) return &self->items[i];
    return NULL;
}

void route_count(struct route *self, int code, int64_t microseconds) {
    int number = code ? -code - 1000 : 0;
    if (number < 0 || number >= ERROR_NUMBERS) number = -ERR_INTERNAL - 1000;
    struct counter *counter = atomic_load_explicit(&self->results[number], memory_order_acquire);
    if (!counter) {
        char labels[200];
        snprintf(labels, sizeof labels, "method=\"%s\",result=\"%s\"", self->method->request->name,
            code ? error_info(code)->name : "ok");
        counter = counter_get(COUNTER, metric_requests, labels);
        atomic_store_explicit(&self->results[number], counter, memory_order_release);
    }
    counter_add(counter, 1);
    histogram_observe(self->seconds, (double)microseconds / 1e6);
}
