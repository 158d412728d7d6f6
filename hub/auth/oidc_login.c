/* Logins that have begun: found by a secret, forgotten when their time is up, the oldest first when there are
 * too many. */
#include <string.h>

#include "common/mem.h"
#include "common/secret.h"
#include "hub/auth/oidc_impl.h"

int logins_init(struct logins *l)
{
        list_init(&l->all);
        l->by_key = map_create();
        return l->by_key ? 0 : -E_NOMEM;
}

static void login_free(struct login_state *s)
{
        if (s->device_code)
                mem_wipe(s->device_code, strlen(s->device_code));
        mem_free(s->device_code);
        mem_free(s->redirect_uri);
        mem_free(s->next);
        mem_wipe(s->verifier, sizeof s->verifier);
        mem_free(s);
}

void logins_drop(struct logins *l, struct login_state *s)
{
        map_del(l->by_key, s->key);
        list_remove(&s->link);
        login_free(s);
}

void logins_fini(struct logins *l)
{
        struct list *it;

        if (!l->by_key)
                return;
        while ((it = list_pop(&l->all)))
                login_free(container_of(it, struct login_state, link));
        map_free(l->by_key);
}

static void sweep(struct logins *l, int64_t now_ms)
{
        LIST_EACH_SAFE (it, nx, &l->all) {
                struct login_state *s = container_of(it, struct login_state, link);

                if (s->until_ms <= now_ms && !s->busy)
                        logins_drop(l, s);
        }
}

int logins_add(struct logins *l, int64_t now_ms, int64_t life_ms, struct login_state **out)
{
        struct login_state *s;

        sweep(l, now_ms);
        if (map_count(l->by_key) >= OIDC_LOGINS_MAX)
                return -E_FULL;
        s = mem_calloc(1, sizeof *s);
        if (!s)
                return -E_NOMEM;
        random_secret(s->key);
        random_secret(s->nonce);
        random_secret(s->verifier);
        s->until_ms = now_ms + life_ms;
        if (map_put(l->by_key, s->key, s, NULL)) {
                login_free(s);
                return -E_NOMEM;
        }
        list_push_back(&l->all, &s->link);
        *out = s;
        return 0;
}

struct login_state *logins_find(struct logins *l, const char *key, int64_t now_ms)
{
        struct login_state *s = map_get(l->by_key, key);

        return s && s->until_ms > now_ms ? s : NULL;
}
