/* service_fixture.c: see service_fixture.h. */
#include "tests/unit/service_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/memory.h"
#include "services/lib/service.h"
#include "tests/unit/database.h"
#include "tests/unit/service_sample.h"

char sample_directory[] = "/tmp/bore-service.XXXXXX";
struct fake_bus *sample_bus;
struct db *sample_db;
pid_t sample_child;

static char url[100];
static char *program;

void sample_start(void) {
    sample_child = fork();
    if (sample_child != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(program, program, "service", (char *)NULL);
    _exit(127);
}

/* The exit status, or -1 when it has not ended in time. */
int sample_end(int milliseconds) {
    int64_t until = clock_monotonic_ms() + milliseconds;
    int status;
    while (waitpid(sample_child, &status, WNOHANG) == 0) {
        if (clock_monotonic_ms() > until) return -1;
        usleep(5000);
    }
    sample_child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void kill_child(void) {
    if (sample_child > 0) {
        kill(sample_child, SIGKILL);
        waitpid(sample_child, NULL, 0);
    }
    sample_child = 0;
}

int sample_setup_bus(void **state) {
    (void)state;
    sample_bus = fake_bus_new(url);
    return 0;
}

int sample_setup(void **state) {
    sample_setup_bus(state);
    sample_start();
    return fake_bus_wait_hello(sample_bus, "registry.reports", false, 10000, NULL) ? 0 : -1;
}

/* The service must have survived the test, and end well. */
int sample_teardown(void **state) {
    (void)state;
    int status = 0;
    kill(test_database_postmaster(), SIGCONT);
    if (sample_child > 0) {
        kill(sample_child, SIGTERM);
        status = sample_end(8000);
        if (status) print_error("the service ended with %d\n", status);
    }
    kill_child();
    fake_bus_free(sample_bus);
    sample_bus = NULL;
    return status;
}

/* A publisher's first messages may find nobody: what is published before this returns may be lost. */
void sample_wait_for_publisher(void) {
    struct counters values;
    assert_true(fake_bus_wait_publication(sample_bus, "counters.", 3000, &counters_descriptor, &values));
    message_release(&counters_descriptor, &values);
}

int64_t sample_add_get(const char *wish, int64_t budget_ms) {
    struct instance_get request = { .user_id = (char[]){ "user" }, .instance_id = (char *)(uintptr_t)wish };
    return fake_bus_add(sample_bus, MSG_INSTANCE_GET, &request, budget_ms);
}

int64_t sample_send_get(const char *wish) {
    int64_t correlation = sample_add_get(wish, SAMPLE_BUDGET_MS);
    fake_bus_send(sample_bus, "registry");
    return correlation;
}

int64_t sample_add_connected(const char *wish, bool has_port) {
    struct tunnel_connected request = { .instance_id = (char *)(uintptr_t)wish, .has_remote_port = has_port };
    return fake_bus_add(sample_bus, MSG_TUNNEL_CONNECTED, &request, SAMPLE_BUDGET_MS);
}

int64_t sample_ask(const char *name, const char *sql) {
    _cleanup_db_result_ struct db_result *result = NULL;
    struct db_statement statement = { .name = name, .sql = sql };
    assert_int_equal(db_run(sample_db, &statement, NULL, &result), 0);
    return db_result_int(result, 0, 0, -1);
}

static void remove_sockets(void) {
    static const char *const suffixes[] = { ".workers", ".publish" };
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/bus%s", sample_directory, suffixes[i]);
        unlink(path);
    }
    rmdir(sample_directory);
}

int sample_main(int argc, char **argv, int (*run_all)(void)) {
    if (argc > 1 && strcmp(argv[1], "service") == 0) return service_main(1, argv, &service_sample);
    test_database_require(argv);
    program = argv[0];
    if (!mkdtemp(sample_directory)) return 1;
    snprintf(url, sizeof url, "ipc://%s/bus", sample_directory);
    setenv("BUS_URL", url, 1);
    setenv("BORE_INSTANCE", "4", 1);
    struct db_options options = test_database_options();
    sample_db = db_new(&options);
    int failed = run_all();
    db_free(sample_db);
    remove_sockets();
    return failed;
}
