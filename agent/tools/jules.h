/* jules.session: a session of Jules, which works on a repository somewhere
 * else: created (or gone on with), followed, its plan approved and its
 * questions answered by people, until it is over.
 *
 *   KEY --> CREATING or TELLING --> LOOKING --> READING --> WAITING --> LOOKING ...
 *                 ^                                 |
 *                 +--- APPROVING <-- ASKING <-------+  --> OVER
 *
 * Requests that fail by what passes are repeated. Cancelling ends the following;
 * Jules itself goes on, and `session` takes it up again. */
#ifndef PHOTON_AGENT_TOOLS_JULES_H
#define PHOTON_AGENT_TOOLS_JULES_H

#include "agent/tools/tool.h"

extern const char jules_input[], jules_output[];

int jules_permit(const struct policy *p, const cJSON *input, struct err *e);
int jules_start(struct tool_call *c, const cJSON *input, struct err *e);
void jules_cancel(struct tool_call *c, int grace_ms);
void jules_free(struct tool_call *c);
const char *jules_describe(const struct tool *t);

#endif
