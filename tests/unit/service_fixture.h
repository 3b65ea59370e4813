/*
 * service_fixture.h: runs the worker of service_sample.h in a process of its own, with a real database, and plays its
 * bus.
 *
 * A test program's main is sample_main; started with the argument `service` it is the worker. Each test gets a fresh
 * worker from sample_setup; sample_teardown ends it by SIGTERM and fails the test unless it exits with 0.
 */
#ifndef TESTS_UNIT_SERVICE_FIXTURE_H
#define TESTS_UNIT_SERVICE_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/db.h"
#include "tests/unit/fake_bus.h"

enum { SAMPLE_BUDGET_MS = 2500 };

extern char sample_directory[];
extern struct fake_bus *sample_bus;
extern struct db *sample_db; /* the test's own connection */
extern pid_t sample_child;   /* 0 when there is none */

int sample_main(int argc, char **argv, int (*run_all)(void));
int sample_setup(void **state);
int sample_setup_bus(void **state); /* without a worker */
int sample_teardown(void **state);

void sample_start(void);
/* The exit status, 1000 + signal, or -1 when it has not ended in time. */
int sample_end(int milliseconds);

/* A publisher's first messages may find nobody: what is published before this returns may be lost. */
void sample_wait_for_publisher(void);
/* Adds a request to the batch that is being made, for an instance of that id; the second one also sends it. */
int64_t sample_add_get(const char *wish, int64_t budget_ms);
int64_t sample_send_get(const char *wish);
int64_t sample_add_connected(const char *wish, bool has_port);
/* The first column of the first row. */
int64_t sample_ask(const char *name, const char *sql);

#endif
