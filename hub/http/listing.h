/* The frame of a list that is read from the store newest first: {"items": [...], "next_cursor": ...}. Its
 * cursor is the number of the last row shown. HTTP threads. */
#ifndef PHOTON_HTTP_LISTING_H
#define PHOTON_HTTP_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/http/jsonw.h"

struct err;
struct http_req;

/* Zeroed before the first use. */
struct listing {
        struct jsonw w;
        int64_t limit, n, last;
        bool more;
};

/* Reads `limit` and `cursor`. *before: rows below that number (0: from the newest on); ask the store for
 * p->limit + 1 of them. -E_INVAL. */
int listing_args(struct http_req *q, struct listing *p, int64_t *before, struct err *e);
void listing_begin(struct http_req *q, struct listing *p);
/* For each row, before it is written: false when the page is full (return 1 to the store then). */
bool listing_takes(struct listing *p, int64_t number);
int listing_end(struct listing *p);

#endif
