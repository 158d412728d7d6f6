#include "hub/notify/audit_head.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/auditchain.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/notify/notify.h"
#include "hub/store/store.h"

#define FIRST_MS 1000 /* after the start */

struct audit_head {
        uv_timer_t timer;
        const struct clock *clock;
        struct store *store;
        struct store_reader *reader;
        struct notify *notify;
        int64_t told; /* the last record whose hash went out */
};

struct newest {
        int64_t seq;
        char hex[2 * AUDITCHAIN_HASH + 1];
};

static int on_newest(void *arg, const struct audit_record *r)
{
        struct newest *n = arg;

        n->seq = r->seq;
        str_hex(r->hash, sizeof r->hash, n->hex);
        return 0;
}

static void on_durable(void *arg)
{
        notify_kick(arg);
}

static void on_timer(uv_timer_t *t)
{
        static const struct audit_filter last = {.newest_first = true, .limit = 1};
        struct audit_head *h = t->data;
        struct newest now = {0};
        struct engine_notice m = {.event = "audit.head",
                                  .checkpoint_id = "",
                                  .kind = "audit",
                                  .run_id = "",
                                  .step_id = "",
                                  .workflow = "",
                                  .project = "",
                                  .asked_by = "hub"};
        char title[160];
        struct store_tx *tx;
        int rc = read_audit(h->reader, &last, on_newest, &now);

        if (rc)
                log_warn("audit", "its head could not be read", "error=%s", err_name(rc));
        if (rc || now.seq <= h->told)
                return;
        tx = store_begin(h->store);
        if (!tx)
                return; /* no memory: the next time */
        snprintf(title, sizeof title, "The audit's record %" PRId64 " has the hash %s", now.seq, now.hex);
        m.title = title;
        m.sha256 = now.hex;
        m.audit_seq = now.seq;
        m.at_us = clock_now_us(h->clock);
        notify_add(h->notify, tx, &m);
        store_commit(tx, on_durable, h->notify);
        h->told = now.seq;
}

static bool wanted(const struct targets *t)
{
        static const struct engine_notice head = {.event = "audit.head", .kind = "audit", .project = ""};

        for (size_t i = 0; i < t->n; i++)
                if (target_wants(&t->v[i], &head))
                        return true;
        return false;
}

int audit_head_start(uv_loop_t *loop, const struct clock *clock, struct store *s, struct notify *n,
                     struct audit_head **out, struct err *e)
{
        const struct targets *t = notify_targets(n);
        struct audit_head *h;
        int rc;

        *out = NULL;
        if (!wanted(t))
                return 0;
        h = mem_calloc(1, sizeof *h);
        if (!h)
                return err_set(e, E_NOMEM, "no memory for the audit's head");
        rc = store_reader_open(s, &h->reader, e);
        if (rc) {
                mem_free(h);
                return rc;
        }
        h->clock = clock;
        h->store = s;
        h->notify = n;
        uv_timer_init(loop, &h->timer);
        h->timer.data = h;
        uv_timer_start(&h->timer, on_timer, FIRST_MS, (uint64_t)t->audit_head_ms);
        *out = h;
        return 0;
}

static void on_closed(uv_handle_t *t)
{
        mem_free(t->data);
}

void audit_head_stop(struct audit_head *h)
{
        if (!h)
                return;
        store_reader_close(h->reader);
        uv_close((uv_handle_t *)&h->timer, on_closed);
}
