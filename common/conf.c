#include "common/conf.h"

#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES   ((size_t)1 << 20)
#define SECRET_MAX_BYTES ((size_t)64 << 10)
#define OPTS_MAX         256

static void *field(const struct conf_opt *o, void *into)
{
        return (char *)into + o->offset;
}

static void wipe_free(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
        mem_free(s);
}

static void list_clear(struct conf_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                wipe_free(l->v[i]);
        mem_free(l->v);
        *l = (struct conf_list){0};
}

static int list_add(struct conf_list *l, const char *s, size_t n)
{
        char **v = mem_realloc(l->v, (l->n + 1) * sizeof *v);

        if (!v)
                return -E_NOMEM;
        l->v = v;
        v[l->n] = mem_strndup(s, n);
        if (!v[l->n])
                return -E_NOMEM;
        l->n++;
        return 0;
}

/* "a,b,c" replaces the list; "" empties it. */
static int list_set(struct conf_list *l, const char *text)
{
        int rc = 0;

        list_clear(l);
        while (*text && !rc) {
                size_t n = strcspn(text, ",");

                if (n)
                        rc = list_add(l, text, n);
                text += n + (text[n] == ',');
        }
        return rc;
}

static int parse_bool(const char *s, bool *out)
{
        static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off",
                                                                                    "0"};

        for (int i = 0; i < 4; i++) {
                if (str_ieq(s, yes[i]) || str_ieq(s, no[i])) {
                        *out = str_ieq(s, yes[i]);
                        return 0;
                }
        }
        return -E_INVAL;
}

static void format_bound(enum conf_type type, int64_t v, char out[32])
{
        if (type == CONF_DURATION)
                str_format_duration(v, out);
        else if (type == CONF_SIZE)
                str_format_size(v, out);
        else
                snprintf(out, 32, "%lld", (long long)v);
}

static int set_number(const struct conf_opt *o, const char *text, int64_t *out, const char *source,
                      struct err *e)
{
        char low[32], high[32];
        int64_t v;
        int rc;

        if (o->type == CONF_DURATION)
                rc = str_parse_duration(text, &v);
        else if (o->type == CONF_SIZE)
                rc = str_parse_size(text, &v);
        else
                rc = str_parse_i64(text, INT64_MIN, INT64_MAX, &v);
        if (rc)
                return err_set(e, E_INVAL, "%s: \"%.100s\" is no %s", source, text,
                               o->type == CONF_DURATION ? "duration; write 300ms, 10s, 5m or 1h"
                               : o->type == CONF_SIZE   ? "size; write 4096, 64KiB or 10MB"
                                                        : "whole number");
        if ((o->min || o->max) && (v < o->min || v > o->max)) {
                format_bound(o->type, o->min, low);
                format_bound(o->type, o->max, high);
                return err_set(e, E_INVAL, "%s: %.100s is not between %s and %s", source, text, low, high);
        }
        *out = v;
        return 0;
}

/* source: how the person knows the option: "--name", "NAME", "file: name". */
static int set_text(const struct conf_opt *o, const char *text, void *into, const char *source, struct err *e)
{
        char *copy;

        switch (o->type) {
        case CONF_STR:
                copy = mem_strdup(text);
                if (!copy)
                        break;
                wipe_free(*(char **)field(o, into));
                *(char **)field(o, into) = copy;
                return 0;
        case CONF_BOOL:
                if (parse_bool(text, field(o, into)))
                        return err_set(e, E_INVAL, "%s: \"%.100s\" is neither true nor false", source, text);
                return 0;
        case CONF_STRLIST:
                if (list_set(field(o, into), text))
                        break;
                return 0;
        default:
                return set_number(o, text, field(o, into), source, e);
        }
        return err_set(e, E_NOMEM, "%s: no memory", source);
}

int conf_defaults(const struct conf_opt *opts, void *into, struct err *e)
{
        int rc = 0;

        for (const struct conf_opt *o = opts; o->name; o++) {
                switch (o->type) {
                case CONF_STR:
                        *(char **)field(o, into) = NULL;
                        break;
                case CONF_BOOL:
                        *(bool *)field(o, into) = false;
                        break;
                case CONF_STRLIST:
                        *(struct conf_list *)field(o, into) = (struct conf_list){0};
                        break;
                case CONF_SECTION:
                        break;
                default:
                        *(int64_t *)field(o, into) = 0;
                }
        }
        for (const struct conf_opt *o = opts; o->name && !rc; o++)
                if (o->def)
                        rc = set_text(o, o->def, into, o->name, e);
        return rc;
}

void conf_free(const struct conf_opt *opts, void *into)
{
        for (const struct conf_opt *o = opts; o->name; o++) {
                if (o->type == CONF_STR) {
                        wipe_free(*(char **)field(o, into));
                        *(char **)field(o, into) = NULL;
                } else if (o->type == CONF_STRLIST) {
                        list_clear(field(o, into));
                }
        }
}

static const char *nearest_opt(const struct conf_opt *opts, const char *word, bool flags)
{
        const char *names[OPTS_MAX];
        size_t n = 0;

        for (const struct conf_opt *o = opts; o->name && n < OPTS_MAX; o++)
                if (!flags || o->metavar)
                        names[n++] = o->name;
        return str_nearest(word, names, n);
}

static const struct conf_opt *find_opt(const struct conf_opt *opts, const char *name, size_t n)
{
        for (const struct conf_opt *o = opts; o->name; o++)
                if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
                        return o;
        return NULL;
}

/* --- file ---------------------------------------------------------------- */

static int file_list(const struct doc *m, struct conf_list *l, const char *path, struct err *e)
{
        list_clear(l);
        for (const struct doc *c = m->child; c; c = c->next) {
                if (!c->text)
                        return err_at(e, E_INVAL, c->line, c->col, "%s:%d:%d: %s: expected a text, got %s",
                                      path, c->line, c->col, m->key, doc_kind_name(c->kind));
                if (list_add(l, c->text, strlen(c->text)))
                        return err_set(e, E_NOMEM, "%s: no memory", path);
        }
        return 0;
}

static int file_member(const struct conf_opt *opts, const struct doc *m, const char *path, void *into,
                       struct err *e)
{
        const struct conf_opt *o = find_opt(opts, m->key, strlen(m->key));
        const char *near = o ? NULL : nearest_opt(opts, m->key, false);
        struct err why;
        char source[128];
        int rc;

        if (!o)
                return err_at(e, E_INVAL, m->key_line, m->key_col,
                              "%s:%d:%d: unknown option \"%.100s\"%s%s%s", path, m->key_line, m->key_col,
                              m->key, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        if (m->kind == DOC_NULL || o->type == CONF_SECTION)
                return 0;
        if (o->type == CONF_STRLIST && m->kind == DOC_LIST)
                return file_list(m, field(o, into), path, e);
        if (!m->text)
                return err_at(e, E_INVAL, m->line, m->col, "%s:%d:%d: %s: expected one value, got %s", path,
                              m->line, m->col, o->name, doc_kind_name(m->kind));
        snprintf(source, sizeof source, "%s", o->name);
        rc = set_text(o, m->text, into, source, &why);
        if (rc)
                err_at(e, -rc, m->line, m->col, "%s:%d:%d: %s", path, m->line, m->col, why.msg);
        return rc;
}

int conf_file(const struct conf_opt *opts, const char *path, void *into, struct err *e)
{
        struct doc *d = NULL;
        struct err why = {0};
        char *text = NULL;
        size_t len;
        int rc = file_read(path, FILE_MAX_BYTES, &text, &len, e);

        if (rc)
                return rc;
        rc = doc_parse(text, len, &d, &why);
        if (rc)
                err_at(e, -rc, why.line, why.col, "%s: %s", path, why.msg);
        else if (d->kind != DOC_MAP && d->kind != DOC_NULL)
                rc = err_at(e, E_INVAL, d->line, d->col, "%s: expected options as a map, got %s", path,
                            doc_kind_name(d->kind));
        for (const struct doc *m = rc ? NULL : d->child; m && !rc; m = m->next)
                rc = file_member(opts, m, path, into, e);
        doc_free(d);
        mem_wipe(text, len);
        mem_free(text);
        return rc;
}

/* --- environment --------------------------------------------------------- */

static int env_file(const struct conf_opt *o, const char *var, const char *path, void *into, struct err *e)
{
        struct err why;
        char *text;
        size_t len;
        int rc = file_read(path, SECRET_MAX_BYTES, &text, &len, &why);

        if (rc)
                return err_set(e, -rc, "%s: %s", var, why.msg);
        if (strlen(text) != len) {
                rc = err_set(e, E_INVAL, "%s: %s holds a NUL byte", var, path);
        } else {
                size_t n = len;

                while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
                        n--;
                text[n] = '\0';
                rc = set_text(o, text, into, var, e);
        }
        mem_wipe(text, len);
        mem_free(text);
        return rc;
}

int conf_env(const struct conf_opt *opts, void *into, struct err *e)
{
        int rc = 0;

        for (const struct conf_opt *o = opts; o->name && !rc; o++) {
                const char *value, *path;
                char var[128];

                if (!o->env)
                        continue;
                value = getenv(o->env);
                snprintf(var, sizeof var, "%s_FILE", o->env);
                path = getenv(var);
                if (value && path)
                        rc = err_set(e, E_INVAL, "both %s and %s are set; keep one", o->env, var);
                else if (path)
                        rc = env_file(o, var, path, into, e);
                else if (value)
                        rc = set_text(o, value, into, o->env, e);
        }
        return rc;
}

/* --- flags --------------------------------------------------------------- */

struct args {
        const struct conf_opt *opts;
        int argc;
        char **argv;
        int i; /* the next word to read */
        void *into;
        bool listed[OPTS_MAX]; /* STRLIST flags seen: the first replaces */
        struct err *e;
};

static int set_flag(struct args *a, const struct conf_opt *o, const char *value, const char *shown)
{
        struct conf_list *l = field(o, a->into);
        size_t at = (size_t)(o - a->opts);

        if (o->type != CONF_STRLIST)
                return set_text(o, value, a->into, shown, a->e);
        if (at < OPTS_MAX && !a->listed[at]) {
                list_clear(l);
                a->listed[at] = true;
        }
        return list_add(l, value, strlen(value)) ? err_set(a->e, E_NOMEM, "%s: no memory", shown) : 0;
}

static int next_value(struct args *a, const struct conf_opt *o, const char *shown, const char **out)
{
        if (a->i >= a->argc)
                return err_set(a->e, E_INVAL, "%s needs a value: %s %s", shown, shown, o->metavar);
        *out = a->argv[a->i++];
        return 0;
}

static int long_flag(struct args *a, const char *word)
{
        size_t n = strcspn(word + 2, "=");
        const struct conf_opt *o = find_opt(a->opts, word + 2, n);
        const char *value = word[2 + n] ? word + 2 + n + 1 : NULL;
        char shown[80];
        int rc = 0;

        snprintf(shown, sizeof shown, "--%.*s", (int)(n < 70 ? n : 70), word + 2);
        if (!o && strcmp(shown, "--help") == 0)
                return -E_CANCELLED;
        if (!o || !o->metavar) {
                const char *near = nearest_opt(a->opts, shown + 2, true);

                return err_set(a->e, E_INVAL, "unknown flag %s%s%s%s", shown, near ? "; did you mean --" : "",
                               near ? near : "", near ? "?" : "");
        }
        if (!value && o->type == CONF_BOOL)
                value = "true";
        if (!value)
                rc = next_value(a, o, shown, &value);
        return rc ? rc : set_flag(a, o, value, shown);
}

/* "-v", "-vq" (switches), "-dDIR", "-d DIR". */
static int short_flags(struct args *a, const char *word)
{
        int rc = 0;

        for (const char *p = word + 1; *p && !rc; p++) {
                const struct conf_opt *o = a->opts;
                const char *value = p + 1;
                char shown[3] = {'-', *p, '\0'};

                while (o->name && (o->shortname != *p || !o->metavar))
                        o++;
                if (!o->name && *p == 'h')
                        return -E_CANCELLED;
                if (!o->name)
                        return err_set(a->e, E_INVAL, "unknown flag %s", shown);
                if (o->type == CONF_BOOL) {
                        rc = set_flag(a, o, "true", shown);
                        continue;
                }
                if (!*value)
                        rc = next_value(a, o, shown, &value);
                return rc ? rc : set_flag(a, o, value, shown);
        }
        return rc;
}

int conf_args(const struct conf_opt *opts, int argc, char **argv, int *io_i, bool stop_at_word, void *into,
              struct conf_list *rest, struct err *e)
{
        struct args a = {.opts = opts, .argc = argc, .argv = argv, .i = *io_i, .into = into, .e = e};
        struct conf_list words = {0};
        int rc = 0;

        if (rest && argc > a.i) {
                words.v = mem_calloc((size_t)(argc - a.i), sizeof *words.v);
                if (!words.v)
                        return err_set(e, E_NOMEM, "no memory for the arguments");
        }
        while (a.i < argc && !rc) {
                char *word = argv[a.i];

                if (word[0] != '-' || !word[1]) {
                        if (stop_at_word)
                                break;
                        if (rest)
                                words.v[words.n++] = word;
                        else
                                rc = err_set(e, E_INVAL, "unexpected argument \"%.100s\"", word);
                        a.i++;
                        continue;
                }
                a.i++;
                if (strcmp(word, "--") == 0)
                        break;
                rc = word[1] == '-' ? long_flag(&a, word) : short_flags(&a, word);
        }
        if (rc) {
                mem_free(words.v);
                return rc;
        }
        *io_i = a.i;
        if (rest)
                *rest = words;
        return 0;
}

/* --- help ---------------------------------------------------------------- */

static int flag_text(const struct conf_opt *o, char *out, size_t cap)
{
        char brief[5] = "    ";

        if (o->shortname)
                snprintf(brief, sizeof brief, "-%c, ", o->shortname);
        return snprintf(out, cap, "%s--%s%s%s%s", brief, o->name, *o->metavar ? " " : "", o->metavar,
                        o->type == CONF_STRLIST ? "..." : "");
}

void conf_help(FILE *f, const struct conf_opt *opts)
{
        char text[128];
        int width = 0;

        for (const struct conf_opt *o = opts; o->name; o++) {
                int n = o->metavar ? flag_text(o, text, sizeof text) : 0;

                if (n > width && n <= 34)
                        width = n;
        }
        for (const struct conf_opt *o = opts; o->name; o++) {
                bool def = o->def && *o->def && !(o->type == CONF_BOOL && strcmp(o->def, "false") == 0);

                if (!o->metavar)
                        continue;
                flag_text(o, text, sizeof text);
                fprintf(f, "  %-*s  %s", width, text, o->help ? o->help : "");
                if (def)
                        fprintf(f, " (default: %s)", o->def);
                if (o->env)
                        fprintf(f, " [%s]", o->env);
                fputc('\n', f);
        }
}
