/*
 * echo_worker.c: stands in for the registry and answers one message from memory: the yardstick for the path
 * edge, gateway, bus, worker and back, without a database.
 *
 * Run it with the registry's settings while the registry is stopped; serves GET /api/instances/{id}.
 */
#include "common/memory.h"
#include "services/lib/service.h"

HANDLER(on_get, instance_get, instance_reply) {
    ret_reply->instance = xcalloc(1, sizeof *ret_reply->instance);
    struct instance *instance = ret_reply->instance;
    instance->id = xstrdup(request->instance_id);
    instance->user_id = xstrdup(request->user_id);
    instance->name = xstrdup("echo");
    instance->local_port = 8080;
    instance->region = xstrdup("local");
    instance->status = xstrdup("active");
    return 0;
}

static const struct service_lane *lanes(void) {
    static const struct service_lane table[] = { { .name = "registry", .threads = 4, .credits = 64 }, { 0 } };
    return table;
}

static const struct service_handler handlers[] = { { MSG_INSTANCE_GET, on_get }, { 0 } };

int main(int argc, char **argv) {
    return service_main(argc, argv,
        &(struct service){ .name = "registry",
            .purpose = "answers one message from memory, for measuring",
            .process = REGISTRY,
            .lanes = lanes,
            .handlers = handlers });
}
