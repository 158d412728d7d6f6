#include "hub/hub.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "common/auditchain.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/jointoken.h"
#include "common/json.h"
#include "common/link.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "common/sdnotify.h"
#include "common/str.h"
#include "hub/agents/agents.h"
#include "hub/auth/auth.h"
#include "hub/auth/rowkey.h"
#include "hub/auth/stepkey.h"
#include "hub/event/bus.h"
#include "hub/http/http.h"
#include "hub/logs/logs.h"
#include "hub/auth/oidc.h"
#include "hub/net/net.h"
#include "hub/model/askfirst.h"
#include "hub/notify/audit_head.h"
#include "hub/notify/notify.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"
#include "hub/vault/vault.h"

#define CLIENT_SECRET_MAX ((size_t)4096)

struct hub {
        const struct hub_conf *conf;
        uv_loop_t loop;
        uv_signal_t term, intr;
        uv_timer_t timer, deadline;
        uv_prepare_t prepare;
        uv_check_t check;
        struct mailbox *mailbox;
        struct link_net *net;
        struct oidc *oidc;
        struct notify *notify;
        struct askfirst ask_first;     /* lent to the engine */
        struct audit_head *audit_head; /* NULL: nobody is told */
        struct net *out;               /* what the hub sends and fetches by itself */
        struct store *store;
        struct bus *bus;
        struct auth *auth;
        struct logs *logs;
        struct vault *vault;
        struct agents *agents;
        struct engine *engine;
        struct http *http;
        struct ca ca;
        struct step_key *step_key;
        bool step_key_new; /* made by this start */
        char *logs_dir;
        int lock_fd;
        bool flush_wanted, stopping;
        int stopped; /* parts that have stopped */
};

/* ---- the turn of the loop ---- */

/* Everything that this turn decided becomes one commit; what earlier commits set free leaves in one write. */
static void turn(struct hub *h)
{
        if (h->flush_wanted) {
                h->flush_wanted = false;
                engine_flush(h->engine);
        }
        agents_flush(h->agents);
}

static void on_prepare(uv_prepare_t *p)
{
        turn(p->data);
}

static void on_check(uv_check_t *c)
{
        turn(c->data);
}

static void want_flush(void *ctx)
{
        ((struct hub *)ctx)->flush_wanted = true;
}

static void on_timer(uv_timer_t *t)
{
        engine_tick(((struct hub *)t->data)->engine);
}

static void want_timer(void *ctx, int64_t at_mono_ms)
{
        struct hub *h = ctx;
        int64_t left = at_mono_ms == INT64_MAX ? 0 : at_mono_ms - clock_mono_ms(&clock_system);

        if (at_mono_ms == INT64_MAX)
                uv_timer_stop(&h->timer);
        else
                uv_timer_start(&h->timer, on_timer, left > 0 ? (uint64_t)left : 0, 0);
}

/* ---- what the API needs from the agents' room ---- */

static void op_revoke(void *ctx, const char *id, engine_answer cb, void *arg)
{
        agents_revoke(((struct hub *)ctx)->agents, id, cb, arg);
}

static void op_drain(void *ctx, const char *id, bool on, engine_answer cb, void *arg)
{
        agents_drain(((struct hub *)ctx)->agents, id, on, cb, arg);
}

static void op_label(void *ctx, const char *id, const cJSON *set, engine_answer cb, void *arg)
{
        agents_label(((struct hub *)ctx)->agents, id, set, cb, arg);
}

static cJSON *op_describe(void *ctx, const char *id)
{
        return agents_describe(((struct hub *)ctx)->agents, id);
}

static cJSON *op_describe_all(void *ctx)
{
        return agents_describe_all(((struct hub *)ctx)->agents);
}

static size_t op_online(void *ctx)
{
        return agents_online(((struct hub *)ctx)->agents);
}

/* The host that a machine elsewhere can dial: what the operator says or said, else where the hub listens. */
static void advertised_host(const struct hub *h, char out[HOST_PORT_MAX])
{
        char host[HOST_PORT_MAX] = "";
        char *colon;

        if (h->conf->advertise) {
                snprintf(out, HOST_PORT_MAX, "%s", h->conf->advertise);
                return;
        }
        if (h->conf->hosts.n) {
                snprintf(out, HOST_PORT_MAX, "%s", h->conf->hosts.v[0]);
                return;
        }
        if (ca_given_host(&h->ca, out, HOST_PORT_MAX) == 0)
                return; /* photon-hub init --host */
        snprintf(host, sizeof host, "%s", h->conf->agent_listen);
        colon = strrchr(host, ':');
        if (colon)
                *colon = 0;
        if (host[0] && strcmp(host, "0.0.0.0") && strcmp(host, "[::]") && strcmp(host, "*")) {
                size_t n = strlen(host);

                if (host[0] == '[' && n > 2 && host[n - 1] == ']')
                        snprintf(out, HOST_PORT_MAX, "%.*s", (int)(n - 2), host + 1);
                else
                        snprintf(out, HOST_PORT_MAX, "%s", host);
                return;
        }
        if (gethostname(out, 255))
                snprintf(out, HOST_PORT_MAX, "localhost");
        out[255] = 0;
}

static void put_address(char out[HOST_PORT_MAX], const char *host, int port)
{
        bool v6 = strchr(host, ':') != NULL;

        snprintf(out, HOST_PORT_MAX, "%s%.*s%s:%d", v6 ? "[" : "", HOST_PORT_MAX - 10, host, v6 ? "]" : "",
                 port);
}

static int op_join_text(void *ctx, const char *id, const uint8_t secret[32], char **out, struct err *e)
{
        struct hub *h = ctx;
        struct join_token t = {.secret_len = 32};
        char host[HOST_PORT_MAX];
        int rc;

        advertised_host(h, host);
        put_address(t.enroll, host, agents_enroll_port(h->agents));
        put_address(t.agent, host, agents_port(h->agents));
        memcpy(t.ca_pin, h->ca.ca_sha256, sizeof t.ca_pin);
        snprintf(t.id, sizeof t.id, "%s", id);
        memcpy(t.secret, secret, 32);
        rc = join_token_format(&t, out, e);
        join_token_wipe(&t);
        return rc;
}

/* ---- what the engine asks people, for the outbox ---- */

static void on_notice(void *ctx, struct store_tx *tx, const struct engine_notice *n)
{
        notify_add(((struct hub *)ctx)->notify, tx, n);
}

static void on_notice_durable(void *ctx)
{
        notify_kick(((struct hub *)ctx)->notify);
}

/* ---- building ---- */

static int enroll_address(const struct hub_conf *c, char out[HOST_PORT_MAX], struct err *e)
{
        const char *colon = strrchr(c->agent_listen, ':');
        int64_t port;

        if (c->enroll_listen) {
                snprintf(out, HOST_PORT_MAX, "%s", c->enroll_listen);
                return 0;
        }
        if (!colon || str_parse_i64(colon + 1, 0, 65534, &port))
                return err_set(e, E_INVAL, "agent-listen is \"%s\"; it must be HOST:PORT", c->agent_listen);
        snprintf(out, HOST_PORT_MAX, "%.*s:%d", (int)(colon - c->agent_listen), c->agent_listen,
                 port ? (int)port + 1 : 0);
        return 0;
}

/* ---- the audit's chain ---- */

#define AUDIT_ACCEPTED "audit_accepted" /* meta: the last record when somebody accepted what was damaged */

static void accept_damage(struct hub *h, int64_t up_to, const struct err *damage)
{
        struct store_tx *tx = store_begin(h->store);
        char *text = NULL, *detail = NULL, seq[24];
        struct buf b;

        buf_init(&b, 0);
        if (!buf_puts(&b, "{\"damage\":") && !json_append_str(&b, damage->msg, strlen(damage->msg)) &&
            !buf_putc(&b, '}'))
                detail = text = buf_steal_str(&b);
        buf_fini(&b);
        snprintf(seq, sizeof seq, "%lld", (long long)up_to);
        store_put_meta(tx, AUDIT_ACCEPTED, seq);
        store_put_audit(tx, clock_now_us(&clock_system), "hub", "audit.damage_accepted", NULL, detail);
        store_commit(tx, NULL, NULL);
        mem_free(text);
        log_warn("hub", "the audit is damaged; serving all the same, as told", "damage=\"%s\"", damage->msg);
}

static int newest(void *arg, const struct audit_record *r)
{
        *(int64_t *)arg = r->seq;
        return 0;
}

/* A chain that does not hold means that somebody wrote to the database: nothing is served until a person has
 * looked, and said so. */
static int there_is_one(void *arg, const struct row_api_token *t)
{
        (void)arg, (void)t;
        return 1;
}

static int check_audit(struct hub *h, struct store_reader *rd, struct err *e)
{
        struct audit_filter last_one = {.newest_first = true, .limit = 1};
        int64_t accepted = 0, records, last, top = 0;
        char *text = NULL, hex[65];
        uint8_t head[32];
        int rc;

        if (read_meta(rd, AUDIT_ACCEPTED, &text) == 0 && str_parse_i64(text, 1, INT64_MAX, &accepted))
                accepted = 0;
        mem_free(text);
        rc = audit_verify(rd, accepted, &records, &last, head, e);
        /* Making a hub is a record, and so is removing old ones. */
        if (rc == 0 && records == 0 && accepted == 0 && read_api_tokens(rd, there_is_one, NULL) == 1)
                rc = err_set(e, E_CORRUPT,
                             "the audit is empty, from its first record on: all of it was removed");
        if (rc == -E_CORRUPT && h->conf->accept_damaged_audit) {
                (void)read_audit(rd, &last_one, newest, &top);
                accept_damage(h, top, e);
                *e = (struct err){0};
                return 0;
        }
        if (rc == -E_CORRUPT) {
                struct err why = *e;

                return err_set(e, E_CORRUPT,
                               "%s. Look who could write %s/hub.db; to serve all the same, start once with "
                               "--accept-damaged-audit, which is written down",
                               why.msg, h->conf->data);
        }
        if (rc)
                return rc;
        str_hex(head, sizeof head, hex);
        log_info("hub", "audit verified", "records=%lld last=%lld head=%s", (long long)records,
                 (long long)last, hex);
        return 0;
}

#define REFUSED_NAMED_MAX 100 /* rows that are named at a start; the rest is counted */

struct telling {
        struct hub *h;
        struct store_tx *tx;
};

static int on_refused(void *arg, const char *table, const char *key)
{
        struct telling *t = arg;
        char *object = str_printf("%s/%s", table, key);

        if (!object)
                return -E_NOMEM;
        log_error("hub", "a row of the database was changed by somebody else: it grants nothing",
                  "row=\"%s\"", object);
        store_put_audit(t->tx, clock_now_us(&clock_system), "hub", "row.refused", object, NULL);
        mem_free(object);
        return 0;
}

/* What somebody wrote while no hub was looking is said now, and not only when somebody uses it. */
static int check_rows(struct hub *h, struct store_reader *rd, struct err *e)
{
        struct telling t = {h, store_begin(h->store)};
        int64_t n = 0, accepted = store_seals_accepted(h->store);
        char detail[64];
        int rc = read_refused(rd, REFUSED_NAMED_MAX, on_refused, &t, &n);

        if (n)
                log_error("hub", "rows are refused: find out who can write hub.db (docs/OPERATING.md)",
                          "rows=%lld", (long long)n);
        if (h->conf->accept_changed_rows) {
                snprintf(detail, sizeof detail, "{\"rows\":%lld}", (long long)accepted);
                store_put_audit(t.tx, clock_now_us(&clock_system), "hub", "rows.accepted", NULL, detail);
                log_warn("hub", "rows that this hub has not written are taken as they stand, as told",
                         "rows=%lld", (long long)accepted);
        }
        store_commit(t.tx, NULL, NULL);
        return rc ? err_set(e, -rc, "the database's rows could not be checked: %s", err_name(rc)) : 0;
}

static int open_store(struct hub *h, struct err *e)
{
        struct store_options so = {
                .dir = h->conf->data, .mailbox = h->mailbox, .accept_changed = h->conf->accept_changed_rows};
        uint8_t key[ROW_KEY_LEN];
        int rc = row_key_open(h->conf->data, key, &so.seal_key_new, e);

        so.seal_key = key;
        if (!rc)
                rc = store_open(&so, &h->store, e);
        mem_wipe(key, sizeof key);
        return rc || !so.seal_key_new ? rc : row_key_keep(h->conf->data, e);
}

static int build_state(struct hub *h, struct err *e)
{
        const struct hub_conf *c = h->conf;
        struct store_reader *rd = NULL;
        int64_t seq = 0, event = 0;
        uint64_t attempt = 0;
        int rc = open_store(h, e);

        if (!rc)
                rc = store_reader_open(h->store, &rd, e);
        if (!rc && (rc = read_max(rd, &seq, &attempt, &event)))
                err_set(e, -rc, "the database's counters could not be read");
        if (!rc)
                rc = check_audit(h, rd, e);
        if (!rc)
                rc = check_rows(h, rd, e);
        if (rd)
                store_reader_close(rd);
        if (!rc && (rc = bus_create(event, &h->bus)))
                err_set(e, -rc, "no memory for the event bus");
        h->logs_dir = mem_strdup(c->data); /* the logs live in its folder logs/ */
        if (!rc && !h->logs_dir)
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                rc = logs_create(h->logs_dir, &h->logs, e);
        if (!rc)
                logs_use_loop(h->logs, &h->loop);
        if (!rc)
                rc = net_create(h->mailbox, &h->out, e);
        if (!rc) {
                struct notify_options no = {.loop = &h->loop,
                                            .clock = &clock_system,
                                            .store = h->store,
                                            .bus = h->bus,
                                            .net = h->out};

                rc = targets_read(c->config, &no.targets, e);
                if (!rc)
                        rc = notify_create(&no, &h->notify, e);
                if (!rc)
                        rc = audit_head_start(&h->loop, &clock_system, h->store, h->notify, &h->audit_head,
                                              e);
        }
        if (!rc) {
                struct auth_options ao = {.clock = &clock_system,
                                          .store = h->store,
                                          .bus = h->bus,
                                          .ca = &h->ca,
                                          .agent_cert_life_ms = c->cert_life_ms};

                rc = auth_create(&ao, &h->auth, e);
        }
        return rc;
}

static void on_vault_open(void *ctx)
{
        struct hub *h = ctx;

        if (h->engine)
                engine_vault_opened(h->engine);
}

static bool op_vault_open(void *ctx)
{
        return vault_is_open(((struct hub *)ctx)->vault);
}

static const char *op_vault_why(void *ctx)
{
        return vault_why_locked(((struct hub *)ctx)->vault);
}

static int64_t op_vault_latest(void *ctx, const char *project, const char *name)
{
        return vault_latest(((struct hub *)ctx)->vault, project, name);
}

static void op_vault_mark(void *ctx, const char *run_id, const char *step_id, uint32_t attempt,
                          char out[ENGINE_MARK_LEN])
{
        vault_mark(((struct hub *)ctx)->vault, run_id, step_id, attempt, out);
}

static int build_vault(struct hub *h, struct err *e)
{
        struct vault_options vo = {.clock = &clock_system,
                                   .store = h->store,
                                   .dir = h->conf->data,
                                   .key_file = h->conf->vault_key,
                                   .loop = &h->loop,
                                   .on_open = on_vault_open,
                                   .ctx = h};

        return vault_create(&vo, &h->vault, e);
}

static int build_work(struct hub *h, struct err *e)
{
        const struct hub_conf *c = h->conf;
        char enroll[HOST_PORT_MAX];
        int rc = enroll_address(c, enroll, e);

        if (!rc)
                rc = link_net_create(&h->loop, &h->net, e);
        if (!rc) {
                struct agents_options ao = {.loop = &h->loop,
                                            .net = h->net,
                                            .clock = &clock_system,
                                            .auth = h->auth,
                                            .store = h->store,
                                            .bus = h->bus,
                                            .logs = h->logs,
                                            .vault = h->vault,
                                            .ca = &h->ca,
                                            .step_key = h->step_key,
                                            .agent_listen = c->agent_listen,
                                            .enroll_listen = enroll,
                                            .max_agents = (size_t)c->max_agents,
                                            .heartbeat_ms = c->heartbeat_ms,
                                            .cancel_grace_ms = c->cancel_grace_ms};

                rc = agents_create(&ao, &h->agents, e);
        }
        if (!rc) {
                struct engine_options eo = {
                        .clock = &clock_system,
                        .store = h->store,
                        .bus = h->bus,
                        .wire = agents_wire(h->agents),
                        .vault = {op_vault_open, op_vault_why, op_vault_latest, op_vault_mark, h},
                        .lost_after_ms = c->lost_after_ms,
                        .seal_key = step_key_rows(h->step_key),
                        .adopt_unsealed = h->step_key_new,
                        .cancel_grace_ms = c->cancel_grace_ms,
                        .question_timeout_ms = c->approvals_timeout_ms,
                        .notice = on_notice,
                        .notice_durable = on_notice_durable,
                        .want_timer = want_timer,
                        .want_flush = want_flush,
                        .ctx = h};

                if (self_approval_parse(c->approvals_self, &eo.self_approval))
                        return err_set(e, E_INVAL,
                                       "approvals-self is \"%.32s\"; it must be auto, allow or deny",
                                       c->approvals_self);
                if (budget_unpriced_parse(c->budget_unpriced, &eo.budget_unpriced))
                        return err_set(e, E_INVAL,
                                       "budget-unpriced is \"%.32s\"; it must be deny, ask or allow",
                                       c->budget_unpriced);
                eo.ask_first = &h->ask_first;
                rc = hub_conf_ask_first(c, &h->ask_first, e);
                if (!rc)
                        rc = engine_create(&eo, &h->engine, e);
        }
        if (!rc) {
                agents_set_engine(h->agents, h->engine);
                rc = engine_load(h->engine, e);
                if (!rc)
                        agents_tell_known(h->agents);
        }
        if (!rc)
                rc = agents_listen(h->agents, e);
        return rc;
}

static int build_oidc(struct hub *h, struct err *e)
{
        const struct hub_conf *c = h->conf;
        struct oidc_options oo = {.clock = &clock_system,
                                  .net = h->out,
                                  .issuer = c->oidc_issuer,
                                  .client_id = c->oidc_client_id,
                                  .ca_file = c->oidc_ca,
                                  .scopes = c->oidc_scopes,
                                  .session_ms = c->oidc_session_ms};
        struct oidc_rule *rules;
        char *secret = NULL;
        size_t n = 0;
        int rc = 0;

        if (!c->oidc_issuer)
                return 0;
        if (!c->oidc_client_id)
                return err_set(e, E_INVAL,
                               "oidc-issuer needs oidc-client-id: what the provider calls this hub");
        if (c->oidc_roles.n > OIDC_RULES_MAX)
                return err_set(e, E_INVAL, "more than %d oidc-role", OIDC_RULES_MAX);
        rules = mem_calloc(c->oidc_roles.n + 1, sizeof *rules);
        if (!rules)
                return err_set(e, E_NOMEM, "no memory for the hub");
        for (size_t i = 0; i < c->oidc_roles.n && !rc; i++)
                rc = oidc_rule_parse(c->oidc_roles.v[i], &rules[i], e);
        oo.rules = rules;
        oo.n_rules = c->oidc_roles.n;
        if (!rc && c->oidc_client_secret_file)
                rc = file_read(c->oidc_client_secret_file, CLIENT_SECRET_MAX, &secret, &n, e);
        if (secret)
                secret[strcspn(secret, "\r\n")] = '\0';
        oo.client_secret = secret;
        if (!rc)
                rc = oidc_create(&oo, &h->oidc, e);
        if (secret)
                mem_wipe(secret, n);
        mem_free(secret);
        mem_free(rules);
        return rc;
}

/* The API shows its authority too: `photon login --ca-sha256` finds there what it pins. */
static int build_api(struct hub *h, struct err *e)
{
        const struct hub_conf *c = h->conf;
        char *chain = str_printf("%s%s", h->ca.hub_cert_pem, h->ca.ca_cert_pem);
        struct http_options ho = {
                .loop = &h->loop,
                .mailbox = h->mailbox,
                .clock = &clock_system,
                .listen = c->api_listen,
                .cert_pem = chain,
                .key_pem = h->ca.hub_key_pem,
                .store = h->store,
                .engine = h->engine,
                .bus = h->bus,
                .auth = h->auth,
                .logs = h->logs,
                .vault = h->vault,
                .public_url = c->public_url,
                .notify = h->notify,
                .logs_dir = h->logs_dir,
                .ops = {op_revoke, op_drain, op_label, op_describe, op_describe_all, op_online, op_join_text,
                        h},
                .threads = (unsigned)c->http_threads,
                .max_connections = (unsigned)c->http_connections,
                .max_per_ip = (unsigned)c->http_per_ip,
                .audit_reads = c->audit_reads,
                .rate_per_token = c->http_rate,
                .rate_per_ip = c->http_rate_per_ip,
        };

        int rc = chain ? build_oidc(h, e) : err_set(e, E_NOMEM, "no memory for the hub");

        ho.oidc = h->oidc;
        if (!rc)
                rc = http_create(&ho, &h->http, e);

        mem_free(chain);
        return rc;
}

/* ---- stopping: API first (no new work), then agents (goodbye), then the store (everything durable) ---- */

static void end_loop(struct hub *h)
{
        uv_stop(&h->loop);
}

static void on_agents_closed(void *arg)
{
        end_loop(arg);
}

static void on_http_stopped(void *arg)
{
        struct hub *h = arg;

        agents_close(h->agents, (int)h->conf->drain_ms, on_agents_closed, h);
}

static void on_deadline(uv_timer_t *t)
{
        log_warn("hub", "stopping took too long; ending now, nothing that was acknowledged is lost", "%s",
                 "");
        end_loop(t->data);
}

static void on_signal(uv_signal_t *s, int signum)
{
        struct hub *h = s->data;

        if (h->stopping) {
                log_warn("hub", "second signal, ending at once", "signal=%d", signum);
                end_loop(h);
                return;
        }
        h->stopping = true;
        log_info("hub", "stopping", "signal=%d", signum);
        sd_notify_send("STOPPING=1");
        uv_timer_start(&h->deadline, on_deadline, (uint64_t)h->conf->drain_ms * 2 + 2000, 0);
        http_stop(h->http, (int)h->conf->drain_ms, on_http_stopped, h);
}

static int start_loop(struct hub *h, struct err *e)
{
        uv_loop_init(&h->loop);
        uv_timer_init(&h->loop, &h->timer);
        uv_timer_init(&h->loop, &h->deadline);
        uv_signal_init(&h->loop, &h->term);
        uv_signal_init(&h->loop, &h->intr);
        h->timer.data = h->deadline.data = h->term.data = h->intr.data = h;
        if (mailbox_create(&h->loop, &h->mailbox))
                return err_set(e, E_NOMEM, "no memory for the mailbox");
        return 0;
}

/* libuv runs the handle that was started last first: the turn comes before the links' own flush. */
static void start_turns(struct hub *h)
{
        uv_prepare_init(&h->loop, &h->prepare);
        uv_check_init(&h->loop, &h->check);
        h->prepare.data = h->check.data = h;
        uv_prepare_start(&h->prepare, on_prepare);
        uv_check_start(&h->check, on_check);
        uv_signal_start(&h->term, on_signal, SIGTERM);
        uv_signal_start(&h->intr, on_signal, SIGINT);
}

static void say_ready(struct hub *h)
{
        char host[HOST_PORT_MAX];

        snprintf(host, sizeof host, "%s", h->conf->agent_listen);
        if (strrchr(host, ':'))
                *strrchr(host, ':') = 0;
        printf("ready agent=%s:%d api=https://%s\n", host, agents_port(h->agents), http_address(h->http));
        fflush(stdout);
        sd_notify_send("READY=1");
        log_info("hub", "ready", "agents=%s:%d enroll_port=%d api=%s data=%s", host, agents_port(h->agents),
                 agents_enroll_port(h->agents), http_address(h->http), h->conf->data);
}

static void tear_down(struct hub *h)
{
        /* After a second signal its threads still run: they must not meet a closed store. */
        http_free(h->http);
        h->http = NULL;
        audit_head_stop(h->audit_head);
        net_close(h->out);
        oidc_free(h->oidc);
        notify_free(h->notify);
        /* The store goes first: what it still holds becomes durable, and its callbacks have run or never
         * will. */
        if (h->engine && h->agents)
                engine_flush(h->engine);
        if (h->store)
                store_close(h->store);
        step_key_free(h->step_key);
        askfirst_fini(&h->ask_first);
        ca_fini(&h->ca);
        mem_free(h->logs_dir);
        if (h->lock_fd >= 0)
                close(h->lock_fd);
}

int hub_serve(const struct hub_conf *c, struct err *e)
{
        struct hub *h = mem_calloc(1, sizeof *h);
        char *lock;
        int rc;

        if (!h)
                return err_set(e, E_NOMEM, "no memory for the hub");
        h->conf = c;
        h->lock_fd = -1;
        signal(SIGPIPE, SIG_IGN);
        lock = path_join(c->data, "hub.lock");
        rc = lock ? file_lock(lock, &h->lock_fd, e) : err_set(e, E_NOMEM, "no memory");
        mem_free(lock);
        if (rc == -E_EXIST)
                err_set(e, E_EXIST, "another photon-hub is serving %s: stop it first, or use another --data",
                        c->data);
        if (!rc)
                rc = ca_load(c->data, (const char *const *)c->hosts.v, clock_now_us(&clock_system), &h->ca,
                             e);
        if (!rc)
                rc = step_key_open(c->data, &h->ca, &h->step_key_new, &h->step_key, e);
        if (!rc)
                rc = start_loop(h, e);
        if (!rc)
                rc = build_state(h, e);
        if (!rc)
                rc = build_vault(h, e);
        if (!rc)
                rc = build_work(h, e);
        if (!rc)
                rc = build_api(h, e);
        if (!rc) {
                start_turns(h);
                say_ready(h);
                uv_run(&h->loop, UV_RUN_DEFAULT);
                log_info("hub", "stopped", "%s", "");
        }
        tear_down(h);
        /* The process ends here: threads of NNG and of the API may still look at the rest. */
        return rc;
}

/* ---- init ---- */

/* Made now, so that its key lies where it will be looked for, and a backup of the folder is whole. */
static int init_vault(const struct hub_conf *c, struct store *st, struct err *e)
{
        struct vault_options vo = {
                .clock = &clock_system, .store = st, .dir = c->data, .key_file = c->vault_key};
        struct vault *v = NULL;
        int rc = vault_create(&vo, &v, e);

        vault_free(v);
        return rc;
}

static int init_store(const struct hub_conf *c, struct store **out, struct err *e)
{
        struct store_options so = {.dir = c->data, .create = true};
        uint8_t key[ROW_KEY_LEN];
        int rc = row_key_open(c->data, key, &so.seal_key_new, e);

        so.seal_key = key;
        if (!rc)
                rc = store_open(&so, out, e);
        mem_wipe(key, sizeof key);
        return rc || !so.seal_key_new ? rc : row_key_keep(c->data, e);
}

int hub_init(const struct hub_conf *c, char *out_ca_sha256, char *out_token, struct err *e)
{
        struct store *st = NULL;
        struct step_key *key = NULL;
        struct ca ca = {0};
        char id[32], *db = path_join(c->data, "hub.db");
        int64_t now = clock_now_us(&clock_system);
        struct stat sb;
        int rc = file_mkdir_private(c->data, e);

        if (!rc && (!db || lstat(db, &sb) == 0))
                rc = err_set(e, E_EXIST,
                             "%s already holds a hub: nothing was changed; use another --data, or remove "
                             "that folder",
                             c->data);
        if (!rc)
                rc = ca_init(c->data, (const char *const *)c->hosts.v, now, e);
        if (!rc)
                rc = ca_load(c->data, NULL, now, &ca, e);
        if (!rc)
                rc = step_key_open(c->data, &ca, NULL, &key, e);
        step_key_free(key);
        if (!rc)
                rc = init_store(c, &st, e);
        if (!rc)
                rc = init_vault(c, st, e);
        if (!rc) {
                const struct new_api_token first = {
                        .name = "admin", .project = PROJECT_ALL, .role = ROLE_ADMIN, .created_by = "init"};
                struct store_tx *tx = store_begin(st);

                rc = tx ? auth_api_token_create(tx, &first, now, out_token, id) : -E_NOMEM;
                if (!rc) {
                        store_put_audit(tx, now, "init", "hub.init", c->data, NULL);
                        store_commit(tx, NULL, NULL);
                        store_pump(st);
                        str_hex(ca.ca_sha256, sizeof ca.ca_sha256, out_ca_sha256);
                } else {
                        err_set(e, -rc, "the first admin's token could not be made");
                        if (tx)
                                store_abandon(tx);
                }
        }
        if (st)
                store_close(st);
        ca_fini(&ca);
        mem_free(db);
        return rc;
}
