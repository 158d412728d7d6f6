/* Notices: what people are told of questions, and what became of it. List, retry. */
#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/jsonw.h"
#include "hub/http/listing.h"
#include "hub/http/request.h"
#include "hub/notify/notify.h"
#include "hub/store/store.h"

static const char *const states[] = {
        [NOTICE_PENDING] = "pending", [NOTICE_DELIVERED] = "delivered", [NOTICE_GIVEN_UP] = "given_up"};

/* The body stays out: it is made for its receiver. */
static void present(struct jsonw *w, const struct row_notice *r)
{
        jw_open(w, NULL, '{');
        jw_str(w, "id", r->id);
        jw_str(w, "state", (unsigned)r->state <= NOTICE_GIVEN_UP ? states[r->state] : "invalid");
        jw_str(w, "event", r->event);
        jw_str(w, "target", r->target);
        jw_str(w, "checkpoint", r->checkpoint);
        jw_str(w, "run", r->run);
        jw_str(w, "project", r->project);
        jw_str(w, "title", r->title);
        jw_i64(w, "attempts", r->attempts);
        jw_str(w, "last_error", r->last_error);
        jw_time(w, "created_at", r->created_us);
        jw_time(w, "next_at", r->state == NOTICE_PENDING ? r->next_us : 0);
        jw_time(w, "done_at", r->done_us);
        jw_close(w, '}');
}

static int on_row(void *arg, const struct row_notice *r)
{
        struct listing *l = arg;

        if (!listing_takes(l, r->seq))
                return 1;
        present(&l->w, r);
        return jw_end(&l->w);
}

static int read_state(struct http_req *q, int *out, struct err *e)
{
        const char *state = req_query(q, "state");

        *out = NOTICE_PENDING;
        if (!state)
                return 0;
        *out = -1;
        if (strcmp(state, "all") == 0)
                return 0;
        for (int i = NOTICE_PENDING; i <= NOTICE_GIVEN_UP; i++)
                if (strcmp(state, states[i]) == 0)
                        *out = i;
        return *out < 0 ? err_set(e, E_INVAL, "state=%.32s: expected pending, delivered, given_up or all",
                                  state)
                        : 0;
}

int api_notices_list(struct http_req *q, struct err *e)
{
        struct notice_filter f = {0};
        struct listing l = {0};
        struct store_reader *r = req_reader(q, e);
        int rc;

        if (!r)
                return -E_UNAVAIL;
        rc = read_state(q, &f.state, e);
        if (!rc)
                rc = listing_args(q, &l, &f.before_seq, e);
        if (rc)
                return rc;
        f.limit = (int)l.limit + 1;
        listing_begin(q, &l);
        rc = read_notices(r, &f, on_row, &l);
        if (rc < 0)
                return err_set(e, -rc, "the notices could not be read: %s", err_name(rc));
        return listing_end(&l);
}

/* ---- retry ---- */

static int on_one(void *arg, const struct row_notice *r)
{
        struct jsonw *w = arg;

        present(w, r);
        return jw_end(w);
}

static int show(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct jsonw w;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        jw_begin(&w, &q->out);
        rc = read_notice(r, q->param[0], on_one, &w);
        return rc ? err_set(e, -rc, "notice '%.64s' could not be read: %s", q->param[0], err_name(rc)) : 0;
}

static void retry_on_loop(struct http_req *q)
{
        struct err e = {0};

        if (!q->h->o.notify) {
                req_done(q, err_set(&e, E_NOENT, "there is no notice '%.64s'", q->param[0]), &e);
                return;
        }
        req_owe(q);
        notify_retry(q->h->o.notify, q->param[0], q->caller.name, req_on_answer, q);
}

int api_notice_retry(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, retry_on_loop, show);
        return 0;
}
