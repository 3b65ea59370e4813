/*
 * main.c: bore-setup [DIRECTORY]: makes the secrets and CURVE keys of a system of containers (setup.h) and ends.
 *
 * The directory is /secrets unless named. Safe to run at every start: it changes only what is missing or given anew in
 * the environment. Exit status: 0 all there, 1 something could not be written, 2 a given secret is too weak, or usage.
 */
#include <czmq.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "services/setup/setup.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : "/secrets";
    if (argc > 2 || directory[0] == '-') {
        fprintf(stderr, "Usage: bore-setup [DIRECTORY]\n");
        return EXIT_USAGE;
    }
    umask(077);
    zsys_handler_set(NULL);
    int error = setup_run(directory);
    if (error == -EINVAL) return EXIT_USAGE;
    return error ? EXIT_FAILED : EXIT_OK;
}
