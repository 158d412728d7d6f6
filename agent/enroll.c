#include "agent/enroll.h"

#include "agent/backoff.h"
#include "agent/identity.h"
#include "agent/inventory.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/jointoken.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/rpc.h"
#include "common/secret.h"
#include "common/version.h"
#include "photon/v1/enroll.pb-c.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum phase { PHASE_WAIT, PHASE_CA, PHASE_VERIFIED, PHASE_DONE };

struct enroller {
        struct enroller_options o;
        struct join_token token;
        char *name;
        enum phase phase;
        struct backoff backoff;
        struct rpc_conn *conn;
        bool advance; /* the connection may close, the next phase begins */
        bool final;   /* the hub said no */
        bool cancelled;
        struct err why; /* of the try that fails */
        char said[512]; /* last trouble that was logged */
        uint8_t *ca_der;
        size_t ca_len;
        char *ca_pem;
        uint8_t *csr;
        size_t csr_len;
        uint8_t csr_hash[32];
        int64_t started_ms;
        uv_timer_t timer;
};

static void try_again(struct enroller *en);
static void connect_to_hub(struct enroller *en, enum phase phase);

static void on_timer_closed(uv_handle_t *h)
{
        struct enroller *en = h->data;

        join_token_wipe(&en->token);
        mem_free(en->name);
        mem_free(en->ca_der);
        mem_free(en->ca_pem);
        mem_free(en->csr);
        mem_free(en);
}

static void end(struct enroller *en, int rc)
{
        void (*done)(void *, int, const struct err *) = en->cancelled ? NULL : en->o.on_done;
        void *arg = en->o.arg;
        struct err why = en->why;

        en->phase = PHASE_DONE;
        uv_close((uv_handle_t *)&en->timer, on_timer_closed);
        if (done)
                done(arg, rc, &why);
}

/* The try is over. With a connection still there the rest happens in on_close. */
static void fail(struct enroller *en, bool final, int code, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void fail(struct enroller *en, bool final, int code, const char *fmt, ...)
{
        va_list ap;

        if (en->why.code == 0) {
                va_start(ap, fmt);
                err_setv(&en->why, code, fmt, ap);
                va_end(ap);
                en->final = final;
        }
        if (en->conn)
                rpc_conn_close(en->conn, 0, 0, "enrolment ends");
        else
                try_again(en);
}

static bool gave_up(const struct enroller *en)
{
        return en->o.give_up_ms > 0 && clock_mono_ms(en->o.clock) - en->started_ms >= en->o.give_up_ms;
}

static void on_retry(uv_timer_t *t)
{
        struct enroller *en = t->data;

        memset(&en->why, 0, sizeof en->why);
        connect_to_hub(en, en->o.token ? PHASE_CA : PHASE_VERIFIED);
}

static void try_again(struct enroller *en)
{
        uint64_t wait;

        if (en->cancelled || en->final) {
                end(en, -en->why.code);
                return;
        }
        if (gave_up(en)) {
                struct err last = en->why;

                err_set(&en->why, E_UNAVAIL, "the hub could not be reached at %s: %s", en->o.id->enroll_addr,
                        last.msg);
                end(en, -E_UNAVAIL);
                return;
        }
        if (strcmp(en->said, en->why.msg) != 0) {
                memcpy(en->said, en->why.msg, sizeof en->said);
                log_warn("enroll", "not yet, trying again", "hub=%s error=%s", en->o.id->enroll_addr,
                         en->why.msg);
        }
        en->phase = PHASE_WAIT;
        wait = backoff_next_ms(&en->backoff);
        if (en->o.give_up_ms > 0) {
                int64_t left = en->started_ms + en->o.give_up_ms - clock_mono_ms(en->o.clock);

                if (left < (int64_t)wait)
                        wait = left > 0 ? (uint64_t)left : 0;
        }
        uv_timer_start(&en->timer, on_retry, wait, 0);
}

/* Which of the hub's answers no repetition will change. */
static bool is_refusal(int code)
{
        switch (abs(code)) {
        case E_DENIED:
        case E_UNAUTH:
        case E_INVAL:
        case E_NOENT:
        case E_EXIST:
        case E_STATE:
        case E_NOTSUP:
        case E_VERSION:
        case E_TOOBIG:
                return true;
        default:
                return false;
        }
}

static bool says_what_to_do(const char *message)
{
        return strstr(message, "photon token create") || strstr(message, "choose");
}

static void refused(struct enroller *en, const struct rpc_status *st)
{
        bool final = is_refusal(st->code);

        if (!final)
                fail(en, false, abs(st->code), "the hub answered: %s", st->message);
        else if (en->o.token)
                fail(en, true, abs(st->code), "the hub refused to let this machine join: %s%s", st->message,
                     says_what_to_do(st->message)
                             ? ""
                             : "; ask its operator for a new join token (photon token create)");
        else
                fail(en, true, abs(st->code),
                     "the hub refused to renew this agent's expired certificate: %s; if the agent was "
                     "revoked, join "
                     "again with a new token (photon-agent join --replace)",
                     st->message);
}

static void on_certificate(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct enroller *en = arg;
        Photon__V1__CertificateReply *r;
        struct err e = {0};
        int rc;

        if (en->cancelled || en->why.code)
                return;
        if (st->code) {
                refused(en, st);
                return;
        }
        r = (Photon__V1__CertificateReply *)rpc_unpack(&photon__v1__certificate_reply__descriptor, p, n);
        if (!r) {
                fail(en, false, E_PROTO, "the hub's certificate answer is malformed");
                return;
        }
        rc = identity_accept(en->o.id, r, en->ca_der, en->ca_len, clock_now_us(en->o.clock), &e);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        if (rc) {
                /* A full disk may become better, a wrong certificate does not. */
                bool final = rc == -E_DENIED || rc == -E_INVAL || rc == -E_PROTO;

                fail(en, final, -rc, "the hub's certificate cannot be used: %s", e.msg);
                return;
        }
        en->advance = true;
        rpc_conn_close(en->conn, 500, 0, "enrolled");
}

static int redeem(struct enroller *en, const uint8_t *transcript, size_t n, struct err *e)
{
        Photon__V1__RedeemRequest m = PHOTON__V1__REDEEM_REQUEST__INIT;
        uint8_t proof[SHA256_LEN];
        char host[256] = "";
        int rc;

        rc = inventory_labels(&en->o.labels, en->o.labels ? 1 : 0, &m.labels, &m.n_labels, e);
        if (rc)
                return rc;
        secret_proof(en->token.secret, en->token.secret_len, transcript, n, proof);
        if (gethostname(host, sizeof host - 1))
                host[0] = '\0';
        m.token_id = en->token.id;
        m.proof.data = proof;
        m.proof.len = sizeof proof;
        m.csr_der.data = en->csr;
        m.csr_der.len = en->csr_len;
        m.hostname = host;
        if (en->name)
                m.name = en->name;
        rc = rpc_unary(en->conn, "photon.v1.Enroll/Redeem", &m.base, ENROLL_CALL_MS, on_certificate, en);
        inventory_labels_free(m.labels, m.n_labels);
        return rc;
}

static int rejoin(struct enroller *en, const uint8_t *transcript, size_t n, struct err *e)
{
        Photon__V1__RejoinRequest m = PHOTON__V1__REJOIN_REQUEST__INIT;
        int rc;

        rc = pki_sign(en->o.id->key_pem, transcript, n, &m.signature.data, &m.signature.len, e);
        if (rc)
                return rc;
        m.agent_id = en->o.id->agent_id;
        m.csr_der.data = en->csr;
        m.csr_der.len = en->csr_len;
        rc = rpc_unary(en->conn, "photon.v1.Enroll/Rejoin", &m.base, ENROLL_CALL_MS, on_certificate, en);
        mem_free(m.signature.data);
        return rc;
}

static void on_nonce(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct enroller *en = arg;
        Photon__V1__ChallengeReply *r;
        uint8_t transcript[64];
        struct err e = {0};
        int rc;

        if (en->cancelled || en->why.code)
                return;
        if (st->code) {
                refused(en, st);
                return;
        }
        r = (Photon__V1__ChallengeReply *)rpc_unpack(&photon__v1__challenge_reply__descriptor, p, n);
        if (!r || r->nonce.len != 32) {
                if (r)
                        protobuf_c_message_free_unpacked(&r->base, NULL);
                fail(en, false, E_PROTO, "the hub's challenge is malformed");
                return;
        }
        memcpy(transcript, r->nonce.data, 32);
        memcpy(transcript + 32, en->csr_hash, 32);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        rc = en->o.token ? redeem(en, transcript, sizeof transcript, &e)
                         : rejoin(en, transcript, sizeof transcript, &e);
        if (rc)
                fail(en, false, -rc, "cannot ask for a certificate: %s", e.msg[0] ? e.msg : err_name(rc));
}

/* Nothing but this leaves on the unverified connection. */
static void on_ca(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct enroller *en = arg;
        Photon__V1__GetCaReply *r;
        uint8_t hash[SHA256_LEN];
        bool same;

        if (en->cancelled || en->why.code)
                return;
        if (st->code) {
                refused(en, st);
                return;
        }
        r = (Photon__V1__GetCaReply *)rpc_unpack(&photon__v1__get_ca_reply__descriptor, p, n);
        if (!r || r->ca_der.len == 0) {
                if (r)
                        protobuf_c_message_free_unpacked(&r->base, NULL);
                fail(en, false, E_PROTO, "the hub's CA answer is malformed");
                return;
        }
        secret_sha256(r->ca_der.data, r->ca_der.len, hash);
        same = secret_equal(hash, en->token.ca_pin, sizeof hash);
        mem_free(en->ca_der);
        mem_free(en->ca_pem);
        en->ca_pem = NULL;
        en->ca_len = r->ca_der.len;
        en->ca_der = mem_dup(r->ca_der.data, r->ca_der.len);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        if (!same) {
                fail(en, true, E_DENIED,
                     "the hub at %s is not the one that made this join token (its CA has another SHA-256): "
                     "either the "
                     "token is for another hub, or someone is in between; nothing secret was sent",
                     en->o.id->enroll_addr);
                return;
        }
        if (!en->ca_der || pki_der_to_pem("CERTIFICATE", en->ca_der, en->ca_len, &en->ca_pem)) {
                fail(en, false, E_NOMEM, "no memory for the hub's CA");
                return;
        }
        en->advance = true;
        rpc_conn_close(en->conn, 0, 0, "CA seen");
}

static void on_ready(struct rpc_conn *c, const struct link_peer *peer, void *arg)
{
        struct enroller *en = arg;
        Photon__V1__GetCaRequest ca = PHOTON__V1__GET_CA_REQUEST__INIT;
        Photon__V1__ChallengeRequest ch = PHOTON__V1__CHALLENGE_REQUEST__INIT;
        int rc;

        (void)peer;
        if (en->phase == PHASE_CA)
                rc = rpc_unary(c, "photon.v1.Enroll/GetCa", &ca.base, ENROLL_CALL_MS, on_ca, en);
        else
                rc = rpc_unary(c, "photon.v1.Enroll/Challenge", &ch.base, ENROLL_CALL_MS, on_nonce, en);
        if (rc)
                fail(en, false, -rc, "cannot call the hub: %s", err_name(rc));
}

static void on_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct enroller *en = arg;
        int code = abs(rc);

        (void)c;
        en->conn = NULL;
        if (en->cancelled) {
                end(en, -E_CANCELLED);
        } else if (en->advance && en->phase == PHASE_CA) {
                connect_to_hub(en, PHASE_VERIFIED);
        } else if (en->advance) {
                end(en, 0);
        } else if (en->why.code) {
                try_again(en);
        } else if (code == E_VERSION) {
                fail(en, true, E_VERSION,
                     "hub and agent do not speak the same protocol: %s; update the older one", why);
        } else if (code == E_UNAUTH || code == E_DENIED) {
                /* For a person at the keyboard this is an answer; a daemon waits for the hub to be put right.
                 */
                fail(en, en->o.give_up_ms > 0, E_UNAUTH, "the hub at %s could not be trusted: %s",
                     en->o.id->enroll_addr, why && *why ? why : err_name(rc));
        } else {
                fail(en, false, code ? code : E_CLOSED, "%s",
                     why && *why ? why : "the hub closed the connection");
        }
}

static void connect_to_hub(struct enroller *en, enum phase phase)
{
        struct rpc_conn_options o = {.software = "photon-agent/" PHOTON_VERSION,
                                     .on_ready = on_ready,
                                     .on_close = on_close,
                                     .arg = en};
        struct link_tls tls = {0};
        char host[HOST_PORT_MAX];
        struct err e = {0};
        int rc;

        en->phase = phase;
        en->advance = false;
        rc = host_port_split(en->o.id->enroll_addr, host, NULL, &e);
        if (!rc) {
                tls.server_name = host;
                tls.ca_pem = phase == PHASE_CA ? NULL : en->ca_pem;
                tls.now_us = NULL;
                rc = rpc_dial(en->o.net, en->o.id->enroll_addr, &tls, ENROLL_DIAL_MS, &o, &en->conn, &e);
        }
        if (rc) {
                en->conn = NULL;
                fail(en, rc == -E_INVAL, -rc, "%s", e.msg[0] ? e.msg : err_name(rc));
        }
}

static int prepare(struct enroller *en, struct err *e)
{
        struct identity *id = en->o.id;
        int rc;

        if (en->o.token) {
                memcpy(id->enroll_addr, en->token.enroll, sizeof id->enroll_addr);
                memcpy(id->agent_addr, en->token.agent, sizeof id->agent_addr);
                memcpy(id->token_id, en->token.id, sizeof id->token_id);
                memcpy(id->ca_pin, en->token.ca_pin, sizeof id->ca_pin);
        } else {
                en->ca_pem = mem_strdup(id->ca_pem);
                if (!en->ca_pem)
                        return err_set(e, E_NOMEM, "no memory to join");
                rc = pki_pem_to_der("CERTIFICATE", id->ca_pem, &en->ca_der, &en->ca_len, e);
                if (rc)
                        return rc;
        }
        rc = identity_need_key(id, e);
        return rc ? rc : identity_csr(id, &en->csr, &en->csr_len, en->csr_hash, e);
}

int enroller_start(const struct enroller_options *o, struct enroller **out, struct err *e)
{
        struct enroller *en = mem_calloc(1, sizeof *en);
        int rc;

        if (!en)
                return err_set(e, E_NOMEM, "no memory to join");
        en->o = *o;
        if (!en->o.clock)
                en->o.clock = &clock_system;
        uv_timer_init(o->loop, &en->timer);
        en->timer.data = en;
        if (o->token) {
                en->token = *o->token;
                en->o.token = &en->token;
        }
        if (o->name && !(en->name = mem_strdup(o->name)))
                rc = err_set(e, E_NOMEM, "no memory to join");
        else
                rc = prepare(en, e);
        if (rc) {
                uv_close((uv_handle_t *)&en->timer, on_timer_closed);
                return rc;
        }
        en->started_ms = clock_mono_ms(en->o.clock);
        uv_timer_start(&en->timer, on_retry, 0, 0);
        *out = en;
        return 0;
}

void enroller_cancel(struct enroller *en)
{
        if (!en || en->cancelled || en->phase == PHASE_DONE)
                return;
        en->cancelled = true;
        if (en->conn)
                rpc_conn_close(en->conn, 0, 0, "cancelled");
        else
                end(en, -E_CANCELLED);
}
