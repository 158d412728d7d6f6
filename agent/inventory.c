#include "agent/inventory.h"

#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LABELS_MAX 64

int inventory_check_label(const char *text, struct err *e)
{
        const char *eq = strchr(text, '=');
        char key[64];

        if (!eq || eq == text || (size_t)(eq - text) >= sizeof key)
                return err_set(e, E_INVAL,
                               "\"%s\" is no label: write KEY=VALUE, the key having at most 63 characters",
                               text);
        memcpy(key, text, (size_t)(eq - text));
        key[eq - text] = '\0';
        if (!str_is_name(key, sizeof key - 1))
                return err_set(e, E_INVAL, "\"%s\" is no label key: letters, digits, '.', '_' and '-'", key);
        if (strlen(eq + 1) > 255 || !str_is_utf8(eq + 1, strlen(eq + 1)))
                return err_set(e, E_INVAL, "the value of label \"%s\" must be UTF-8 of at most 255 bytes",
                               key);
        for (const char *p = eq + 1; *p; p++) {
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        return err_set(e, E_INVAL, "the value of label \"%s\" has a control character", key);
        }
        return 0;
}

void inventory_labels_free(Photon__V1__Label **v, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                mem_free(v[i]->key);
                mem_free(v[i]);
        }
        mem_free(v);
}

/* The key and the value share one allocation, that of the key. */
static int set_label(Photon__V1__Label **v, size_t *n, const char *text)
{
        char *copy = mem_strdup(text), *eq;
        Photon__V1__Label *l;

        if (!copy)
                return -E_NOMEM;
        eq = strchr(copy, '=');
        *eq = '\0';
        for (size_t i = 0; i < *n; i++) {
                if (strcmp(v[i]->key, copy) == 0) {
                        mem_free(v[i]->key);
                        v[i]->key = copy;
                        v[i]->value = eq + 1;
                        return 0;
                }
        }
        l = mem_alloc(sizeof *l);
        if (!l) {
                mem_free(copy);
                return -E_NOMEM;
        }
        photon__v1__label__init(l);
        l->key = copy;
        l->value = eq + 1;
        v[(*n)++] = l;
        return 0;
}

int inventory_labels(const struct conf_list *const *lists, size_t n_lists, Photon__V1__Label ***out,
                     size_t *out_n, struct err *e)
{
        Photon__V1__Label **v;
        size_t max = 0, n = 0;
        int rc = 0;

        for (size_t i = 0; i < n_lists; i++)
                max += lists[i]->n;
        v = mem_calloc(max ? max : 1, sizeof *v);
        if (!v)
                return err_set(e, E_NOMEM, "no memory for labels");
        for (size_t i = 0; i < n_lists && !rc; i++) {
                for (size_t k = 0; k < lists[i]->n && !rc; k++) {
                        rc = inventory_check_label(lists[i]->v[k], e);
                        if (!rc && set_label(v, &n, lists[i]->v[k]))
                                rc = err_set(e, E_NOMEM, "no memory for labels");
                }
        }
        if (!rc && n > LABELS_MAX)
                rc = err_set(e, E_INVAL, "an agent may have at most %d labels", LABELS_MAX);
        if (rc) {
                inventory_labels_free(v, n);
                return rc;
        }
        *out = v;
        *out_n = n;
        return 0;
}

static char *lend(const char *s)
{
        return (char *)(uintptr_t)(s ? s : "");
}

struct tool_list {
        struct inventory *inv;
        size_t cap, bytes;
};

static size_t length(const char *s)
{
        return s ? strlen(s) : 0;
}

/* One tool that a hub would refuse must not cost the agent its connection. */
static bool fits(struct tool_list *l, const struct tool *t, const char *detail)
{
        size_t bytes = length(t->name) + length(t->description) + length(t->input_schema) +
                       length(t->output_schema) + length(detail);
        const char *why = NULL;

        if (l->inv->n_tools >= INVENTORY_TOOLS_MAX)
                why = "there are too many";
        else if (length(t->input_schema) > INVENTORY_SCHEMA_MAX ||
                 length(t->output_schema) > INVENTORY_SCHEMA_MAX || length(detail) > INVENTORY_SCHEMA_MAX)
                why = "its schema is too large";
        else if (bytes > INVENTORY_BYTES_MAX - l->bytes)
                why = "all tools together are described at too great length";
        if (why)
                log_warn("inventory", "a tool is not offered to the hub", "tool=%s why=\"%s\"", t->name, why);
        else
                l->bytes += bytes;
        return !why;
}

static int list_tool(void *arg, const struct tool *t)
{
        struct tool_list *l = arg;
        Photon__V1__Tool *m;
        const char *detail = t->describe ? t->describe(t) : t->detail;

        if ((t->available && !t->available()) || !fits(l, t, detail))
                return 0;
        if (l->inv->n_tools == l->cap) {
                size_t cap = l->cap ? 2 * l->cap : 32;
                Photon__V1__Tool **v = mem_realloc(l->inv->tools, cap * sizeof *v);

                if (!v)
                        return -E_NOMEM;
                l->inv->tools = v;
                l->cap = cap;
        }
        m = mem_alloc(sizeof *m);
        if (!m)
                return -E_NOMEM;
        photon__v1__tool__init(m);
        m->name = lend(t->name);
        m->version = lend(t->version);
        m->description = lend(t->description);
        m->input_schema = lend(t->input_schema);
        m->output_schema = lend(t->output_schema);
        m->effect = lend(t->effect);
        m->detail = lend(detail);
        m->allowed = policy_tool(l->inv->policy, t->name, NULL) == 0;
        l->inv->tools[l->inv->n_tools++] = m;
        return 0;
}

void inventory_stale(struct inventory *inv)
{
        for (size_t i = 0; i < inv->n_tools; i++)
                mem_free(inv->tools[i]);
        mem_free(inv->tools);
        inv->tools = NULL;
        inv->n_tools = 0;
        inv->tools_known = false;
}

static int make_tools(struct inventory *inv)
{
        struct tool_list l = {.inv = inv};

        if (inv->tools_known)
                return 0;
        if (tool_each(list_tool, &l)) {
                inventory_stale(inv);
                return -E_NOMEM;
        }
        inv->tools_known = true;
        return 0;
}

static void read_line(const char *path, char *out, size_t size)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;

        if (fd >= 0)
                close(fd);
        out[n > 0 ? n : 0] = '\0';
        out[strcspn(out, "\n")] = '\0';
}

int inventory_make(const struct policy *p, const struct conf_list *const *labels, size_t n_lists,
                   struct inventory *out, struct err *e)
{
        struct utsname u;
        int rc;

        memset(out, 0, sizeof *out);
        rc = inventory_labels(labels, n_lists, &out->labels, &out->n_labels, e);
        if (rc)
                return rc;
        out->policy = p;
        if (uname(&u) == 0) {
                snprintf(out->os, sizeof out->os, "%s", u.sysname);
                snprintf(out->arch, sizeof out->arch, "%s", u.machine);
                for (char *c = out->os; *c; c++)
                        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);
        }
        if (gethostname(out->hostname, sizeof out->hostname - 1) ||
            !str_is_utf8(out->hostname, strlen(out->hostname)))
                snprintf(out->hostname, sizeof out->hostname, "unknown");
        read_line("/proc/sys/kernel/random/boot_id", out->boot_id, sizeof out->boot_id);
        return 0;
}

void inventory_fini(struct inventory *inv)
{
        inventory_stale(inv);
        inventory_labels_free(inv->labels, inv->n_labels);
        memset(inv, 0, sizeof *inv);
}

int inventory_fill(struct inventory *inv, Photon__V1__HelloRequest *r)
{
        int rc = make_tools(inv);

        if (rc)
                return rc;
        r->hostname = lend(inv->hostname);
        r->os = lend(inv->os);
        r->arch = lend(inv->arch);
        r->boot_id = lend(inv->boot_id);
        r->tools = inv->tools;
        r->n_tools = inv->n_tools;
        r->labels = inv->labels;
        r->n_labels = inv->n_labels;
        photon__v1__sandbox__init(&inv->sandbox);
        inv->sandbox.mode = lend(sandbox_mode_name(sandbox_mode()));
        inv->sandbox.has = lend(sandbox_has());
        inv->sandbox.lacks = lend(sandbox_lacks());
        r->sandbox = &inv->sandbox;
        return 0;
}

int inventory_fill_change(struct inventory *inv, Photon__V1__Inventory *m)
{
        int rc = make_tools(inv);

        if (rc)
                return rc;
        m->tools = inv->tools;
        m->n_tools = inv->n_tools;
        m->labels = inv->labels;
        m->n_labels = inv->n_labels;
        return 0;
}
