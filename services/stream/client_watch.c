/*
 * client_watch.c: see client_watch.h.
 */
#include "services/stream/client_watch.h"

#include <errno.h>
#include <sys/socket.h>

static void on_incoming(struct ev_loop *loop, ev_io *watcher, int events) {
    struct client_watch *self = watcher->data;
    char ignored[512];
    ssize_t size = recv(watcher->fd, ignored, sizeof ignored, MSG_DONTWAIT);
    (void)events;
    if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR))) return;
    client_watch_stop(self, loop);
    /* calls `closed`: after this there may be no watch */
    lws_set_timeout(self->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

void client_watch_start(struct client_watch *self, struct ev_loop *loop, struct lws *wsi) {
    self->wsi = wsi;
    ev_io_init(&self->incoming, on_incoming, lws_get_socket_fd(wsi), EV_READ);
    self->incoming.data = self;
    ev_io_start(loop, &self->incoming);
}

void client_watch_stop(struct client_watch *self, struct ev_loop *loop) {
    ev_io_stop(loop, &self->incoming);
}
