/* photon.echo: gives its input back at once. The cheapest call there is: to
 * see that the road to an agent works, and to measure it. */
#ifndef PHOTON_AGENT_TOOLS_ECHO_H
#define PHOTON_AGENT_TOOLS_ECHO_H

#include "agent/tools/tool.h"

int echo_permit(const struct policy *p, const cJSON *input, struct err *e);
int echo_start(struct tool_call *c, const cJSON *input, struct err *e);
void echo_cancel(struct tool_call *c, int grace_ms);
void echo_free(struct tool_call *c);

#endif
