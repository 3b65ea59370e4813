/*
 * canary_key.h: what monitor proves its canaries with, and gateway knows them by.
 *
 * Derived from EDGE_SECRET, which both have: whoever sees the key on its way learns nothing else with it, and can do
 * nothing with it but send canaries. Thread rule: any thread.
 */
#ifndef BORE_SERVICES_LIB_CANARY_KEY_H
#define BORE_SERVICES_LIB_CANARY_KEY_H

enum { CANARY_KEY_SIZE = 65 };

/* Hex digits and a NUL; "" without a secret: nothing is equal to it then. */
void canary_key(const char *edge_secret, char ret_key[CANARY_KEY_SIZE]);

#endif
