/*
 * tunnel_script.h: what happens to one instance, in words, against the SQL functions on a real PostgreSQL.
 *
 * Words, separated by blanks; the clock goes on 10 ms after each:
 *   K              connect: a new token         V  V2 V!         validate-key with the last token, the second one; `!`:
 * it must be refused C C5000 Ca:5000 C#7:5000   connected, without a port, on port 5000, naming session a, with
 * sequence 7 D Da D#7       disconnected, likewise       S5000            tunnel/start on that port E1 tunnel/end of
 * the first      DE1              disconnected that names the first tunnel/start U              the user disconnects
 * Pactive          the client's word (PATCH connection) +5             5 seconds pass               ? doubts are
 * settled (bore.tunnel_doubts) [ … ]          the reports in between come in one batch
 */
#ifndef TESTS_UNIT_TUNNEL_SCRIPT_H
#define TESTS_UNIT_TUNNEL_SCRIPT_H

#include "common/db.h"

/* Makes bore.clock() follow this connection's setting test.clock, in milliseconds; from then on the time is fixed. */
void tunnel_clock_install(struct db *connection);
void tunnel_clock_set(struct db *connection, long long milliseconds);

/* Plays a script on a new instance of a new user on the plan pro. Answers "status", or "status port" while a tunnel is
 * open. The text is sql_client's. What must not happen ends the test. */
const char *tunnel_script_play(struct db *connection, const char *script);
/* The instance of the last script, and its statuses in order: "inactive starting active". */
const char *tunnel_script_instance(void);
const char *tunnel_script_history(struct db *connection);
/* The n-th token that the last script got, from 1. */
const char *tunnel_script_token(int n);

#endif
