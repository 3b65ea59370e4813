/* process_fixture.c: see process_fixture.h. */
#include "tests/unit/process_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "services/lib/bus_client.h"
#include "tests/unit/bus_worker.h"
#include "tests/unit/process.h"
#include "tests/unit/sql_client.h"

enum { PROCESSES_MAX = 8, WAIT_MS = 30000 };

struct bus_client *processes_bus;
char processes_log[100];
static char *url;
static pid_t running[PROCESSES_MAX]; /* the bus first */
static size_t running_count;

int processes_setup(void **state) {
    (void)state;
    url = bus_url_new();
    snprintf(processes_log, sizeof processes_log, "%s.log", url + strlen("ipc://"));
    setenv("BUS_URL", url, 1);
    processes_start("bore-bus", 1);
    processes_bus = bus_client_new(url, "");
    assert_non_null(processes_bus);
    return 0;
}

static void print_log(void) {
    char line[4096];
    FILE *log = fopen(processes_log, "r");
    while (log && fgets(line, sizeof line, log))
        print_error("%s", line);
    if (log) fclose(log);
}

int processes_teardown(void **state) {
    bool failed = false;
    bus_client_free(processes_bus);
    sql_teardown(state);
    while (running_count > 0)
        if (process_end(running[--running_count], SIGTERM) != 0) failed = true;
    if (failed) print_log();
    unlink(processes_log);
    bus_url_free(url);
    return failed ? -1 : 0;
}

pid_t processes_start(const char *program, int instance) {
    char setting[40];
    assert_true(running_count < PROCESSES_MAX);
    snprintf(setting, sizeof setting, "BORE_INSTANCE=%d", instance);
    pid_t process = process_start(program, (const char *const[]){ setting, NULL }, processes_log);
    running[running_count++] = process;
    return process;
}

int processes_end(pid_t process, int signal_number) {
    for (size_t i = 0; i < running_count; i++)
        if (running[i] == process) running[i] = running[--running_count];
    return process_end(process, signal_number);
}

static int64_t workers(const char *lane) {
    struct bus_status request = {};
    struct bus_status_reply reply;
    int64_t count = 0;
    if (bus_call(processes_bus, MSG_BUS_STATUS, &request, NULL, &reply, NULL) != 0) return 0;
    for (size_t i = 0; i < reply.lanes_count; i++)
        if (strcmp(reply.lanes[i].lane, lane) == 0) count = reply.lanes[i].workers;
    message_release(&bus_status_reply_descriptor, &reply);
    return count;
}

void processes_wait_for(const char *lane, int64_t count) {
    int64_t until = clock_monotonic_ms() + WAIT_MS;
    while (workers(lane) != count) {
        if (clock_monotonic_ms() > until) fail_msg("no %d workers of %s, see %s", (int)count, lane, processes_log);
        sleep_ms(20);
    }
}
