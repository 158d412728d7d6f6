/* The Enroll service, for strangers: GetCa, Challenge, then Redeem or Rejoin. What a stranger may cost:
 * one of 64 connections for ten seconds, eight small calls, and no signature before the proof was right. When
 * all are taken, the address that has the most loses its oldest: who holds on to many stands in his own way
 * only. */
#include "hub/agents/agents_impl.h"

#include "common/id.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "hub/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DENIED_AUDIT_BURST  100 /* refusals written to the audit: so many at once, then one each ... */
#define DENIED_AUDIT_REFILL 1000

struct enroll_conn *enroll_create(struct agents *a)
{
        struct enroll_conn *ec = mem_calloc(1, sizeof *ec);

        if (!ec)
                return NULL;
        ec->a = a;
        ec->deadline_ms = agents_mono_ms(a) + ENROLL_DEADLINE_MS;
        list_push_back(&a->enrolling, &ec->link);
        agents_arm_tick(a);
        return ec;
}

void enroll_free(struct enroll_conn *ec)
{
        list_remove(&ec->link);
        mem_wipe(ec->nonce, sizeof ec->nonce);
        mem_free(ec);
}

static void close_one(struct enroll_conn *ec, int code, const char *why)
{
        ec->deadline_ms = INT64_MAX;
        list_remove(&ec->link);
        list_push_back(&ec->a->enrolling, &ec->link);
        rpc_conn_close(ec->conn, 0, code, why);
}

/* The silent ones are the listener's concern. */
static bool counts(const struct enroll_conn *ec)
{
        return ec->deadline_ms != INT64_MAX && !link_is_silent(ec->l);
}

static size_t of_same_address(const struct enroll_conn *one)
{
        size_t n = 0;

        LIST_EACH (it, &one->a->enrolling) {
                const struct enroll_conn *ec = container_of(it, struct enroll_conn, link);

                n += counts(ec) && memcmp(ec->key, one->key, sizeof ec->key) == 0;
        }
        return n;
}

void enroll_make_room(struct agents *a)
{
        struct enroll_conn *victim = NULL;
        size_t n = 0, most = 0;

        LIST_EACH (it, &a->enrolling)
                n += counts(container_of(it, struct enroll_conn, link));
        if (n < ENROLL_CONNS_MAX)
                return;
        LIST_EACH (it, &a->enrolling) {
                struct enroll_conn *ec = container_of(it, struct enroll_conn, link);
                size_t same = counts(ec) ? of_same_address(ec) : 0;

                if (same > most) {
                        most = same;
                        victim = ec;
                }
        }
        if (victim)
                close_one(victim, E_FULL, "too many connections wait to join from this address; try again");
}

void enroll_tick(struct agents *a, int64_t now_ms)
{
        LIST_EACH_SAFE (it, next, &a->enrolling) {
                struct enroll_conn *ec = container_of(it, struct enroll_conn, link);

                /* Oldest first. */
                if (ec->deadline_ms > now_ms)
                        break;
                close_one(ec, E_TIMEOUT, "joining took longer than 10 s; try again");
        }
}

/* ---- one request of one call ---- */

struct request {
        struct enroll_conn *ec;
        void (*handle)(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n);
        bool said;
};

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct request *r = arg;

        if (r->said)
                return;
        r->said = true;
        if (n > ENROLL_MESSAGE_MAX)
                rpc_finish(c, E_TOOBIG, "the request is too long");
        else
                r->handle(r->ec, c, p, n);
}

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)st;
        mem_free(arg);
}

static const struct rpc_call_events events = {.on_message = on_message, .on_end = on_end};

static void begin(struct rpc_call *c, struct enroll_conn *ec,
                  void (*handle)(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n))
{
        struct request *r;

        if (++ec->calls > ENROLL_CALLS_MAX) {
                rpc_finish(c, E_FULL, "too many calls on this connection; connect again");
                return;
        }
        r = mem_calloc(1, sizeof *r);
        if (!r) {
                rpc_finish(c, E_NOMEM, "the hub is out of memory");
                return;
        }
        r->ec = ec;
        r->handle = handle;
        rpc_set_events(c, &events, r);
}

/* issue_start takes the call's events, and with them this request's end. */
static void issue(struct agents *a, struct rpc_call *c, struct issue_request *rq)
{
        mem_free(rpc_call_arg(c));
        rpc_set_events(c, NULL, NULL);
        issue_start(a, c, rq);
}

/* ---- GetCa, Challenge ---- */

static void get_ca(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n)
{
        Photon__V1__GetCaReply m = PHOTON__V1__GET_CA_REPLY__INIT;

        (void)p;
        (void)n;
        m.ca_der.data = ec->a->ca_der;
        m.ca_der.len = ec->a->ca_der_len;
        rpc_reply(c, &m.base);
}

static void challenge(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n)
{
        Photon__V1__ChallengeReply m = PHOTON__V1__CHALLENGE_REPLY__INIT;

        (void)p;
        (void)n;
        id_random(ec->nonce, sizeof ec->nonce);
        ec->has_nonce = true;
        m.nonce.data = ec->nonce;
        m.nonce.len = sizeof ec->nonce;
        rpc_reply(c, &m.base);
}

/* The nonce is spent, whatever comes of it. */
static bool take_nonce(struct enroll_conn *ec, uint8_t out[32])
{
        bool had = ec->has_nonce;

        memcpy(out, ec->nonce, sizeof ec->nonce);
        mem_wipe(ec->nonce, sizeof ec->nonce);
        ec->has_nonce = false;
        return had;
}

/* true: too many refusals came from there. */
static bool held_off(struct enroll_conn *ec, struct rpc_call *c)
{
        int64_t wait = rate_wait(ec->a->failed_joins, ec->address, agents_mono_ms(ec->a));
        char why[128];

        if (!wait)
                return false;
        snprintf(why, sizeof why, "too many refused requests from this address; try again in %" PRId64 " s",
                 wait / 1000 + 1);
        rpc_finish(c, E_FULL, why);
        return true;
}

/* A person looks for this: who knocked, why not. `subject`: token or agent id as it was claimed. */
static void refused(struct enroll_conn *ec, struct rpc_call *c, struct store_tx *tx, const char *action,
                    const char *subject, int rc, const struct err *e)
{
        struct agents *a = ec->a;
        int64_t now_ms = agents_mono_ms(a);

        if (agents_tell_stranger(a))
                log_warn(AREA, "join refused", "addr=%s id=%.40s reason=\"%s\"", ec->address, subject,
                         e->msg);
        if (rc == -E_DENIED) {
                rate_take(a->failed_joins, ec->address, now_ms);
                if (bucket_take(&a->denied_audits, DENIED_AUDIT_BURST, DENIED_AUDIT_REFILL, now_ms)) {
                        cJSON *o = cJSON_CreateObject();
                        char id[41], *detail = NULL;

                        snprintf(id, sizeof id, "%s", subject);
                        if (o && cJSON_AddStringToObject(o, "address", ec->address) &&
                            cJSON_AddStringToObject(o, "reason", e->msg))
                                detail = json_text(o);
                        store_put_audit(tx, agents_now_us(a), "stranger", action, id, detail);
                        mem_free(detail);
                        cJSON_Delete(o);
                }
        }
        auth_commit(a->opt.auth, tx, NULL, NULL);
        rpc_finish(c, -rc, e->msg);
}

/* ---- Redeem ---- */

static cJSON *labels_of(Photon__V1__Label **labels, size_t n)
{
        cJSON *o = n <= LABELS_MAX ? cJSON_CreateObject() : NULL;

        for (size_t i = 0; o && i < n; i++) {
                cJSON_DeleteItemFromObjectCaseSensitive(o, labels[i]->key);
                if (!cJSON_AddStringToObject(o, labels[i]->key, labels[i]->value)) {
                        cJSON_Delete(o);
                        o = NULL;
                }
        }
        return o;
}

static void redeem_known(struct enroll_conn *ec, struct rpc_call *c, const Photon__V1__RedeemRequest *m,
                         const uint8_t nonce[32])
{
        struct agents *a = ec->a;
        struct store_tx *tx = store_begin(a->opt.store);
        cJSON *labels = labels_of(m->labels, m->n_labels);
        const struct redeem_request q = {
                .token_id = m->token_id,
                .proof = m->proof.data,
                .proof_len = m->proof.len,
                .nonce = nonce,
                .csr = m->csr_der.data,
                .csr_len = m->csr_der.len,
                .name = m->name,
                .hostname = m->hostname,
                .labels = labels,
        };
        struct issue_request rq = {.csr = q.csr, .csr_len = q.csr_len, .address = ec->address};
        struct err e = {0};
        int rc = labels ? auth_redeem(a->opt.auth, tx, &q, &rq.en, &e)
                        : err_set(&e, E_INVAL, "more than %d labels", LABELS_MAX);

        cJSON_Delete(labels);
        if (rc) {
                refused(ec, c, tx, "agent.enroll_denied", m->token_id, rc, &e);
                return;
        }
        /* The use is on its way to disk before the certificate is made; the same key may come back for a lost
         * one. */
        auth_commit(a->opt.auth, tx, NULL, NULL);
        log_info(AREA, "agent enrolled", "agent=%s id=%s token=%.40s addr=%s again=%d", rq.en.name,
                 rq.en.agent_id, m->token_id, ec->address, rq.en.again);
        issue(a, c, &rq);
}

static void redeem(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n)
{
        Photon__V1__RedeemRequest *m;
        uint8_t nonce[32];

        if (held_off(ec, c))
                return;
        m = (Photon__V1__RedeemRequest *)rpc_unpack(&photon__v1__redeem_request__descriptor, p, n);
        if (!m)
                rpc_finish(c, E_INVAL, "a malformed request");
        else if (!take_nonce(ec, nonce))
                rpc_finish(c, E_STATE, "ask for a Challenge first; each is good for one request");
        else if (m->csr_der.len == 0 || m->csr_der.len > CSR_MAX)
                rpc_finish(c, E_INVAL, "the signing request is missing or too long");
        else
                redeem_known(ec, c, m, nonce);
        if (m)
                protobuf_c_message_free_unpacked(&m->base, NULL);
}

/* ---- Rejoin ---- */

static void rejoin_known(struct enroll_conn *ec, struct rpc_call *c, const Photon__V1__RejoinRequest *m,
                         const uint8_t nonce[32])
{
        struct agents *a = ec->a;
        uint8_t spki[SHA256_LEN], text[32 + SHA256_LEN];
        struct issue_request rq = {
                .csr = m->csr_der.data,
                .csr_len = m->csr_der.len,
                .sig = m->signature.data,
                .sig_len = m->signature.len,
                .signed_text = text,
                .signed_len = sizeof text,
                .blame = a->failed_joins,
                .address = ec->address,
        };
        struct err e = {0};
        int rc = pki_csr_spki_sha256(m->csr_der.data, m->csr_der.len, spki, &e);

        if (rc)
                rc = err_set(&e, E_DENIED, "the signing request is malformed or not for an ECDSA P-256 key");
        else
                rc = auth_rejoin(a->opt.auth, m->agent_id, spki, &rq.en, &e);
        if (rc) {
                refused(ec, c, store_begin(a->opt.store), "agent.rejoin_denied", m->agent_id, rc, &e);
                return;
        }
        memcpy(text, nonce, 32);
        secret_sha256(m->csr_der.data, m->csr_der.len, text + 32);
        issue(a, c, &rq);
}

static void rejoin(struct enroll_conn *ec, struct rpc_call *c, const uint8_t *p, size_t n)
{
        Photon__V1__RejoinRequest *m;
        uint8_t nonce[32];

        if (held_off(ec, c))
                return;
        m = (Photon__V1__RejoinRequest *)rpc_unpack(&photon__v1__rejoin_request__descriptor, p, n);
        if (!m)
                rpc_finish(c, E_INVAL, "a malformed request");
        else if (!take_nonce(ec, nonce))
                rpc_finish(c, E_STATE, "ask for a Challenge first; each is good for one request");
        else if (m->csr_der.len == 0 || m->csr_der.len > CSR_MAX || m->signature.len == 0 ||
                 m->signature.len > 256)
                rpc_finish(c, E_INVAL, "the signing request or its signature is missing or too long");
        else
                rejoin_known(ec, c, m, nonce);
        if (m)
                protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void on_get_ca(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        (void)conn;
        begin(c, conn_arg, get_ca);
}

static void on_challenge(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        (void)conn;
        begin(c, conn_arg, challenge);
}

static void on_redeem(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        (void)conn;
        begin(c, conn_arg, redeem);
}

static void on_rejoin(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        (void)conn;
        begin(c, conn_arg, rejoin);
}

const struct rpc_service_method enroll_methods[] = {
        {"photon.v1.Enroll/GetCa", on_get_ca, false},
        {"photon.v1.Enroll/Challenge", on_challenge, false},
        {"photon.v1.Enroll/Redeem", on_redeem, false},
        {"photon.v1.Enroll/Rejoin", on_rejoin, false},
        {NULL, NULL, false},
};
