/*
 * main.c: the bus's process: settings, signals, the loop. See ARCHITECTURE §2, and bus.h and router.h.
 *
 * Reads BUS_URL, BUS_CURVE_DIR, BUS_ALLOW_PLAINTEXT, BUS_QUEUE_MAX. SIGTERM and SIGINT end it with 0 after what is
 * under way is answered; a bad setting ends it with 2, an address it cannot have with 1. It keeps nothing: killed and
 * started again, it serves as soon as workers and callers have connected anew, by themselves.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/settings.h"
#include "services/bus/bus.h"
#include "services/lib/config.h"

/* Before any thread is there, so that all inherit the mask and the signals arrive here alone. */
static int open_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0) return -1;
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve(int signal_fd) {
    struct bus *bus = bus_new(&(struct bus_options){
        .url = config.bus_url,
        .curve_directory = config.bus_curve_dir,
        .allow_plaintext = config.bus_allow_plaintext,
        .queue_max = (size_t)config.bus_queue_max,
        .instance = (int)config.instance,
    });
    if (bus == NULL) return EXIT_FAILURE;
    log_info("serving %s%s", config.bus_url, config.bus_curve_dir[0] != '\0' ? ", encrypted" : "");
    bus_run(bus, signal_fd);
    bus_free(bus);
    log_info("stopped");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    int loaded = config_load(BUS, "bus", "Hands requests to workers and events to subscribers.", argc, argv);
    if (loaded != SETTINGS_LOADED) return loaded == SETTINGS_EXIT ? EXIT_SUCCESS : 2;
    int signal_fd = open_signals();
    if (signal_fd < 0) {
        log_error("cannot receive signals: %s", strerror(errno));
        config_release();
        return EXIT_FAILURE;
    }
    int status = serve(signal_fd);
    close(signal_fd);
    config_release();
    return status;
}
