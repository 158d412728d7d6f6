#include "agent/agent.h"

#include "agent/conf.h"
#include "agent/conn.h"
#include "agent/datadir.h"
#include "agent/enroll.h"
#include "agent/identity.h"
#include "agent/inventory.h"
#include "agent/job.h"
#include "agent/journal.h"
#include "agent/keeper.h"
#include "agent/output.h"
#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"
#include "agent/procid.h"
#include "agent/status.h"
#include "agent/tools/acp_agents.h"
#include "agent/tools/mcp.h"
#include "agent/tools/models.h"
#include "agent/toolset.h"
#include "agent/tools/process.h"
#include "agent/tools/tool.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/jointoken.h"
#include "common/link.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/sdnotify.h"
#include "common/str.h"
#include "common/version.h"

#include <malloc.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* After the last call has ended: for the hub to acknowledge its results. */
#define LAST_ACKS_MS 2000
/* TERM to KILL for calls that outlast the drain timeout. */
#define STOP_GRACE_MS 5000

struct agent {
        const struct agent_conf *conf;
        uv_loop_t loop;
        struct link_net *net;
        struct identity *id;
        struct policy *policy;
        char *policy_path, *scratch;
        struct inventory inventory;
        struct journal *journal;
        struct output_pool *pool;
        struct jobs *jobs;
        struct agent_conn *conn;
        struct enroller *enroller;
        struct status_server *status;
        struct join_token token;
        uv_prepare_t prepare;
        uv_check_t check;
        uv_signal_t sigterm, sigint, sighup;
        uv_timer_t timer; /* of the shutdown */
        int lock;
        int64_t started_us;
        enum { AGENT_RUNS, AGENT_DRAINS, AGENT_STOPS_CALLS, AGENT_LAST_ACKS, AGENT_CLOSES } phase;
        struct err failed; /* why it ends by itself */
};

/* --- the turn ---------------------------------------------------------------- */

static void shut(struct agent *a);

static void on_last_acks(uv_timer_t *t)
{
        shut(t->data);
}

/* Once nothing runs, results get a moment to be acknowledged; what is not stays in the journal. */
static void look_for_end(struct agent *a)
{
        if (a->phase == AGENT_RUNS || a->phase == AGENT_CLOSES || !a->jobs || jobs_running(a->jobs) > 0)
                return;
        if (jobs_unacked(a->jobs) == 0 || !agent_conn_is_up(a->conn)) {
                shut(a);
        } else if (a->phase != AGENT_LAST_ACKS) {
                a->phase = AGENT_LAST_ACKS;
                uv_timer_start(&a->timer, on_last_acks, LAST_ACKS_MS, 0);
        }
}

static void turn(struct agent *a)
{
        if (!a->jobs || a->phase == AGENT_CLOSES)
                return;
        output_pool_turn(a->pool);
        jobs_turn(a->jobs);
        look_for_end(a);
}

static void on_prepare(uv_prepare_t *h)
{
        turn(h->data);
}

static void on_check(uv_check_t *h)
{
        turn(h->data);
}

/* --- the end ----------------------------------------------------------------- */

static void close_handle(uv_handle_t *h)
{
        if (!uv_is_closing(h))
                uv_close(h, NULL);
}

static void close_rest(struct agent *a)
{
        if (a->status)
                status_server_close(a->status, NULL, NULL);
        a->status = NULL;
        toolset_close();
        sandbox_close();
        close_handle((uv_handle_t *)&a->prepare);
        close_handle((uv_handle_t *)&a->check);
        close_handle((uv_handle_t *)&a->sigterm);
        close_handle((uv_handle_t *)&a->sigint);
        close_handle((uv_handle_t *)&a->sighup);
        close_handle((uv_handle_t *)&a->timer);
        if (a->net)
                link_net_close(a->net, NULL, NULL);
        a->net = NULL;
}

static void on_pool_closed(void *arg)
{
        struct agent *a = arg;

        a->pool = NULL;
        close_rest(a);
}

static void on_jobs_closed(void *arg)
{
        struct agent *a = arg;

        a->jobs = NULL;
        tools_stop();
        output_pool_close(a->pool, on_pool_closed, a);
}

static void on_conn_closed(void *arg)
{
        struct agent *a = arg;

        a->conn = NULL;
        jobs_close(a->jobs, on_jobs_closed, a);
}

/* Connection, jobs, pool, the rest: each lives on what comes after it. */
static void shut(struct agent *a)
{
        if (a->phase == AGENT_CLOSES)
                return;
        a->phase = AGENT_CLOSES;
        uv_timer_stop(&a->timer);
        enroller_cancel(a->enroller);
        a->enroller = NULL;
        if (a->conn)
                agent_conn_close(a->conn, on_conn_closed, a);
        else if (a->jobs)
                jobs_close(a->jobs, on_jobs_closed, a);
        else if (a->pool)
                output_pool_close(a->pool, on_pool_closed, a);
        else
                close_rest(a);
}

static void on_drained(uv_timer_t *t)
{
        struct agent *a = t->data;

        if (a->phase != AGENT_DRAINS)
                return;
        a->phase = AGENT_STOPS_CALLS;
        log_warn("agent", "calls still run, stopping them", "running=%zu", jobs_running(a->jobs));
        jobs_stop_all(a->jobs, STOP_GRACE_MS);
}

static void on_signal(uv_signal_t *h, int signum)
{
        struct agent *a = h->data;

        if (a->phase != AGENT_RUNS) {
                log_warn("agent", "second signal, ending at once", "signal=%d", signum);
                if (a->journal)
                        journal_flush(a->journal, NULL);
                _exit(1);
        }
        log_info("agent", "stopping", "signal=%d running=%zu", signum, a->jobs ? jobs_running(a->jobs) : 0);
        sd_notify_send("STOPPING=1");
        if (!a->jobs) {
                shut(a);
                return;
        }
        a->phase = AGENT_DRAINS;
        jobs_drain(a->jobs, JOBS_DRAIN_STOP, true);
        uv_timer_start(&a->timer, on_drained, (uint64_t)a->conf->drain_timeout_ms, 0);
}

/* --- the beginning ----------------------------------------------------------- */

static void on_conn_change(void *arg)
{
        struct agent *a = arg;
        struct agent_conn_view v;
        char text[512];

        if (!a->conn)
                return;
        agent_conn_view(a->conn, &v);
        snprintf(text, sizeof text, "STATUS=%s, hub %s", v.state, a->id->agent_addr);
        sd_notify_send(text);
        if (agent_conn_is_up(a->conn))
                malloc_trim(0); /* handshakes leave holes */
}

static void add_time(cJSON *o, const char *key, int64_t us)
{
        char at[CLOCK_RFC3339_LEN];

        clock_format(us, at);
        cJSON_AddStringToObject(o, key, at);
}

static cJSON *describe(void *arg)
{
        struct agent *a = arg;
        cJSON *o = cJSON_CreateObject();
        struct agent_conn_view v = {.state = "joining", .last_error = "", .hub_version = ""};

        if (!o)
                return NULL;
        cJSON_AddBoolToObject(o, "running", true);
        cJSON_AddStringToObject(o, "version", PHOTON_VERSION);
        cJSON_AddNumberToObject(o, "pid", (double)getpid());
        cJSON_AddBoolToObject(o, "enrolled", identity_enrolled(a->id));
        cJSON_AddStringToObject(o, "name", a->id->name);
        cJSON_AddStringToObject(o, "id", a->id->agent_id);
        cJSON_AddStringToObject(o, "hub", a->id->agent_addr);
        if (a->conn)
                agent_conn_view(a->conn, &v);
        cJSON_AddBoolToObject(o, "connected", a->conn && agent_conn_is_up(a->conn));
        cJSON_AddStringToObject(o, "state", v.state);
        add_time(o, "since", a->conn ? v.since_us : a->started_us);
        cJSON_AddStringToObject(o, "last_error", v.last_error);
        cJSON_AddStringToObject(o, "hub_version", v.hub_version);
        if (v.rtt_us > 0)
                cJSON_AddNumberToObject(o, "rtt_us", (double)v.rtt_us);
        add_time(o, "started_at", a->started_us);
        if (identity_enrolled(a->id))
                add_time(o, "certificate_not_after", a->id->not_after_us);
        if (a->jobs) {
                cJSON_AddNumberToObject(o, "running_calls", (double)jobs_running(a->jobs));
                cJSON_AddNumberToObject(o, "unacknowledged_results", (double)jobs_unacked(a->jobs));
                cJSON_AddBoolToObject(o, "draining", jobs_draining(a->jobs));
                cJSON_AddItemToObject(o, "calls", jobs_describe(a->jobs));
                cJSON_AddNumberToObject(o, "journal_bytes", (double)journal_size_bytes(a->journal));
                cJSON_AddNumberToObject(o, "spool_bytes", (double)output_pool_spooled(a->pool));
        }
        cJSON_AddItemToObject(o, "mcp_servers", mcp_describe());
        cJSON_AddStringToObject(o, "data", a->conf->data);
        cJSON_AddStringToObject(o, "policy_file", a->policy_path);
        cJSON_AddStringToObject(o, "policy_sha256", policy_sha256(a->policy));
        cJSON_AddStringToObject(o, "policy", policy_text(a->policy));
        cJSON_AddStringToObject(o, "sandbox", sandbox_mode_name(sandbox_mode()));
        cJSON_AddStringToObject(o, "sandbox_has", sandbox_has());
        cJSON_AddStringToObject(o, "sandbox_lacks", sandbox_lacks());
        return o;
}

static void on_tools_change(void *arg)
{
        struct agent *a = arg;

        inventory_stale(&a->inventory);
        if (a->jobs)
                jobs_tools_changed(a->jobs);
        if (a->conn)
                agent_conn_inventory_changed(a->conn);
}

static void end_leftovers(const char *scratch_root, const struct journal_proc *p)
{
        int n = process_end_leftovers(scratch_root, p && procid_matches(p) ? p->pid : 0);

        if (n > 0)
                log_warn("agent", "ended what a call had left running", "processes=%d", n);
}

/* The rules of the policy become what the kernel enforces. */
static int open_sandbox(struct agent *a, struct err *e)
{
        struct toolset_dirs dirs;
        const char *readonly[] = {a->policy_path, a->conf->config};
        struct sandbox_options o = {.data = a->conf->data, .scratch = a->scratch, .readonly = readonly};
        int rc = toolset_dirs(a->conf, &dirs, e);

        if (rc)
                return rc;
        /* It must be there before the data folder is covered (toolset_open tells what goes wrong with it). */
        if (a->conf->tools_dirs.n == 0)
                (void)mkdir(dirs.v[0], 0700);
        o.rules = policy_sandbox(a->policy, &o.n_rules);
        o.keep = (const char *const *)dirs.v;
        o.n_keep = dirs.n;
        o.n_readonly = a->conf->config ? 2 : 1;
        rc = sandbox_open(&o, e);
        toolset_dirs_free(&dirs);
        if (!rc)
                log_info("agent", "sandbox", "mode=%s has=\"%s\" lacks=\"%s\"",
                         sandbox_mode_name(sandbox_mode()), sandbox_has(), sandbox_lacks());
        return rc;
}

/* Everything that needs an identity. */
static int build(struct agent *a, struct err *e)
{
        const struct agent_conf *conf = a->conf;
        const struct conf_list *labels[] = {&a->id->labels, &conf->labels};
        char *journal = path_join(conf->data, "journal"), *spool = path_join(conf->data, "spool");
        struct output_pool_options po = {
                .loop = &a->loop, .dir = spool, .spool_max = policy_limits(a->policy)->spool_bytes};
        struct jobs_options jo = {.loop = &a->loop,
                                  .policy = a->policy,
                                  .max_running = (int)conf->max_running,
                                  .clock = &clock_system,
                                  .end_leftovers = end_leftovers};
        struct agent_conn_options co = {.loop = &a->loop,
                                        .net = a->net,
                                        .id = a->id,
                                        .policy = a->policy,
                                        .inventory = &a->inventory,
                                        .kind = conf->kind,
                                        .max_running = (int)conf->max_running,
                                        .clock = &clock_system,
                                        .on_change = on_conn_change,
                                        .arg = a};
        int rc = journal && spool ? 0 : err_set(e, E_NOMEM, "no memory");

        if (!rc)
                rc = datadir_fresh(conf->data, "scratch", &a->scratch, e);
        if (!rc)
                rc = inventory_make(a->policy, labels, 2, &a->inventory, e);
        if (!rc)
                rc = journal_open(journal, &a->journal, NULL, e);
        if (!rc)
                rc = output_pool_create(&po, &a->pool, e);
        jo.journal = a->journal;
        jo.pool = a->pool;
        jo.scratch_root = a->scratch;
        if (!rc)
                rc = jobs_create(&jo, &a->jobs, e);
        co.journal = a->journal;
        co.jobs = a->jobs;
        co.pool = a->pool;
        if (!rc)
                rc = agent_conn_create(&co, &a->conn, e);
        mem_free(journal);
        mem_free(spool);
        if (rc)
                return rc;
        tools_on_change(on_tools_change, a);
        rc = open_sandbox(a, e);
        if (!rc)
                rc = keeper_start(a->scratch, sandbox_cgroup(), e);
        if (rc)
                return rc;
        rc = toolset_open(&a->loop, conf, a->policy, a->scratch, e);
        if (rc)
                return rc;
        agent_conn_start(a->conn);
        sd_notify_send("READY=1");
        log_info("agent", "running", "version=%s name=%s data=%s max_running=%lld", PHOTON_VERSION,
                 a->id->name, conf->data, (long long)conf->max_running);
        return 0;
}

static void on_enrolled(void *arg, int rc, const struct err *e)
{
        struct agent *a = arg;

        a->enroller = NULL;
        if (!rc) {
                log_info("agent", "joined", "hub=%s agent=%s id=%s", a->id->agent_addr, a->id->name,
                         a->id->agent_id);
                join_token_wipe(&a->token);
                rc = build(a, &a->failed);
        } else {
                a->failed = *e;
        }
        if (rc)
                shut(a);
}

static int enroll_first(struct agent *a, struct err *e)
{
        struct enroller_options o = {.loop = &a->loop,
                                     .net = a->net,
                                     .id = a->id,
                                     .token = &a->token,
                                     .name = a->conf->name,
                                     .labels = &a->conf->labels,
                                     .clock = &clock_system,
                                     .on_done = on_enrolled,
                                     .arg = a};

        return enroller_start(&o, &a->enroller, e);
}

static int open_data(struct agent *a, struct err *e)
{
        int rc = datadir_open(a->conf->data, &a->lock, e);

        if (!rc)
                rc = datadir_policy(a->conf, true, &a->policy, &a->policy_path, e);
        if (!rc)
                rc = identity_load(a->conf->data, &a->id, e);
        if (rc || identity_enrolled(a->id))
                return rc;
        if (!a->conf->token || !a->conf->token[0])
                return err_set(e, E_UNAUTH,
                               "this machine has not joined a hub yet (data folder %s): on the hub, run "
                               "\"photon token "
                               "create\"; here, run \"photon-agent join TOKEN\"",
                               a->conf->data);
        return join_token_parse(a->conf->token, &a->token, e);
}

static void on_reload(uv_signal_t *h, int signum)
{
        struct agent *a = h->data;

        (void)signum;
        log_info("agent", "reading the tools again", "signal=SIGHUP");
        if (a->phase == AGENT_RUNS && a->jobs)
                toolset_reload();
}

static bool has_terminal(void)
{
        int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

        if (fd >= 0)
                close(fd);
        return fd >= 0;
}

static int open_loop(struct agent *a, struct err *e)
{
        int rc = uv_loop_init(&a->loop);

        if (rc)
                return err_set(e, E_IO, "cannot make an event loop: %s", uv_strerror(rc));
        uv_timer_init(&a->loop, &a->timer);
        uv_signal_init(&a->loop, &a->sigterm);
        uv_signal_init(&a->loop, &a->sigint);
        uv_signal_init(&a->loop, &a->sighup);
        uv_prepare_init(&a->loop, &a->prepare);
        uv_check_init(&a->loop, &a->check);
        a->timer.data = a->sigterm.data = a->sigint.data = a->sighup.data = a->prepare.data = a->check.data =
                a;
        rc = link_net_create(&a->loop, &a->net, e);
        if (rc) {
                a->net = NULL;
                return rc;
        }
        uv_signal_start(&a->sigterm, on_signal, SIGTERM);
        uv_signal_start(&a->sigint, on_signal, SIGINT);
        /* At a terminal it means that the terminal is gone. */
        uv_signal_start(&a->sighup, has_terminal() ? on_signal : on_reload, SIGHUP);
        /* After link_net, so that libuv runs ours first and what we send leaves in the same turn. */
        uv_prepare_start(&a->prepare, on_prepare);
        uv_check_start(&a->check, on_check);
        return 0;
}

static void fini(struct agent *a)
{
        models_close();
        acp_agents_close();
        journal_free(a->journal);
        inventory_fini(&a->inventory);
        identity_free(a->id);
        policy_free(a->policy);
        join_token_wipe(&a->token);
        mem_free(a->policy_path);
        mem_free(a->scratch);
        if (a->lock >= 0)
                close(a->lock);
        mem_free(a);
}

int agent_run(const struct agent_conf *conf, struct err *e)
{
        struct agent *a = mem_calloc(1, sizeof *a);
        struct err why = {0};
        int rc;

        if (!a)
                return err_set(e, E_NOMEM, "no memory");
        a->conf = conf;
        a->lock = -1;
        a->started_us = clock_now_us(&clock_system);
        /* Nobody else of this user reads the keys out of our memory, or through /proc the files behind it. */
        (void)prctl(PR_SET_DUMPABLE, 0);
        rc = open_data(a, e);
        if (!rc)
                rc = models_load(conf->config, e);
        if (!rc)
                rc = acp_agents_load(conf->config, e);
        if (rc) {
                fini(a);
                return rc;
        }
        rc = open_loop(a, e);
        if (!rc && status_server_open(&a->loop, conf->data, describe, a, &a->status, &why))
                log_warn("agent", "photon-agent status will not work", "error=%s", why.msg);
        if (!rc)
                rc = identity_enrolled(a->id) ? build(a, e) : enroll_first(a, e);
        if (rc)
                shut(a);
        uv_run(&a->loop, UV_RUN_DEFAULT);
        tools_on_change(NULL, NULL);
        tools_close();
        uv_run(&a->loop, UV_RUN_DEFAULT);
        if (uv_loop_close(&a->loop))
                log_debug("agent", "the loop still had handles", "phase=%d", (int)a->phase);
        if (!rc && a->failed.code) {
                rc = -a->failed.code;
                *e = a->failed;
        }
        if (!rc)
                log_info("agent", "stopped", "held=%zu", a->journal ? journal_count(a->journal) : 0);
        fini(a);
        return rc;
}
