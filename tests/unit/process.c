/* process.c: see process.h. */
#include "tests/unit/process.h"

#include <assert.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t process_start(const char *program, const char *const *settings, const char *log_path) {
    char self[PATH_MAX] = "";
    char path[PATH_MAX + 64];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert(size > 0);
    (void)size;
    snprintf(path, sizeof(path), "%s/bin/%s", dirname(dirname(self)), program);
    pid_t process = fork();
    if (process != 0) return process;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive a test that ends early */
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) dup2(log, STDERR_FILENO);
    for (; *settings != NULL; settings++)
        putenv((char *)(uintptr_t)*settings);
    execl(path, path, (char *)NULL);
    perror(path);
    _exit(127);
}

int process_end(pid_t process, int signal_number) {
    int status = -1;
    if (signal_number != 0) kill(process, signal_number);
    waitpid(process, &status, 0);
    return status;
}
