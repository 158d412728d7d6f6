#include "hub/model/access.h"

#include <assert.h>
#include <string.h>

#include "common/err.h"

static_assert(PERM_COUNT <= 64, "scopes are a set of 64");

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

int permission_parse(const char *name, enum permission *out)
{
        for (unsigned i = 0; i < PERM_COUNT; i++) {
                if (strcmp(table[i].name, name) == 0) {
                        *out = (enum permission)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

uint64_t permissions_parse(const char *names)
{
        uint64_t set = PERMISSION_BIT(PERM_PUBLIC) | PERMISSION_BIT(PERM_SELF);
        enum permission p;
        char word[64];

        if (!names)
                return PERMISSIONS_ALL;
        while (*(names += strspn(names, " "))) {
                size_t n = strcspn(names, " ");

                if (n < sizeof word) {
                        memcpy(word, names, n);
                        word[n] = '\0';
                        if (permission_parse(word, &p) == 0)
                                set |= PERMISSION_BIT(p);
                }
                names += n;
        }
        return set;
}
