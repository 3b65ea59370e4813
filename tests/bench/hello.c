/*
 * hello.c: a bare civetweb that says hello: the yardstick for what this machine and this library can do at most.
 *
 * hello PORT: listens on 127.0.0.1, 64 threads, keep-alive, until SIGTERM.
 */
#include <civetweb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int on_request(struct mg_connection *connection, void *data) {
    (void)data;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    mg_write(connection, answer, sizeof answer - 1);
    return 200;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: hello PORT\n");
        return 2;
    }
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%.10s", argv[1]);
    const char *options[] = { "listening_ports", address, "num_threads", "64", "enable_keep_alive", "yes",
        "keep_alive_timeout_ms", "30000", "tcp_nodelay", "1", NULL };
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    mg_init_library(0);
    struct mg_context *context = mg_start(NULL, NULL, options);
    if (context == NULL) {
        fprintf(stderr, "hello: cannot listen on %s\n", address);
        return 1;
    }
    mg_set_request_handler(context, "/", on_request, NULL);
    int caught = 0;
    sigwait(&signals, &caught);
    mg_stop(context);
    mg_exit_library();
    return 0;
}
