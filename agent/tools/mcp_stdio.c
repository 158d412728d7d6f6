/* An MCP server that is a child process: messages are lines on its pipes. */
#include "agent/tools/mcp_link.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/env.h"
#include "agent/tools/mcp_config.h"
#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "common/err.h"
#include "common/list.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

struct stdio {
        struct mcp_link link;
        struct stdio_peer *peer;
        uv_timer_t patience; /* between the end of its input and TERM */
        bool gone, abandoned;
        int grace_ms;
};

static struct stdio *of(struct mcp_link *l)
{
        return container_of(l, struct stdio, link);
}

/* --- what it says ---------------------------------------------------------------------- */

static void on_message(void *arg, char *text, size_t n)
{
        struct stdio *s = arg;
        size_t skip = strspn(text, " \t");

        /* Many print a greeting where only messages belong. */
        if (text[skip] != '{')
                log_debug("mcp", "a line that is no message", "server=%s line=%.200s", s->link.o.config->name,
                          text);
        else
                s->link.o.on_message(s->link.o.arg, text, n, MCP_NO_REQUEST);
}

static void on_fault(void *arg, const struct err *e)
{
        struct stdio *s = arg;

        log_warn("mcp", "a server wrote what cannot be read", "server=%s error=\"%s\"",
                 s->link.o.config->name, e->msg);
        /* The answer that somebody waits for may have been in it: start anew. */
        stdio_peer_stop(s->peer, 1000);
}

static void on_eof(void *arg)
{
        struct stdio *s = arg;

        stdio_peer_stop(s->peer, 1000); /* it can answer nothing any more */
}

static void on_timer_closed(uv_handle_t *h)
{
        struct stdio *s = h->data;
        char why[120];
        int code = 0, sig = 0;

        if (s->abandoned) {
                mem_free(s);
                return;
        }
        stdio_peer_exited(s->peer, &code, &sig);
        if (sig)
                snprintf(why, sizeof why, "its process was ended by signal %d", sig);
        else
                snprintf(why, sizeof why, "its process ended with status %d", code);
        s->link.o.on_down(s->link.o.arg, why);
}

static void on_gone(void *arg)
{
        struct stdio *s = arg;

        s->gone = true;
        uv_close((uv_handle_t *)&s->patience, on_timer_closed);
}

/* --- the operations ------------------------------------------------------------------------ */

static int stdio_send(struct mcp_link *l, const cJSON *message, const cJSON *headers)
{
        (void)headers;
        return stdio_peer_send_json(of(l)->peer, message);
}

static void stdio_drop(struct mcp_link *l, uint64_t request)
{
        (void)l;
        (void)request; /* the message notifications/cancelled says it */
}

static void on_patience(uv_timer_t *t)
{
        struct stdio *s = t->data;

        stdio_peer_stop(s->peer, s->grace_ms);
}

/* As the specification has it: its input ends, then TERM, then KILL. */
static void stdio_close(struct mcp_link *l, int grace_ms)
{
        struct stdio *s = of(l);

        if (s->gone)
                return;
        s->grace_ms = grace_ms;
        stdio_peer_end_input(s->peer);
        uv_timer_start(&s->patience, on_patience, (uint64_t)grace_ms, 0);
}

static void stdio_abandon(struct mcp_link *l)
{
        struct stdio *s = of(l);

        s->abandoned = true;
        stdio_peer_abandon(s->peer);
        if (!s->gone)
                uv_close((uv_handle_t *)&s->patience, on_timer_closed);
}

static void stdio_free(struct mcp_link *l)
{
        struct stdio *s = of(l);

        stdio_peer_free(s->peer);
        mem_free(s);
}

static const char *stdio_words(struct mcp_link *l)
{
        return stdio_peer_stderr(of(l)->peer);
}

static const struct mcp_link_ops stdio_ops = {
        .send = stdio_send,
        .drop = stdio_drop,
        .close = stdio_close,
        .abandon = stdio_abandon,
        .free = stdio_free,
        .words = stdio_words,
};

/* --- the beginning ----------------------------------------------------------------------------- */

static int make_env(const struct mcp_link_options *o, char ***out, struct err *e)
{
        char **env = policy_base_env(o->policy);
        int rc = env ? 0 : err_set(e, E_NOMEM, "out of memory");

        for (size_t i = 0; i < o->config->n_env && !rc; i++) {
                char *value = NULL;

                rc = mcp_value_read(&o->config->env[i], &value, e);
                if (!rc && env_put(&env, str_printf("%s=%s", o->config->env[i].name, value)))
                        rc = err_set(e, E_NOMEM, "out of memory");
                if (value)
                        mem_wipe(value, strlen(value));
                mem_free(value);
        }
        /* The mark by which leftovers of a killed agent are found. */
        if (!rc && env_put(&env, str_printf("PHOTON_OUTPUT=%s/mcp-%s", o->scratch_root, o->config->name)))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (rc)
                env_free(env);
        else
                *out = env;
        return rc;
}

static char *make_cwd(const struct mcp_link_options *o)
{
        const char *cwd = o->config->cwd, *home = policy_home(o->policy);

        if (!cwd)
                return mem_strdup(home);
        return cwd[0] == '~' ? str_printf("%s%s", home, cwd + 1) : mem_strdup(cwd);
}

int mcp_stdio_open(const struct mcp_link_options *o, struct mcp_link **out, struct err *e)
{
        struct stdio *s = mem_calloc(1, sizeof *s);
        char **env = NULL, *cwd = make_cwd(o), *path = NULL, *tool;
        struct stdio_peer_options po = {.loop = o->loop,
                                        .argv = o->config->command,
                                        .cwd = cwd,
                                        .line_max = MCP_MESSAGE_MAX,
                                        .on_message = on_message,
                                        .on_fault = on_fault,
                                        .on_eof = on_eof,
                                        .on_gone = on_gone,
                                        .arg = s};
        int rc = s && cwd ? make_env(o, &env, e) : err_set(e, E_NOMEM, "out of memory");

        po.tool = tool = str_printf("mcp.%s", o->config->name);
        if (!rc && !tool)
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                rc = spawn_find(o->config->command[0], env_get(env, "PATH"), cwd, &path, e);
        if (!rc) {
                s->link.ops = &stdio_ops;
                s->link.o = *o;
                po.path = path;
                po.env = env;
                po.marker = env_marker(env);
                rc = stdio_peer_start(&po, &s->peer, e);
        }
        if (!rc) {
                uv_timer_init(o->loop, &s->patience);
                s->patience.data = s;
                *out = &s->link;
        } else {
                mem_free(s);
        }
        env_free(env);
        mem_free(cwd);
        mem_free(path);
        mem_free(tool);
        return rc;
}
