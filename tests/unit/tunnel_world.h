/*
 * tunnel_world.h: a small world with one instance, its clients and a bore-server, as the truth to compare with.
 *
 * The clients ask for tokens, dial, end, come back too early or late; the user disconnects; the bore-server validates,
 * opens and ends tunnels, and reports each up to three times, up to three seconds late and in any order. All of it
 * follows from a seed. The world knows nothing of how the reports are understood: what must be answered by the system
 * under test (tokens, validations, ids) is handed in by whoever drives it. Times are milliseconds from 0.
 *
 * What the kinds of bore-server promise, and the least that must hold for the truth to be found in their reports:
 *   WORLD_NAMED     reports name their session: nothing more
 *   WORLD_NUMBERED  reports carry a sequence: nothing more
 *   WORLD_USAGE     reports name nothing; tunnel/start and tunnel/end are sent, each arrives once at least; some
 *                   `disconnected` are lost altogether
 *   WORLD_PLAIN     reports name nothing, and there is no other. Copies of a `disconnected` stay clear of other
 * sessions of the instance, because there is nothing that tells them from another one's first; a session that follows
 * closely lives longer than a report may be late; a tunnel that its user disconnected ends soon if another one follows
 * In all worlds a session that follows a user's disconnect within the reports' window does open.
 */
#ifndef TESTS_UNIT_TUNNEL_WORLD_H
#define TESTS_UNIT_TUNNEL_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum world_kind { WORLD_NAMED, WORLD_NUMBERED, WORLD_USAGE, WORLD_PLAIN, WORLD_KINDS };

enum world_event_kind {
    WORLD_CONNECT,         /* the client asks for a token: answer by world_token */
    WORLD_VALIDATE,        /* the bore-server asks whether it is valid: answer by world_validated */
    WORLD_USER_DISCONNECT, /* the user does */
    WORLD_CONNECTED,       /* reports */
    WORLD_DISCONNECTED,
    WORLD_START, /* answer by world_started */
    WORLD_END,
    WORLD_OPENS, /* inside the world only */
    WORLD_ENDS,
};

struct world_event {
    int64_t at;
    enum world_event_kind kind;
    int session;
};

enum { WORLD_SESSIONS_MAX = 6, WORLD_EVENTS_MAX = 120, WORLD_DURATION_MS = 120000 };

struct world_session {
    char token[80];
    char usage[40]; /* what tunnel/start answered */
    int port;
    bool validated;
    bool opens;    /* else it fails after it was validated */
    bool open;     /* now */
    bool disowned; /* its user disconnected it */
    bool ended;
    int64_t life_ms;
};

struct world {
    enum world_kind kind;
    uint64_t seed;
    uint64_t random;
    int attempts; /* sessions that will be tried */
    int count;    /* sessions begun */
    struct world_session sessions[WORLD_SESSIONS_MAX];
    bool disconnected; /* by its user, with no token since */
    int64_t disconnected_at;
    int64_t last_end_ms; /* when a session last ended */
    int64_t last_event_ms;
    size_t event_count;
    struct world_event events[WORLD_EVENTS_MAX]; /* in no order */
    bool lied;                                   /* the driver's mark: the status was not the truth */
    size_t trace_size;
    char trace[8192]; /* what happened, for a failing seed */
};

void world_init(struct world *self, enum world_kind kind, uint64_t seed);
/* Takes the next event due by now; WORLD_OPENS and WORLD_ENDS are done inside and not returned. False when none is. */
bool world_next(struct world *self, int64_t now, struct world_event *ret_event);
bool world_is_over(const struct world *self);
/* Whether every report has arrived, and all that could be in doubt is settled. */
bool world_is_quiet(const struct world *self, int64_t now);

/* Answers. */
void world_token(struct world *self, int session, int64_t now, const char *token);
void world_validated(struct world *self, int session, int64_t now, bool valid);
void world_started(struct world *self, int session, int64_t now, const char *usage_id);

/* The truth now: whether a tunnel is open that its user did not disconnect; the port of such a one. */
bool world_is_connected(const struct world *self);
bool world_has_port(const struct world *self, int port);
/* Whether each tunnel that was tried was open once and has ended: nothing is waited for. */
bool world_has_ended(const struct world *self);

void world_trace(struct world *self, int64_t now, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
