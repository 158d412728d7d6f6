/* The inside of a policy, shared by policy.c (reading the file), policy_path.c
 * (questions about files) and policy_ask.c (all other questions). Nobody else
 * includes this. Everything is fixed after policy_load and policy_protect. */
#ifndef PHOTON_AGENT_POLICY_IN_H
#define PHOTON_AGENT_POLICY_IN_H

#include "agent/policy.h"

#define POLICY_FILE_MAX  ((size_t)1 << 20)
#define POLICY_RULES_MAX 4096

/* One entry of a list. line is 0 for an entry of the default policy. */
struct rule {
        char *text; /* as written */
        char *path; /* files.*: absolute, "~" expanded, no trailing slash but for "/" */
        char *real; /* files.*: the same after symlinks, or NULL where it does not exist */
        int line;
};

struct rules {
        struct rule *v;
        size_t n;
};

struct policy {
        char *file; /* NULL: the default policy */
        char *home;
        struct rules tools_allow, tools_deny;
        struct rules read, write, deny;
        struct rules commands_allow, commands_deny;
        struct rules env_pass;
        struct rules env_set; /* "NAME=VALUE" */
        struct rules http_allow, http_deny;
        struct rules protected; /* policy_protect: no rule opens these */
        bool shell;
        struct policy_limits limits;
        char *text;
        char sha256[65];
};

/* "line 7 of /etc/x.yaml" or "the default policy", for messages. */
const char *policy_where(const struct policy *p, const struct rule *r, char *tmp, size_t n);

/* "~", "~/x" or an absolute path, made plain: no "//", ".", trailing "/".
 * -E_INVAL for anything else and for "..". */
int policy_plain_path(const struct policy *p, const char *text, char **out, struct err *e);

#endif
