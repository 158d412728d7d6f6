/* Which way a call of cursor.prompt goes. The call's tool becomes one of three rows of its own, so that the
 * job speaks to whoever has it: the question to the program, the ACP client, the print mode. */
#include "agent/tools/cursor.h"

#include <string.h>
#include <sys/stat.h>

#include "agent/policy.h"
#include "agent/tools/acp.h"
#include "agent/tools/ai_run.h"
#include "agent/tools/env.h"
#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

#define PROBE_MS    20000
#define PROBE_LINES 200
#define KNOWN_MAX   8

/* What a program file was found to be able to; a new one (an update) is asked again. */
static struct known {
        dev_t dev;
        ino_t ino;
        struct timespec changed;
        bool acp;
} known[KNOWN_MAX];
static size_t n_known;

struct probe {
        struct tool_call *c;
        cJSON *input;
        const char *program; /* "cursor-agent" or "agent" */
        struct stat st;
        struct stdio_peer *peer;
        uv_timer_t limit;
        int lines;
        bool acp, stopped;
};

static const char *const programs[] = {"cursor-agent", "agent"};

/* ---- what is known ---- */

static const struct known *recall(const struct stat *st)
{
        for (size_t i = 0; i < n_known; i++)
                if (known[i].dev == st->st_dev && known[i].ino == st->st_ino &&
                    memcmp(&known[i].changed, &st->st_mtim, sizeof st->st_mtim) == 0)
                        return &known[i];
        return NULL;
}

static void remember(const struct stat *st, bool acp)
{
        known[n_known % KNOWN_MAX] =
                (struct known){.dev = st->st_dev, .ino = st->st_ino, .changed = st->st_mtim, .acp = acp};
        if (n_known < KNOWN_MAX)
                n_known++;
}

/* ---- the way ---- */

static const struct tool probe_row, acp_row, print_row;

/* The rows keep what people see of the tool: its name, its schemas. */
static int go(struct tool_call *c, const cJSON *input, const char *program, bool acp, struct err *e)
{
        c->state = NULL;
        c->tool = acp ? &acp_row : &print_row;
        return acp ? acp_start_known(c, input, "cursor", program, e)
                   : cursor_print_start(c, input, program, e);
}

static void refuse(struct tool_call *c, const char *code, const struct err *e)
{
        struct tool_result r = {.outcome = TOOL_REFUSED, .error_code = code, .error_message = e->msg};

        tool_finish(c, &r);
}

static void probe_gone(uv_handle_t *h)
{
        struct probe *p = h->data;

        cJSON_Delete(p->input);
        mem_free(p);
}

static void probe_close(struct probe *p)
{
        p->c = NULL;
        uv_close((uv_handle_t *)&p->limit, probe_gone);
}

/* ---- the question ---- */

/* Its help begins with how it is used: "Usage: agent acp [options]" where there is such a command, and that
 * of the whole program where "acp" would be taken for a prompt. */
static void on_line(void *arg, char *text, size_t n)
{
        struct probe *p = arg;
        const char *usage = p->lines++ < PROBE_LINES ? strcasestr(text, "usage:") : NULL;

        (void)n;
        if (usage && strstr(usage, " acp"))
                p->acp = true;
}

static void on_fault(void *arg, const struct err *e)
{
        (void)arg; /* what it said is all there is to know */
        (void)e;
}

static void on_probed(void *arg)
{
        struct probe *p = arg;
        struct tool_call *c = p->c;
        struct err e = {0};
        int rc;

        stdio_peer_free(p->peer);
        p->peer = NULL;
        if (p->stopped) {
                struct tool_result r = {.outcome = TOOL_CANCELLED,
                                        .error_code = "cancelled",
                                        .error_message = "the call was cancelled"};

                tool_finish(c, &r);
                return;
        }
        remember(&p->st, p->acp);
        rc = go(c, p->input, p->program, p->acp, &e);
        probe_close(p);
        if (rc)
                refuse(c, rc == -E_DENIED ? "policy_denied" : err_name(rc), &e);
}

static void on_limit(uv_timer_t *t)
{
        struct probe *p = t->data;

        stdio_peer_stop(p->peer, 1000);
}

static int ask(struct probe *p, const char *path, char *const *env, struct err *e)
{
        char *argv[] = {(char *)(uintptr_t)p->program, (char *)(uintptr_t) "acp",
                        (char *)(uintptr_t) "--help", NULL};
        const struct stdio_peer_options o = {
                .loop = p->c->loop,
                .tool = p->c->tool->name,
                .path = path,
                .argv = argv,
                .env = env,
                .cwd = p->c->scratch_dir,
                .marker = env_marker(env),
                .on_message = on_line,
                .on_fault = on_fault,
                .on_gone = on_probed,
                .arg = p,
        };
        int rc = stdio_peer_start(&o, &p->peer, e);

        if (!rc)
                stdio_peer_end_input(p->peer);
        return rc;
}

static int probe(struct tool_call *c, const cJSON *input, const char *program, const char *path,
                 const struct stat *st, char *const *env, struct err *e)
{
        struct probe *p = mem_calloc(1, sizeof *p);
        int rc = -E_NOMEM;

        if (!p)
                return err_set(e, E_NOMEM, "out of memory");
        p->c = c;
        p->program = program;
        p->st = *st;
        p->input = cJSON_Duplicate(input, true);
        if (p->input)
                rc = ask(p, path, env, e);
        if (rc) {
                cJSON_Delete(p->input);
                mem_free(p);
                return rc;
        }
        uv_timer_init(c->loop, &p->limit);
        p->limit.data = p;
        uv_timer_start(&p->limit, on_limit, PROBE_MS, 0);
        c->tool = &probe_row;
        c->state = p;
        return 0;
}

static void probe_cancel(struct tool_call *c, int grace_ms)
{
        struct probe *p = c->state;

        p->stopped = true;
        if (p->peer)
                stdio_peer_stop(p->peer, grace_ms);
}

static void probe_free(struct tool_call *c)
{
        struct probe *p = c->state;

        c->state = NULL;
        if (!p)
                return;
        if (p->peer)
                stdio_peer_abandon(p->peer);
        probe_close(p);
}

static void probe_room(struct tool_call *c)
{
        (void)c; /* it writes nothing */
}

static const struct tool probe_row = {
        .name = "cursor.prompt",
        .version = "1",
        .effect = "at-most-once",
        .input_schema = acp_known_input_schema,
        .output_schema = acp_output_schema,
        .cancel = probe_cancel,
        .output_room = probe_room,
        .free = probe_free,
};
static const struct tool acp_row = {
        .name = "cursor.prompt",
        .version = "1",
        .effect = "at-most-once",
        .input_schema = acp_known_input_schema,
        .output_schema = acp_output_schema,
        .cancel = acp_cancel,
        .output_room = acp_output_room,
        .free = acp_free,
};
static const struct tool print_row = {
        .name = "cursor.prompt",
        .version = "1",
        .effect = "at-most-once",
        .input_schema = acp_known_input_schema,
        .output_schema = acp_output_schema,
        .cancel = ai_run_cancel,
        .output_room = ai_run_room,
        .free = ai_run_free,
};

/* ---- the call ---- */

int cursor_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)input;
        return policy_command(p, programs[0], false, e);
}

static int environment(const struct tool_call *c, const cJSON *input, char ***out, struct err *e)
{
        const cJSON *members = NULL;
        int rc = env_for_call(c, out, e);

        if (!rc)
                rc = json_obj_opt(input, "env", &members, e);
        return rc ? rc : env_from_json(out, members, e);
}

/* The first of its names on the PATH; mem_free *path. */
static const char *find(char *const *env, char **path, struct stat *st)
{
        for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
                if (spawn_find(programs[i], env_get(env, "PATH"), "/", path, NULL))
                        continue;
                if (stat(*path, st) == 0)
                        return programs[i];
                mem_free(*path);
        }
        *path = NULL;
        return NULL;
}

int cursor_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        const struct known *k;
        const char *program;
        char **env = NULL, *path = NULL;
        struct stat st;
        int rc = environment(c, input, &env, e);

        if (rc)
                goto out;
        program = find(env, &path, &st);
        k = program ? recall(&st) : NULL;
        if (!program) {
                err_set(e, E_NOENT,
                        "there is no Cursor CLI (cursor-agent) on this machine: install it for the agent's "
                        "user, and log in with cursor-agent login");
                refuse(c, "tool_missing", e);
        } else if (k) {
                rc = go(c, input, program, k->acp, e);
        } else {
                rc = policy_command(c->policy, program, false, e);
                if (!rc)
                        rc = probe(c, input, program, path, &st, env, e);
        }
out:
        env_free(env);
        mem_free(path);
        return rc;
}

/* Of the row in the table itself: a call that never got further. */
void cursor_cancel(struct tool_call *c, int grace_ms)
{
        (void)c;
        (void)grace_ms;
}

void cursor_output_room(struct tool_call *c)
{
        (void)c;
}

void cursor_free(struct tool_call *c)
{
        (void)c;
}
