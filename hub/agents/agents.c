#include "hub/agents/agents_impl.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "hub/store/store.h"

#include <string.h>

#define AGENTS_MAX_DEFAULT   10000
#define HEARTBEAT_DEFAULT_MS 15000
#define GRACE_DEFAULT_MS     10000
#define TIMERS               3
#define JOIN_BURST           50 /* failed joins from one address, then one each ... */
#define JOIN_REFILL_MS       1000

int64_t agents_now_us(const struct agents *a)
{
        return clock_now_us(a->opt.clock);
}

int64_t agents_mono_ms(const struct agents *a)
{
        return clock_mono_ms(a->opt.clock);
}

bool agents_tell_stranger(struct agents *a)
{
        if (!bucket_take(&a->stranger_lines, STRANGER_BURST, STRANGER_REFILL_MS, agents_mono_ms(a))) {
                a->untold++;
                return false;
        }
        if (a->untold)
                log_warn(AREA, "more strangers came than are written down here", "left_out=%lu", a->untold);
        a->untold = 0;
        return true;
}

/* ---- ops ---- */

void op_start(struct agents *a, struct op *op)
{
        op->a = a;
        list_push_back(&a->ops, &op->link);
}

void op_end(struct op *op)
{
        if (op->a)
                list_remove(&op->link);
        op->a = NULL;
}

/* ---- timers ---- */

/* TLS looks at a certificate once; one that was never renewed must not keep its connection for ever. */
static bool expired(struct agents *a, struct session *s)
{
        const struct agent_record *r = auth_agent(a->opt.auth, s->agent_id);

        if (!r || r->cert_not_after_us > agents_now_us(a))
                return false;
        log_warn(AREA, "agent's certificate expired, its connection is closed", "agent=%s addr=%s", s->name,
                 s->address);
        session_cut(s, E_UNAUTH, "the certificate of this agent expired and was not renewed: rejoin");
        return true;
}

/* last_seen of those who are connected, in one transaction. */
static void seen_tick(struct agents *a, int64_t now_ms)
{
        struct store_tx *tx = NULL;
        int left = SEEN_BATCH;

        LIST_EACH (it, &a->sessions) {
                struct session *s = container_of(it, struct session, link);

                if (s->state != SESSION_READY || now_ms - s->seen_ms < SEEN_MS || expired(a, s))
                        continue;
                if (!tx)
                        tx = store_begin(a->opt.store);
                session_seen(s, tx, NULL);
                if (--left == 0)
                        break;
        }
        if (tx)
                auth_commit(a->opt.auth, tx, NULL, NULL);
}

static void on_tick(uv_timer_t *t)
{
        struct agents *a = t->data;
        int64_t now_ms = agents_mono_ms(a);

        enroll_tick(a, now_ms);
        seen_tick(a, now_ms);
        if (list_empty(&a->enrolling) && list_empty(&a->sessions))
                uv_timer_stop(t);
}

static void on_sync_timer(uv_timer_t *t)
{
        attempts_sync_tick(t->data);
}

static void on_stall_timer(uv_timer_t *t)
{
        attempts_stall_tick(t->data);
}

static void arm(uv_timer_t *t, uv_timer_cb cb, uint64_t after_ms, uint64_t every_ms)
{
        if (!uv_is_active((uv_handle_t *)t) && !uv_is_closing((uv_handle_t *)t))
                uv_timer_start(t, cb, after_ms, every_ms);
}

void agents_arm_sync(struct agents *a)
{
        arm(&a->sync_timer, on_sync_timer, SYNC_MS, 0);
}

void agents_arm_stall(struct agents *a)
{
        arm(&a->stall_timer, on_stall_timer, STALL_MS, 0);
}

void agents_arm_tick(struct agents *a)
{
        arm(&a->tick, on_tick, TICK_MS, TICK_MS);
}

static void timers_open(struct agents *a)
{
        uv_timer_t *all[TIMERS] = {&a->tick, &a->sync_timer, &a->stall_timer};

        for (int i = 0; i < TIMERS; i++) {
                uv_timer_init(a->opt.loop, all[i]);
                all[i]->data = a;
        }
        a->timers_open = TIMERS;
}

/* ---- life ---- */

static int parts_create(struct agents *a, struct err *e)
{
        a->by_agent = map_create();
        if (!a->by_agent || rate_create(JOIN_BURST, JOIN_REFILL_MS, &a->failed_joins))
                return err_set(e, E_NOMEM, "no memory");
        return pki_pem_to_der("CERTIFICATE", a->opt.ca->ca_cert_pem, &a->ca_der, &a->ca_der_len, e);
}

int agents_create(const struct agents_options *o, struct agents **out, struct err *e)
{
        struct agents *a = mem_calloc(1, sizeof *a);
        int rc;

        if (!a)
                return err_set(e, E_NOMEM, "no memory");
        a->opt = *o;
        if (!a->opt.max_agents)
                a->opt.max_agents = AGENTS_MAX_DEFAULT;
        if (a->opt.heartbeat_ms <= 0)
                a->opt.heartbeat_ms = HEARTBEAT_DEFAULT_MS;
        if (a->opt.cancel_grace_ms <= 0)
                a->opt.cancel_grace_ms = GRACE_DEFAULT_MS;
        list_init(&a->sessions);
        list_init(&a->dirty);
        list_init(&a->enrolling);
        list_init(&a->ops);
        list_init(&a->unsynced);
        list_init(&a->stalled);
        list_init(&a->spare_notes);
        buf_init(&a->frame, 0);
        rc = parts_create(a, e);
        if (rc) {
                agents_free(a);
                return rc;
        }
        timers_open(a);
        *out = a;
        return 0;
}

struct engine_wire agents_wire(struct agents *a)
{
        return session_wire(a);
}

void agents_set_engine(struct agents *a, struct engine *en)
{
        a->engine = en;
}

int agents_listen(struct agents *a, struct err *e)
{
        return listener_open(a, e);
}

int agents_port(const struct agents *a)
{
        return a->agent_ll ? link_listener_port(a->agent_ll) : 0;
}

int agents_enroll_port(const struct agents *a)
{
        return a->enroll_ll ? link_listener_port(a->enroll_ll) : 0;
}

void agents_flush(struct agents *a)
{
        struct list *it;

        while ((it = list_pop(&a->dirty)))
                session_flush(container_of(it, struct session, dirty));
}

size_t agents_online(const struct agents *a)
{
        return map_count(a->by_agent);
}

/* ---- end ---- */

void agents_maybe_closed(struct agents *a)
{
        void (*on_closed)(void *) = a->on_closed;

        if (!a->closing || !list_empty(&a->sessions) || !list_empty(&a->enrolling) || a->works ||
            a->timers_open || !on_closed)
                return;
        a->on_closed = NULL;
        on_closed(a->on_closed_arg);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct agents *a = h->data;

        a->timers_open--;
        agents_maybe_closed(a);
}

void agents_close(struct agents *a, int grace_ms, void (*on_closed)(void *arg), void *arg)
{
        a->closing = true;
        a->on_closed = on_closed;
        a->on_closed_arg = arg;
        listener_close(a);
        LIST_EACH_SAFE (it, next, &a->sessions) {
                struct session *s = container_of(it, struct session, link);

                /* What the turn decided still goes out. */
                session_flush(s);
                session_down(s);
                rpc_conn_close(s->conn, grace_ms, E_UNAVAIL, "the hub stops; it will be back");
        }
        LIST_EACH_SAFE (it, next, &a->enrolling) {
                struct enroll_conn *ec = container_of(it, struct enroll_conn, link);

                rpc_conn_close(ec->conn, grace_ms, E_UNAVAIL, "the hub stops; try again");
        }
        uv_close((uv_handle_t *)&a->tick, on_timer_closed);
        uv_close((uv_handle_t *)&a->sync_timer, on_timer_closed);
        uv_close((uv_handle_t *)&a->stall_timer, on_timer_closed);
}

void agents_free(struct agents *a)
{
        struct list *it;

        if (!a)
                return;
        while ((it = list_pop(&a->ops)))
                container_of(it, struct op, link)->a = NULL;
        while ((it = list_pop(&a->spare_notes)))
                mem_free(container_of(it, struct op, link));
        map_free(a->by_agent);
        rate_free(a->failed_joins);
        mem_free(a->ca_der);
        buf_fini(&a->frame);
        mem_free(a);
}
