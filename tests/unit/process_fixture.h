/*
 * process_fixture.h: real services behind the real bore-bus and a real PostgreSQL, asked as gateway asks.
 *
 * Settings are the test's environment. All log to one file, which is printed when one of them did not end well.
 */
#ifndef TESTS_UNIT_PROCESS_FIXTURE_H
#define TESTS_UNIT_PROCESS_FIXTURE_H

#include <stdint.h>
#include <sys/types.h>

extern struct bus_client *processes_bus;
extern char processes_log[]; /* its path */

/* Starts the bus. Services are the test's to start, and sql_client's connection, which may come after them, is the
 * test's to open. */
int processes_setup(void **state);
/* Ends what runs, the bus last, and closes the connection; fails unless each process exits with 0. */
int processes_teardown(void **state);

pid_t processes_start(const char *program, int instance);
/* As process_end. */
int processes_end(pid_t process, int signal_number);
/* Until so many processes serve the lane; the test fails after 30 s. */
void processes_wait_for(const char *lane, int64_t count);

#endif
