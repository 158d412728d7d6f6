#include "hub/http/access.h"

#define BITS(c, o, t, a)                                                                                     \
        ((c) << ROLE_CLIENT | (o) << ROLE_OPERATOR | (t) << ROLE_TECH_OPERATOR | (a) << ROLE_ADMIN)

static const struct {
        const char *name;
        unsigned roles;
} table[PERM_COUNT] = {
#define X(sym, name, c, o, t, a) [PERM_##sym] = {name, BITS(c, o, t, a)},
        PERMISSION_LIST(X)
#undef X
};

const char *permission_name(enum permission p)
{
        return (unsigned)p < PERM_COUNT ? table[p].name : "unknown";
}

bool role_may(enum role r, enum permission p)
{
        if ((unsigned)p >= PERM_COUNT || (unsigned)r >= ROLE_COUNT)
                return false; /* what the table does not know is not allowed */
        return table[p].roles >> r & 1;
}
