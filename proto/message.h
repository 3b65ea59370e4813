/*
 * message.h: what a message is, and the one codec that serves all of them.
 *
 * messages.def declares records and messages; protocol.h makes a C struct, an id and a descriptor of each. The
 * functions here walk a descriptor, so no message has code of its own. On the wire a message is a msgpack map whose
 * keys are the field names (https://github.com/msgpack/msgpack/blob/master/spec.md); unset optional fields are left
 * out.
 *
 * Kinds of field and what they are in the struct:
 *   STR      char *name            UTF-8, NUL-terminated; bounds are in characters (code points); OPT_STR is NULL when
 * unset INT      int64_t name          bounds are values; OPT_INT adds `bool has_name` DOUBLE   double name bounds are
 * values, always finite; OPT_DOUBLE adds has_name BOOL     bool name             OPT_BOOL adds has_name TIME int64_t
 * name          milliseconds since the Unix epoch; RFC 3339 UTC in JSON; OPT_TIME adds has_name BIN      unsigned char
 * *name; size_t name_size      bounds are bytes; never in JSON STRINGS  char **name; size_t name_count bound is the
 * count; each at most 255 characters OBJECT   struct record *name   one nested record; OPT_OBJECT is NULL when unset
 *   LIST     struct record *name; size_t name_count     bound is the count
 *
 * Ownership: whatever a struct points to belongs to it and comes from malloc; message_release frees it all. A sender
 * that only borrows strings must therefore not release the struct. Thread rule: no shared state; any thread.
 */
#ifndef BORE_PROTO_MESSAGE_H
#define BORE_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"

enum field_kind {
    FIELD_END = 0,
    FIELD_STR,
    FIELD_INT,
    FIELD_DOUBLE,
    FIELD_BOOL,
    FIELD_TIME,
    FIELD_BIN,
    FIELD_STRINGS,
    FIELD_OBJECT,
    FIELD_LIST,
};

/* Flags of a field. */
enum field_flag {
    FIELD_OPTIONAL = 1u << 0, /* may be unset */
    CALLER = 1u << 1,         /* filled by the gateway from the authenticated caller, never from body or query */
    PATH = 1u << 2,           /* filled by the gateway from the path's {name}, never from body or query */
    OMIT = 1u << 3,           /* in a JSON answer left out when unset, instead of null */
    SECRET = 1u << 4,         /* never printed by message_debug, wiped by message_release */
    LENIENT = 1u << 5,        /* from JSON: a null, wrongly typed or out-of-range value is left out and its name
                                 put into the message's STRINGS field `ignored` (declared CALLER), instead of
                                 refusing the message */
    HIDDEN = 1u << 6,         /* never in a JSON answer */
};

struct message_descriptor;

struct field {
    const char *name; /* snake_case; the key on the wire and in JSON */
    enum field_kind kind;
    unsigned flags;
    size_t offset;       /* of the value in the struct */
    size_t extra_offset; /* of has_name (optional INT, DOUBLE, BOOL, TIME), name_size or name_count; else 0 */
    double minimum;      /* characters, value, bytes or count, see the kinds above */
    double maximum;
    const struct message_descriptor *record; /* OBJECT and LIST: of the element */
};

struct field_alias {
    const char *name;   /* a further JSON key in answers */
    const char *source; /* the field whose value it repeats */
};

struct message_descriptor {
    const char *name;
    const char *description;
    size_t size;                       /* of the struct */
    const struct field *fields;        /* ends with FIELD_END */
    const struct field_alias *aliases; /* ends with a NULL name */
    int id;                            /* 0 for a record */
};

/* One complaint about a field. */
struct field_error {
    char field[64];
    char message[160];
};

/* At most 16 complaints; further ones are dropped. */
struct field_errors {
    size_t count;
    struct field_error items[16];
};

void field_errors_add(struct field_errors *self, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The field of that name, or NULL. */
const struct field *message_field(const struct message_descriptor *descriptor, const char *name);

/* Frees everything that *message points to, SECRET strings wiped first, and zeroes it. NULL-safe. */
void message_release(const struct message_descriptor *descriptor, void *message);

/* Appends the msgpack map of *message. -ERANGE when a value breaks its bounds or a required string is NULL
 * (`out` is as before then), else 0. */
int message_encode(const struct message_descriptor *descriptor, const void *message, struct strbuf *out);

/* Reads exactly one map from data[0..size). Unknown keys are skipped; a duplicate key, a missing required one, a wrong
 * type or a broken bound refuses the whole. *ret_message needs no initialisation; on failure it is zeroed and owns
 * nothing. Returns 0 or -EBADMSG. Memory is bounded by a small multiple of size, whatever the bytes claim. */
int message_decode(const struct message_descriptor *descriptor, const void *data, size_t size, void *ret_message);

/* The same with the message's id before the map: what travels as one ZeroMQ frame. */
int message_encode_frame(const struct message_descriptor *descriptor, const void *message, struct strbuf *out);
/* The id of a frame, or -EBADMSG. */
int message_frame_id(const void *data, size_t size);
int message_decode_frame(const struct message_descriptor *descriptor, const void *data, size_t size, void *ret_message);

/* Deep copy; *ret_copy owns its own memory. */
void message_copy(const struct message_descriptor *descriptor, const void *message, void *ret_copy);
/* Same values, field by field (doubles bitwise). */
bool message_equal(const struct message_descriptor *descriptor, const void *left, const void *right);

/* Appends one line `name{field=value …}` for a log; SECRET fields print as ***, long strings are cut. */
void message_debug(const struct message_descriptor *descriptor, const void *message, struct strbuf *out);

/* Access by descriptor, for those that map rows, paths and callers onto fields. The setters check bounds and return
 * 0 or -ERANGE/-EINVAL; strings are copied. `set_text` converts decimal text / true|false|t|f to the field's kind. */
int message_set_text(const struct field *field, void *message, const char *text);
bool message_is_set(const struct field *field, const void *message);
/* Appends the value as text (numbers decimal, bool true/false); nothing when unset. Scalars only. */
void message_get_text(const struct field *field, const void *message, struct strbuf *out);
/* Grows a LIST by one zeroed element and returns it; NULL when the bound is reached. */
void *message_list_add(const struct field *field, void *message);
/* Appends a copy of text to a STRINGS field; -ERANGE when full. */
int message_strings_add(const struct field *field, void *message, const char *text);

#endif
