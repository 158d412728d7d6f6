/* Renew: a new certificate for the same key, over the live connection. */
#include "hub/agents/agents_impl.h"

#include "common/log.h"
#include "common/pki.h"
#include "common/secret.h"

#define RENEW_BURST     20
#define RENEW_REFILL_MS 60000

static void renew(struct session *s, struct rpc_call *c, const Photon__V1__RenewRequest *m)
{
        struct agents *a = s->a;
        uint8_t spki[SHA256_LEN];
        struct issue_request rq = {.csr = m->csr_der.data,
                                   .csr_len = m->csr_der.len,
                                   .address = s->address,
                                   .busy = &s->renewing};
        struct err e = {0};
        int rc;

        if (m->csr_der.len == 0 || m->csr_der.len > CSR_MAX)
                rc = err_set(&e, E_INVAL, "the signing request is missing or too long");
        else if (pki_csr_spki_sha256(m->csr_der.data, m->csr_der.len, spki, &e))
                rc = err_set(&e, E_INVAL, "the signing request is malformed or not for an ECDSA P-256 key");
        else
                rc = auth_rejoin(a->opt.auth, s->agent_id, spki, &rq.en, &e);
        if (rc) {
                log_warn(AREA, "renewal refused", "agent=%s addr=%s reason=\"%s\"", s->name, s->address,
                         e.msg);
                rpc_finish(c, -rc, e.msg);
                return;
        }
        /* The CSR is signed by its own key, which is the proof that is needed here: TLS has shown the rest.
         */
        issue_start(a, c, &rq);
}

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct session *s = arg;
        Photon__V1__RenewRequest *m;

        if (s->state == SESSION_DOWN)
                return;
        m = n <= ENROLL_MESSAGE_MAX
                    ? (Photon__V1__RenewRequest *)rpc_unpack(&photon__v1__renew_request__descriptor, p, n)
                    : NULL;
        if (!m) {
                session_violation(s, "a malformed RenewRequest");
                return;
        }
        renew(s, c, m);
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static const struct rpc_call_events events = {.on_message = on_message};

void on_renew(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        struct session *s = conn_arg;

        (void)conn;
        if (s->state != SESSION_GREETED && s->state != SESSION_READY)
                rpc_finish(c, E_STATE, "say Hello first");
        else if (s->renewing)
                rpc_finish(c, E_AGAIN, "a renewal is under way");
        else if (!bucket_take(&s->renewals, RENEW_BURST, RENEW_REFILL_MS, agents_mono_ms(s->a)))
                rpc_finish(c, E_FULL, "too many renewals; wait a minute");
        else
                rpc_set_events(c, &events, s);
}
