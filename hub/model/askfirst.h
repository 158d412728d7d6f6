/* The hub's own policy: which steps need people's yes before they are sent, whatever their workflow says. The
 * section "ask-first" of the hub's configuration, a list of rules; the first that fits a step asks.
 *
 *   ask-first:
 *     - tools: [process.exec, "file.*"]     # globs; needed
 *       projects: [prod]                    # globs; left out: all. So are workflows and agents
 *       agents: ["prod-*"]
 *       question: Touch production?
 *       roles: [admin]                      # who may answer; left out: whoever may decide checkpoints
 *       users: [ann]
 *       quorum: 2
 *       timeout: 1h                         # then the answer is no
 *
 * Pure. */
#ifndef PHOTON_MODEL_ASKFIRST_H
#define PHOTON_MODEL_ASKFIRST_H

#include <stddef.h>

#include "hub/model/approval.h"

struct doc;
struct err;

#define ASKFIRST_RULES_MAX 100
#define ASKFIRST_GLOBS_MAX 100

struct askfirst_rule {
        cJSON *tools, *projects, *workflows, *agents; /* arrays of globs; NULL: any */
        char *question;                               /* NULL: one is made */
        struct approval_rules rules;
};
struct askfirst {
        struct askfirst_rule *v;
        size_t n;
};

/* d: the section, or NULL: no rules. -E_INVAL with line and column. */
int askfirst_read(const struct doc *d, struct askfirst *out, struct err *e);
void askfirst_fini(struct askfirst *a);
/* The first rule for such a step, or NULL. */
const struct askfirst_rule *askfirst_find(const struct askfirst *a, const char *tool, const char *project,
                                          const char *workflow, const char *agent);

#endif
