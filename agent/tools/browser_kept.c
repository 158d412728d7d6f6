/* Pages that stay open between the calls of a workflow, each for a while. Whoever knows the name, which is
 * random and goes only into the outputs of the call that kept it, may go on with it. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/browser_run.h"
#include "common/id.h"
#include "common/list.h"
#include "common/mem.h"
#include "common/str.h"

struct kept {
        struct list link;
        char *name;
        struct tab *tab;
        uv_timer_t timer;
};

static struct list all = {&all, &all};
static size_t n_all;

static void on_closed(uv_handle_t *h)
{
        struct kept *k = h->data;

        mem_free(k->name);
        mem_free(k);
}

static struct tab *forget(struct kept *k)
{
        struct tab *t = k->tab;

        list_remove(&k->link);
        n_all--;
        tab_use(t, NULL);
        uv_close((uv_handle_t *)&k->timer, on_closed);
        return t;
}

static void on_unused(uv_timer_t *t)
{
        tab_close(forget(t->data));
}

static void on_lost(void *arg, const char *code, const struct err *e)
{
        struct kept *k = arg;

        (void)code;
        (void)e;
        uv_timer_start(&k->timer, on_unused, 0, 0);
}

int browser_kept_take(const char *session, struct tab **out, struct err *e)
{
        LIST_EACH (it, &all) {
                struct kept *k = container_of(it, struct kept, link);

                if (strcmp(k->name, session) == 0 && !tab_is_lost(k->tab)) {
                        *out = forget(k);
                        return 0;
                }
        }
        return err_set(
                e, E_NOENT,
                "there is no page kept as \"%.80s\" on this agent: it was closed (kept pages are, %d minutes "
                "after their last use, or when the agent or the browser ends), or is in use by another call",
                session, BROWSER_KEPT_MS / 60000);
}

int browser_kept_put(uv_loop_t *loop, struct tab *t, const char *name, char **out, struct err *e)
{
        struct tab_user u = {.on_lost = on_lost};
        struct kept *k;

        if (n_all >= BROWSER_KEPT_MAX)
                return err_set(
                        e, E_FULL,
                        "%d pages are kept on this agent already; end one (a call with its session and "
                        "\"keep\": false) or wait until one is closed",
                        BROWSER_KEPT_MAX);
        k = mem_calloc(1, sizeof *k);
        if (k)
                k->name = name ? mem_strdup(name)
                               : str_printf("page-%016llx%016llx", (unsigned long long)id_random_u64(),
                                            (unsigned long long)id_random_u64());
        *out = k && k->name ? mem_strdup(k->name) : NULL;
        if (!*out) {
                if (k)
                        mem_free(k->name);
                mem_free(k);
                return err_set(e, E_NOMEM, "out of memory");
        }
        k->tab = t;
        uv_timer_init(loop, &k->timer);
        k->timer.data = k;
        uv_timer_start(&k->timer, on_unused, BROWSER_KEPT_MS, 0);
        list_push_back(&all, &k->link);
        n_all++;
        u.arg = k;
        tab_use(t, &u);
        return 0;
}

void browser_kept_stop(void)
{
        LIST_EACH_SAFE (it, nx, &all) {
                tab_close(forget(container_of(it, struct kept, link)));
        }
}
