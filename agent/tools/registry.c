/* The rows that are known now: those built in (table.c) and those added while the agent runs. */
#include <string.h>

#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/mem.h"

#define TOOLS_ADDED_MAX 1024

static const struct tool **added;
static size_t n_added, cap_added;
static void (*on_change)(void *arg);
static void *on_change_arg;

void tools_on_change(void (*fn)(void *arg), void *arg)
{
        on_change = fn;
        on_change_arg = arg;
}

void tools_changed(void)
{
        if (on_change)
                on_change(on_change_arg);
}

const struct tool *tool_find(const char *name)
{
        for (const struct tool *t = tools; t->name; t++)
                if (strcmp(t->name, name) == 0)
                        return t;
        for (size_t i = 0; i < n_added; i++)
                if (strcmp(added[i]->name, name) == 0)
                        return added[i];
        return NULL;
}

int tool_add(const struct tool *t)
{
        if (tool_find(t->name))
                return -E_EXIST;
        if (n_added >= TOOLS_ADDED_MAX)
                return -E_FULL;
        if (n_added == cap_added) {
                size_t cap = cap_added ? 2 * cap_added : 16;
                const struct tool **v = mem_realloc(added, cap * sizeof *v);

                if (!v)
                        return -E_NOMEM;
                added = v;
                cap_added = cap;
        }
        added[n_added++] = t;
        tools_changed();
        return 0;
}

void tool_remove(const struct tool *t)
{
        for (size_t i = 0; i < n_added; i++) {
                if (added[i] != t)
                        continue;
                memmove(added + i, added + i + 1, (n_added - i - 1) * sizeof *added);
                n_added--;
                if (n_added == 0) {
                        mem_free(added);
                        added = NULL;
                        cap_added = 0;
                }
                tools_changed();
                return;
        }
}

int tool_each(int (*fn)(void *arg, const struct tool *t), void *arg)
{
        int rc = 0;

        for (const struct tool *t = tools; t->name && !rc; t++)
                rc = fn(arg, t);
        for (size_t i = 0; i < n_added && !rc; i++)
                rc = fn(arg, added[i]);
        return rc;
}
