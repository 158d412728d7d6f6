/* What people do to agents: durable first, then acted on. Cutting a revoked agent off is the exception:
 * it is refused from the moment of the decision, even while the disk is full. */
#include "hub/agents/agents_impl.h"

#include "common/mem.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

enum change { CHANGE_REVOKE, CHANGE_DRAIN, CHANGE_UNDRAIN, CHANGE_LABEL };

struct change_op {
        struct op op;
        enum change what;
        char agent_id[32];
        engine_answer cb;
        void *arg;
};

static void act(struct agents *a, const struct change_op *o)
{
        struct session *s = session_of(a, o->agent_id);

        switch (o->what) {
        case CHANGE_REVOKE:
                if (s)
                        session_cut(s, E_DENIED, "this agent was revoked");
                if (a->engine)
                        engine_agent_gone(a->engine, o->agent_id);
                break;
        case CHANGE_DRAIN:
        case CHANGE_UNDRAIN:
                if (a->engine)
                        engine_agent_draining(a->engine, o->agent_id, o->what == CHANGE_DRAIN);
                if (s)
                        session_drain(s, o->what == CHANGE_DRAIN);
                break;
        case CHANGE_LABEL:
                inventory_refresh(a, o->agent_id);
                break;
        }
}

static void on_durable(void *arg)
{
        struct change_op *o = arg;

        if (o->op.a)
                act(o->op.a, o);
        op_end(&o->op);
        if (o->cb)
                o->cb(o->arg, 0, NULL);
        mem_free(o);
}

static int write_rows(struct agents *a, struct store_tx *tx, const struct change_op *o, const cJSON *set,
                      struct err *e)
{
        switch (o->what) {
        case CHANGE_REVOKE:
                return auth_agent_revoke(a->opt.auth, tx, o->agent_id, e);
        case CHANGE_DRAIN:
                return auth_agent_drain(a->opt.auth, tx, o->agent_id, true, e);
        case CHANGE_UNDRAIN:
                return auth_agent_drain(a->opt.auth, tx, o->agent_id, false, e);
        case CHANGE_LABEL:
                return auth_agent_label(a->opt.auth, tx, o->agent_id, set, e);
        }
        return err_set(e, E_INTERNAL, "no such change");
}

static void change(struct agents *a, const char *id_or_name, enum change what, const cJSON *set,
                   engine_answer cb, void *arg)
{
        const struct agent_record *r = auth_agent(a->opt.auth, id_or_name);
        struct change_op *o = r ? mem_calloc(1, sizeof *o) : NULL;
        struct store_tx *tx = NULL;
        struct session *s;
        struct err e = {0};
        int rc;

        if (!r) {
                rc = err_set(&e, E_NOENT, "there is no agent \"%.80s\"", id_or_name);
        } else if (!o) {
                rc = err_set(&e, E_NOMEM, "the hub is out of memory");
        } else {
                o->what = what;
                o->cb = cb;
                o->arg = arg;
                snprintf(o->agent_id, sizeof o->agent_id, "%s", r->id);
                tx = store_begin(a->opt.store);
                rc = write_rows(a, tx, o, set, &e);
        }
        if (rc) {
                if (tx)
                        store_abandon(tx);
                mem_free(o);
                if (cb)
                        cb(arg, rc, &e);
                return;
        }
        op_start(a, &o->op);
        s = session_of(a, o->agent_id);
        if (what == CHANGE_REVOKE && s)
                session_cut(s, E_DENIED, "this agent was revoked");
        auth_commit(a->opt.auth, tx, on_durable, o);
}

void agents_revoke(struct agents *a, const char *id_or_name, engine_answer cb, void *arg)
{
        change(a, id_or_name, CHANGE_REVOKE, NULL, cb, arg);
}

void agents_drain(struct agents *a, const char *id_or_name, bool on, engine_answer cb, void *arg)
{
        change(a, id_or_name, on ? CHANGE_DRAIN : CHANGE_UNDRAIN, NULL, cb, arg);
}

void agents_label(struct agents *a, const char *id_or_name, const cJSON *set, engine_answer cb, void *arg)
{
        change(a, id_or_name, CHANGE_LABEL, set, cb, arg);
}
