/*
 * process.h: for tests and measurements, our programs as processes of their own: those beside the running one
 * (build/bin for build/test/…). None outlives the one that started it.
 */
#ifndef TESTS_UNIT_PROCESS_H
#define TESTS_UNIT_PROCESS_H

#include <sys/types.h>

/* Starts "bore-bus" or another, with the environment and these settings ("NAME=value", NULL at the end). Its log goes
 * to log_path ("/dev/null" for none). */
pid_t process_start(const char *program, const char *const *settings, const char *log_path);
/* Sends the signal (0: none) and waits; returns the status of waitpid, -1 when there is no such process. */
int process_end(pid_t process, int signal_number);

#endif
