#include "agent/stepguard.h"

#include <stdbool.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/id.h"
#include "common/mac.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/stepsign.h"

struct step_guard {
        struct clock clock;
        uint8_t nonce[STEP_NONCE_LEN];
        struct mac *mac; /* NULL: no grant, or a bad one */
        struct err why;  /* of that */
        uint64_t last;   /* highest number taken */
        int64_t at_us, asked_ms;
};

int step_guard_create(const struct clock *clock, struct step_guard **out)
{
        struct step_guard *g = mem_calloc(1, sizeof *g);

        if (!g)
                return -E_NOMEM;
        g->clock = *clock;
        id_random(g->nonce, sizeof g->nonce);
        err_set(&g->why, E_DENIED,
                "this hub does not sign the steps it sends, and this agent runs no others; upgrade the hub");
        *out = g;
        return 0;
}

void step_guard_free(struct step_guard *g)
{
        if (!g)
                return;
        mac_free(g->mac);
        mem_free(g);
}

void step_guard_ask(struct step_guard *g, Photon__V1__HelloRequest *m)
{
        m->step_nonce.data = g->nonce;
        m->step_nonce.len = sizeof g->nonce;
        g->asked_ms = clock_mono_ms(&g->clock);
}

static int verify(const struct step_guard *g, const char *ca_pem, const char *agent_id,
                  const Photon__V1__StepGrant *t, struct err *e)
{
        struct buf b;
        int rc;

        if (t->key.len != STEP_KEY_LEN || t->certificate.len == 0 || t->signature.len == 0)
                return err_set(e, E_DENIED, "the hub's grant for steps is malformed");
        /* By the hub's time, which the signature covers: this machine's clock may be wrong, and TLS has
         * compared it already. */
        rc = pki_cert_verify(t->certificate.data, t->certificate.len, ca_pem, PKI_SIGNER, t->at_us, e);
        if (rc)
                return rc;
        buf_init(&b, 0);
        rc = stepsign_grant(agent_id, g->nonce, t->key.data, t->at_us, &b);
        if (rc)
                err_set(e, -rc, "no memory");
        else
                rc = pki_cert_verify_sig(t->certificate.data, t->certificate.len, b.data, b.len,
                                         t->signature.data, t->signature.len, e);
        buf_fini(&b);
        return rc;
}

int step_guard_take(struct step_guard *g, const char *ca_pem, const char *agent_id,
                    const Photon__V1__StepGrant *t, struct err *e)
{
        struct err why = {0};
        int rc = 0;

        if (!t) {
                if (e)
                        *e = g->why;
                return -E_DENIED;
        }
        rc = verify(g, ca_pem, agent_id, t, &why);
        if (!rc && !(g->mac = mac_create(t->key.data)))
                rc = err_set(&why, E_NOMEM, "no memory");
        if (rc)
                rc = err_set(&g->why, E_DENIED, "steps are refused: %.400s", why.msg);
        g->at_us = t->at_us;
        if (rc && e)
                *e = g->why;
        return rc;
}

const char *step_guard_check(struct step_guard *g, const Photon__V1__StepStart *m, const uint8_t *raw,
                             size_t n, struct err *e)
{
        int64_t now_us;

        if (!g->mac) {
                *e = g->why;
                return "step_signature";
        }
        if (!raw || !stepsign_holds(g->mac, raw, n)) {
                err_set(e, E_DENIED,
                        "the step is not signed by the hub for this session: nothing was run. Its bytes were "
                        "changed, or it was recorded elsewhere");
                return "step_signature";
        }
        if (m->order <= g->last) {
                err_set(e, E_DENIED,
                        "the step is a repetition of one that came before in this session (number %llu, "
                        "last was %llu)",
                        (unsigned long long)m->order, (unsigned long long)g->last);
                return "step_replayed";
        }
        g->last = m->order;
        now_us = g->at_us + (clock_mono_ms(&g->clock) - g->asked_ms) * 1000;
        if (now_us - m->sent_us > (int64_t)STEP_AGE_MAX_MS * 1000) {
                err_set(e, E_DENIED, "the step was sent %lld s ago; at most %d s are taken",
                        (long long)((now_us - m->sent_us) / 1000000), STEP_AGE_MAX_MS / 1000);
                return "step_stale";
        }
        return NULL;
}
