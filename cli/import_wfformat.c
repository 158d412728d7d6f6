#include "cli/import_wfformat.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#define TASKS_MAX   20000u             /* as hub/model/workflow.h: WORKFLOW_STEPS_MAX */
#define NEEDS_MAX   10000u             /* STEP_NEEDS_MAX */
#define TEXT_MAX    ((size_t)16 << 20) /* WORKFLOW_BYTES_MAX */
#define STEP_ID_LEN 128                /* STEP_ID_MAX */
#define ID_TAIL     40                 /* what stays of the end of a long one */
#define EXACT_MAX   9007199254740992.0 /* 2^53: what a JSON number holds exactly */
#define RETRIES     2

struct task {
        const cJSON *spec, *exec;
        const char *id;
        char *step;    /* its id in the workflow */
        size_t *needs; /* sorted, unique */
        size_t n_needs, cap_needs;
        double runtime_s;
        int64_t bytes;
};

struct import {
        const struct wfformat_options *o;
        struct wfformat_notes *notes;
        cJSON *doc;
        const cJSON *spec, *exec;
        struct task *tasks;
        size_t n;
        struct map *by_id, *by_name, *steps, *sizes;
        struct err *e;
};

static int no_memory(struct import *im)
{
        return err_set(im->e, E_NOMEM, "no memory");
}

static const cJSON *get(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *text_of(const cJSON *o, const char *key)
{
        return cJSON_GetStringValue(get(o, key));
}

/* ---- the document ---- */

static int check_shape(struct import *im)
{
        const char *version = text_of(im->doc, "schemaVersion");
        const cJSON *wf = get(im->doc, "workflow");

        if (!cJSON_IsObject(im->doc) || !cJSON_IsObject(wf))
                return err_set(im->e, E_INVAL,
                               "this is no WfFormat instance: there is no object \"workflow\" in it");
        if (version && strcmp(version, WFFORMAT_VERSION) != 0 &&
            strncmp(version, WFFORMAT_VERSION ".", sizeof WFFORMAT_VERSION) != 0)
                return err_set(im->e, E_INVAL,
                               "this is WfFormat %.20s; only %s is understood. The instances at "
                               "github.com/wfcommons/WfInstances are in %s",
                               version, WFFORMAT_VERSION, WFFORMAT_VERSION);
        im->spec = get(get(wf, "specification"), "tasks");
        im->exec = get(get(wf, "execution"), "tasks");
        if (!im->spec && get(wf, "tasks"))
                return err_set(im->e, E_INVAL,
                               "this is WfFormat older than %s (its tasks are not under "
                               "\"workflow.specification\"); only %s is understood",
                               WFFORMAT_VERSION, WFFORMAT_VERSION);
        if (!cJSON_IsArray(im->spec))
                return err_set(im->e, E_INVAL, "the list \"workflow.specification.tasks\" is missing");
        if (im->exec && !cJSON_IsArray(im->exec))
                return err_set(im->e, E_INVAL, "\"workflow.execution.tasks\" is not a list");
        if (!im->spec->child)
                return err_set(im->e, E_INVAL, "the instance has no tasks");
        return 0;
}

static int put(struct import *im, struct map *m, const char *key, size_t at)
{
        return map_put(m, key, (void *)(uintptr_t)(at + 1), NULL) ? no_memory(im) : 0;
}

/* false: not there. */
static bool look(const struct map *m, const char *key, size_t *at)
{
        uintptr_t v = (uintptr_t)map_get(m, key);

        if (v)
                *at = v - 1;
        return v != 0;
}

static int read_tasks(struct import *im)
{
        size_t n = (size_t)cJSON_GetArraySize(im->spec), i = 0, other;
        int rc = 0;

        if (n > TASKS_MAX)
                return err_set(im->e, E_TOOBIG,
                               "the instance has %zu tasks; a workflow may have %u steps at most", n,
                               TASKS_MAX);
        im->tasks = mem_calloc(n, sizeof *im->tasks);
        if (!im->tasks)
                return no_memory(im);
        for (const cJSON *s = im->spec->child; s && !rc; s = s->next, i++) {
                struct task *t = &im->tasks[i];
                const char *name = text_of(s, "name");

                t->spec = s;
                t->id = text_of(s, "id");
                if (!t->id || !*t->id)
                        t->id = name; /* the schema wants both; either tells them apart */
                im->n = i + 1;
                if (!t->id || !*t->id)
                        return err_set(im->e, E_INVAL, "task number %zu has no \"id\"", i + 1);
                if (look(im->by_id, t->id, &other))
                        return err_set(im->e, E_INVAL,
                                       "two tasks have the id \"%.120s\" (numbers %zu and %zu)", t->id,
                                       other + 1, i + 1);
                rc = put(im, im->by_id, t->id, i);
                if (!rc && name) /* shared names resolve nothing */
                        rc = put(im, im->by_name, name, look(im->by_name, name, &other) ? n : i);
        }
        return rc;
}

static int read_execution(struct import *im)
{
        size_t at;

        for (const cJSON *x = im->exec ? im->exec->child : NULL; x; x = x->next) {
                const char *id = text_of(x, "id");

                if (!id)
                        return err_set(im->e, E_INVAL, "a task of \"workflow.execution\" has no \"id\"");
                if (!look(im->by_id, id, &at))
                        continue; /* executed but not specified: it has no place in the graph */
                if (im->tasks[at].exec)
                        return err_set(im->e, E_INVAL, "\"workflow.execution\" has the task \"%.120s\" twice",
                                       id);
                im->tasks[at].exec = x;
        }
        return 0;
}

/* ---- step ids ---- */

static int claim(struct import *im, struct task *t, const char *id)
{
        t->step = mem_strdup(id);
        return t->step ? put(im, im->steps, id, 0) : no_memory(im);
}

/* What is no step id becomes one: other characters a mark each, a long text its beginning and its end, where
 * most ids differ, and a number where that is taken. */
static int make_id(struct import *im, struct task *t)
{
        size_t len = strlen(t->id), n = 0, skip_from = SIZE_MAX, other;
        char id[STEP_ID_LEN + 16];

        if (len > STEP_ID_LEN)
                skip_from = STEP_ID_LEN - ID_TAIL - 2;
        for (const char *p = t->id; *p && n < STEP_ID_LEN; p++) {
                bool good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                            (*p >= '0' && *p <= '9') || strchr("._-", *p);

                if (n >= skip_from) {
                        p = t->id + len - ID_TAIL;
                        skip_from = SIZE_MAX;
                        good = false; /* marks the gap */
                } else if (((unsigned char)*p & 0xC0) == 0x80) {
                        continue; /* one mark for a whole UTF-8 sequence */
                }
                if (n == 0 && (!good || strchr("._-", *p)))
                        id[n++] = 't';
                id[n++] = good ? *p : '_';
        }
        for (unsigned k = 1;; k++) {
                char tail[16] = "";

                if (k > 1)
                        snprintf(tail, sizeof tail, "-%u", k);
                if (n + strlen(tail) > STEP_ID_LEN)
                        n = STEP_ID_LEN - strlen(tail);
                strcpy(id + n, tail);
                if (!look(im->steps, id, &other))
                        return claim(im, t, id);
        }
}

/* Ids that can stay do, wherever the others stand. */
static int name_steps(struct import *im)
{
        int rc = 0;

        for (size_t i = 0; i < im->n && !rc; i++)
                if (str_is_name(im->tasks[i].id, STEP_ID_LEN))
                        rc = claim(im, &im->tasks[i], im->tasks[i].id);
        for (size_t i = 0; i < im->n && !rc; i++)
                if (!im->tasks[i].step)
                        rc = make_id(im, &im->tasks[i]);
        return rc;
}

/* ---- dependencies ---- */

static int find_task(struct import *im, const struct task *t, const cJSON *ref, const char *key, size_t *at)
{
        const char *id = cJSON_GetStringValue(ref);

        if (!id)
                return err_set(im->e, E_INVAL, "\"%s\" of task \"%.120s\" holds something that is no id", key,
                               t->id);
        if (look(im->by_id, id, at) || (look(im->by_name, id, at) && *at < im->n))
                return 0;
        return err_set(im->e, E_INVAL,
                       "\"%s\" of task \"%.120s\" names \"%.120s\", and there is no such task", key, t->id,
                       id);
}

static int add_need(struct import *im, struct task *t, size_t need)
{
        if (&im->tasks[need] == t)
                return err_set(im->e, E_INVAL, "task \"%.120s\" depends on itself", t->id);
        if (t->n_needs == t->cap_needs) {
                size_t cap = t->cap_needs ? t->cap_needs * 2 : 4, *v = mem_realloc(t->needs, cap * sizeof *v);

                if (!v)
                        return no_memory(im);
                t->needs = v;
                t->cap_needs = cap;
        }
        t->needs[t->n_needs++] = need;
        return 0;
}

static int by_number(const void *a, const void *b)
{
        size_t x = *(const size_t *)a, y = *(const size_t *)b;

        return x < y ? -1 : x > y;
}

/* One dependency stands there twice when both tasks state it. */
static void unite(struct import *im, struct task *t, bool both_sides)
{
        size_t out = 0;

        if (t->n_needs)
                qsort(t->needs, t->n_needs, sizeof *t->needs, by_number);
        for (size_t i = 0; i < t->n_needs;) {
                size_t same = i + 1;

                while (same < t->n_needs && t->needs[same] == t->needs[i])
                        same++;
                im->notes->one_sided += both_sides && same - i == 1;
                t->needs[out++] = t->needs[i];
                i = same;
        }
        t->n_needs = out;
        im->notes->needs += out;
}

static int read_edges(struct import *im)
{
        bool parents = false, children = false;
        size_t at;
        int rc = 0;

        for (size_t i = 0; i < im->n && !rc; i++) {
                struct task *t = &im->tasks[i];
                const cJSON *p = get(t->spec, "parents"), *c = get(t->spec, "children");

                for (p = p ? p->child : NULL; p && !rc; p = p->next) {
                        parents = true;
                        rc = find_task(im, t, p, "parents", &at);
                        if (!rc)
                                rc = add_need(im, t, at);
                }
                for (c = c ? c->child : NULL; c && !rc; c = c->next) {
                        children = true;
                        rc = find_task(im, t, c, "children", &at);
                        if (!rc)
                                rc = add_need(im, &im->tasks[at], i);
                }
        }
        for (size_t i = 0; i < im->n && !rc; i++) {
                unite(im, &im->tasks[i], parents && children);
                if (im->tasks[i].n_needs > NEEDS_MAX)
                        rc = err_set(im->e, E_TOOBIG,
                                     "task \"%.120s\" has %zu parents; a step may need %u at most",
                                     im->tasks[i].id, im->tasks[i].n_needs, NEEDS_MAX);
        }
        return rc;
}

/* Takes away what needs nothing, again and again; what is left has a cycle. */
static int check_cycles(struct import *im)
{
        size_t *left = mem_calloc(im->n, sizeof *left), *ready = mem_calloc(im->n, sizeof *ready),
               *first = mem_calloc(im->n + 1, sizeof *first);
        size_t *child = mem_calloc(im->notes->needs + 1, sizeof *child), n_ready = 0, done = 0;
        int rc = left && ready && first && child ? 0 : no_memory(im);

        for (size_t i = 0; i < im->n && !rc; i++) {
                left[i] = im->tasks[i].n_needs;
                if (!left[i])
                        ready[n_ready++] = i;
                for (size_t k = 0; k < im->tasks[i].n_needs; k++)
                        first[im->tasks[i].needs[k] + 1]++;
        }
        for (size_t i = 0; i < im->n && !rc; i++)
                first[i + 1] += first[i];
        for (size_t i = im->n; i-- > 0 && !rc;)
                for (size_t k = 0; k < im->tasks[i].n_needs; k++)
                        child[--first[im->tasks[i].needs[k] + 1]] = i;
        /* first[i + 1] is now where the children of i begin, up to first[i + 2] or the end. */
        for (; !rc && done < n_ready; done++) {
                size_t i = ready[done], to = i + 2 <= im->n ? first[i + 2] : im->notes->needs;

                for (size_t k = first[i + 1]; k < to; k++)
                        if (--left[child[k]] == 0)
                                ready[n_ready++] = child[k];
        }
        for (size_t i = 0; i < im->n && !rc && done < im->n; i++) {
                if (!left[i])
                        continue;
                rc = err_set(im->e, E_INVAL,
                             "the tasks depend on each other in a circle; \"%.120s\" is on it or behind it",
                             im->tasks[i].id);
        }
        mem_free(left);
        mem_free(ready);
        mem_free(first);
        mem_free(child);
        return rc;
}

/* ---- measures ---- */

static int number(struct import *im, const struct task *t, const cJSON *o, const char *key, double *out,
                  bool *found)
{
        const cJSON *v = get(o, key);

        *found = v && !cJSON_IsNull(v);
        if (!*found)
                return 0;
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble < 0)
                return err_set(im->e, E_INVAL, "\"%s\" of task \"%.120s\" is not a number from 0 up", key,
                               t->id);
        *out = v->valuedouble;
        return 0;
}

static int read_sizes(struct import *im)
{
        const cJSON *files = get(get(get(im->doc, "workflow"), "specification"), "files");

        for (const cJSON *f = cJSON_IsArray(files) ? files->child : NULL; f; f = f->next) {
                const cJSON *size = get(f, "sizeInBytes");
                const char *id = text_of(f, "id");

                if (!id)
                        id = text_of(f, "name");
                if (!id)
                        return err_set(im->e, E_INVAL,
                                       "a file of \"workflow.specification.files\" has no \"id\"");
                if (!size || cJSON_IsNull(size))
                        continue;
                if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > EXACT_MAX)
                        return err_set(im->e, E_INVAL,
                                       "\"sizeInBytes\" of file \"%.120s\" is not a number of bytes", id);
                if (map_put(im->sizes, id, (void *)(uintptr_t)size, NULL))
                        return no_memory(im);
        }
        return 0;
}

static int file_bytes(struct import *im, const struct task *t, double *out, bool *found)
{
        const cJSON *files = get(t->spec, "outputFiles"), *size;

        *found = cJSON_IsArray(files);
        for (const cJSON *f = *found ? files->child : NULL; f; f = f->next) {
                const char *id = cJSON_GetStringValue(f);

                if (!id)
                        return err_set(im->e, E_INVAL,
                                       "\"outputFiles\" of task \"%.120s\" holds something that is no id",
                                       t->id);
                size = map_get(im->sizes, id);
                if (size)
                        *out += size->valuedouble;
                else
                        im->notes->unknown_size++;
        }
        return 0;
}

static int measure(struct import *im, struct task *t)
{
        double written = 0, files = 0, bytes = 0;
        bool has_written, has_files, has_runtime;
        int rc = number(im, t, t->exec, "runtimeInSeconds", &t->runtime_s, &has_runtime);

        if (!rc)
                rc = number(im, t, t->exec, "writtenBytes", &written, &has_written);
        if (!rc)
                rc = file_bytes(im, t, &files, &has_files);
        if (rc)
                return rc;
        if (im->o->bytes == WFFORMAT_FILES)
                bytes = has_files ? files : written;
        else if (im->o->bytes == WFFORMAT_WRITTEN)
                bytes = has_written ? written : files;
        if (bytes > EXACT_MAX)
                return err_set(im->e, E_INVAL,
                               "task \"%.120s\" writes more bytes than a number holds exactly", t->id);
        t->bytes = (int64_t)bytes;
        if (im->o->max_bytes && t->bytes > im->o->max_bytes)
                t->bytes = im->o->max_bytes;
        t->runtime_s *= im->o->scale;
        im->notes->no_runtime += !has_runtime;
        im->notes->total_s += t->runtime_s;
        im->notes->total_bytes += t->bytes;
        return 0;
}

/* ---- the workflow ---- */

/* JSON strings are YAML strings; what would be an expression is broken up. */
static int put_text(struct buf *b, const char *s)
{
        char *copy = mem_strdup(s), *at;
        int rc;

        if (!copy)
                return -E_NOMEM;
        while ((at = strstr(copy, "${{")))
                *at = '_';
        rc = json_append_str(b, copy, strlen(copy));
        mem_free(copy);
        return rc;
}

/* The shortest text that sleeps that long to a microsecond. */
static void seconds_text(double s, char out[64])
{
        char *p;

        snprintf(out, 64, "%.6f", s < 1e9 ? s : 1e9);
        p = out + strlen(out);
        while (p[-1] == '0')
                *--p = '\0';
        if (p[-1] == '.')
                *--p = '\0';
}

static int put_command(struct buf *b, const struct task *t)
{
        char seconds[64];
        bool sleeps;

        seconds_text(t->runtime_s, seconds);
        sleeps = strcmp(seconds, "0") != 0;
        if (!t->bytes)
                return sleeps ? buf_printf(b, "[sleep, \"%s\"]", seconds) : buf_puts(b, "[\"true\"]");
        /* `yes` is faster than any disk, and its text is cheap to show, unlike zeros. */
        return buf_printf(b, "[sh, -c, \"%s%s%syes 0123456789abcdef 2>/dev/null | head -c %lld\"]",
                          sleeps ? "sleep " : "", sleeps ? seconds : "", sleeps ? " && " : "",
                          (long long)t->bytes);
}

static int put_step(struct import *im, const struct task *t, struct buf *b)
{
        int rc = buf_printf(b, "  - id: \"%s\"\n", t->step);

        if (!rc && strcmp(t->step, t->id) != 0 && strlen(t->id) < 1000) {
                rc = buf_puts(b, "    name: ");
                if (!rc)
                        rc = put_text(b, t->id);
                if (!rc)
                        rc = buf_putc(b, '\n');
        }
        for (size_t i = 0; i < t->n_needs && !rc; i++)
                rc = buf_printf(b, "%s\"%s\"%s", i ? ", " : "    needs: [", im->tasks[t->needs[i]].step,
                                i + 1 == t->n_needs ? "]\n" : "");
        if (!rc)
                rc = buf_printf(b,
                                "    effect: idempotent\n    retry: {limit: %d, backoff: {duration: 1s}}\n   "
                                " uses: process.exec\n    with: {argv: ",
                                RETRIES);
        if (!rc)
                rc = put_command(b, t);
        return rc ? rc : buf_puts(b, "}\n");
}

static int write_workflow(struct import *im, struct buf *b)
{
        const char *name = text_of(im->doc, "name"), *about = text_of(im->doc, "description");
        size_t before = b->len;
        int rc = buf_puts(b, "name: ");

        if (!rc)
                rc = put_text(b, name && *name && strlen(name) < 200 ? name : "wfformat");
        if (!rc && about && *about && strlen(about) < 2000) {
                rc = buf_puts(b, "\ndescription: ");
                if (!rc)
                        rc = put_text(b, about);
        }
        if (!rc)
                rc = buf_puts(b, "\nsteps:\n");
        for (size_t i = 0; i < im->n && !rc; i++)
                rc = put_step(im, &im->tasks[i], b);
        if (rc)
                return rc == -E_TOOBIG
                               ? err_set(im->e, E_TOOBIG, "the workflow would be larger than the hub takes")
                               : no_memory(im);
        if (b->len - before > TEXT_MAX)
                return err_set(im->e, E_TOOBIG, "the workflow has %zu bytes; the hub takes %zu at most",
                               b->len - before, TEXT_MAX);
        return 0;
}

static void import_fini(struct import *im)
{
        for (size_t i = 0; i < im->n; i++) {
                mem_free(im->tasks[i].step);
                mem_free(im->tasks[i].needs);
        }
        mem_free(im->tasks);
        map_free(im->by_id);
        map_free(im->by_name);
        map_free(im->steps);
        map_free(im->sizes);
        cJSON_Delete(im->doc);
}

int wfformat_convert(const char *text, size_t n, const struct wfformat_options *o, struct buf *out,
                     struct wfformat_notes *notes, struct err *e)
{
        struct import im = {.o = o, .notes = notes, .e = e};
        int rc;

        *notes = (struct wfformat_notes){0};
        im.by_id = map_create();
        im.by_name = map_create();
        im.steps = map_create();
        im.sizes = map_create();
        rc = im.by_id && im.by_name && im.steps && im.sizes ? json_parse(text, n, &im.doc, e)
                                                            : no_memory(&im);
        if (!rc)
                rc = check_shape(&im);
        if (!rc)
                rc = read_tasks(&im);
        if (!rc)
                rc = read_execution(&im);
        if (!rc)
                rc = read_sizes(&im);
        if (!rc)
                rc = read_edges(&im);
        if (!rc)
                rc = check_cycles(&im);
        if (!rc)
                rc = name_steps(&im);
        for (size_t i = 0; i < im.n && !rc; i++)
                rc = measure(&im, &im.tasks[i]);
        if (!rc)
                rc = write_workflow(&im, out);
        notes->tasks = im.n;
        import_fini(&im);
        return rc;
}
