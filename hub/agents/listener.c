/* The two doors: agents (mutual TLS) and strangers (who verify the hub, and have only the Enroll service). */
#include "hub/agents/agents_impl.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/version.h"

#include <stdio.h>
#include <string.h>

#define SOFTWARE "photon-hub/" PHOTON_VERSION

/* ---- agents ---- */

static void on_agent_ready(struct rpc_conn *conn, const struct link_peer *peer, void *arg)
{
        struct session *s = arg;
        struct err e = {0};
        char id[32];

        if (s->state != SESSION_CONNECTING)
                return;
        /* TLS has checked chain and purpose; without a certificate nobody comes this far, and if so, no
         * further. */
        if (!peer->cert_der)
                err_set(&e, E_DENIED, "this is the door for agents: a client certificate is required");
        else if (auth_agent_by_cert(s->a->opt.auth, peer->cert_der, peer->cert_len, id, &e) == 0)
                e.code = 0;
        if (e.code) {
                if (agents_tell_stranger(s->a))
                        log_warn(AREA, "agent refused", "addr=%s reason=\"%s\"", peer->address, e.msg);
                (void)session_move(s, SESSION_DOWN);
                rpc_conn_close(conn, 0, E_DENIED, e.msg);
                return;
        }
        session_known(s, id, peer->address);
}

static void on_agent_close(struct rpc_conn *conn, int rc, const char *why, void *arg)
{
        struct session *s = arg;
        struct agents *a = s->a;

        (void)conn;
        if (s->state == SESSION_CONNECTING && agents_tell_stranger(a))
                log_info(AREA, "connection ended before it was an agent's", "rc=%s reason=\"%s\"",
                         err_name(rc), why ? why : "");
        else if (s->state != SESSION_CONNECTING && s->state != SESSION_DOWN)
                log_info(AREA, "agent's connection ended", "agent=%s rc=%s reason=\"%s\"", s->name,
                         err_name(rc), why ? why : "");
        session_free(s);
        agents_maybe_closed(a);
}

static int on_agent_accept(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct agents *a = ctx;
        struct session *s = a->closing ? NULL : session_create(a);
        const struct rpc_conn_options o = {
                .methods = agent_methods,
                .software = SOFTWARE,
                .keepalive_ms = (int)a->opt.heartbeat_ms,
                .on_ready = on_agent_ready,
                .on_close = on_agent_close,
                .arg = s,
        };
        int rc;

        if (!s)
                return a->closing ? -E_CLOSED : -E_NOMEM;
        rc = rpc_accept(l, &o, ev, arg, &s->conn);
        if (rc) {
                (void)session_move(s, SESSION_DOWN);
                session_free(s);
        }
        return rc;
}

/* ---- strangers ---- */

static void on_stranger_ready(struct rpc_conn *conn, const struct link_peer *peer, void *arg)
{
        (void)peer;
        (void)arg;
        rpc_conn_allow(conn, true);
}

static void on_stranger_close(struct rpc_conn *conn, int rc, const char *why, void *arg)
{
        struct enroll_conn *ec = arg;
        struct agents *a = ec->a;

        (void)conn;
        log_debug(AREA, "enrolment connection ended", "addr=%s rc=%s reason=\"%s\"", ec->address,
                  err_name(rc), why ? why : "");
        enroll_free(ec);
        agents_maybe_closed(a);
}

static int on_stranger_accept(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct agents *a = ctx;
        struct rpc_conn_options o = {
                .methods = enroll_methods,
                .software = SOFTWARE,
                .max_streams = 4,
                .message_max = ENROLL_MESSAGE_MAX,
                .on_ready = on_stranger_ready,
                .on_close = on_stranger_close,
        };
        struct enroll_conn *ec;
        int rc;

        if (a->closing)
                return -E_CLOSED;
        enroll_make_room(a);
        ec = enroll_create(a);
        if (!ec)
                return -E_NOMEM;
        ec->l = l;
        snprintf(ec->address, sizeof ec->address, "%s", link_address(l));
        rate_key(ec->address, ec->key);
        o.arg = ec;
        rc = rpc_accept(l, &o, ev, arg, &ec->conn);
        if (rc)
                enroll_free(ec);
        return rc;
}

int listener_open(struct agents *a, struct err *e)
{
        const struct link_tls agent_tls = {
                .ca_pem = a->opt.ca->ca_cert_pem,
                .cert_pem = a->opt.ca->hub_cert_pem,
                .key_pem = a->opt.ca->hub_key_pem,
                .require_peer = true,
        };
        const struct link_tls enroll_tls = {
                .cert_pem = a->opt.ca->hub_cert_pem,
                .key_pem = a->opt.ca->hub_key_pem,
        };
        const struct link_listener_options agent_opt = {
                .host_port = a->opt.agent_listen,
                .max_links = a->opt.max_agents,
                .on_accept = on_agent_accept,
                .ctx = a,
        };
        const struct link_listener_options enroll_opt = {
                .host_port = a->opt.enroll_listen,
                .max_links = ENROLL_LINKS_MAX,
                .on_accept = on_stranger_accept,
                .ctx = a,
        };
        int rc = link_listen(a->opt.net, &agent_opt, &agent_tls, &a->agent_ll, e);

        if (!rc)
                rc = link_listen(a->opt.net, &enroll_opt, &enroll_tls, &a->enroll_ll, e);
        if (rc)
                listener_close(a);
        return rc;
}

void listener_close(struct agents *a)
{
        if (a->agent_ll)
                link_listener_close(a->agent_ll);
        if (a->enroll_ll)
                link_listener_close(a->enroll_ll);
        a->agent_ll = a->enroll_ll = NULL;
}
