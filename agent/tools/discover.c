#include "agent/tools/discover.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/policy.h"
#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define MARKER_NAME    "PHOTON_DISCOVER"
#define VERSION_OUTPUT ((size_t)4 << 10) /* of --version: more is no version */

/* NULL-ended lists. Files are below the home folder; `maybe` are those that may hold another kind of login.
 */
static const struct platform {
        const char *names[3]; /* the first one found is it */
        const char *product;
        const char *tools[3];
        const char *keys[5];
        const char *logins[3];
        const char *maybe[3];
        bool no_login; /* there is nothing to log in to */
} platforms[] = {
        {.names = {"claude"},
         .product = "Claude Code",
         .tools = {"claude-code.prompt"},
         .keys = {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"},
         .logins = {".claude/.credentials.json"},
         .maybe = {".claude/settings.json"}},
        {.names = {"codex"},
         .product = "Codex",
         .tools = {"codex.prompt"},
         .keys = {"CODEX_API_KEY", "OPENAI_API_KEY"},
         .logins = {".codex/auth.json"},
         .maybe = {".codex/config.toml"}},
        {.names = {"gemini"},
         .product = "Gemini CLI",
         .tools = {"gemini.prompt", "acp.prompt"},
         .keys = {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
         .logins = {".gemini/oauth_creds.json"},
         .maybe = {".gemini/.env", ".gemini/settings.json"}},
        {.names = {"cursor-agent", "agent"},
         .product = "Cursor CLI",
         .tools = {"cursor.prompt", "acp.prompt"},
         .keys = {"CURSOR_API_KEY"},
         .logins = {".config/cursor/auth.json"},
         .maybe = {".cursor/cli-config.json"}},
        {.names = {"cursor"}, .product = "Cursor", .tools = {"cursor.open"}, .no_login = true},
        {.names = {"claude-agent-acp", "claude-code-acp"},
         .product = "Claude Agent (ACP)",
         .tools = {"acp.prompt"},
         .keys = {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"},
         .logins = {".claude/.credentials.json"},
         .maybe = {".claude/settings.json"}},
        {.names = {"codex-acp"},
         .product = "Codex (ACP)",
         .tools = {"acp.prompt"},
         .keys = {"CODEX_API_KEY", "OPENAI_API_KEY"},
         .logins = {".codex/auth.json"},
         .maybe = {".codex/config.toml"}},
        {.names = {"chromium-headless-shell", "chromium"},
         .product = "Chromium",
         .tools = {"browser.*"},
         .no_login = true},
};

#define N_PLATFORMS (sizeof platforms / sizeof *platforms)
#define N_OF(list)  (sizeof(list) / sizeof *(list))

/* What was seen of one platform. */
struct sighting {
        char *path; /* of which the version is known; NULL: never looked at */
        char version[DISCOVER_VERSION_MAX];
        char *told; /* its description, as it was last given out */
        char *last; /* and as it was when all had been looked at */
};

static struct {
        bool open, busy;
        uv_loop_t *loop;
        const struct policy *policy;
        struct sighting seen[N_PLATFORMS];
        char *acp;   /* several in one description */
        size_t next; /* to be asked */
        struct stdio_peer *peer;
        char version[DISCOVER_VERSION_MAX]; /* of the one that is asked now */
        uv_timer_t *limit, *again;          /* freed in their close callback */
} d;

/* ---- where ---- */

static const char *env_of(char *const *env, const char *name)
{
        size_t n = strlen(name);

        for (size_t i = 0; env && env[i]; i++)
                if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
                        return env[i] + n + 1;
        return NULL;
}

static void free_env(char **env)
{
        for (size_t i = 0; env && env[i]; i++)
                mem_free(env[i]);
        mem_free(env);
}

/* NULL: it is not there, or the policy does not let it be run. mem_free. */
static char *find(const struct platform *p, char *const *env)
{
        struct err e = {0};
        char *path = NULL;

        for (size_t i = 0; i < N_OF(p->names) && p->names[i] && !path; i++) {
                if (spawn_find(p->names[i], env_of(env, "PATH"), NULL, &path, &e))
                        path = NULL;
                if (path && d.policy && policy_command(d.policy, path, false, &e)) {
                        mem_free(path);
                        path = NULL;
                }
        }
        return path;
}

static bool serves(const struct platform *p, const char *tool)
{
        for (size_t i = 0; i < N_OF(p->tools) && p->tools[i]; i++) {
                size_t n = strlen(p->tools[i]);

                if (strcmp(p->tools[i], tool) == 0 ||
                    (p->tools[i][n - 1] == '*' && strncmp(p->tools[i], tool, n - 1) == 0))
                        return true;
        }
        return false;
}

static char **environment(void)
{
        return d.policy ? policy_base_env(d.policy) : NULL;
}

bool discover_has(const char *tool)
{
        char **env = environment();
        bool found = false;

        for (size_t i = 0; i < N_PLATFORMS && !found; i++) {
                char *path = serves(&platforms[i], tool) ? find(&platforms[i], env) : NULL;

                found = path != NULL;
                mem_free(path);
        }
        free_env(env);
        return found;
}

bool discover_has_claude(void)
{
        return discover_has("claude-code.prompt");
}

bool discover_has_codex(void)
{
        return discover_has("codex.prompt");
}

bool discover_has_gemini(void)
{
        return discover_has("gemini.prompt");
}

bool discover_has_cursor_agent(void)
{
        return discover_has("cursor.prompt");
}

bool discover_has_cursor(void)
{
        return discover_has("cursor.open");
}

bool discover_has_acp(void)
{
        return discover_has("acp.prompt");
}

bool discover_has_chromium(void)
{
        return discover_has("browser.");
}

/* ---- logged in? ---- */

static bool exists(const char *file)
{
        char *path = d.policy ? path_join(policy_home(d.policy), file) : NULL;
        struct stat st;
        bool is = path && stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;

        mem_free(path);
        return is;
}

/* "yes", "no", "unknown"; *by: the variable or file that says so, or NULL. */
static const char *login(const struct platform *p, char *const *env, const char **by)
{
        *by = NULL;
        for (size_t i = 0; i < N_OF(p->keys) && p->keys[i]; i++) {
                const char *v = env_of(env, p->keys[i]);

                if (!v)
                        v = getenv(p->keys[i]); /* its tool is let have it (ai_passenv) */
                if (v && *v && (*by = p->keys[i]))
                        return "yes";
        }
        for (size_t i = 0; i < N_OF(p->logins) && p->logins[i]; i++)
                if (exists(p->logins[i]) && (*by = p->logins[i]))
                        return "yes";
        for (size_t i = 0; i < N_OF(p->maybe) && p->maybe[i]; i++)
                if (exists(p->maybe[i]))
                        return "unknown";
        return "no";
}

/* ---- told ---- */

static cJSON *describe(size_t i, char *const *env, const char *path)
{
        const struct platform *p = &platforms[i];
        const struct sighting *s = &d.seen[i];
        cJSON *o = cJSON_CreateObject();
        const char *by;

        if (!o)
                return NULL;
        cJSON_AddStringToObject(o, "program", p->product);
        cJSON_AddStringToObject(o, "path", path);
        if (s->version[0] && s->path && strcmp(s->path, path) == 0)
                cJSON_AddStringToObject(o, "version", s->version);
        if (!p->no_login) {
                cJSON_AddStringToObject(o, "login", login(p, env, &by));
                if (by)
                        cJSON_AddStringToObject(o, "login_by", by);
        }
        return o;
}

static const char *keep(char **slot, const cJSON *o)
{
        char *text = o ? json_text(o) : NULL;

        if (!text)
                return NULL;
        mem_free(*slot);
        *slot = text;
        return text;
}

/* A tool with one program is described by it; one that drives several, by a list. */
const char *discover_describe(const struct tool *t)
{
        bool several = strcmp(t->name, "acp.prompt") == 0;
        char **env = environment();
        cJSON *all = several ? cJSON_CreateObject() : NULL;
        cJSON *list = all ? cJSON_AddArrayToObject(all, "programs") : NULL;
        const char *text = NULL;

        for (size_t i = 0; i < N_PLATFORMS && !text; i++) {
                char *path = serves(&platforms[i], t->name) ? find(&platforms[i], env) : NULL;
                cJSON *o = path ? describe(i, env, path) : NULL;

                if (o && list && cJSON_AddItemToArray(list, o))
                        o = NULL;
                else if (o && !several)
                        text = keep(&d.seen[i].told, o);
                cJSON_Delete(o);
                mem_free(path);
        }
        if (list && list->child)
                text = keep(&d.acp, all);
        cJSON_Delete(all);
        free_env(env);
        return text;
}

/* ---- versions ---- */

static bool version_char(char c)
{
        return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '+' || c == '_';
}

bool discover_version_in(const char *text, char out[DISCOVER_VERSION_MAX])
{
        for (const char *p = text; *p; p++) {
                size_t n = 0, dots = 0;

                if (!isdigit((unsigned char)*p))
                        continue;
                while (version_char(p[n]))
                        dots += p[n++] == '.';
                while (n > 0 && !isalnum((unsigned char)p[n - 1]))
                        n--;
                if (dots >= 1 && n < DISCOVER_VERSION_MAX &&
                    (p == text || !version_char(p[-1]) || p[-1] == 'v')) {
                        memcpy(out, p, n);
                        out[n] = '\0';
                        return true;
                }
                while (version_char(p[1]))
                        p++;
        }
        return false;
}

static void ask_next(void);

static void on_line(void *arg, char *text, size_t n)
{
        (void)arg;
        (void)n;
        if (!d.version[0])
                discover_version_in(text, d.version);
}

static void on_fault(void *arg, const struct err *e)
{
        (void)arg;
        (void)e; /* it wrote too much, or no whole line: then its version is not known */
}

static void on_gone(void *arg)
{
        struct sighting *s = arg;
        size_t i = (size_t)(s - d.seen);

        stdio_peer_free(d.peer);
        d.peer = NULL;
        if (!d.open)
                return;
        uv_timer_stop(d.limit);
        memcpy(s->version, d.version, sizeof s->version);
        log_debug("discover", "found", "program=\"%s\" path=%s version=%s", platforms[i].product, s->path,
                  s->version[0] ? s->version : "unknown");
        d.next = i + 1;
        ask_next();
}

static void on_limit(uv_timer_t *t)
{
        (void)t;
        if (d.peer)
                stdio_peer_stop(d.peer, 0);
}

/* No update checks, no reports, no windows; and a mark to find its descendants by. */
static char **version_env(char **base)
{
        static const char *const more[] = {"NO_COLOR=1",
                                           "DISABLE_TELEMETRY=1",
                                           "DISABLE_ERROR_REPORTING=1",
                                           "DISABLE_AUTOUPDATER=1",
                                           "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
                                           MARKER_NAME "=1"};
        size_t n = 0;
        char **v;

        while (base && base[n])
                n++;
        v = mem_realloc(base, (n + N_OF(more) + 1) * sizeof *v);
        if (!v) {
                free_env(base);
                return NULL;
        }
        for (size_t i = 0; i < N_OF(more); i++)
                v[n + i] = mem_strdup(more[i]); /* NULL ends the list early, no harm */
        v[n + N_OF(more)] = NULL;
        return v;
}

static int ask(struct sighting *s, char *const *env)
{
        char *argv[] = {s->path, (char[]){"--version"}, NULL};
        struct stdio_peer_options o = {.loop = d.loop,
                                       .path = s->path,
                                       .tool = "discover",
                                       .argv = argv,
                                       .env = env,
                                       .cwd = "/",
                                       .marker = MARKER_NAME "=1",
                                       .line_max = VERSION_OUTPUT,
                                       .on_message = on_line,
                                       .on_fault = on_fault,
                                       .on_gone = on_gone,
                                       .arg = s};
        struct err e = {0};
        int rc = stdio_peer_start(&o, &d.peer, &e);

        if (rc) {
                d.peer = NULL;
                log_warn("discover", "a program cannot be asked for its version", "path=%s error=%s", s->path,
                         e.msg);
                return rc;
        }
        stdio_peer_end_input(d.peer);
        uv_timer_start(d.limit, on_limit, DISCOVER_VERSION_MS, 0);
        return 0;
}

/* Is what can be said of it another thing than last time? */
static bool differs(size_t i, char *const *env)
{
        struct sighting *s = &d.seen[i];
        cJSON *o = s->path ? describe(i, env, s->path) : NULL;
        char *text = o ? json_text(o) : NULL;
        bool same = text && s->last ? strcmp(text, s->last) == 0 : !text && !s->last;

        cJSON_Delete(o);
        mem_free(s->last);
        s->last = text;
        if (!same)
                log_info("discover", text ? "found" : "gone", "program=\"%s\" path=%s version=%s",
                         platforms[i].product, s->path ? s->path : "",
                         s->version[0] ? s->version : "unknown");
        return !same;
}

static void finished(char *const *env)
{
        bool news = false;

        d.busy = false;
        for (size_t i = 0; i < N_PLATFORMS; i++)
                news |= differs(i, env);
        if (news)
                tools_changed();
}

/* Programs that came, went or stayed; those that are there are asked, one at a time. */
static void ask_next(void)
{
        char **env = environment();
        char **asked = version_env(environment());

        while (!d.peer && d.next < N_PLATFORMS) {
                struct sighting *s = &d.seen[d.next];
                char *path = find(&platforms[d.next], env);

                if (!path || !s->path || strcmp(path, s->path) != 0)
                        s->version[0] = '\0';
                mem_free(s->path);
                s->path = path;
                d.version[0] = '\0';
                if (!path || !asked || ask(s, asked))
                        d.next++;
        }
        if (!d.peer)
                finished(env);
        free_env(env);
        free_env(asked);
}

/* ---- life ---- */

static void on_again(uv_timer_t *t)
{
        (void)t;
        discover_again();
}

void discover_again(void)
{
        if (!d.open || d.busy)
                return;
        d.busy = true;
        d.next = 0;
        ask_next();
}

bool discover_busy(void)
{
        return d.busy;
}

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h);
}

int discover_start(uv_loop_t *loop, const struct policy *policy, struct err *e)
{
        discover_close();
        d.limit = mem_calloc(1, sizeof *d.limit);
        d.again = mem_calloc(1, sizeof *d.again);
        if (!d.limit || !d.again) {
                mem_free(d.limit);
                mem_free(d.again);
                d.limit = d.again = NULL;
                return err_set(e, E_NOMEM, "no memory to look for platforms");
        }
        d.loop = loop;
        d.policy = policy;
        d.open = true;
        uv_timer_init(loop, d.limit);
        uv_timer_init(loop, d.again);
        uv_timer_start(d.again, on_again, 0, DISCOVER_AGAIN_MS);
        uv_unref((uv_handle_t *)d.again);
        return 0;
}

void discover_close(void)
{
        if (!d.open)
                return;
        d.open = d.busy = false;
        if (d.peer)
                stdio_peer_abandon(d.peer);
        d.peer = NULL;
        uv_close((uv_handle_t *)d.limit, on_timer_closed);
        uv_close((uv_handle_t *)d.again, on_timer_closed);
        d.limit = d.again = NULL;
        for (size_t i = 0; i < N_PLATFORMS; i++) {
                mem_free(d.seen[i].path);
                mem_free(d.seen[i].told);
                mem_free(d.seen[i].last);
                d.seen[i] = (struct sighting){0};
        }
        mem_free(d.acp);
        d.acp = NULL;
        d.policy = NULL;
}
