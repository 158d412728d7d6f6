#include "hub/model/roles.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/str.h"

static const char *const names[ROLE_COUNT] = {
        [ROLE_NONE] = "none",         [ROLE_CLIENT] = "client",
        [ROLE_OPERATOR] = "operator", [ROLE_TECH_OPERATOR] = "technical-operator",
        [ROLE_ADMIN] = "admin",
};

const char *role_name(enum role r)
{
        return (unsigned)r < ROLE_COUNT ? names[r] : "none";
}

int role_parse(const char *s, enum role *out)
{
        for (unsigned i = ROLE_CLIENT; i < ROLE_COUNT; i++) {
                if (strcmp(s, names[i]) == 0) {
                        *out = (enum role)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

bool project_name_ok(const char *s)
{
        return str_is_name(s, PROJECT_NAME_MAX);
}

static struct role_in *find(const struct roles *r, const char *project)
{
        for (unsigned i = 0; i < r->n; i++) {
                if (strcmp(r->in[i].project, project) == 0)
                        return (struct role_in *)&r->in[i];
        }
        return NULL;
}

int roles_give(struct roles *r, const char *project, enum role role)
{
        struct role_in *in;

        if (strcmp(project, PROJECT_ALL) == 0) {
                if (role > r->everywhere)
                        r->everywhere = role;
                return 0;
        }
        if (!project_name_ok(project))
                return -E_INVAL;
        in = find(r, project);
        if (!in) {
                if (r->n == ROLES_MAX)
                        return -E_FULL;
                in = &r->in[r->n++];
                snprintf(in->project, sizeof in->project, "%s", project);
                in->role = ROLE_NONE;
        }
        if (role > in->role)
                in->role = role;
        return 0;
}

enum role roles_in(const struct roles *r, const char *project)
{
        const struct role_in *in = strcmp(project, PROJECT_ALL) == 0 ? NULL : find(r, project);

        return in && in->role > r->everywhere ? in->role : r->everywhere;
}

enum role roles_best(const struct roles *r)
{
        enum role best = r->everywhere;

        for (unsigned i = 0; i < r->n; i++) {
                if (r->in[i].role > best)
                        best = r->in[i].role;
        }
        return best;
}

static enum role at_most(enum role a, enum role b)
{
        return a < b ? a : b;
}

void roles_narrow(struct roles *r, const char *project, enum role most)
{
        if (strcmp(project, PROJECT_ALL) != 0) {
                enum role here = roles_in(r, project);

                *r = (struct roles){0};
                if (here != ROLE_NONE && roles_give(r, project, here))
                        return; /* no project of this name can be: nothing is left */
        }
        r->everywhere = at_most(r->everywhere, most);
        for (unsigned i = 0; i < r->n; i++)
                r->in[i].role = at_most(r->in[i].role, most);
}
