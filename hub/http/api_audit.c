/* The audit: reading it, proving it, and taking away what must not be kept. */
#include <stdio.h>
#include <string.h>

#include "common/auditchain.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/jsonw.h"
#include "hub/http/listing.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define EXPORT_MAX 10000 /* records in one answer */

/* ---- list ---- */

static void put_hash(struct jsonw *w, const char *key, const uint8_t hash[AUDITCHAIN_HASH])
{
        char hex[2 * AUDITCHAIN_HASH + 1];

        str_hex(hash, AUDITCHAIN_HASH, hex);
        jw_str(w, key, hex);
}

static int on_record(void *arg, const struct audit_record *r)
{
        static const char *const names[AUDIT_FIELDS] = {"actor", "object", "detail"};
        struct listing *p = arg;

        if (!listing_takes(p, r->seq))
                return 1;
        jw_open(&p->w, NULL, '{');
        jw_i64(&p->w, "seq", r->seq);
        jw_time(&p->w, "at", r->at_us);
        jw_str(&p->w, "action", r->action);
        jw_str(&p->w, "actor", r->field[AUDIT_ACTOR]);
        jw_str(&p->w, "object", r->field[AUDIT_OBJECT]);
        jw_raw(&p->w, "detail", r->field[AUDIT_DETAIL], "null");
        jw_open(&p->w, "erased", '[');
        for (int f = 0; f < AUDIT_FIELDS; f++)
                if (r->erased[f])
                        jw_str(&p->w, NULL, names[f]);
        jw_close(&p->w, ']');
        put_hash(&p->w, "hash", r->hash);
        jw_close(&p->w, '}');
        return jw_end(&p->w);
}

int api_audit_list(struct http_req *q, struct err *e)
{
        struct audit_filter f = {.newest_first = true};
        struct listing p = {0};
        struct store_reader *r = req_reader(q, e);
        int rc;

        if (!r)
                return -E_UNAVAIL;
        f.actor = req_query(q, "actor");
        f.action = req_query(q, "action");
        rc = listing_args(q, &p, &f.after_seq, e);
        if (rc)
                return rc;
        f.limit = p.limit + 1;
        listing_begin(q, &p);
        rc = read_audit(r, &f, on_record, &p);
        if (rc < 0)
                return err_set(e, -rc, "the audit could not be read: %s", err_name(rc));
        return listing_end(&p);
}

/* ---- export ---- */

static int on_line(void *arg, const struct audit_record *r)
{
        struct buf *b = arg;
        int rc = auditchain_line(r, b);

        return rc ? rc : buf_putc(b, '\n');
}

int api_audit_export(struct http_req *q, struct err *e)
{
        struct audit_filter f = {.limit = EXPORT_MAX};
        struct store_reader *r = req_reader(q, e);
        uint8_t hash[AUDITCHAIN_HASH];
        char hex[2 * AUDITCHAIN_HASH + 1];
        int64_t start;
        int rc = r ? req_query_i64(q, "after", 0, INT64_MAX, &f.after_seq, e) : -E_UNAVAIL;

        if (!rc)
                rc = req_query_i64(q, "limit", 1, EXPORT_MAX, &f.limit, e);
        if (rc)
                return rc;
        rc = read_audit_start(r, &start, hash);
        str_hex(hash, sizeof hash, hex);
        if (!rc && start > 0 && f.after_seq <= start)
                rc = buf_printf(&q->out, "{\"after_seq\":%lld,\"after_hash\":\"%s\"}\n", (long long)start,
                                hex);
        if (!rc)
                rc = read_audit(r, &f, on_line, &q->out);
        q->content_type = "text/plain; charset=utf-8";
        return rc ? err_set(e, -rc, "the audit could not be read: %s", err_name(rc)) : 0;
}

/* ---- proof ---- */

int api_audit_verify(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        uint8_t head[AUDITCHAIN_HASH];
        int64_t records, last;
        struct err bad = {0};
        struct jsonw w;
        int rc = r ? audit_verify(r, 0, &records, &last, head, &bad) : -E_UNAVAIL;

        if (rc && rc != -E_CORRUPT)
                return bad.code ? err_set(e, bad.code, "%s", bad.msg) : rc;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_bool(&w, "valid", rc == 0);
        jw_i64(&w, "records", records);
        jw_i64(&w, "last_seq", last);
        put_hash(&w, "head", head);
        jw_str(&w, "error", rc ? bad.msg : NULL);
        jw_close(&w, '}');
        return jw_end(&w);
}

/* ---- taking away ---- */

struct removal {
        char *actor, *object;
        int64_t before_us;
};

static void removal_free(void *p)
{
        struct removal *x = p;

        if (!x)
                return;
        mem_free(x->actor);
        mem_free(x->object);
        mem_free(x);
}

static void on_durable(void *arg)
{
        req_on_answer(arg, 0, NULL);
}

static void remove_on_loop(struct http_req *q)
{
        const struct removal *x = q->state;
        int64_t now = clock_now_us(q->h->o.clock);
        struct store_tx *tx = store_begin(q->h->o.store);

        if (x->before_us)
                store_trim_audit(tx, now, q->caller.name, x->before_us);
        else
                store_erase_audit(tx, now, q->caller.name, x->actor, x->object);
        req_owe(q);
        store_commit(tx, on_durable, q);
}

static int say_done(struct http_req *q, struct err *e)
{
        (void)e;
        return buf_puts(&q->out, "{\"done\":true}");
}

static int copy_member(const cJSON *doc, const char *key, char **out, struct err *e)
{
        const char *text = NULL;
        int rc = json_str_opt(doc, key, &text, e);

        if (rc || !text)
                return rc;
        *out = mem_strdup(text);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int keep(struct http_req *q, struct removal **out, struct err *e)
{
        struct removal *x = mem_calloc(1, sizeof *x);

        if (!x)
                return err_set(e, E_NOMEM, "out of memory");
        req_keep(q, x, removal_free);
        *out = x;
        return 0;
}

int api_audit_erase(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"actor", "object", NULL};
        struct removal *x = NULL;
        cJSON *doc = NULL;
        int rc = req_body_json(q, keys, false, &doc, e);

        if (!rc)
                rc = keep(q, &x, e);
        if (!rc)
                rc = copy_member(doc, "actor", &x->actor, e);
        if (!rc)
                rc = copy_member(doc, "object", &x->object, e);
        if (!rc && ((x->actor && !*x->actor) || (x->object && !*x->object)))
                rc = err_set(e, E_INVAL, "\"actor\" and \"object\" are names, not empty");
        if (!rc && x->actor && strcmp(x->actor, "hub") == 0)
                rc = err_set(e, E_INVAL, "\"hub\" is the hub itself, which is no person: say whom to erase");
        if (!rc && !x->actor && !x->object)
                rc = err_set(e, E_INVAL, "say whom or what to erase: \"actor\" or \"object\"");
        cJSON_Delete(doc);
        if (!rc)
                req_hop(q, remove_on_loop, say_done);
        return rc;
}

int api_audit_trim(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"older_than", NULL};
        struct removal *x = NULL;
        const char *age = NULL;
        int64_t ms = 0;
        cJSON *doc = NULL;
        int rc = req_body_json(q, keys, false, &doc, e);

        if (!rc)
                rc = keep(q, &x, e);
        if (!rc)
                rc = json_str(doc, "older_than", &age, e);
        if (!rc && (str_parse_duration(age, &ms) || ms < 1000))
                rc = err_set(e, E_INVAL, "\"older_than\" is a duration of at least 1s, such as 365d");
        cJSON_Delete(doc);
        if (rc)
                return rc;
        x->before_us = clock_now_us(q->h->o.clock) - ms * 1000;
        req_hop(q, remove_on_loop, say_done);
        return 0;
}
