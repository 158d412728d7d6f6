/* A certificate in the making: signature checked and certificate signed on the uv pool, noted in the
 * store, and only then given out. A lost reply costs nothing: the same key may ask again. */
#include "hub/agents/agents_impl.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

#define SIG_MAX    256
#define SIGNED_MAX 64

struct issue {
        struct op op;
        uv_work_t work;
        struct rpc_call *call; /* NULL: gone */
        bool *busy;
        struct rate *blame;
        char address[64];
        struct enrolled en;
        /* Read by the pool's thread. */
        const struct ca *ca;
        int64_t now_us, life_ms;
        uint8_t csr[CSR_MAX], sig[SIG_MAX], signed_text[SIGNED_MAX];
        size_t csr_len, sig_len, signed_len;
        /* Written by it. */
        int rc;
        struct err e;
        uint8_t *der;
        size_t der_len;
        int64_t not_after_us;
        char serial[41];
};

static void issue_free(struct issue *i)
{
        enrolled_fini(&i->en);
        mem_free(i->der);
        mem_free(i);
}

static void answer(struct issue *i, int rc, const char *why)
{
        struct rpc_call *c = i->call;

        if (c && rc)
                rpc_finish(c, -rc, why);
}

/* ---- the call may end before its certificate is ready ---- */

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct issue *i = arg;

        (void)c;
        (void)st;
        if (i->busy)
                *i->busy = false;
        i->busy = NULL;
        i->call = NULL;
        /* Under way: the last step frees. */
        if (!i->op.a && !i->ca)
                issue_free(i);
}

static const struct rpc_call_events events = {.on_end = on_end};

/* Nothing is under way any more; freed now, or when the call has ended. */
static void issue_over(struct issue *i)
{
        op_end(&i->op);
        i->ca = NULL;
        if (!i->call)
                issue_free(i);
}

/* ---- reply ---- */

static void reply(struct issue *i)
{
        struct agents *a = i->op.a;
        Photon__V1__CertificateReply m = PHOTON__V1__CERTIFICATE_REPLY__INIT;
        Photon__V1__Label rows[LABELS_MAX], *ptrs[LABELS_MAX];
        const cJSON *l;
        size_t n = 0;

        cJSON_ArrayForEach(l, i->en.labels)
        {
                if (n == LABELS_MAX || !cJSON_IsString(l))
                        continue;
                photon__v1__label__init(&rows[n]);
                rows[n].key = l->string;
                rows[n].value = l->valuestring;
                ptrs[n] = &rows[n];
                n++;
        }
        m.agent_id = i->en.agent_id;
        m.name = i->en.name;
        m.cert_der.data = i->der;
        m.cert_der.len = i->der_len;
        m.ca_der.data = a->ca_der;
        m.ca_der.len = a->ca_der_len;
        m.not_after_us = i->not_after_us;
        m.labels = ptrs;
        m.n_labels = n;
        if (rpc_reply(i->call, &m.base))
                answer(i, -E_UNAVAIL, "the certificate could not be sent; ask again");
}

static void on_committed(void *arg)
{
        struct issue *i = arg;

        if (i->op.a && i->call)
                reply(i);
        issue_over(i);
}

/* ---- the work ---- */

static void work(uv_work_t *w)
{
        struct issue *i = w->data;

        if (i->sig_len)
                i->rc = pki_csr_verify_sig(i->csr, i->csr_len, i->signed_text, i->signed_len, i->sig,
                                           i->sig_len, &i->e);
        if (!i->rc)
                i->rc = auth_issue(i->ca, i->en.agent_id, i->en.name, i->now_us, i->life_ms, i->csr,
                                   i->csr_len, &i->der, &i->der_len, &i->not_after_us, i->serial, &i->e);
}

static void after_work(uv_work_t *w, int status)
{
        struct issue *i = w->data;
        struct agents *a = i->op.a;
        struct store_tx *tx;

        a->works--;
        if (status && !i->rc)
                i->rc = err_set(&i->e, E_CANCELLED, "the hub stops; ask again");
        if (!i->rc && auth_agent(a->opt.auth, i->en.agent_id) &&
            strcmp(auth_agent(a->opt.auth, i->en.agent_id)->state, "revoked") == 0)
                i->rc = err_set(&i->e, E_DENIED, "agent %s was revoked", i->en.name);
        if (i->rc) {
                log_warn(AREA, "no certificate", "agent=%s addr=%s reason=\"%s\"", i->en.name, i->address,
                         i->e.msg);
                if (i->rc == -E_DENIED && i->blame)
                        rate_take(i->blame, i->address, agents_mono_ms(a));
                answer(i, i->rc, i->e.msg);
                issue_over(i);
        } else {
                tx = store_begin(a->opt.store);
                auth_act_as(a->opt.auth, i->en.agent_id);
                auth_note_certificate(a->opt.auth, tx, i->en.agent_id, i->serial, i->not_after_us);
                log_info(AREA, "certificate issued", "agent=%s serial=%s", i->en.name, i->serial);
                auth_commit(a->opt.auth, tx, on_committed, i);
        }
        agents_maybe_closed(a);
}

/* Takes rq->en. */
void issue_start(struct agents *a, struct rpc_call *c, struct issue_request *rq)
{
        struct issue *i = mem_calloc(1, sizeof *i);
        int rc;

        if (!i || rq->csr_len > CSR_MAX || rq->sig_len > SIG_MAX || rq->signed_len > SIGNED_MAX) {
                rpc_finish(c, i ? E_INVAL : E_NOMEM,
                           i ? "the signing request is too long" : "the hub is out of memory");
                enrolled_fini(&rq->en);
                mem_free(i);
                return;
        }
        i->work.data = i;
        i->call = c;
        i->en = rq->en;
        i->blame = rq->blame;
        i->ca = a->opt.ca;
        i->now_us = agents_now_us(a);
        i->life_ms = auth_cert_life_ms(a->opt.auth);
        snprintf(i->address, sizeof i->address, "%s", rq->address ? rq->address : "");
        memcpy(i->csr, rq->csr, rq->csr_len);
        i->csr_len = rq->csr_len;
        if (rq->sig) {
                memcpy(i->sig, rq->sig, rq->sig_len);
                i->sig_len = rq->sig_len;
                memcpy(i->signed_text, rq->signed_text, rq->signed_len);
                i->signed_len = rq->signed_len;
        }
        op_start(a, &i->op);
        rpc_set_events(c, &events, i);
        rc = uv_queue_work(a->opt.loop, &i->work, work, after_work);
        if (rc) {
                answer(i, -E_UNAVAIL, "the hub cannot sign now; ask again");
                issue_over(i);
                return;
        }
        a->works++;
        i->busy = rq->busy;
        if (i->busy)
                *i->busy = true;
}
