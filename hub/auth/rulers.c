#include "hub/auth/rulers.h"

#include <string.h>

#include "common/err.h"
#include "hub/auth/auth_impl.h"
#include "hub/store/store.h"

struct look {
        struct auth *a;
        const struct ruler_removal *x;
        bool now, then; /* is there one now, and after the removal? */
};

static bool rules(const struct person *p)
{
        return !p->disabled_us &&
               (p->roles.everywhere == ROLE_ADMIN || p->idp_roles.everywhere == ROLE_ADMIN);
}

static const struct person *by_id(const struct auth *a, const char *id)
{
        LIST_EACH (it, &a->people) {
                const struct person *p = container_of(it, struct person, link);

                if (strcmp(p->id, id) == 0)
                        return p;
        }
        return NULL;
}

static bool goes(const struct look *l, const struct person *p)
{
        return p && l->x->user && strcmp(p->name, l->x->user) == 0;
}

/* A login's own token ends by itself, and a bound or scoped one rules nothing. */
static int on_token(void *arg, const struct row_api_token *t)
{
        struct look *l = arg;
        const struct person *p = t->user_id ? by_id(l->a, t->user_id) : NULL;

        if (t->sealed.refused || t->revoked_us || (t->expires_us && t->expires_us <= auth_now(l->a)) ||
            t->scopes || t->kind || !t->project || strcmp(t->project, PROJECT_ALL) != 0 ||
            strcmp(t->role, "admin") != 0 || map_get(l->a->gone_tokens, t->id) ||
            (t->user_id && (!p || !rules(p))))
                return 0;
        l->now = true;
        if (goes(l, p) || (l->x->token_id && strcmp(l->x->token_id, t->id) == 0))
                return 0;
        l->then = true;
        return 1;
}

int auth_check_ruler(struct auth *a, struct store_reader *r, const struct ruler_removal *x, struct err *e)
{
        struct look l = {.a = a, .x = x};
        int rc = read_api_tokens(r, on_token, &l);

        if (rc < 0)
                return err_set(e, -rc, "the API tokens cannot be read");
        LIST_EACH (it, &a->people) {
                const struct person *p = container_of(it, struct person, link);

                if (!x->logins || !p->subject || !rules(p))
                        continue;
                l.now = true;
                l.then |= !goes(&l, p);
        }
        if (l.then || !l.now)
                return 0;
        return err_set(
                e, E_STATE,
                "nobody could rule this hub any more: give somebody the role admin in all projects (*), and "
                "a token or a login, first");
}

int auth_ruler_token_gone(struct auth *a, const char *token_id, struct err *e)
{
        if (!map_get(a->gone_tokens, token_id) && map_put(a->gone_tokens, token_id, a, NULL))
                return err_set(e, E_NOMEM, "no memory");
        return 0;
}
