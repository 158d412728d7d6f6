/* process.exec: runs a command. Its table row is in table.c. */
#ifndef PHOTON_AGENT_TOOLS_PROCESS_H
#define PHOTON_AGENT_TOOLS_PROCESS_H

#include "agent/tools/tool.h"

extern const char process_input_schema[], process_output_schema[];

int process_permit(const struct policy *p, const cJSON *input, struct err *e);
int process_start(struct tool_call *c, const cJSON *input, struct err *e);
void process_cancel(struct tool_call *c, int grace_ms);
void process_stdin_data(struct tool_call *c, const void *p, size_t n, bool eof);
void process_output_room(struct tool_call *c);
void process_free(struct tool_call *c);

/* Ends what calls left behind when the agent itself was killed: a process group that was noted, and
 * everything whose environment says that its scratch folder lies in scratch_root. pid: as given to
 * tool_owns_process, or 0. For the start of the agent. Returns the number killed. */
int process_end_leftovers(const char *scratch_root, int pid);

#endif
