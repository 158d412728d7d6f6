/* Many agents in one process, to see what each costs the hub: every one has
 * its own key and certificate through the real enrolment, its own mTLS
 * connection, Hello and an open Session. None runs a tool.
 *
 *     swarm DIR N      (join token in PHOTON_JOIN_TOKEN; identities stay in DIR)
 *
 * Says what it has done as lines of JSON and waits for a line on its standard
 * input after each: {"enrolled":N,"seconds":S}, {"connected":N,"seconds":S}; then it
 * holds, answering the hub's keepalive, until its input ends, and says
 * {"held":N,"lost":L}. */
#include "agent/enroll.h"
#include "agent/identity.h"
#include "agent/inventory.h"
#include "agent/policy.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/jointoken.h"
#include "common/link.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/rpc.h"
#include "photon/v1/agent.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT_ONCE    16
#define AGENTS_MAX 20000
#define DIAL_MS    60000
#define CALL_MS    60000

struct agent {
        struct identity *id;
        struct enroller *enroller;
        struct rpc_conn *conn;
        struct rpc_call *session;
        char name[32];
};

static struct {
        uv_loop_t loop;
        struct link_net *net;
        struct join_token token;
        struct policy *policy;
        struct inventory inv;
        struct agent *agents;
        size_t n, started, done, lost;
        bool input, input_over;
} sw;

static void die(const char *what, const char *why)
{
        fprintf(stderr, "swarm: %s: %s\n", what, why);
        exit(1);
}

static char *lend(const char *s)
{
        return (char *)(uintptr_t)s;
}

/* --- enrolment --- */

static void enroll_more(void);

static void on_enrolled(void *arg, int rc, const struct err *e)
{
        struct agent *a = arg;

        if (rc)
                die(a->name, e->msg);
        a->enroller = NULL;
        sw.done++;
        enroll_more();
}

static void load_identity(struct agent *a, const char *dir)
{
        char path[512];
        struct err e = {0};

        snprintf(path, sizeof path, "%s/%s", dir, a->name);
        if (mkdir(path, 0700) && errno != EEXIST)
                die(path, strerror(errno));
        if (identity_load(path, &a->id, &e))
                die(path, e.msg);
}

static void enroll_more(void)
{
        while (sw.started < sw.n && sw.started - sw.done < AT_ONCE) {
                struct agent *a = &sw.agents[sw.started++];
                struct enroller_options o = {.loop = &sw.loop,
                                             .net = sw.net,
                                             .id = a->id,
                                             .token = &sw.token,
                                             .name = a->name,
                                             .clock = &clock_system,
                                             .give_up_ms = CALL_MS,
                                             .on_done = on_enrolled,
                                             .arg = a};
                struct err e = {0};

                if (identity_enrolled(a->id))
                        sw.done++;
                else if (enroller_start(&o, &a->enroller, &e))
                        die(a->name, e.msg);
        }
}

/* --- connection --- */

static void connect_more(void);

static void on_session_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct agent *a = arg;

        (void)c;
        a->session = NULL;
        if (st->code)
                fprintf(stderr, "swarm: %s: session: %s\n", a->name, st->message);
}

static void on_hello(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        static const struct rpc_call_events ev = {.on_end = on_session_end};
        struct agent *a = arg;
        Photon__V1__HelloReply *r;

        if (st->code)
                die("Hello", st->message);
        r = (Photon__V1__HelloReply *)rpc_unpack(&photon__v1__hello_reply__descriptor, p, n);
        if (!r)
                die("Hello", "malformed answer");
        if (r->heartbeat_ms)
                rpc_conn_set_keepalive(a->conn, (int)r->heartbeat_ms);
        protobuf_c_message_free_unpacked(&r->base, NULL);
        if (rpc_call_open(a->conn, "photon.v1.Agent/Session", 0, &ev, a, &a->session))
                die(a->name, "cannot open the session");
        sw.done++;
        connect_more();
}

static void on_ready(struct rpc_conn *c, const struct link_peer *peer, void *arg)
{
        Photon__V1__HelloRequest m = PHOTON__V1__HELLO_REQUEST__INIT;
        struct agent *a = arg;

        (void)peer;
        inventory_fill(&sw.inv, &m);
        m.software = lend("photon-swarm");
        m.kind = lend("local");
        m.max_running = 1;
        m.policy_sha256 = lend(policy_sha256(sw.policy));
        m.policy_text = lend(policy_text(sw.policy));
        m.journal_id = a->name;
        if (rpc_unary(c, "photon.v1.Agent/Hello", &m.base, CALL_MS, on_hello, a))
                die(a->name, "cannot say Hello");
}

static void on_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct agent *a = arg;

        (void)c;
        if (sw.done < sw.n)
                die(a->name, why && *why ? why : err_name(rc));
        fprintf(stderr, "swarm: %s lost its hub: %s\n", a->name, why);
        a->conn = NULL;
        sw.lost++;
}

static void connect_more(void)
{
        while (sw.started < sw.n && sw.started - sw.done < AT_ONCE) {
                struct agent *a = &sw.agents[sw.started++];
                struct rpc_conn_options o = {.software = "photon-swarm",
                                             .keepalive_ms = 15000,
                                             .on_ready = on_ready,
                                             .on_close = on_close,
                                             .arg = a};
                struct link_tls tls = {
                        .ca_pem = a->id->ca_pem, .cert_pem = a->id->cert_pem, .key_pem = a->id->key_pem};
                char host[HOST_PORT_MAX];
                struct err e = {0};

                if (host_port_split(a->id->agent_addr, host, NULL, &e))
                        die(a->name, e.msg);
                tls.server_name = host;
                if (rpc_dial(sw.net, a->id->agent_addr, &tls, DIAL_MS, &o, &a->conn, &e))
                        die(a->name, e.msg);
        }
}

/* --- the two phases, and the person at the other end --- */

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
        (void)b;
        if (n > 0)
                sw.input = true;
        if (n < 0) {
                sw.input_over = true;
                uv_close((uv_handle_t *)s, NULL);
        }
}

static void on_room(uv_handle_t *h, size_t n, uv_buf_t *b)
{
        static char room[256];

        (void)h;
        (void)n;
        *b = uv_buf_init(room, sizeof room);
}

static void phase(const char *what, void (*more)(void))
{
        uint64_t began = uv_hrtime();

        sw.started = sw.done = 0;
        for (more(); sw.done < sw.n;)
                uv_run(&sw.loop, UV_RUN_ONCE);
        printf("{\"%s\":%zu,\"seconds\":%.3f}\n", what, sw.n, (double)(uv_hrtime() - began) / 1e9);
        fflush(stdout);
        for (sw.input = false; !sw.input && !sw.input_over;)
                uv_run(&sw.loop, UV_RUN_ONCE);
}

static void prepare(const char *dir)
{
        const char *text = getenv("PHOTON_JOIN_TOKEN");
        struct rlimit files;
        struct err e = {0};

        if (!text)
                die("PHOTON_JOIN_TOKEN", "not set");
        log_setup(LOG_ERROR, false);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
        if (join_token_parse(text, &sw.token, &e))
                die("PHOTON_JOIN_TOKEN", e.msg);
        if (mkdir(dir, 0700) && errno != EEXIST)
                die(dir, strerror(errno));
        if (policy_load(NULL, &sw.policy, &e) || inventory_make(sw.policy, NULL, 0, &sw.inv, &e))
                die("inventory", e.msg);
        sw.agents = mem_calloc(sw.n, sizeof *sw.agents);
        if (!sw.agents)
                die("start", "no memory");
        for (size_t i = 0; i < sw.n; i++) {
                snprintf(sw.agents[i].name, sizeof sw.agents[i].name, "swarm-%05zu", i);
                load_identity(&sw.agents[i], dir);
        }
        uv_loop_init(&sw.loop);
        if (link_net_create(&sw.loop, &sw.net, &e))
                die("net", e.msg);
}

int main(int argc, char **argv)
{
        static uv_pipe_t in;

        sw.n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
        if (sw.n < 1 || sw.n > AGENTS_MAX) {
                fprintf(stderr, "usage: PHOTON_JOIN_TOKEN=... swarm DIR N\n");
                return 64;
        }
        prepare(argv[1]);
        uv_pipe_init(&sw.loop, &in, 0);
        if (uv_pipe_open(&in, 0) || uv_read_start((uv_stream_t *)&in, on_room, on_input))
                die("standard input", "must be a pipe");
        phase("enrolled", enroll_more);
        phase("connected", connect_more);
        while (!sw.input_over)
                uv_run(&sw.loop, UV_RUN_ONCE);
        printf("{\"held\":%zu,\"lost\":%zu}\n", sw.n - sw.lost, sw.lost);
        /* The sockets end with the process: what is measured is over. */
        return sw.lost ? 1 : 0;
}
