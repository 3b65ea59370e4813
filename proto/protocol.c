/*
 * protocol.c: the tables that messages.def, methods.def, errors.def and topics.h declare.
 *
 * Each table is one more inclusion of the same declaration. Ids, error numbers and methods index arrays, so a number
 * used twice does not compile (-Woverride-init). Everything is constant: no start-up code, no locks.
 */
#include "proto/protocol.h"

#include <float.h>
#include <string.h>

#include "proto/topics.h"

/*
 * offsetof needs the struct that a field is in, but a FIELD line does not name it. So here all messages lie on top of
 * each other in one union, laid out as their structs are, and every member carries the number of its line: a name that
 * is found without knowing its record, at the same offset.
 */
#define PASTE(left, right)          left##_##right
#define PASTE_EXPANDED(left, right) PASTE(left, right)
#define AT(name)                    PASTE_EXPANDED(name, __LINE__)
#define MEMBER_AT(kind, name)       MEMBER_##kind(name)
#define OBJECT_AT(record, name)     MEMBER_OBJECT(record, name)
#define LIST_AT(record, name)       MEMBER_LIST(record, name)

union layout {
#define RECORD(name, description)                struct {
#define MESSAGE(number, NAME, name, description) struct {
#define END(name) \
    }             \
    ;
#define FIELD(kind, name, minimum, maximum, flags) MEMBER_AT(kind, AT(name))
#define FIELD_ANY(kind, name, flags)               MEMBER_AT(kind, AT(name))
#define STRINGS(name, maximum, flags)              MEMBER_AT(STRINGS, AT(name))
#define OBJECT(record, name, flags)                OBJECT_AT(record, AT(name))
#define OPT_OBJECT(record, name, flags)            OBJECT_AT(record, AT(name))
#define LIST(record, name, maximum, flags)         LIST_AT(record, AT(name))
#include "proto/messages.def"
};

/* What each kind of declaration is in the descriptor: kind and own flags, the second member, the widest bounds. */
#define KIND_STR        FIELD_STR, 0
#define KIND_OPT_STR    FIELD_STR, FIELD_OPTIONAL
#define KIND_INT        FIELD_INT, 0
#define KIND_OPT_INT    FIELD_INT, FIELD_OPTIONAL
#define KIND_DOUBLE     FIELD_DOUBLE, 0
#define KIND_OPT_DOUBLE FIELD_DOUBLE, FIELD_OPTIONAL
#define KIND_BOOL       FIELD_BOOL, 0
#define KIND_OPT_BOOL   FIELD_BOOL, FIELD_OPTIONAL
#define KIND_TIME       FIELD_TIME, 0
#define KIND_OPT_TIME   FIELD_TIME, FIELD_OPTIONAL
#define KIND_BIN        FIELD_BIN, 0

#define HAS_AT(name)           offsetof(union layout, has_##name)
#define SIZE_AT(name)          offsetof(union layout, name##_size)
#define COUNT_AT(name)         offsetof(union layout, name##_count)
#define EXTRA_STR(name)        0
#define EXTRA_OPT_STR(name)    0
#define EXTRA_INT(name)        0
#define EXTRA_OPT_INT(name)    HAS_AT(name)
#define EXTRA_DOUBLE(name)     0
#define EXTRA_OPT_DOUBLE(name) HAS_AT(name)
#define EXTRA_BOOL(name)       0
#define EXTRA_OPT_BOOL(name)   HAS_AT(name)
#define EXTRA_TIME(name)       0
#define EXTRA_OPT_TIME(name)   HAS_AT(name)
#define EXTRA_BIN(name)        SIZE_AT(name)
#define EXTRA_AT(kind, name)   EXTRA_##kind(name)
#define EXTRA_COUNT_AT(name)   COUNT_AT(name)

#define ANY_INT        INT64_MIN, INT64_MAX
#define ANY_OPT_INT    INT64_MIN, INT64_MAX
#define ANY_DOUBLE     -DBL_MAX, DBL_MAX
#define ANY_OPT_DOUBLE -DBL_MAX, DBL_MAX
#define ANY_BOOL       0, 1
#define ANY_OPT_BOOL   0, 1
/* The years 1 to 9999: what RFC 3339 can write. */
#define ANY_TIME     -62135596800000, 253402300799999
#define ANY_OPT_TIME -62135596800000, 253402300799999

#define ENTRY(name, kind_and_flags, flags, at, extra, minimum, maximum, record) \
    ENTRY_EXPANDED(name, kind_and_flags, flags, at, extra, minimum, maximum, record)
#define ENTRY_EXPANDED(name, kind, own_flags, flags, at, extra, minimum, maximum, record)                          \
    { #name, kind, (own_flags) | (flags), offsetof(union layout, at), extra, (double)(minimum), (double)(maximum), \
        record },
#define ENTRY_ANY(name, kind_and_flags, flags, at, extra, bounds) \
    ENTRY_ANY_EXPANDED(name, kind_and_flags, flags, at, extra, bounds)
#define ENTRY_ANY_EXPANDED(name, kind, own_flags, flags, at, extra, minimum, maximum) \
    ENTRY_EXPANDED(name, kind, own_flags, flags, at, extra, minimum, maximum, NULL)

#define LAST_FIELD \
    { .kind = FIELD_END }

/* fields */
#define RECORD(name, description)                static const struct field name##_fields[] = {
#define MESSAGE(number, NAME, name, description) static const struct field name##_fields[] = {
#define END(name) \
    LAST_FIELD    \
    }             \
    ;
#define FIELD(kind, name, minimum, maximum, flags) \
    ENTRY(name, KIND_##kind, flags, AT(name), EXTRA_AT(kind, AT(name)), minimum, maximum, NULL)
#define FIELD_ANY(kind, name, flags) ENTRY_ANY(name, KIND_##kind, flags, AT(name), EXTRA_AT(kind, AT(name)), ANY_##kind)
#define STRINGS(name, maximum, flags) \
    ENTRY_EXPANDED(name, FIELD_STRINGS, 0, flags, AT(name), EXTRA_COUNT_AT(AT(name)), 0, maximum, NULL)
#define OBJECT(record, name, flags) \
    ENTRY_EXPANDED(name, FIELD_OBJECT, 0, flags, AT(name), 0, 0, 0, &record##_descriptor)
#define OPT_OBJECT(record, name, flags) \
    ENTRY_EXPANDED(name, FIELD_OBJECT, FIELD_OPTIONAL, flags, AT(name), 0, 0, 0, &record##_descriptor)
#define LIST(record, name, maximum, flags) \
    ENTRY_EXPANDED(name, FIELD_LIST, 0, flags, AT(name), EXTRA_COUNT_AT(AT(name)), 0, maximum, &record##_descriptor)
#include "proto/messages.def"

#define LAST_ALIAS \
    { NULL, NULL }

/* aliases */
#define RECORD(name, description)                static const struct field_alias name##_aliases[] = {
#define MESSAGE(number, NAME, name, description) static const struct field_alias name##_aliases[] = {
#define END(name) \
    LAST_ALIAS    \
    }             \
    ;
#define ALIAS(name, source) { #name, #source },
#include "proto/messages.def"

/* descriptors */
#define DESCRIPTOR(number, name, description)                                                                     \
    const struct message_descriptor name##_descriptor = { #name, description, sizeof(struct name), name##_fields, \
        name##_aliases, number };
#define RECORD(name, description)                DESCRIPTOR(0, name, description)
#define MESSAGE(number, NAME, name, description) DESCRIPTOR(number, name, description)
#include "proto/messages.def"

const struct message_descriptor *const all_descriptors[] = {
#define RECORD(name, description)                &name##_descriptor,
#define MESSAGE(number, NAME, name, description) &name##_descriptor,
#include "proto/messages.def"
    NULL,
};

static const struct message_descriptor *const descriptor_of_id[] = {
#define MESSAGE(number, NAME, name, description) [number] = &name##_descriptor,
#include "proto/messages.def"
};

const struct message_descriptor *message_descriptor(int id) {
    if (id < 0 || (size_t)id >= sizeof(descriptor_of_id) / sizeof(descriptor_of_id[0])) return NULL;
    return descriptor_of_id[id];
}

const struct method methods[] = {
#define METHOD(NAME, request, lane, reply, idempotent) \
    { MSG_##NAME, lane, &request##_descriptor, &reply##_descriptor, idempotent },
#include "proto/methods.def"
    { .request_id = 0 },
};

enum method_index {
#define METHOD(NAME, request, lane, reply, idempotent) METHOD_INDEX_##NAME,
#include "proto/methods.def"
};

static const struct method *const method_of_id[] = {
#define METHOD(NAME, request, lane, reply, idempotent) [MSG_##NAME] = &methods[METHOD_INDEX_##NAME],
#include "proto/methods.def"
};

const struct method *method_find(int request_id) {
    if (request_id < 0 || (size_t)request_id >= sizeof(method_of_id) / sizeof(method_of_id[0])) return NULL;
    return method_of_id[request_id];
}

bool lane_is_batched(const char *lane) {
    static const char *const lanes[] = {
#define BATCHED_LANE(lane) lane,
#include "proto/methods.def"
    };
    for (size_t i = 0; i < sizeof(lanes) / sizeof(lanes[0]); i++) {
        if (strcmp(lanes[i], lane) == 0) return true;
    }
    return false;
}

static const struct error_info errors[] = {
#define ERROR(number, NAME, wire, status, sentence) [number] = { ERR_##NAME, wire, status, sentence },
#include "proto/errors.def"
#undef ERROR
};

#define ERROR_COUNT ((int)(sizeof(errors) / sizeof(errors[0])))

const struct error_info *error_info(int code) {
    int number = code < -1000 && code > -1000 - ERROR_COUNT ? -1000 - code : 0;
    return errors[number].code != 0 ? &errors[number] : &errors[-1000 - ERR_INTERNAL];
}

int error_from_name(const char *wire_code) {
    for (int number = 1; number < ERROR_COUNT; number++) {
        if (errors[number].code != 0 && strcmp(errors[number].name, wire_code) == 0) return errors[number].code;
    }
    return ERR_INTERNAL;
}

static const char *const event_kinds[] = {
#define EVENT_KIND(NAME, name) [EVENT_##NAME] = (name),
    EVENT_KINDS(EVENT_KIND)
#undef EVENT_KIND
};

const char *event_kind_name(enum event_kind kind) {
    return event_kinds[kind];
}

int event_kind_find(const char *name) {
    for (int kind = 0; kind < EVENT_KIND_COUNT; kind++) {
        if (strcmp(event_kinds[kind], name) == 0) return kind;
    }
    return -1;
}
