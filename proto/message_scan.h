/*
 * message_scan.h: looks over msgpack bytes before anything is allocated for them.
 *
 * msgpack-c allocates an array or map in the size that its header claims, so five bytes could ask for gigabytes. The
 * scan walks the bytes once, allocates nothing and refuses what claims more elements than bytes are left, nests deeper
 * than MESSAGE_DEPTH_MAX or is cut off. What passes makes msgpack-c allocate some 24 bytes (one
 * object) a byte of input at worst.
 */
#ifndef BORE_PROTO_MESSAGE_SCAN_H
#define BORE_PROTO_MESSAGE_SCAN_H

#include <stddef.h>

#define MESSAGE_DEPTH_MAX 8

/* The size of the one msgpack value at the beginning of data[0..size), or 0 when it is refused. */
size_t message_scan(const unsigned char *data, size_t size);

#endif
