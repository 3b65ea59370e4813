/*
 * setup.h: the secrets of a system of containers, one directory for each group of readers.
 *
 *   tokens/    jwt_secret, jwt_secret_previous, internal_api_key, internal_api_key_previous
 *   admin/     admin_password
 *   edge/      edge_secret
 *   metrics/   metrics_token, which Prometheus shows (empty: none is wanted)
 *   database/  postgres_password (the superuser's), db_password (ours)
 *   bus/       CURVE keys of the bus: bus.key, bus.key_secret, client.key, client.key_secret
 *   client/    CURVE keys of everybody else: bus.key, client.key, client.key_secret
 */
#ifndef BORE_SETUP_SETUP_H
#define BORE_SETUP_SETUP_H

/* Makes what is missing below the directory; a value given in the environment (JWT_SECRET, …) replaces what is there.
 * A weak given value is refused before anything is written. Files appear whole or not at all. Prints one line for each
 * file made, never a value. 0, or a negative errno after a line on stderr. */
int setup_run(const char *directory);

#endif
