/*
 * protocol.h: everything that messages.def, methods.def and errors.def declare, as C.
 *
 * Structs `struct name`, ids `MSG_NAME`, descriptors `name_descriptor`, error codes `ERR_NAME` (negative), methods.
 * Bump PROTOCOL_VERSION when old and new processes could misread each other: the bus refuses a worker of another
 * version.
 */
#ifndef BORE_PROTO_PROTOCOL_H
#define BORE_PROTO_PROTOCOL_H

#include "proto/message.h"

#define PROTOCOL_VERSION 1

#define BUS_BATCH_MAX   256                /* requests in one batch */
#define BUS_MESSAGE_MAX (20 * 1024 * 1024) /* bytes in one frame: more than two bodies */
#define BUS_BODY_MAX    (8 * 1024 * 1024)  /* bytes in one body: 10,000 instances with room to spare */

/* What one field adds to a struct. */
#define MEMBER_STR(name)     char *name;
#define MEMBER_OPT_STR(name) char *name;
#define MEMBER_INT(name)     int64_t name;
#define MEMBER_OPT_INT(name) \
    int64_t name;            \
    bool has_##name;
#define MEMBER_DOUBLE(name) double name;
#define MEMBER_OPT_DOUBLE(name) \
    double name;                \
    bool has_##name;
#define MEMBER_BOOL(name) bool name;
#define MEMBER_OPT_BOOL(name) \
    bool name;                \
    bool has_##name;
#define MEMBER_TIME(name) int64_t name;
#define MEMBER_OPT_TIME(name) \
    int64_t name;             \
    bool has_##name;
#define MEMBER_BIN(name) \
    unsigned char *name; \
    size_t name##_size;
#define MEMBER_STRINGS(name) \
    char **name;             \
    size_t name##_count;
#define MEMBER_OBJECT(record, name) struct record *name;
#define MEMBER_LIST(record, name) \
    struct record *name;          \
    size_t name##_count;

/* structs */
#define RECORD(name, description)                struct name {
#define MESSAGE(number, NAME, name, description) struct name {
#define END(name) \
    }             \
    ;
#define FIELD(kind, name, minimum, maximum, flags) MEMBER_##kind(name)
#define FIELD_ANY(kind, name, flags)               MEMBER_##kind(name)
#define STRINGS(name, maximum, flags)              MEMBER_STRINGS(name)
#define OBJECT(record, name, flags)                MEMBER_OBJECT(record, name)
#define OPT_OBJECT(record, name, flags)            MEMBER_OBJECT(record, name)
#define LIST(record, name, maximum, flags)         MEMBER_LIST(record, name)
#include "proto/messages.def"

/* ids and descriptors */
#define RECORD(name, description) extern const struct message_descriptor name##_descriptor;
#define MESSAGE(number, NAME, name, description) \
    enum { MSG_##NAME = number };                \
    extern const struct message_descriptor name##_descriptor;
#include "proto/messages.def"

/* errors */
enum error_code {
#define ERROR(number, NAME, wire, status, sentence) ERR_##NAME = -(1000 + number),
#include "proto/errors.def"
#undef ERROR
};

struct error_info {
    int code;         /* ERR_… (negative) */
    const char *name; /* wire code */
    int http_status;
    const char *sentence;
};

/* Never NULL: an unknown code (an errno too) is ERR_INTERNAL's. */
const struct error_info *error_info(int code);
/* The ERR_ code of a wire code; ERR_INTERNAL when unknown. */
int error_from_name(const char *wire_code);

/* The descriptor of a message id, or NULL. */
const struct message_descriptor *message_descriptor(int id);
/* All messages and records, in order of declaration; ends with NULL. */
extern const struct message_descriptor *const all_descriptors[];

/* A method: a request message, the lane (bus service) that answers it, and the answer. */
struct method {
    int request_id;
    const char *lane;
    const struct message_descriptor *request;
    const struct message_descriptor *reply;
    bool idempotent; /* a caller may send it a second time when no answer came */
};

/* The method of a request's message id, or NULL. */
const struct method *method_find(int request_id);
/* Ends with a request_id of 0. */
extern const struct method methods[];
/* Whether the lane's workers answer what waits there together, so that it is best sent in one batch. */
bool lane_is_batched(const char *lane);

#endif
