#include "hub/http/denials.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/model/access.h"
#include "hub/http/request.h"
#include "hub/http/router.h"
#include "hub/store/store.h"

struct denial {
        struct mail mail;
        struct http *h;
        bool stranger;
        unsigned status;           /* 0: it was let in, to read */
        const struct route *route; /* a row of the table */
        char who[sizeof((struct caller *)0)->name];
        char project[PROJECT_NAME_MAX + 1];
        char why[240];
        char row[80]; /* instead of all else: "table/key" */
        char param[64], address[REQ_ADDRESS_MAX];
};

static bool over_rate(struct http *h, int *count)
{
        int64_t now = clock_now_us(h->o.clock) / 1000000;

        if (now != h->denials_second) {
                h->denials_second = now;
                h->denials_strangers = h->denials_rows = 0;
        }
        return (*count)++ >= DENIALS_STRANGERS_PER_S;
}

static int word(struct buf *b, const char *key, const char *value)
{
        int rc;

        if (!*value)
                return 0;
        rc = buf_printf(b, "%s\"%s\":", b->len > 1 ? "," : "", key);
        return rc ? rc : json_append_str(b, value, strlen(value));
}

static void record(struct denial *d)
{
        uint64_t left_out;
        const char *action = d->status ? "access.denied" : "access.read";
        char object[200];
        struct buf b;
        int rc;

        if (*d->row) {
                log_error("http", "a row of the database was changed by somebody else: it grants nothing",
                          "row=\"%s\"", d->row);
                http_audit(d->h, "hub", "row.refused", d->row, NULL);
                return;
        }
        left_out = atomic_exchange(&d->h->denials_unrecorded, 0);
        buf_init(&b, 0);
        rc = d->status ? buf_printf(&b, "{\"status\":%u", d->status) : buf_putc(&b, '{');
        if (!rc)
                rc = word(&b, "permission", permission_name(d->route->perm));
        if (!rc)
                rc = word(&b, "project", d->project);
        if (!rc)
                rc = word(&b, "of", d->param);
        if (!rc)
                rc = word(&b, "address", d->address);
        if (!rc)
                rc = word(&b, "why", d->why);
        if (!rc && left_out)
                rc = buf_printf(&b, ",\"unrecorded\":%" PRIu64, left_out);
        if (!rc)
                rc = buf_put(&b, "}", 2);
        snprintf(object, sizeof object, "%s %s", d->route->method, d->route->pattern);
        if (rc)
                log_error("http", "audit record lost", "action=%s object=\"%s\"", action, object);
        else
                http_audit(d->h, d->who, action, object, (const char *)b.data);
        buf_fini(&b);
}

static void on_loop(struct mail *m)
{
        struct denial *d = container_of(m, struct denial, mail);

        atomic_fetch_sub(&d->h->denials_waiting, 1);
        if (d->stranger && over_rate(d->h, *d->row ? &d->h->denials_rows : &d->h->denials_strangers))
                atomic_fetch_add(&d->h->denials_unrecorded, 1);
        else
                record(d);
        mem_free(d);
}

/* NULL: too many wait, or no memory; counted. */
static struct denial *waiting(struct http *h)
{
        struct denial *d;

        d = atomic_fetch_add(&h->denials_waiting, 1) < DENIALS_WAITING_MAX ? mem_calloc(1, sizeof *d) : NULL;
        if (!d) {
                atomic_fetch_sub(&h->denials_waiting, 1);
                atomic_fetch_add(&h->denials_unrecorded, 1);
                return NULL;
        }
        d->h = h;
        d->mail.run = on_loop;
        return d;
}

void denials_row(struct http_req *q, const char *table, const char *key)
{
        struct denial *d = waiting(q->h);

        if (!d)
                return;
        d->stranger = true;
        snprintf(d->row, sizeof d->row, "%s/%.60s", table, key);
        mailbox_post(q->h->o.mailbox, &d->mail);
}

static void note(struct http_req *q, const struct route *r, unsigned status, const char *why)
{
        struct denial *d = waiting(q->h);

        if (!d)
                return;
        d->route = r;
        d->status = status;
        d->stranger = !q->known_caller;
        snprintf(d->who, sizeof d->who, "%s", q->known_caller ? q->caller.name : "stranger");
        snprintf(d->project, sizeof d->project, "%s", q->project);
        snprintf(d->param, sizeof d->param, "%.63s", q->param[0] ? q->param[0] : "");
        snprintf(d->why, sizeof d->why, "%.*s", (int)sizeof d->why - 1, why ? why : "");
        req_address(q, d->address);
        mailbox_post(q->h->o.mailbox, &d->mail);
}

void denials_note(struct http_req *q, const struct route *r, unsigned status, const char *why)
{
        if (r && (status == 401 || status == 403 || (status == 404 && q->hidden)))
                note(q, r, status, why);
}

void reads_note(struct http_req *q, const struct route *r)
{
        if (q->h->o.audit_reads && q->known_caller && strcmp(r->method, "GET") == 0)
                note(q, r, 0, NULL);
}
