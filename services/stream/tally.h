/*
 * tally.h: how many of something each key holds at once (streams of an address, replays of a user), and no more than
 * allowed. Keys with nothing cost nothing. Thread rule: the loop thread alone.
 */
#ifndef BORE_SERVICES_STREAM_TALLY_H
#define BORE_SERVICES_STREAM_TALLY_H

struct tally;
struct tally_entry; /* one key's count */

struct tally *tally_new(unsigned most_a_key);
void tally_free(struct tally *self);
/* Counts one more for the key. NULL when it has as many as it may; else give it back with tally_drop. */
struct tally_entry *tally_take(struct tally *self, const char *key);
/* Takes NULL. */
void tally_drop(struct tally *self, struct tally_entry *entry);
unsigned tally_count(const struct tally *self, const char *key);

#endif
