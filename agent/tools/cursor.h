/* cursor.prompt: Cursor's command line, through ACP where the installed release
 * has it (`cursor-agent acp --help` is asked once per program file), else in its
 * print mode, which has no questions. cursor.open: shows a folder in Cursor's
 * window, where there is a screen. For the job; loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_CURSOR_H
#define PHOTON_AGENT_TOOLS_CURSOR_H

#include "agent/tools/tool.h"

int cursor_permit(const struct policy *p, const cJSON *input, struct err *e);
int cursor_start(struct tool_call *c, const cJSON *input, struct err *e);
void cursor_cancel(struct tool_call *c, int grace_ms);
void cursor_output_room(struct tool_call *c);
void cursor_free(struct tool_call *c);

/* The print mode, for cursor_start. program: "cursor-agent" or "agent". */
int cursor_print_start(struct tool_call *c, const cJSON *input, const char *program, struct err *e);

extern const char cursor_open_input[], cursor_open_output[];
int cursor_open_permit(const struct policy *p, const cJSON *input, struct err *e);
int cursor_open_start(struct tool_call *c, const cJSON *input, struct err *e);
void cursor_open_cancel(struct tool_call *c, int grace_ms);
void cursor_open_free(struct tool_call *c);

#endif
