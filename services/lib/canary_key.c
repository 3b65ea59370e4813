/*
 * canary_key.c: see canary_key.h.
 */
#include "services/lib/canary_key.h"

#include <string.h>

#include "common/crypto.h"
#include "common/strbuf.h"

void canary_key(const char *edge_secret, char ret_key[CANARY_KEY_SIZE]) {
    ret_key[0] = '\0';
    if (edge_secret == NULL || *edge_secret == '\0') return;
    _cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
    strbuf_append_text(&text, "bore canary ");
    strbuf_append_text(&text, edge_secret);
    sha256_hex(text.data, text.size, ret_key);
}
