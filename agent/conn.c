#include "agent/conn.h"

#include "agent/backoff.h"
#include "agent/enroll.h"
#include "agent/identity.h"
#include "agent/job.h"
#include "agent/journal.h"
#include "agent/policy.h"
#include "agent/session.h"
#include "agent/stepguard.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/id.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/rpc.h"
#include "common/version.h"
#include "photon/v1/agent.pb-c.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum conn_state { CONN_IDLE, CONN_WAIT, CONN_DIAL, CONN_HELLO, CONN_UP, CONN_REJOIN, CONN_CLOSING };

#define TO(s) (1u << (s))

static const struct {
        const char *name;
        unsigned moves;
} states[] = {
        [CONN_IDLE] = {"waiting", TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_WAIT] = {"waiting", TO(CONN_DIAL) | TO(CONN_REJOIN) | TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_DIAL] = {"connecting", TO(CONN_HELLO) | TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_HELLO] = {"connecting", TO(CONN_UP) | TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_UP] = {"connected", TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_REJOIN] = {"rejoining", TO(CONN_WAIT) | TO(CONN_CLOSING)},
        [CONN_CLOSING] = {"closing", 0},
};

struct agent_conn {
        struct agent_conn_options o;
        enum conn_state state;
        int64_t since_us, up_ms;
        struct rpc_conn *rpc;
        struct agent_session *session;
        struct step_guard *guard; /* of this connection */
        struct enroller *enroller;
        struct backoff backoff;
        bool refused;  /* the hub does not want this agent: come back slowly */
        bool replaced; /* another process has this identity: come back slowly too */
        bool verified; /* the peer of this connection is the hub */
        int keepalive_ms;
        double renew_share; /* of the certificate's life, drawn once */
        bool renewing;
        int64_t hello_ms;
        struct err last;
        char said[512];
        char hub_version[64];
        bool changed;       /* the hub has not heard of it */
        int64_t changes_ms; /* it heard of one last */
        uv_timer_t retry, renew, change;
        int handles;
        void (*on_closed)(void *arg);
        void *closed_arg;
};

static void move(struct agent_conn *c, enum conn_state to)
{
        if (!(states[c->state].moves & TO(to))) {
                log_error("conn", "impossible move", "from=%s to=%s", states[c->state].name, states[to].name);
                return;
        }
        c->state = to;
        c->since_us = clock_now_us(c->o.clock);
        if (c->o.on_change)
                c->o.on_change(c->o.arg);
}

static void dial(struct agent_conn *c);

static void on_retry(uv_timer_t *t)
{
        dial(t->data);
}

/* The same trouble is told once, not at every try. */
static void complain(struct agent_conn *c, uint64_t wait_ms)
{
        if (strcmp(c->said, c->last.msg) == 0)
                return;
        memcpy(c->said, c->last.msg, sizeof c->said);
        if (c->refused)
                log_error("conn", "refused by the hub", "hub=%s error=%s next_try_ms=%llu",
                          c->o.id->agent_addr, c->last.msg, (unsigned long long)wait_ms);
        else
                log_warn("conn", "not connected, trying again", "hub=%s error=%s", c->o.id->agent_addr,
                         c->last.msg);
}

static uint64_t between(uint64_t min_ms, uint64_t max_ms)
{
        return min_ms + id_random_u64() % (max_ms - min_ms);
}

static void wait_and_retry(struct agent_conn *c)
{
        uint64_t ms = c->refused    ? between(CONN_REFUSED_MS / 2, CONN_REFUSED_MS)
                      : c->replaced ? between(CONN_REPLACED_MS / 2, CONN_REPLACED_MS)
                                    : backoff_next_ms(&c->backoff);

        /* Revoked: nobody waits for what runs here any more, and nobody could stop it later. */
        if (c->refused && c->verified && c->last.code == E_DENIED && jobs_running(c->o.jobs) > 0) {
                log_warn("conn", "refused by the hub, its calls are stopped", "running=%zu",
                         jobs_running(c->o.jobs));
                jobs_stop_all(c->o.jobs, CONN_REVOKED_GRACE_MS);
        }

        complain(c, ms);
        move(c, CONN_WAIT);
        uv_timer_start(&c->retry, on_retry, ms, 0);
}

/* The connection is of no use: close it, on_close goes on from there. */
static void give_up(struct agent_conn *c, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static void give_up(struct agent_conn *c, int code, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        err_setv(&c->last, code, fmt, ap);
        va_end(ap);
        rpc_conn_close(c->rpc, 0, 0, "hello failed");
}

/* Renewal. */

static void arm_renew(struct agent_conn *c);
static void on_renew(uv_timer_t *t);

static void on_renewed(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct agent_conn *c = arg;
        Photon__V1__CertificateReply *r = NULL;
        uint8_t *ca = NULL;
        size_t ca_len;
        struct err e = {0};
        int rc;

        c->renewing = false;
        if (c->state == CONN_CLOSING)
                return;
        if (st->code) {
                log_warn("conn", "the certificate was not renewed, trying again later", "error=%s",
                         st->message);
                goto later;
        }
        r = (Photon__V1__CertificateReply *)rpc_unpack(&photon__v1__certificate_reply__descriptor, p, n);
        rc = r ? pki_pem_to_der("CERTIFICATE", c->o.id->ca_pem, &ca, &ca_len, &e)
               : err_set(&e, E_PROTO, "malformed");
        if (!rc)
                rc = identity_accept(c->o.id, r, ca, ca_len, clock_now_us(c->o.clock), &e);
        mem_free(ca);
        if (r)
                protobuf_c_message_free_unpacked(&r->base, NULL);
        if (rc) {
                log_error("conn", "the new certificate cannot be used", "error=%s", e.msg);
                goto later;
        }
        log_info("conn", "certificate renewed", "valid_s=%lld",
                 (long long)((c->o.id->not_after_us - clock_now_us(c->o.clock)) / 1000000));
        arm_renew(c);
        return;
later:
        if (c->state == CONN_UP)
                uv_timer_start(&c->renew, on_renew, CONN_RENEW_MS, 0);
}

static void renew(struct agent_conn *c)
{
        Photon__V1__RenewRequest m = PHOTON__V1__RENEW_REQUEST__INIT;
        uint8_t hash[32];
        struct err e = {0};
        int rc;

        if (c->renewing || c->state != CONN_UP)
                return;
        rc = identity_csr(c->o.id, &m.csr_der.data, &m.csr_der.len, hash, &e);
        if (!rc)
                rc = rpc_unary(c->rpc, "photon.v1.Agent/Renew", &m.base, CONN_HELLO_MS, on_renewed, c);
        mem_free(m.csr_der.data);
        if (rc)
                log_warn("conn", "cannot ask for a new certificate", "error=%s",
                         e.msg[0] ? e.msg : err_name(rc));
        else
                c->renewing = true;
}

static void on_renew(uv_timer_t *t)
{
        arm_renew(t->data);
}

/* Renews if it is time; otherwise comes back then. */
static void arm_renew(struct agent_conn *c)
{
        int64_t left_ms = (identity_renew_at_us(c->o.id, c->renew_share) - clock_now_us(c->o.clock)) / 1000;

        if (c->state != CONN_UP)
                return;
        if (left_ms <= 0) {
                renew(c);
                left_ms = CONN_RENEW_MS; /* should the answer never come */
        }
        uv_timer_start(&c->renew, on_renew, (uint64_t)(left_ms < CONN_LOOK_MS ? left_ms : CONN_LOOK_MS), 0);
}

/* Rejoin. */

static void on_rejoined(void *arg, int rc, const struct err *e)
{
        struct agent_conn *c = arg;

        c->enroller = NULL;
        if (rc) {
                c->refused = c->verified = true;
                c->last = *e;
        } else {
                log_info("conn", "a new certificate for the expired one", "agent=%s", c->o.id->name);
                c->backoff.tries = 0;
                malloc_trim(0);
        }
        wait_and_retry(c);
}

static void rejoin(struct agent_conn *c)
{
        struct enroller_options o = {.loop = c->o.loop,
                                     .net = c->o.net,
                                     .id = c->o.id,
                                     .clock = c->o.clock,
                                     .on_done = on_rejoined,
                                     .arg = c};
        int rc;

        move(c, CONN_REJOIN);
        rc = enroller_start(&o, &c->enroller, &c->last);
        if (rc)
                wait_and_retry(c);
}

/* Inventory. */

static void on_change(uv_timer_t *t)
{
        struct agent_conn *c = t->data;

        if (c->state != CONN_UP || !c->changed)
                return; /* take_hello comes back to it */
        c->changed = false;
        c->changes_ms = clock_mono_ms(c->o.clock);
        agent_session_tell(c->session, c->o.inventory);
}

static void arm_change(struct agent_conn *c)
{
        int64_t ms = c->changes_ms + CONN_CHANGES_MS - clock_mono_ms(c->o.clock);

        if (c->changed && c->state == CONN_UP && !uv_is_active((uv_handle_t *)&c->change))
                uv_timer_start(&c->change, on_change, (uint64_t)(ms > CONN_GATHER_MS ? ms : CONN_GATHER_MS),
                               0);
}

void agent_conn_inventory_changed(struct agent_conn *c)
{
        c->changed = true;
        arm_change(c);
}

/* Session. */

/* Unless the hub said so itself. */
static const char *what_to_do(const char *message)
{
        return strstr(message, "join") ? ""
                                       : "; if this agent was revoked, join again with a new token "
                                         "(photon-agent join --replace)";
}

static void on_session_end(void *arg, const struct rpc_status *st)
{
        struct agent_conn *c = arg;

        if (c->state != CONN_UP)
                return;
        c->refused = st->code == E_DENIED || st->code == E_UNAUTH;
        if (c->refused)
                give_up(c, st->code, "the hub ended the session: %s%s", st->message, what_to_do(st->message));
        else
                give_up(c, st->code ? st->code : E_CLOSED, "the hub ended the session: %s",
                        st->message[0] ? st->message : "no reason given");
}

static void take_hello(struct agent_conn *c, const Photon__V1__HelloReply *r)
{
        int64_t now_us = clock_now_us(c->o.clock), took_ms = clock_mono_ms(c->o.clock) - c->hello_ms;
        struct agent_session_options so = {
                .conn = c->rpc, .jobs = c->o.jobs, .pool = c->o.pool, .on_end = on_session_end, .arg = c};
        struct err why = {0};
        int rc;

        so.guard = c->guard;
        if (c->guard && step_guard_take(c->guard, c->o.id->ca_pem, c->o.id->agent_id, r->step_grant, &why))
                log_error("conn", "no step of this hub will be run", "hub=%s reason=\"%s\"",
                          c->o.id->agent_addr, why.msg);

        if (r->now_us > 0)
                jobs_set_clock_offset(c->o.jobs, r->now_us + took_ms * 500 - now_us);
        if (r->heartbeat_ms >= 100 && r->heartbeat_ms <= 3600000) {
                c->keepalive_ms = (int)r->heartbeat_ms;
                rpc_conn_set_keepalive(c->rpc, c->keepalive_ms);
        }
        snprintf(c->hub_version, sizeof c->hub_version, "%s", r->hub_version);
        rc = agent_session_open(&so, r, &c->session);
        if (rc) {
                give_up(c, -rc, "cannot open the session: %s", err_name(rc));
                return;
        }
        c->refused = false;
        c->said[0] = '\0';
        memset(&c->last, 0, sizeof c->last);
        c->up_ms = clock_mono_ms(c->o.clock);
        move(c, CONN_UP);
        log_info("conn", "connected", "hub=%s agent=%s id=%s hub_version=%s", c->o.id->agent_addr,
                 r->name[0] ? r->name : c->o.id->name, c->o.id->agent_id, c->hub_version);
        arm_renew(c);
        arm_change(c);
}

static void on_hello(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct agent_conn *c = arg;
        Photon__V1__HelloReply *r;

        if (c->state != CONN_HELLO)
                return;
        if (st->code == E_DENIED || st->code == E_UNAUTH) {
                c->refused = true;
                give_up(c, st->code, "%s%s", st->message, what_to_do(st->message));
                return;
        }
        if (st->code) {
                give_up(c, st->code, "the hub answered Hello with: %s", st->message);
                return;
        }
        r = (Photon__V1__HelloReply *)rpc_unpack(&photon__v1__hello_reply__descriptor, p, n);
        if (!r) {
                give_up(c, E_PROTO, "the hub's answer to Hello is malformed");
                return;
        }
        take_hello(c, r);
        protobuf_c_message_free_unpacked(&r->base, NULL);
}

static char *lend(const char *s)
{
        return (char *)(uintptr_t)(s ? s : "");
}

static void on_ready(struct rpc_conn *rpc, const struct link_peer *peer, void *arg)
{
        struct agent_conn *c = arg;
        Photon__V1__HelloRequest m = PHOTON__V1__HELLO_REQUEST__INIT;
        int rc;

        (void)peer;
        if (c->state != CONN_DIAL)
                return;
        c->verified = true;
        move(c, CONN_HELLO);
        c->changed = false;
        rc = inventory_fill(c->o.inventory, &m);
        m.software = lend("photon-agent/" PHOTON_VERSION);
        m.kind = lend(c->o.kind);
        m.max_running = (uint32_t)c->o.max_running;
        m.takes_secrets = true;
        m.policy_sha256 = lend(policy_sha256(c->o.policy));
        m.policy_text = lend(policy_text(c->o.policy));
        m.journal_id = lend(journal_id(c->o.journal));
        m.seen_attempt = journal_seen(c->o.journal);
        if (!rc)
                rc = jobs_held(c->o.jobs, &m);
        step_guard_free(c->guard);
        c->guard = NULL;
        if (!rc && !c->o.unsigned_steps)
                rc = step_guard_create(c->o.clock, &c->guard);
        if (c->guard)
                step_guard_ask(c->guard, &m);
        c->hello_ms = clock_mono_ms(c->o.clock);
        if (!rc)
                rc = rpc_unary(rpc, "photon.v1.Agent/Hello", &m.base, CONN_HELLO_MS, on_hello, c);
        jobs_held_free(&m);
        if (rc)
                give_up(c, -rc, "cannot say Hello: %s", err_name(rc));
}

static void on_goodbye(struct rpc_conn *rpc, const char *why, void *arg)
{
        struct agent_conn *c = arg;

        (void)rpc;
        c->verified = true;
        log_info("conn", "the hub says goodbye", "why=%s", why ? why : "");
}

static void closed(struct agent_conn *c);

static void on_close(struct rpc_conn *rpc, int rc, const char *why, void *arg)
{
        struct agent_conn *c = arg;
        bool stable = c->state == CONN_UP && clock_mono_ms(c->o.clock) - c->up_ms >= CONN_STABLE_MS;

        (void)rpc;
        c->rpc = NULL;
        c->renewing = false;
        agent_session_close(c->session);
        c->session = NULL;
        uv_timer_stop(&c->renew);
        if (c->state == CONN_CLOSING) {
                closed(c);
                return;
        }
        c->replaced = abs(rc) == E_STATE;
        if (c->replaced) {
                err_set(&c->last, E_STATE, "%s", why && *why ? why : "replaced by a newer connection");
                c->refused = false;
        }
        if (c->last.code == 0) {
                int code = rc ? abs(rc) : E_CLOSED;

                if (code == E_VERSION)
                        err_set(&c->last, code,
                                "hub and agent do not speak the same protocol: %s; update the older one",
                                why);
                else
                        err_set(&c->last, code, "%s", why && *why ? why : "the hub closed the connection");
                c->refused = code == E_DENIED;
        }
        if (stable)
                c->backoff.tries = 0;
        wait_and_retry(c);
}

static void dial(struct agent_conn *c)
{
        struct rpc_conn_options o = {.software = "photon-agent/" PHOTON_VERSION,
                                     .keepalive_ms = c->keepalive_ms,
                                     .on_ready = on_ready,
                                     .on_goodbye = on_goodbye,
                                     .on_close = on_close,
                                     .arg = c};
        struct link_tls tls = {
                .ca_pem = c->o.id->ca_pem, .cert_pem = c->o.id->cert_pem, .key_pem = c->o.id->key_pem};
        char host[HOST_PORT_MAX];
        int rc;

        if (c->state != CONN_WAIT)
                return;
        memset(&c->last, 0, sizeof c->last);
        c->verified = false;
        if (clock_now_us(c->o.clock) >= c->o.id->not_after_us) {
                rejoin(c);
                return;
        }
        move(c, CONN_DIAL);
        rc = host_port_split(c->o.id->agent_addr, host, NULL, &c->last);
        tls.server_name = host;
        if (!rc)
                rc = rpc_dial(c->o.net, c->o.id->agent_addr, &tls, CONN_DIAL_MS, &o, &c->rpc, &c->last);
        if (rc) {
                c->rpc = NULL;
                if (c->last.code == 0)
                        err_set(&c->last, -rc, "cannot dial: %s", err_name(rc));
                wait_and_retry(c);
        }
}

/* Life. */

int agent_conn_create(const struct agent_conn_options *o, struct agent_conn **out, struct err *e)
{
        struct agent_conn *c = mem_calloc(1, sizeof *c);

        if (!c)
                return err_set(e, E_NOMEM, "no memory for the connection");
        c->o = *o;
        if (!c->o.clock)
                c->o.clock = &clock_system;
        c->since_us = clock_now_us(c->o.clock);
        c->keepalive_ms = CONN_KEEPALIVE_MS;
        c->renew_share = 0.5 + (double)(id_random_u64() % 1000) / 1000 * (2.0 / 3 - 0.5);
        uv_timer_init(o->loop, &c->retry);
        uv_timer_init(o->loop, &c->renew);
        uv_timer_init(o->loop, &c->change);
        c->retry.data = c->renew.data = c->change.data = c;
        c->handles = 3;
        c->changes_ms = clock_mono_ms(c->o.clock) - CONN_CHANGES_MS;
        *out = c;
        return 0;
}

void agent_conn_start(struct agent_conn *c)
{
        move(c, CONN_WAIT);
        uv_timer_start(&c->retry, on_retry, 0, 0);
}

bool agent_conn_is_up(const struct agent_conn *c)
{
        return c->state == CONN_UP;
}

void agent_conn_view(const struct agent_conn *c, struct agent_conn_view *out)
{
        struct rpc_conn_stats st = {0};

        if (c->rpc)
                rpc_conn_stats(c->rpc, &st);
        out->state = c->state == CONN_WAIT && c->refused ? "refused" : states[c->state].name;
        out->since_us = c->since_us;
        out->last_error = c->last.msg;
        out->hub_version = c->hub_version;
        out->rtt_us = st.rtt_us;
}

static void on_handle_closed(uv_handle_t *h)
{
        struct agent_conn *c = h->data;

        if (--c->handles > 0)
                return;
        if (c->on_closed)
                c->on_closed(c->closed_arg);
        step_guard_free(c->guard);
        mem_free(c);
}

static void closed(struct agent_conn *c)
{
        uv_close((uv_handle_t *)&c->retry, on_handle_closed);
        uv_close((uv_handle_t *)&c->renew, on_handle_closed);
        uv_close((uv_handle_t *)&c->change, on_handle_closed);
}

void agent_conn_close(struct agent_conn *c, void (*on_closed)(void *arg), void *arg)
{
        if (c->state == CONN_CLOSING)
                return;
        c->on_closed = on_closed;
        c->closed_arg = arg;
        enroller_cancel(c->enroller);
        c->enroller = NULL;
        move(c, CONN_CLOSING);
        if (c->rpc) {
                agent_session_close(c->session);
                c->session = NULL;
                rpc_conn_close(c->rpc, 500, 0, "the agent stops");
        } else {
                closed(c);
        }
}
