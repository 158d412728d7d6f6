#include "agent/doctor.h"

#include "agent/conf.h"
#include "agent/datadir.h"
#include "agent/identity.h"
#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"
#include "agent/status.h"
#include "agent/tools/mcp_config.h"
#include "agent/tools/plugin_manifest.h"
#include "agent/toolset.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/link.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/rpc.h"
#include "common/str.h"
#include "common/version.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SPACE_WARN (1024u << 20)
#define SPACE_FAIL (64u << 20)
#define DIAL_MS    10000

enum verdict { CHECK_OK, CHECK_WARN, CHECK_FAIL };
static const char *const words[] = {"ok", "warn", "fail"};

struct doctor {
        const struct agent_conf *conf;
        struct identity *id;
        cJSON *list; /* NULL: text */
        bool failed, running;
        /* the connection */
        uv_loop_t loop;
        struct link_net *net;
        char trouble[512];
        bool reached;
        int trouble_code;
};

static void say(struct doctor *d, enum verdict v, const char *what, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void say(struct doctor *d, enum verdict v, const char *what, const char *fmt, ...)
{
        char text[1024];
        va_list ap;
        cJSON *o;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        d->failed = d->failed || v == CHECK_FAIL;
        if (!d->list) {
                printf("%-4s  %-12s %s\n", words[v], what, text);
                return;
        }
        o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "check", what);
        cJSON_AddStringToObject(o, "result", words[v]);
        cJSON_AddStringToObject(o, "message", text);
        cJSON_AddItemToArray(d->list, o);
}

static void check_folder(struct doctor *d)
{
        const char *dir = d->conf->data;
        struct stat st;
        struct statvfs fs;
        uint64_t avail;
        char size[32];

        if (stat(dir, &st)) {
                say(d, CHECK_FAIL, "data", "%s: %s; run: photon-agent join TOKEN --data %s", dir,
                    strerror(errno), dir);
                return;
        }
        if (!S_ISDIR(st.st_mode))
                say(d, CHECK_FAIL, "data", "%s is no folder; say --data DIR", dir);
        else if (st.st_uid != geteuid() && geteuid() != 0)
                say(d, CHECK_FAIL, "data", "%s belongs to user %u; run as that user, or say --data DIR", dir,
                    (unsigned)st.st_uid);
        else if (st.st_mode & 022)
                say(d, CHECK_FAIL, "data", "others may write to %s; run: chmod 700 %s", dir, dir);
        else if (access(dir, W_OK | X_OK))
                say(d, CHECK_FAIL, "data", "%s cannot be written: %s; mount it read-write or say --data DIR",
                    dir, strerror(errno));
        else if (st.st_mode & 055)
                say(d, CHECK_WARN, "data", "others may read %s; run: chmod 700 %s", dir, dir);
        else
                say(d, CHECK_OK, "data", "%s, private", dir);
        if (statvfs(dir, &fs))
                return;
        avail = (uint64_t)fs.f_bavail * fs.f_frsize;
        str_format_size((int64_t)avail, size);
        say(d,
            avail < SPACE_FAIL   ? CHECK_FAIL
            : avail < SPACE_WARN ? CHECK_WARN
                                 : CHECK_OK,
            "disk", "%s free in %s%s", size, dir,
            avail < SPACE_WARN ? "; free some: output and results wait there for the hub" : "");
}

static void check_policy(struct doctor *d)
{
        struct policy *p = NULL;
        char *path = NULL;
        struct err e = {0};

        if (datadir_policy(d->conf, false, &p, &path, &e))
                say(d, CHECK_FAIL, "policy", "%s", e.msg);
        else if (access(path, F_OK))
                say(d, CHECK_WARN, "policy",
                    "there is no %s, so the defaults hold; photon-agent join writes one", path);
        else
                say(d, CHECK_OK, "policy", "%s (sha256 %.12s)", path, policy_sha256(p));
        policy_free(p);
        mem_free(path);
}

static void tell_sandbox(struct doctor *d, const char *mode, const char *has, const char *lacks)
{
        if (strcmp(mode, "off") == 0)
                say(d, CHECK_WARN, "sandbox", "is off: programs may do what the agent's user may do");
        else if (!*lacks)
                say(d, CHECK_OK, "sandbox", "%s: %s", mode, has);
        else
                say(d, strcmp(mode, "require") == 0 ? CHECK_FAIL : CHECK_WARN, "sandbox",
                    "%s: %s; missing: %s", mode, has, lacks);
}

static void look_at_sandbox(struct doctor *d, const struct policy *p)
{
        struct sandbox_options o = {.data = access(d->conf->data, F_OK) ? NULL : d->conf->data};
        struct err e = {0};

        o.rules = policy_sandbox(p, &o.n_rules);
        if (sandbox_open(&o, &e))
                say(d, CHECK_FAIL, "sandbox", "%s", e.msg);
        else
                tell_sandbox(d, sandbox_mode_name(sandbox_mode()), sandbox_has(), sandbox_lacks());
        sandbox_close();
}

/* What the running agent has made of its policy; without one, what this kernel has. */
static void check_sandbox(struct doctor *d)
{
        struct policy *p = NULL;
        char *path = NULL;
        const char *mode = NULL, *has = NULL, *lacks = NULL;
        cJSON *o = NULL;

        if (datadir_policy(d->conf, false, &p, &path, NULL))
                return; /* said already */
        if (d->running && status_ask(d->conf->data, &o) == 0) {
                mode = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "sandbox"));
                has = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "sandbox_has"));
                lacks = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "sandbox_lacks"));
        }
        if (!mode || !has || !lacks)
                look_at_sandbox(d, p);
        else
                tell_sandbox(d, mode, has, lacks);
        cJSON_Delete(o);
        policy_free(p);
        mem_free(path);
}

static void check_identity(struct doctor *d)
{
        struct err e = {0};
        int64_t now = clock_now_us(&clock_system);
        char at[CLOCK_RFC3339_LEN];

        if (identity_load(d->conf->data, &d->id, &e)) {
                say(d, CHECK_FAIL, "identity", "%s", e.msg);
                return;
        }
        if (!identity_enrolled(d->id)) {
                say(d, CHECK_FAIL, "identity",
                    "this machine has not joined a hub; on the hub: photon token create; here: photon-agent "
                    "join TOKEN");
                return;
        }
        say(d, CHECK_OK, "identity", "%s (id %s) at hub %s", d->id->name, d->id->agent_id, d->id->agent_addr);
        clock_format(d->id->not_after_us, at);
        if (now < d->id->not_before_us)
                say(d, CHECK_FAIL, "certificate",
                    "is not valid yet: this machine's clock is behind the hub's; set the clock "
                    "(timedatectl)");
        else if (now >= d->id->not_after_us)
                say(d, CHECK_WARN, "certificate",
                    "expired at %s; a running agent rejoins by itself with its key", at);
        else if (now > identity_renew_at_us(d->id, 0.75))
                say(d, CHECK_WARN, "certificate", "ends at %s and is due for renewal; is the agent running?",
                    at);
        else
                say(d, CHECK_OK, "certificate", "valid until %s", at);
}

static bool check_name(struct doctor *d, const char *host)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *res = NULL;
        int rc = getaddrinfo(host, NULL, &hints, &res);

        if (rc)
                say(d, CHECK_FAIL, "dns", "%s cannot be resolved: %s; check the network and /etc/resolv.conf",
                    host, gai_strerror(rc));
        else
                say(d, CHECK_OK, "dns", "%s resolves", host);
        if (res)
                freeaddrinfo(res);
        return rc == 0;
}

static void on_ready(struct rpc_conn *c, const struct link_peer *peer, void *arg)
{
        struct doctor *d = arg;

        (void)peer;
        d->reached = true;
        rpc_conn_close(c, 0, 0, "doctor");
}

static void on_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct doctor *d = arg;

        (void)c;
        if (!d->reached) {
                d->trouble_code = abs(rc);
                snprintf(d->trouble, sizeof d->trouble, "%s",
                         why && *why ? why : "the connection was closed");
        }
        link_net_close(d->net, NULL, NULL);
}

/* A second connection would replace the running agent's own at the hub: it is asked instead. */
static void ask_the_agent(struct doctor *d)
{
        const char *state, *why;
        cJSON *o = NULL;
        int rc = status_ask(d->conf->data, &o);

        if (rc) {
                say(d, CHECK_FAIL, "hub", "the running agent does not say how it fares (%s); look at its log",
                    err_name(-rc));
                return;
        }
        state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "state"));
        why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "last_error"));
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "connected")))
                say(d, CHECK_OK, "hub", "the running agent is connected to %s", d->id->agent_addr);
        else
                say(d, CHECK_FAIL, "hub",
                    "the running agent is not connected to %s (%s): %s; check that photon-hub runs there and "
                    "that no firewall is in "
                    "between",
                    d->id->agent_addr, state ? state : "?", why && *why ? why : "no error yet");
        cJSON_Delete(o);
}

static void check_connection(struct doctor *d)
{
        struct rpc_conn_options o = {.software = "photon-agent/" PHOTON_VERSION,
                                     .on_ready = on_ready,
                                     .on_close = on_close,
                                     .arg = d};
        struct link_tls tls = {0};
        struct rpc_conn *conn;
        char host[HOST_PORT_MAX];
        struct err e = {0};
        int rc;

        if (!d->id || !identity_enrolled(d->id))
                return;
        if (host_port_split(d->id->agent_addr, host, NULL, &e)) {
                say(d, CHECK_FAIL, "hub", "%s", e.msg);
                return;
        }
        if (!check_name(d, host))
                return;
        if (d->running) {
                ask_the_agent(d);
                return;
        }
        tls.ca_pem = d->id->ca_pem;
        tls.cert_pem = d->id->cert_pem;
        tls.key_pem = d->id->key_pem;
        tls.server_name = host;
        if (uv_loop_init(&d->loop) || link_net_create(&d->loop, &d->net, &e)) {
                say(d, CHECK_FAIL, "hub", "cannot try to connect: %s", e.msg);
                return;
        }
        rc = rpc_dial(d->net, d->id->agent_addr, &tls, DIAL_MS, &o, &conn, &e);
        if (rc) {
                snprintf(d->trouble, sizeof d->trouble, "%s", e.msg);
                d->trouble_code = -rc;
                link_net_close(d->net, NULL, NULL);
        }
        uv_run(&d->loop, UV_RUN_DEFAULT);
        uv_loop_close(&d->loop);
        if (d->reached)
                say(d, CHECK_OK, "hub", "%s answers, certificates are good on both sides", d->id->agent_addr);
        else if (d->trouble_code == E_UNAUTH)
                say(d, CHECK_FAIL, "hub",
                    "%s: %s; compare the clocks, and the hub's name with its certificate", d->id->agent_addr,
                    d->trouble);
        else
                say(d, CHECK_FAIL, "hub",
                    "%s: %s; check that photon-hub runs there and that no firewall is in between",
                    d->id->agent_addr, d->trouble);
}

static void check_running(struct doctor *d)
{
        char *path = path_join(d->conf->data, "lock");
        struct err e = {0};
        int fd = -1, rc;

        if (!path || access(path, F_OK)) {
                say(d, CHECK_WARN, "agent", "does not run; start it with: photon-agent run --data %s",
                    d->conf->data);
                mem_free(path);
                return;
        }
        rc = file_lock(path, &fd, &e);
        d->running = rc == -E_EXIST;
        if (d->running)
                say(d, CHECK_OK, "agent", "runs");
        else
                say(d, CHECK_WARN, "agent", "does not run; start it with: photon-agent run --data %s",
                    d->conf->data);
        if (fd >= 0)
                close(fd);
        mem_free(path);
}

static void on_plugin(void *arg, const char *path, struct plugin_manifest *m, const struct err *e)
{
        struct doctor *d = arg;

        if (m)
                say(d, CHECK_OK, "plug-in", "%s %s, from %s", m->name, m->version, path);
        else
                say(d, CHECK_FAIL, "plug-in", "%s", e->msg);
}

static void check_plugins(struct doctor *d)
{
        struct toolset_dirs dirs;
        struct err e = {0};

        if (toolset_dirs(d->conf, &dirs, &e)) {
                say(d, CHECK_FAIL, "plug-in", "%s", e.msg);
                return;
        }
        plugins_scan((const char *const *)dirs.v, dirs.n, on_plugin, d);
        toolset_dirs_free(&dirs);
}

/* What the running agent says of its servers; without one, whether the section makes sense. */
static void check_mcp(struct doctor *d)
{
        struct mcp_configs c;
        struct err e = {0};
        cJSON *o = NULL;
        const cJSON *s;

        if (mcp_configs_load(d->conf->config, &c, &e)) {
                say(d, CHECK_FAIL, "mcp", "%s", e.msg);
                return;
        }
        if (d->running && status_ask(d->conf->data, &o) == 0) {
                cJSON_ArrayForEach(s, cJSON_GetObjectItemCaseSensitive(o, "mcp_servers"))
                {
                        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "name"));
                        const char *error =
                                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "error"));
                        const char *state =
                                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "state"));
                        double n = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(s, "tools"));

                        if (error)
                                say(d, CHECK_FAIL, "mcp", "%s: %s", name ? name : "?", error);
                        else
                                say(d, CHECK_OK, "mcp", "%s: %s, %d tools", name ? name : "?",
                                    state ? state : "?", (int)n);
                }
        } else {
                for (size_t i = 0; i < c.n; i++)
                        say(d, CHECK_OK, "mcp", "%s is configured; the running agent would say how it fares",
                            c.v[i].name);
        }
        cJSON_Delete(o);
        mcp_configs_free(&c);
}

int doctor_run(const struct agent_conf *conf, bool *out_ok, struct err *e)
{
        struct doctor d = {.conf = conf};
        cJSON *doc = NULL;
        char *text;

        if (strcmp(conf->output, "json") == 0) {
                doc = cJSON_CreateObject();
                d.list = doc ? cJSON_AddArrayToObject(doc, "checks") : NULL;
                if (!d.list) {
                        cJSON_Delete(doc);
                        return err_set(e, E_NOMEM, "no memory");
                }
        }
        check_folder(&d);
        check_running(&d);
        check_policy(&d);
        check_sandbox(&d);
        check_plugins(&d);
        check_mcp(&d);
        check_identity(&d);
        check_connection(&d);
        if (doc) {
                cJSON_AddBoolToObject(doc, "ok", !d.failed);
                text = json_text(doc);
                puts(text ? text : "{}");
                mem_free(text);
                cJSON_Delete(doc);
        }
        identity_free(d.id);
        *out_ok = !d.failed;
        return 0;
}
