#include "hub/http/listing.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/err.h"
#include "common/str.h"
#include "hub/http/request.h"

int listing_args(struct http_req *q, struct listing *p, int64_t *before, struct err *e)
{
        const char *cursor;
        int rc = req_page_args(q, &p->limit, &cursor, e);

        *before = 0;
        if (!rc && cursor && str_parse_i64(cursor, 1, INT64_MAX, before))
                rc = err_set(e, E_INVAL, "the cursor is not one that this list gave out");
        return rc;
}

void listing_begin(struct http_req *q, struct listing *p)
{
        jw_begin(&p->w, &q->out);
        jw_open(&p->w, NULL, '{');
        jw_open(&p->w, "items", '[');
}

bool listing_takes(struct listing *p, int64_t number)
{
        p->more = p->n == p->limit;
        if (p->more)
                return false;
        p->n++;
        p->last = number;
        return true;
}

int listing_end(struct listing *p)
{
        char next[24];

        jw_close(&p->w, ']');
        snprintf(next, sizeof next, "%" PRId64, p->last);
        jw_str(&p->w, "next_cursor", p->more ? next : NULL);
        jw_close(&p->w, '}');
        return jw_end(&p->w);
}
