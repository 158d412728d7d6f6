/* The folders of manifests, and the rows they become. */
#include "agent/tools/plugin_in.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

struct watch { /* freed in its close callback */
        uv_fs_event_t event;
};

static struct {
        bool open;
        uv_loop_t *loop;
        char *dirs[PLUGIN_DIRS_MAX];
        size_t n_dirs;
        struct list plugins;
        struct map *told; /* path -> what was last said of it, so that it is said once */
        struct watch *watches[PLUGIN_DIRS_MAX];
        uv_timer_t *settle;
} g;

/* --- looking through the folders ------------------------------------------------------- */

static bool is_manifest(const char *name)
{
        static const char *const ends[] = {".yaml", ".yml", ".json"};
        size_t n = strlen(name);

        for (size_t i = 0; i < sizeof ends / sizeof *ends && name[0] != '.'; i++) {
                size_t k = strlen(ends[i]);

                if (n > k && strcmp(name + n - k, ends[i]) == 0)
                        return true;
        }
        return false;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The paths of manifests in one folder, sorted; room for `max`. */
static size_t list_folder(const char *dir, char **out, size_t max)
{
        DIR *d = opendir(dir);
        struct dirent *x;
        size_t n = 0;

        if (!d && errno != ENOENT)
                log_warn("plugin", "cannot read a folder of plug-ins", "dir=%s error=%s", dir,
                         strerror(errno));
        while (d && (x = readdir(d))) {
                if (!is_manifest(x->d_name))
                        continue;
                if (n == max) {
                        log_warn("plugin", "too many plug-ins; the rest is not read", "dir=%s max=%d", dir,
                                 PLUGINS_MAX);
                        break;
                }
                out[n] = path_join(dir, x->d_name);
                if (out[n])
                        n++;
        }
        if (d)
                closedir(d);
        qsort(out, n, sizeof *out, by_name);
        return n;
}

struct scan {
        struct map *names; /* tool -> path of the manifest that has it */
        void (*found)(void *arg, const char *path, struct plugin_manifest *m, const struct err *e);
        void *arg;
};

static void scan_one(struct scan *s, char *path)
{
        struct plugin_manifest m = {0};
        struct err e = {0};
        const char *other = NULL;
        int rc = plugin_manifest_read(path, &m, &e);

        if (rc == 0)
                other = map_get(s->names, m.name);
        if (other)
                rc = err_set(&e, E_EXIST, "%s: name: \"%s\" is the tool of %s already", path, m.name, other);
        for (const struct tool *t = tools; t->name && rc == 0; t++)
                if (strcmp(t->name, m.name) == 0)
                        rc = err_set(&e, E_EXIST, "%s: name: \"%s\" is a tool of the agent itself", path,
                                     m.name);
        if (rc == 0 && map_put(s->names, m.name, path, NULL))
                rc = err_set(&e, E_NOMEM, "%s: out of memory", path);
        s->found(s->arg, path, rc ? NULL : &m, rc ? &e : NULL);
        plugin_manifest_fini(&m);
}

size_t plugins_scan(const char *const *dirs, size_t n_dirs,
                    void (*found)(void *arg, const char *path, struct plugin_manifest *m,
                                  const struct err *e),
                    void *arg)
{
        struct scan s = {.names = map_create(), .found = found, .arg = arg};
        char **paths = mem_calloc(PLUGINS_MAX, sizeof *paths);
        size_t n = 0;

        for (size_t i = 0; i < n_dirs && paths; i++)
                n += list_folder(dirs[i], paths + n, PLUGINS_MAX - n);
        for (size_t i = 0; i < n && s.names; i++)
                scan_one(&s, paths[i]);
        for (size_t i = 0; i < n; i++)
                mem_free(paths[i]);
        mem_free(paths);
        map_free(s.names);
        return n;
}

/* --- rows -------------------------------------------------------------------------------- */

void plugin_unref(struct plugin *p)
{
        if (p->listed || p->calls > 0)
                return;
        plugin_manifest_fini(&p->m);
        mem_free(p->path);
        mem_free(p->detail);
        mem_free(p);
}

static void unlist(struct plugin *p)
{
        list_remove(&p->link);
        p->listed = false;
        tool_remove(&p->row);
        plugin_unref(p);
}

static char *make_detail(const struct plugin *p)
{
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;

        if (o && cJSON_AddStringToObject(o, "kind", "plug-in") &&
            cJSON_AddStringToObject(o, "manifest", p->path) &&
            cJSON_AddStringToObject(o, "command", p->m.command[0]))
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

/* Takes the contents of m. */
static int list_new(const char *path, struct plugin_manifest *m)
{
        struct plugin *p = mem_calloc(1, sizeof *p);
        int rc = -E_NOMEM;

        if (!p)
                return rc;
        list_init(&p->link);
        p->m = *m;
        memset(m, 0, sizeof *m);
        p->path = mem_strdup(path);
        if (!p->path || !(p->detail = make_detail(p))) {
                plugin_unref(p);
                return rc;
        }
        p->row = (struct tool){
                .name = p->m.name,
                .version = p->m.version,
                .description = p->m.description,
                .input_schema = p->m.input_schema,
                .output_schema = p->m.output_schema,
                .effect = p->m.effect,
                .detail = p->detail,
                .data = p,
                .secret_env = true,
                .start = plugin_start,
                .cancel = plugin_cancel,
                .output_room = plugin_output_room,
                .free = plugin_free,
        };
        rc = tool_add(&p->row);
        if (rc) {
                plugin_unref(p);
                return rc;
        }
        p->listed = p->seen = true;
        list_push_back(&g.plugins, &p->link);
        log_info("plugin", "a plug-in is a tool now", "tool=%s version=%s manifest=%s", p->m.name,
                 p->m.version, p->path);
        return 0;
}

static bool same_list(char *const *a, char *const *b)
{
        if (!a || !b)
                return (!a || !*a) && (!b || !*b);
        for (; *a && *b; a++, b++)
                if (strcmp(*a, *b) != 0)
                        return false;
        return !*a && !*b;
}

static bool same(const struct plugin_manifest *a, const struct plugin_manifest *b)
{
        return strcmp(a->name, b->name) == 0 && strcmp(a->version, b->version) == 0 &&
               strcmp(a->description, b->description) == 0 && same_list(a->command, b->command) &&
               same_list(a->env, b->env) && strcmp(a->input_schema, b->input_schema) == 0 &&
               strcmp(a->output_schema, b->output_schema) == 0 && a->effect == b->effect &&
               a->timeout_ms == b->timeout_ms && a->stall_ms == b->stall_ms && a->questions == b->questions;
}

/* --- reading them again ------------------------------------------------------------------- */

struct fresh {
        char *path;
        struct plugin_manifest m;
};

struct reload {
        struct fresh v[PLUGINS_MAX];
        size_t n;
        struct map *told;
};

static void tell(struct reload *r, const char *path, const char *what)
{
        const char *before = g.told ? map_get(g.told, path) : NULL;
        char *copy = mem_strdup(what);

        if (!before || strcmp(before, what) != 0)
                log_warn("plugin", "a plug-in is not used", "error=\"%s\"", what);
        if (!copy || !r->told || map_put(r->told, path, copy, NULL))
                mem_free(copy); /* then it is told again */
}

static void on_found(void *arg, const char *path, struct plugin_manifest *m, const struct err *e)
{
        struct reload *r = arg;

        if (!m) {
                tell(r, path, e->msg);
                return;
        }
        LIST_EACH (it, &g.plugins) {
                struct plugin *p = container_of(it, struct plugin, link);

                if (strcmp(p->path, path) == 0 && same(&p->m, m)) {
                        p->seen = true;
                        return;
                }
        }
        r->v[r->n].path = mem_strdup(path);
        if (!r->v[r->n].path) {
                tell(r, path, "out of memory");
                return;
        }
        r->v[r->n++].m = *m;
        memset(m, 0, sizeof *m);
}

static void told_free(struct map *m)
{
        size_t it = 0;
        void *v;

        while (m && map_next(m, &it, NULL, &v))
                mem_free(v);
        map_free(m);
}

void plugins_reload(void)
{
        struct reload *r = mem_calloc(1, sizeof *r);

        if (!g.open || !r) {
                mem_free(r);
                return;
        }
        r->told = map_create();
        LIST_EACH (it, &g.plugins)
                container_of(it, struct plugin, link)->seen = false;
        plugins_scan((const char *const *)g.dirs, g.n_dirs, on_found, r);
        /* The old ones go first: a name may have moved to another file. */
        LIST_EACH_SAFE (it, nx, &g.plugins) {
                struct plugin *p = container_of(it, struct plugin, link);

                if (p->seen)
                        continue;
                log_info("plugin", "a plug-in was removed or changed", "tool=%s manifest=%s", p->m.name,
                         p->path);
                unlist(p);
        }
        for (size_t i = 0; i < r->n; i++) {
                int rc = list_new(r->v[i].path, &r->v[i].m);

                if (rc)
                        tell(r, r->v[i].path,
                             rc == -E_EXIST ? "there is a tool of this name already" : err_name(rc));
                plugin_manifest_fini(&r->v[i].m);
                mem_free(r->v[i].path);
        }
        told_free(g.told);
        g.told = r->told;
        mem_free(r);
}

/* --- watching --------------------------------------------------------------------------------- */

static void on_settled(uv_timer_t *t)
{
        (void)t;
        plugins_reload();
}

static void on_event(uv_fs_event_t *w, const char *name, int events, int status)
{
        (void)w;
        (void)name; /* also of a program: it may have become executable */
        (void)events;
        if (status == 0 && g.open && !uv_is_active((uv_handle_t *)g.settle))
                uv_timer_start(g.settle, on_settled, PLUGIN_SETTLE_MS, 0);
}

static void on_watch_closed(uv_handle_t *h)
{
        mem_free(h->data);
}

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h);
}

/* Where it cannot be watched (none there yet, no inotify left) SIGHUP still works. */
static void watch_folder(size_t i)
{
        struct watch *w = mem_calloc(1, sizeof *w);

        if (!w || uv_fs_event_init(g.loop, &w->event) != 0) {
                mem_free(w);
                return;
        }
        w->event.data = w;
        if (uv_fs_event_start(&w->event, on_event, g.dirs[i], 0) != 0) {
                uv_close((uv_handle_t *)&w->event, on_watch_closed);
                return;
        }
        uv_unref((uv_handle_t *)&w->event);
        g.watches[i] = w;
}

int plugins_open(uv_loop_t *loop, const char *const *dirs, size_t n_dirs, struct err *e)
{
        if (g.open || n_dirs > PLUGIN_DIRS_MAX)
                return err_set(e, E_STATE, "plug-ins are open already, or have too many folders");
        memset(&g, 0, sizeof g);
        list_init(&g.plugins);
        g.loop = loop;
        g.settle = mem_calloc(1, sizeof *g.settle);
        if (!g.settle)
                return err_set(e, E_NOMEM, "out of memory");
        uv_timer_init(loop, g.settle);
        uv_unref((uv_handle_t *)g.settle);
        g.open = true;
        for (size_t i = 0; i < n_dirs; i++) {
                g.dirs[i] = mem_strdup(dirs[i]);
                if (!g.dirs[i]) {
                        plugins_close();
                        return err_set(e, E_NOMEM, "out of memory");
                }
                g.n_dirs++;
                watch_folder(i);
        }
        plugins_reload();
        return 0;
}

void plugins_close(void)
{
        if (!g.open)
                return;
        g.open = false;
        while (!list_empty(&g.plugins))
                unlist(container_of(g.plugins.next, struct plugin, link));
        for (size_t i = 0; i < g.n_dirs; i++) {
                if (g.watches[i])
                        uv_close((uv_handle_t *)&g.watches[i]->event, on_watch_closed);
                mem_free(g.dirs[i]);
        }
        uv_close((uv_handle_t *)g.settle, on_timer_closed);
        told_free(g.told);
        memset(&g, 0, sizeof g);
}
