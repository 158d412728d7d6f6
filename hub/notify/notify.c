#include "hub/notify/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/net/net.h"
#include "hub/notify/notice_text.h"
#include "hub/store/store.h"

#define ANSWER_MAX  4096u /* bytes of a receiver's answer that are looked at */
#define ERROR_MAX   300u
#define KEPT_US     (INT64_C(30) * 24 * 3600 * 1000000) /* what is done is forgotten after */
#define TRIM_EVERY  1000u                               /* done ones */
#define BUSY_US     1000000                             /* again after that, when no more could be sent */
#define STATUS_GONE 410

/* A row that is being sent, until what became of it is durable: so long it is not read as due again. */
struct flight {
        struct notify *n;
        size_t target;
        bool taken;
        struct row_notice row; /* texts owned */
};

struct notify {
        struct notify_options o;
        struct store_reader *reader;
        uv_timer_t *timer; /* closes by itself */
        int64_t next_seq;
        struct flight (*flights)[NOTICE_FLIGHTS]; /* per target */
        struct notify_stats stats;
        uint64_t done;
        bool kicking;
};

static void *must(void *p)
{
        if (!p) {
                log_error("notify", "out of memory: stopping; what was acknowledged is on disk", "%s", "");
                abort();
        }
        return p;
}

static char *dup_text(const char *s)
{
        return s ? must(mem_strdup(s)) : NULL;
}

static int64_t now_us(const struct notify *n)
{
        return clock_now_us(n->o.clock);
}

/* ---- rows ---- */

static void row_copy(const struct row_notice *from, struct row_notice *to)
{
        *to = *from;
        to->id = dup_text(from->id);
        to->event = dup_text(from->event);
        to->target = dup_text(from->target);
        to->checkpoint = dup_text(from->checkpoint);
        to->run = dup_text(from->run);
        to->project = dup_text(from->project);
        to->title = dup_text(from->title);
        to->last_error = dup_text(from->last_error);
        to->body = dup_text(from->body);
}

static void row_fini(struct row_notice *r)
{
        mem_free((char *)r->id);
        mem_free((char *)r->event);
        mem_free((char *)r->target);
        mem_free((char *)r->checkpoint);
        mem_free((char *)r->run);
        mem_free((char *)r->project);
        mem_free((char *)r->title);
        mem_free((char *)r->last_error);
        mem_free((char *)r->body);
        *r = (struct row_notice){0};
}

const struct targets *notify_targets(const struct notify *n)
{
        return &n->o.targets;
}

void notify_add(struct notify *n, struct store_tx *tx, const struct engine_notice *m)
{
        for (size_t i = 0; i < n->o.targets.n; i++) {
                const struct target *t = &n->o.targets.v[i];
                char id[ID_LEN], delivery[ID_LEN + 8];
                struct row_notice row = {.seq = n->next_seq,
                                         .state = NOTICE_PENDING,
                                         .created_us = m->at_us,
                                         .next_us = m->at_us,
                                         .event = m->event,
                                         .target = t->name,
                                         .checkpoint = m->checkpoint_id,
                                         .run = m->run_id,
                                         .project = m->project,
                                         .title = m->title};
                char *body;

                if (!target_wants(t, m))
                        continue;
                id_make(m->at_us, id);
                snprintf(delivery, sizeof delivery, "msg_%s", id);
                body = must(notice_body(t, m, delivery, n->o.targets.url));
                row.id = delivery;
                row.body = body;
                n->next_seq++;
                n->stats.pending++;
                store_put_notice(tx, &row);
                mem_free(body);
        }
}

/* ---- what became of it ---- */

static void on_settled(void *arg)
{
        struct flight *f = arg;
        struct notify *n = f->n;

        row_fini(&f->row);
        f->taken = false;
        bus_durable(n->o.bus, bus_written(n->o.bus));
        notify_kick(n);
}

static void say_given_up(struct notify *n, struct store_tx *tx, const struct row_notice *r)
{
        struct buf b;
        int rc;

        log_warn("notify", "a notice was given up",
                 "notice=%s target=%s checkpoint=%s attempts=%u reason=\"%s\"", r->id, r->target,
                 r->checkpoint, r->attempts, r->last_error ? r->last_error : "");
        buf_init(&b, 0);
        rc = buf_printf(
                &b, "\"notice\":\"%s\",\"target\":\"%s\",\"checkpoint\":\"%s\",\"attempts\":%u,\"reason\":",
                r->id, r->target, r->checkpoint, r->attempts);
        if (!rc)
                rc = json_append_str(&b, r->last_error ? r->last_error : "",
                                     r->last_error ? strlen(r->last_error) : 0);
        if (!rc)
                rc = buf_putc(&b, '\0');
        bus_put(n->o.bus, tx, now_us(n), "notice.given_up", r->run ? r->run : "", "",
                rc ? NULL : (const char *)b.data);
        buf_fini(&b);
}

/* Moves a pending row to its end, in `tx`. */
static void end_row(struct notify *n, struct store_tx *tx, struct row_notice *r, enum notice_state to)
{
        r->state = to;
        r->done_us = now_us(n);
        n->stats.pending--;
        if (to == NOTICE_DELIVERED) {
                n->stats.delivered++;
        } else {
                n->stats.given_up++;
                say_given_up(n, tx, r);
        }
        store_put_notice(tx, r);
        if (++n->done % TRIM_EVERY == 0)
                store_trim_notices(tx, now_us(n) - KEPT_US);
}

static void failed(struct flight *f, struct store_tx *tx, const char *why, bool for_good,
                   int64_t retry_after_ms)
{
        struct notify *n = f->n;
        double rnd = (double)(id_random_u64() >> 11) / 9007199254740992.0;
        struct row_notice *r = &f->row;

        n->stats.failed++;
        mem_free((char *)r->last_error);
        r->last_error = dup_text(why);
        r->next_us = now_us(n) + notice_delay_ms(r->attempts, retry_after_ms, rnd) * 1000;
        if (for_good || r->next_us - r->created_us > n->o.targets.give_up_ms * 1000)
                end_row(n, tx, r, NOTICE_GIVEN_UP);
        else
                store_put_notice(tx, r);
}

/* A receiver's words, for people: one line, bounded. */
static void why_text(const struct net_answer *a, char out[ERROR_MAX])
{
        char *text;

        if (a->rc) {
                snprintf(out, ERROR_MAX, "%s", a->why);
        } else {
                text = str_utf8_lossy(a->body, a->len < 200 ? a->len : 200);
                snprintf(out, ERROR_MAX, "it answered %ld%s%s", a->status, text && *text ? ": " : "",
                         text ? text : "");
                mem_free(text);
        }
        for (char *p = out; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = ' ';
}

static void on_answer(void *arg, const struct net_answer *a)
{
        struct flight *f = arg;
        struct notify *n = f->n;
        bool mail = n->o.targets.v[f->target].type == TARGET_SMTP;
        struct store_tx *tx = must(store_begin(n->o.store));
        char why[ERROR_MAX];

        f->row.attempts++;
        if (a->rc == 0 && (mail || (a->status >= 200 && a->status < 300))) {
                end_row(n, tx, &f->row, NOTICE_DELIVERED);
        } else {
                why_text(a, why);
                failed(f, tx, why, !mail && a->status == STATUS_GONE, a->retry_after_ms);
        }
        store_commit(tx, on_settled, f);
}

/* ---- sending ---- */

static int send_row(struct notify *n, struct flight *f, struct err *e)
{
        const struct target *t = &n->o.targets.v[f->target];
        const struct row_notice *r = &f->row;
        int64_t at_s = now_us(n) / 1000000;
        char id[80], at[64], *sig = NULL, *header = NULL;
        const char *headers[] = {"Content-Type: application/json", id, at, NULL, NULL};
        struct net_request q = {.url = t->url,
                                .body = r->body,
                                .body_len = strlen(r->body),
                                .answer_max = ANSWER_MAX,
                                .ca_file = t->ca_file};
        int rc;

        if (t->type == TARGET_WEBHOOK) {
                sig = must(notice_signature(t, r->id, at_s, r->body));
                header = must(str_printf("webhook-signature: %s", sig));
                headers[3] = header;
        }
        snprintf(id, sizeof id, "webhook-id: %s", r->id);
        snprintf(at, sizeof at, "webhook-timestamp: %lld", (long long)at_s);
        if (t->type == TARGET_SLACK)
                headers[1] = NULL;
        if (t->type == TARGET_SMTP) {
                q.user = t->user;
                q.password = t->password;
                q.from = t->from;
                q.to = (const char *const *)t->to;
                q.starttls = !t->clear;
        } else {
                q.headers = headers;
        }
        rc = net_send(n->o.net, &q, on_answer, f, e);
        mem_free(sig);
        mem_free(header);
        return rc;
}

struct taking {
        struct notify *n;
        size_t target;
        bool busy;
};

static struct flight *free_flight(struct notify *n, size_t target)
{
        for (size_t i = 0; i < NOTICE_FLIGHTS; i++)
                if (!n->flights[target][i].taken)
                        return &n->flights[target][i];
        return NULL;
}

static bool in_flight(struct notify *n, size_t target, int64_t seq)
{
        for (size_t i = 0; i < NOTICE_FLIGHTS; i++)
                if (n->flights[target][i].taken && n->flights[target][i].row.seq == seq)
                        return true;
        return false;
}

static int on_due(void *arg, const struct row_notice *r)
{
        struct taking *k = arg;
        struct flight *f = free_flight(k->n, k->target);
        struct err e = {0};

        if (in_flight(k->n, k->target, r->seq))
                return 0;
        if (!f)
                return 1;
        *f = (struct flight){.n = k->n, .target = k->target, .taken = true};
        row_copy(r, &f->row);
        if (send_row(k->n, f, &e) == 0)
                return 0;
        /* Too much is under way: that is no try. */
        row_fini(&f->row);
        f->taken = false;
        k->busy = true;
        return 1;
}

static void on_timer(uv_timer_t *t)
{
        notify_kick(t->data);
}

/* When the next one is due that nothing else will wake us for. */
static void arm(struct notify *n, bool busy)
{
        int64_t next = INT64_MAX, at, left;

        for (size_t i = 0; i < n->o.targets.n; i++)
                if (free_flight(n, i) && read_notice_next(n->reader, n->o.targets.v[i].name, &at) == 0 &&
                    at < next)
                        next = at;
        left = next == INT64_MAX ? -1 : next - now_us(n);
        if (next != INT64_MAX && left <= 0) /* what is in flight reads as due until it is settled */
                left = BUSY_US;
        if (busy && (left < 0 || left > BUSY_US))
                left = BUSY_US;
        if (left < 0)
                uv_timer_stop(n->timer);
        else
                uv_timer_start(n->timer, on_timer, (uint64_t)(left / 1000 + 1), 0);
}

void notify_kick(struct notify *n)
{
        struct taking k = {.n = n};

        if (n->kicking)
                return;
        n->kicking = true;
        for (size_t i = 0; i < n->o.targets.n && !k.busy; i++) {
                struct notice_filter f = {
                        .target = n->o.targets.v[i].name, .due_us = now_us(n), .limit = 2 * NOTICE_FLIGHTS};

                k.target = i;
                if (free_flight(n, i))
                        (void)read_notices(n->reader, &f, on_due,
                                           &k); /* logged there; the timer tries again */
        }
        arm(n, k.busy);
        n->kicking = false;
}

/* ---- people ---- */

struct again {
        struct notify *n;
        struct row_notice row;
        engine_answer cb;
        void *arg;
};

static int on_found(void *arg, const struct row_notice *r)
{
        row_copy(r, &((struct again *)arg)->row);
        return 0;
}

static void on_again(void *arg)
{
        struct again *a = arg;

        a->cb(a->arg, 0, NULL);
        notify_kick(a->n);
        row_fini(&a->row);
        mem_free(a);
}

void notify_retry(struct notify *n, const char *id, const char *by, engine_answer cb, void *arg)
{
        struct again *a = must(mem_calloc(1, sizeof *a));
        struct err e = {0};
        struct store_tx *tx;
        int rc;

        *a = (struct again){.n = n, .cb = cb, .arg = arg};
        rc = read_notice(n->reader, id, on_found, a);
        if (rc)
                rc = err_set(&e, -rc, "there is no notice '%.64s'; see: photon notices --all", id);
        else if (a->row.state == NOTICE_DELIVERED)
                rc = err_set(&e, E_STATE, "notice %.64s is delivered", id);
        else if (!targets_find(&n->o.targets, a->row.target))
                rc = err_set(&e, E_STATE, "the target %.64s of notice %.64s is not configured any more",
                             a->row.target, id);
        if (rc) {
                cb(arg, rc, &e);
                row_fini(&a->row);
                mem_free(a);
                return;
        }
        tx = must(store_begin(n->o.store));
        n->stats.pending += a->row.state == NOTICE_GIVEN_UP;
        a->row.state = NOTICE_PENDING;
        a->row.done_us = 0;
        a->row.next_us = now_us(n);
        /* One in flight settles itself: its row is not touched under its feet. */
        for (size_t i = 0; i < n->o.targets.n; i++)
                if (in_flight(n, i, a->row.seq))
                        rc = 1;
        if (!rc)
                store_put_notice(tx, &a->row);
        store_put_audit(tx, now_us(n), by, "notice.retry", a->row.id, NULL);
        store_commit(tx, on_again, a);
}

void notify_stats(const struct notify *n, struct notify_stats *out)
{
        *out = n->stats;
}

/* ---- life ---- */

struct left_over {
        struct notify *n;
        struct store_tx *tx;
        int64_t orphans;
};

static int on_left(void *arg, const struct row_notice *r)
{
        struct left_over *l = arg;
        struct row_notice row = *r;

        l->n->stats.pending++;
        if (targets_find(&l->n->o.targets, r->target))
                return 0;
        row.last_error = "its target is not configured any more";
        end_row(l->n, l->tx, &row, NOTICE_GIVEN_UP);
        l->orphans++;
        return 0;
}

static void on_looked(void *arg)
{
        struct notify *n = arg;

        bus_durable(n->o.bus, bus_written(n->o.bus));
        notify_kick(n);
}

int notify_create(const struct notify_options *o, struct notify **out, struct err *e)
{
        struct notify *n = must(mem_calloc(1, sizeof *n));
        struct notice_filter f = {.state = NOTICE_PENDING};
        struct left_over l = {.n = n};
        int64_t newest = 0;
        int rc;

        n->o = *o;
        n->flights = must(mem_calloc(o->targets.n + 1, sizeof *n->flights));
        n->timer = must(mem_calloc(1, sizeof *n->timer));
        uv_timer_init(o->loop, n->timer);
        n->timer->data = n;
        rc = store_reader_open(o->store, &n->reader, e);
        if (!rc && (rc = read_notice_max(n->reader, &newest)))
                err_set(e, -rc, "the notices could not be read from the database");
        n->next_seq = newest + 1;
        if (rc) {
                notify_free(n);
                return rc;
        }
        l.tx = must(store_begin(o->store));
        rc = read_notices(n->reader, &f, on_left, &l);
        store_trim_notices(l.tx, now_us(n) - KEPT_US);
        if (!rc)
                store_commit(l.tx, on_looked, n);
        if (rc) {
                store_abandon(l.tx);
                notify_free(n);
                return err_set(e, -rc, "the notices could not be read from the database");
        }
        if (n->stats.pending || l.orphans)
                log_info("notify", "notices wait to be sent", "pending=%lld given_up=%lld",
                         (long long)n->stats.pending, (long long)l.orphans);
        *out = n;
        return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h);
}

void notify_free(struct notify *n)
{
        if (!n)
                return;
        uv_close((uv_handle_t *)n->timer, on_timer_closed);
        for (size_t i = 0; i < n->o.targets.n; i++)
                for (size_t k = 0; k < NOTICE_FLIGHTS; k++)
                        row_fini(&n->flights[i][k].row);
        mem_free(n->flights);
        if (n->reader)
                store_reader_close(n->reader);
        targets_fini(&n->o.targets);
        mem_free(n);
}
