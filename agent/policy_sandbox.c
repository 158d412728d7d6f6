/* The section `sandbox`: what it says, and what becomes of it together with `files`
 * (agent/sandbox/sandbox.h). */
#include <stdio.h>
#include <string.h>

#include "agent/policy_in.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

static const char *const set_keys[] = {"mode", "read", "write", "network", "user", "limits"};
#define SET_KEYS (sizeof set_keys / sizeof *set_keys)

static const struct limit_key {
        const char *key, *want;
        enum { AS_SECONDS, AS_SIZE, AS_COUNT } kind;
        size_t offset;
} limit_keys[] = {
        {"cpu", "a duration such as 10m, or none", AS_SECONDS, offsetof(struct sandbox_limits, cpu_s)},
        {"memory", "a size such as 2GiB, or none", AS_SIZE, offsetof(struct sandbox_limits, memory)},
        {"address-space", "a size such as 8GiB, or none", AS_SIZE,
         offsetof(struct sandbox_limits, address_space)},
        {"processes", "a number from 1 to 1000000, or none", AS_COUNT,
         offsetof(struct sandbox_limits, processes)},
        {"open-files", "a number from 1 to 1000000, or none", AS_COUNT,
         offsetof(struct sandbox_limits, open_files)},
        {"file-size", "a size such as 1GiB, or none", AS_SIZE, offsetof(struct sandbox_limits, file_size)},
};
#define LIMIT_KEYS (sizeof limit_keys / sizeof *limit_keys)

void policy_sandbox_fini(struct policy_sandbox *s)
{
        for (size_t i = 0; i < s->n; i++) {
                rules_fini(&s->v[i].read);
                rules_fini(&s->v[i].write);
                mem_free(s->v[i].tools);
                mem_free(s->v[i].user);
        }
        mem_free(s->v);
        mem_free(s->rules);
        mem_free(s->paths);
        memset(s, 0, sizeof *s);
}

static int copy_rules(struct rules *to, const struct rules *from)
{
        rules_fini(to);
        to->v = mem_calloc(from->n ? from->n : 1, sizeof *to->v);
        for (; to->v && to->n < from->n; to->n++) {
                const struct rule *f = &from->v[to->n];
                struct rule *t = &to->v[to->n];

                t->text = mem_strdup(f->text);
                t->path = mem_strdup(f->path);
                t->real = f->real ? mem_strdup(f->real) : NULL;
                t->line = f->line;
                if (!t->text || !t->path || (f->real && !t->real)) {
                        to->n++;
                        return -E_NOMEM;
                }
        }
        return to->v ? 0 : -E_NOMEM;
}

/* --- one key -------------------------------------------------------------- */

static int wrong(const struct doc *d, const char *want, struct err *e)
{
        return err_at(e, E_INVAL, d->line, d->col, "sandbox.%s: expected %s", d->key, want);
}

static int read_mode(struct policy_sandbox_set *s, const struct doc *d, struct err *e)
{
        for (int m = SANDBOX_BEST_EFFORT; m <= SANDBOX_OFF; m++)
                if (d->text && strcmp(d->text, sandbox_mode_name(m)) == 0) {
                        s->mode = m;
                        return 0;
                }
        return wrong(d, "best-effort, require or off", e);
}

static int read_paths(const struct policy *p, struct rules *r, const struct doc *d, bool lines, struct err *e)
{
        int rc = 0;

        if (d->kind != DOC_LIST || d->count > SANDBOX_PATHS_MAX)
                return wrong(d, "a list of at most 512 folders", e);
        rules_fini(r);
        r->v = mem_calloc(d->count ? d->count : 1, sizeof *r->v);
        if (!r->v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = d->child; i && rc == 0; i = i->next) {
                struct rule *x = &r->v[r->n];

                if (i->kind != DOC_STRING || strchr(i->text, '*'))
                        return err_at(e, E_INVAL, i->line, i->col,
                                      "sandbox.%s: expected a folder without *, such as ~/src", d->key);
                x->line = lines ? i->line : 0;
                x->text = mem_strdup(i->text);
                r->n++;
                rc = x->text ? policy_entry_path(p, x, i, e) : err_set(e, E_NOMEM, "out of memory");
        }
        return rc;
}

static int read_network(struct policy_sandbox_set *s, const struct doc *d, struct err *e)
{
        static const char want[] = "any, none or a list of ports such as [443]";
        int64_t port;

        s->n_ports = 0;
        if (d->kind == DOC_STRING && strcmp(d->text, "any") == 0)
                s->network = SANDBOX_NET_ANY;
        else if (d->kind == DOC_STRING && strcmp(d->text, "none") == 0)
                s->network = SANDBOX_NET_NONE;
        else if (d->kind != DOC_LIST || d->count == 0 || d->count > SANDBOX_PORTS_MAX)
                return wrong(d, want, e);
        else
                s->network = SANDBOX_NET_PORTS;
        for (const struct doc *i = d->child; i; i = i->next) {
                if (i->kind != DOC_NUMBER || str_parse_i64(i->text, 1, 65535, &port))
                        return err_at(e, E_INVAL, i->line, i->col, "sandbox.network: expected %s", want);
                s->ports[s->n_ports++] = (uint16_t)port;
        }
        return 0;
}

static int read_user(struct policy_sandbox_set *s, const struct doc *d, struct err *e)
{
        char *copy;

        if (d->kind != DOC_STRING || strlen(d->text) > 64)
                return wrong(d, "the name of a user, or \"\"", e);
        copy = *d->text ? mem_strdup(d->text) : NULL;
        if (*d->text && !copy)
                return err_set(e, E_NOMEM, "out of memory");
        mem_free(s->user);
        s->user = copy;
        return 0;
}

static int read_limit(struct sandbox_limits *l, const struct doc *d, struct err *e)
{
        const char *keys[LIMIT_KEYS], *near;
        int64_t *to, v = 0;
        int rc;

        for (size_t i = 0; i < LIMIT_KEYS; i++) {
                const struct limit_key *k = &limit_keys[i];

                keys[i] = k->key;
                if (strcmp(k->key, d->key) != 0)
                        continue;
                to = (int64_t *)(void *)((char *)l + k->offset);
                if (!d->text)
                        rc = -E_INVAL;
                else if (strcmp(d->text, "none") == 0)
                        rc = 0;
                else if (k->kind == AS_COUNT)
                        rc = str_parse_i64(d->text, 1, 1000000, &v);
                else if (k->kind == AS_SIZE)
                        rc = str_parse_size(d->text, &v);
                else
                        rc = str_parse_duration(d->text, &v);
                if (k->kind == AS_SECONDS)
                        v = (v + 999) / 1000;
                if (rc || v < 0 || (v == 0 && strcmp(d->text, "none") != 0))
                        return err_at(e, E_INVAL, d->line, d->col, "sandbox.limits.%s: expected %s", d->key,
                                      k->want);
                *to = v;
                return 0;
        }
        near = str_nearest(d->key, keys, LIMIT_KEYS);
        return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"sandbox.limits.%s\"%s%s%s", d->key,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* 1: no key of a set. */
static int read_key(const struct policy *p, struct policy_sandbox_set *s, const struct doc *d, bool lines,
                    struct err *e)
{
        int rc = 0;

        if (strcmp(d->key, "mode") == 0)
                return read_mode(s, d, e);
        if (strcmp(d->key, "read") == 0)
                return read_paths(p, &s->read, d, lines, e);
        if (strcmp(d->key, "write") == 0)
                return read_paths(p, &s->write, d, lines, e);
        if (strcmp(d->key, "network") == 0)
                return read_network(s, d, e);
        if (strcmp(d->key, "user") == 0)
                return read_user(s, d, e);
        if (strcmp(d->key, "limits") != 0)
                return 1;
        if (d->kind != DOC_MAP)
                return wrong(d, "a map such as {cpu: 10m}", e);
        for (const struct doc *m = d->child; m && rc == 0; m = m->next)
                rc = read_limit(&s->limits, m, e);
        return rc;
}

static int unknown(const struct doc *d, const char *where, bool top, struct err *e)
{
        const char *keys[SET_KEYS + 1], *near;

        memcpy(keys, set_keys, sizeof set_keys);
        keys[SET_KEYS] = "tools";
        near = str_nearest(d->key, keys, SET_KEYS + top);
        return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"%s.%s\"%s%s%s", where, d->key,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* --- the section -------------------------------------------------------------- */

static int need_sets(struct policy_sandbox *s)
{
        if (!s->v)
                s->v = mem_calloc(SANDBOX_RULES_MAX, sizeof *s->v);
        if (!s->v)
                return -E_NOMEM;
        if (s->n == 0)
                s->n = 1;
        return 0;
}

/* What a tool's set does not say is as the section says, so the tools are read last. */
static int read_tool(struct policy *p, const struct doc *d, bool lines, struct err *e)
{
        struct policy_sandbox *s = &p->sandbox;
        struct policy_sandbox_set *t, *base = &s->v[0];
        int rc;

        if (d->kind != DOC_MAP)
                return err_at(e, E_INVAL, d->line, d->col,
                              "sandbox.tools.%s: expected a map such as {mode: off}", d->key);
        if (s->n == SANDBOX_RULES_MAX)
                return err_at(e, E_TOOBIG, d->key_line, d->key_col, "sandbox.tools: more than %d entries",
                              SANDBOX_RULES_MAX - 1);
        t = &s->v[s->n++];
        t->mode = base->mode;
        t->network = base->network;
        memcpy(t->ports, base->ports, sizeof t->ports);
        t->n_ports = base->n_ports;
        t->limits = base->limits;
        t->tools = mem_strdup(d->key);
        t->user = base->user ? mem_strdup(base->user) : NULL;
        if (!t->tools || (base->user && !t->user) || copy_rules(&t->read, &base->read) ||
            copy_rules(&t->write, &base->write))
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *m = d->child; m; m = m->next) {
                rc = read_key(p, t, m, lines, e);
                if (rc)
                        return rc > 0 ? unknown(m, "sandbox.tools", false, e) : rc;
        }
        return 0;
}

int policy_sandbox_read(struct policy *p, const struct doc *section, bool lines, struct err *e)
{
        const struct doc *tools = doc_get(section, "tools");
        int rc = need_sets(&p->sandbox) ? err_set(e, E_NOMEM, "out of memory") : 0;

        for (const struct doc *m = section->child; m && rc == 0; m = m->next) {
                if (m == tools)
                        continue;
                rc = read_key(p, &p->sandbox.v[0], m, lines, e);
                if (rc > 0)
                        rc = unknown(m, "sandbox", true, e);
        }
        if (rc == 0 && tools && tools->kind != DOC_MAP)
                rc = wrong(tools, "a map such as {\"browser\": {mode: off}}", e);
        for (const struct doc *t = tools ? tools->child : NULL; t && rc == 0; t = t->next)
                rc = read_tool(p, t, lines, e);
        return rc;
}

/* Coding tools and MCP servers keep their logins, sessions and caches in the home folder, whatever
 * files.write says: without it they do not start. The owner's own sets come first. */
static const char *const at_home[] = {"claude-code.*", "codex.*", "cursor.*", "gemini.*",
                                      "acp.*",         "mcp.*",   "discover"};
#define AT_HOME (sizeof at_home / sizeof *at_home)

/* --- what becomes of it ---------------------------------------------------------- */

static size_t put_roots(const char **to, size_t n, const struct rules *r)
{
        for (size_t i = 0; i < r->n; i++)
                if (r->v[i].real)
                        to[n++] = r->v[i].real;
        return n;
}

static size_t make_rules(struct policy *p, const struct policy_sandbox_set *f, const char *home,
                         struct sandbox_rules *r, size_t at)
{
        const char **paths = p->sandbox.paths;

        r->tools = f->tools;
        r->mode = f->mode;
        r->network = f->network;
        memcpy(r->ports, f->ports, sizeof r->ports);
        r->n_ports = f->n_ports;
        r->limits = f->limits;
        r->user = f->user;
        r->read = paths + at;
        r->n_read = put_roots(paths + at, 0, &p->read);
        r->n_read = put_roots(paths + at, r->n_read, &f->read);
        at += r->n_read;
        r->write = paths + at;
        r->n_write = put_roots(paths + at, 0, &p->write);
        r->n_write = put_roots(paths + at, r->n_write, &f->write);
        if (home)
                paths[at + r->n_write++] = home;
        return at + r->n_write;
}

int policy_sandbox_make(struct policy *p)
{
        struct policy_sandbox *s = &p->sandbox;
        size_t roots = 0, at = 0;

        if (need_sets(s))
                return -E_NOMEM;
        for (size_t i = 0; i < s->n; i++)
                roots += p->read.n + p->write.n + s->v[i].read.n + s->v[i].write.n;
        roots += AT_HOME * (p->read.n + p->write.n + s->v[0].read.n + s->v[0].write.n + 1);
        s->rules = mem_calloc(s->n + AT_HOME, sizeof *s->rules);
        s->paths = mem_calloc(roots ? roots : 1, sizeof *s->paths);
        if (!s->rules || !s->paths)
                return -E_NOMEM;
        for (size_t i = 0; i < s->n; i++)
                at = make_rules(p, &s->v[i], NULL, &s->rules[i], at);
        for (size_t i = 0; i < AT_HOME; i++) {
                at = make_rules(p, &s->v[0], p->home, &s->rules[s->n + i], at);
                s->rules[s->n + i].tools = at_home[i];
        }
        return 0;
}

const struct sandbox_rules *policy_sandbox(const struct policy *p, size_t *out_n)
{
        *out_n = p->sandbox.n + AT_HOME;
        return p->sandbox.rules;
}

static int describe_set(struct buf *b, const struct policy_sandbox_set *s)
{
        int rc = buf_printf(b, "sandbox%s%s: %s", s->tools ? " of " : "", s->tools ? s->tools : "",
                            sandbox_mode_name(s->mode));

        for (size_t i = 0; i < s->read.n && !rc; i++)
                rc = buf_printf(b, "%s %s", i ? "," : "; read", s->read.v[i].text);
        for (size_t i = 0; i < s->write.n && !rc; i++)
                rc = buf_printf(b, "%s %s", i ? "," : "; write", s->write.v[i].text);
        if (!rc && s->network == SANDBOX_NET_NONE)
                rc = buf_puts(b, "; network none");
        for (size_t i = 0; i < s->n_ports && !rc; i++)
                rc = buf_printf(b, "%s %u", i ? "," : "; network", s->ports[i]);
        if (!rc && s->user)
                rc = buf_printf(b, "; user %s", s->user);
        for (size_t i = 0; i < LIMIT_KEYS && !rc; i++) {
                int64_t v = *(const int64_t *)(const void *)((const char *)&s->limits + limit_keys[i].offset);
                char text[32];

                if (limit_keys[i].kind == AS_SIZE)
                        str_format_size(v, text);
                else if (limit_keys[i].kind == AS_SECONDS)
                        str_format_duration(v * 1000, text);
                else
                        snprintf(text, sizeof text, "%lld", (long long)v);
                if (v)
                        rc = buf_printf(b, "; %s %s", limit_keys[i].key, text);
        }
        return rc ? rc : buf_putc(b, '\n');
}

int policy_sandbox_describe(const struct policy *p, struct buf *b)
{
        int rc = 0;

        for (size_t i = 0; i < p->sandbox.n && !rc; i++)
                rc = describe_set(b, &p->sandbox.v[i]);
        return rc;
}
