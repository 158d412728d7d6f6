/* cursor.open: hands a path to Cursor's window. The window must outlive the call, but a call's processes
 * never do: so it is started by the user's service manager where there is one. Without it, a Cursor that
 * already runs is told. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/cursor.h"
#include "agent/tools/env.h"
#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define LIMIT_MS 20000
#define STOP_MS  2000
#define ARGS_MAX 24

const char cursor_open_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"The folder or file to show\"},"
        "\"line\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"Of a file: where to look\"},"
        "\"new_window\":{\"type\":\"boolean\"}}}";
const char cursor_open_output[] = "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},"
                                  "\"started_by\":{\"enum\":[\"service-manager\",\"cursor\"],\"description\":"
                                  "\"cursor: a Cursor that was running "
                                  "already was told\"}}}";

struct opening {
        struct tool_call *c;
        char *path; /* of what is shown */
        char **env, *argv[ARGS_MAX + 1];
        int argc;
        bool managed, cancelled, late;
        struct stdio_peer *peer;
        uv_timer_t limit;
};

/* What a program with a window needs of the agent's own environment. */
static const char *const screen[] = {"DISPLAY",
                                     "WAYLAND_DISPLAY",
                                     "XAUTHORITY",
                                     "XDG_RUNTIME_DIR",
                                     "XDG_SESSION_TYPE",
                                     "XDG_CURRENT_DESKTOP",
                                     "DBUS_SESSION_BUS_ADDRESS"};

/* ---- is there a screen? ---- */

static bool socket_at(const char *fmt, const char *a, const char *b)
{
        char *path = str_printf(fmt, a, b);
        struct stat st;
        bool there = path && stat(path, &st) == 0 && S_ISSOCK(st.st_mode);

        mem_free(path);
        return there;
}

static bool has_x(const char *display)
{
        char number[16];
        size_t n;

        if (!display || !*display)
                return false;
        if (display[0] != ':')
                return true; /* another machine's: only trying tells */
        n = strspn(display + 1, "0123456789");
        snprintf(number, sizeof number, "%.*s", n < 8 ? (int)n : 8, display + 1);
        return socket_at("/tmp/.X11-unix/X%s%s", number, "");
}

static bool has_wayland(char *const *env)
{
        const char *name = env_get(env, "WAYLAND_DISPLAY"), *dir = env_get(env, "XDG_RUNTIME_DIR");

        if (!name || !*name)
                return false;
        return name[0] == '/' ? socket_at("%s%s", name, "") : dir && socket_at("%s/%s", dir, name);
}

static int need_screen(char *const *env, struct err *e)
{
        const char *display = env_get(env, "DISPLAY");

        if (has_x(display) || has_wayland(env))
                return 0;
        return err_set(e, E_UNAVAIL,
                       "there is no screen to show it on: %s; run the agent inside of a desktop session "
                       "(systemctl --user), or let the step run on a machine that has one",
                       display || env_get(env, "WAYLAND_DISPLAY")
                               ? "DISPLAY and WAYLAND_DISPLAY name one that is not there"
                               : "neither DISPLAY nor WAYLAND_DISPLAY is set for the agent");
}

/* ---- who shows it? ---- */

/* Does a Cursor of this user run? By its name: a main process of it has no other. */
static bool is_cursor(const char *pid)
{
        char path[64], name[32] = "";
        struct stat st;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%.16s/comm", pid);
        f = stat(path, &st) == 0 && st.st_uid == geteuid() ? fopen(path, "re") : NULL;
        if (!f)
                return false;
        if (!fgets(name, sizeof name, f))
                name[0] = '\0';
        fclose(f);
        return strcasecmp(name, "cursor\n") == 0;
}

static bool cursor_runs(void)
{
        DIR *d = opendir("/proc");
        struct dirent *de;
        bool found = false;

        while (d && !found && (de = readdir(d)))
                found = de->d_name[0] >= '1' && de->d_name[0] <= '9' && is_cursor(de->d_name);
        if (d)
                closedir(d);
        return found;
}

/* ---- the command ---- */

/* Takes text. */
static int arg(struct opening *o, char *text)
{
        if (!text || o->argc == ARGS_MAX) {
                mem_free(text);
                return -E_NOMEM;
        }
        o->argv[o->argc++] = text;
        return 0;
}

static bool has_manager(char *const *env)
{
        const char *dir = env_get(env, "XDG_RUNTIME_DIR");

        return dir && socket_at("%s/%s", dir, "systemd/private");
}

static int manager_args(struct opening *o)
{
        int rc = arg(o, mem_strdup("systemd-run"));

        if (!rc)
                rc = arg(o, mem_strdup("--user"));
        if (!rc)
                rc = arg(o, mem_strdup("--collect"));
        if (!rc)
                rc = arg(o, mem_strdup("--quiet"));
        for (size_t i = 0; !rc && i < sizeof screen / sizeof *screen; i++)
                if (env_get(o->env, screen[i]))
                        rc = arg(o, str_printf("--setenv=%s",
                                               screen[i])); /* the value is taken from its environment */
        return rc ? rc : arg(o, mem_strdup("--"));
}

static int cursor_args(struct opening *o, const char *program, const cJSON *input)
{
        const cJSON *line = cJSON_GetObjectItemCaseSensitive(input, "line");
        int rc = arg(o, mem_strdup(program));

        if (!rc)
                rc = arg(o, mem_strdup(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(input, "new_window"))
                                               ? "--new-window"
                                               : "--reuse-window"));
        if (!rc && line)
                rc = arg(o, mem_strdup("--goto"));
        if (!rc)
                rc = arg(o, line ? str_printf("%s:%d", o->path, line->valueint) : mem_strdup(o->path));
        return rc;
}

/* ---- its end ---- */

static void give(struct opening *o, enum tool_outcome outcome, const char *code, const char *message)
{
        struct tool_result r = {.outcome = outcome, .error_code = code, .error_message = message};

        if (outcome == TOOL_SUCCEEDED) {
                r.outputs = cJSON_CreateObject();
                cJSON_AddStringToObject(r.outputs, "path", o->path);
                cJSON_AddStringToObject(r.outputs, "started_by", o->managed ? "service-manager" : "cursor");
        }
        tool_finish(o->c, &r);
}

static void on_gone(void *arg_)
{
        struct opening *o = arg_;
        char message[700];
        int code = 0, sig = 0;

        (void)stdio_peer_exited(o->peer, &code, &sig);
        snprintf(message, sizeof message, "Cursor could not show %.300s (%s %d): %.300s", o->path,
                 sig ? "signal" : "status", sig ? sig : code, stdio_peer_stderr(o->peer));
        stdio_peer_free(o->peer);
        o->peer = NULL;
        if (o->cancelled)
                give(o, TOOL_CANCELLED, "cancelled", "the call was cancelled");
        else if (o->late)
                give(o, TOOL_FAILED, "open_failed", "Cursor has not taken the path within 20 s");
        else if (code == 0 && sig == 0)
                give(o, TOOL_SUCCEEDED, NULL, NULL);
        else
                give(o, TOOL_FAILED, "open_failed", message);
}

static void on_message(void *arg_, char *text, size_t n)
{
        (void)arg_; /* chatter */
        (void)text;
        (void)n;
}

static void on_fault(void *arg_, const struct err *e)
{
        (void)arg_;
        (void)e;
}

static void on_limit(uv_timer_t *t)
{
        struct opening *o = t->data;

        o->late = true;
        if (o->peer)
                stdio_peer_stop(o->peer, STOP_MS);
}

/* ---- the call ---- */

int cursor_open_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        const char *path = NULL;
        int rc = json_str(input, "path", &path, e);

        if (!rc)
                rc = policy_path(p, POLICY_READ, path, NULL, NULL, e);
        return rc ? rc : policy_command(p, "cursor", false, e);
}

static void release(struct opening *o)
{
        for (int i = 0; i < o->argc; i++)
                mem_free(o->argv[i]);
        env_free(o->env);
        mem_free(o->path);
        mem_free(o);
}

static void on_closed(uv_handle_t *h)
{
        release(h->data);
}

static int launch(struct opening *o, struct err *e)
{
        char *path = NULL;
        int rc = spawn_find(o->argv[0], env_get(o->env, "PATH"), "/", &path, e);
        const struct stdio_peer_options options = {
                .loop = o->c->loop,
                .tool = o->c->tool->name,
                .path = path,
                .argv = o->argv,
                .env = o->env,
                .cwd = "/",
                .marker = env_marker(o->env),
                .on_message = on_message,
                .on_fault = on_fault,
                .on_gone = on_gone,
                .arg = o,
        };

        if (!rc)
                rc = stdio_peer_start(&options, &o->peer, e);
        mem_free(path);
        return rc;
}

/* *code is what a refusal is called; NULL: by its error. */
static int prepare(struct opening *o, const cJSON *input, const char **code, struct err *e)
{
        char *program = NULL, *manager = NULL;
        const char *path = NULL;
        struct stat st;
        int rc = json_str(input, "path", &path, e);

        if (!rc)
                rc = policy_path(o->c->policy, POLICY_READ, path, NULL, &o->path, e);
        if (!rc && stat(o->path, &st) != 0)
                rc = err_set(e, err_from_errno(errno), "%s: %s on this agent", o->path, strerror(errno));
        if (!rc)
                rc = env_for_call(o->c, &o->env, e);
        for (size_t i = 0; !rc && i < sizeof screen / sizeof *screen; i++)
                rc = env_pass(&o->env, screen[i]);
        if (rc)
                return rc;
        *code = "tool_missing";
        if (spawn_find("cursor", env_get(o->env, "PATH"), "/", &program, NULL))
                return err_set(
                        e, E_NOENT,
                        "there is no Cursor (`cursor`) on this machine: install it for the agent's user");
        *code = "no_display";
        rc = need_screen(o->env, e);
        if (!rc && has_manager(o->env) &&
            spawn_find("systemd-run", env_get(o->env, "PATH"), "/", &manager, NULL) == 0)
                o->managed = true;
        if (!rc && !o->managed && !cursor_runs()) {
                *code = "no_window";
                rc = err_set(e, E_UNAVAIL,
                             "no Cursor is running, and there is no service manager of the user (systemd "
                             "--user) to start one that outlives this call: start Cursor on that machine, "
                             "or run the agent under systemd --user");
        }
        if (!rc) {
                *code = NULL;
                rc = o->managed ? manager_args(o) : 0;
                if (!rc)
                        rc = cursor_args(o, program, input);
                if (rc)
                        err_set(e, E_NOMEM, "out of memory");
        }
        mem_free(program);
        mem_free(manager);
        return rc;
}

int cursor_open_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct opening *o = mem_calloc(1, sizeof *o);
        const char *code = NULL;
        int rc;

        if (!o)
                return err_set(e, E_NOMEM, "out of memory");
        o->c = c;
        rc = prepare(o, input, &code, e);
        if (!rc)
                rc = launch(o, e);
        if (!rc) {
                uv_timer_init(c->loop, &o->limit);
                o->limit.data = o;
                uv_timer_start(&o->limit, on_limit, LIMIT_MS, 0);
                c->state = o;
                return 0;
        }
        release(o);
        if (code) {
                struct tool_result r = {.outcome = TOOL_REFUSED, .error_code = code, .error_message = e->msg};

                tool_finish(c, &r);
                return 0;
        }
        return rc;
}

void cursor_open_cancel(struct tool_call *c, int grace_ms)
{
        struct opening *o = c->state;

        if (!o || !o->peer)
                return;
        o->cancelled = true;
        stdio_peer_stop(o->peer, grace_ms);
}

void cursor_open_free(struct tool_call *c)
{
        struct opening *o = c->state;

        c->state = NULL;
        if (!o)
                return;
        if (o->peer)
                stdio_peer_abandon(o->peer);
        uv_close((uv_handle_t *)&o->limit, on_closed);
}
