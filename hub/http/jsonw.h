/* Writes JSON straight into a buffer, without a tree: lists of thousands of
 * steps cost one pass. Commas are its business; the first error sticks and is
 * given back by jw_end. Pure; one thread at a time. */
#ifndef PHOTON_HTTP_JSONW_H
#define PHOTON_HTTP_JSONW_H

#include <stdbool.h>
#include <stdint.h>

struct buf;

struct jsonw {
        struct buf *b;
        int rc;
        bool comma; /* the next value in this container needs one */
};

/* key NULL: an element of an array, or the document itself. */
void jw_begin(struct jsonw *w, struct buf *b);
int jw_end(const struct jsonw *w); /* 0, -E_NOMEM, -E_TOOBIG */

void jw_open(struct jsonw *w, const char *key, char bracket); /* '{' or '[' */
void jw_close(struct jsonw *w, char bracket);                 /* '}' or ']' */
void jw_str(struct jsonw *w, const char *key, const char *s); /* NULL: null */
void jw_i64(struct jsonw *w, const char *key, int64_t v);
void jw_bool(struct jsonw *w, const char *key, bool v);
void jw_time(struct jsonw *w, const char *key, int64_t us);                          /* 0: null */
void jw_raw(struct jsonw *w, const char *key, const char *json, const char *absent); /* json NULL: absent */

#endif
