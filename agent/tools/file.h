/* file.read, file.write, file.list, file.stat, file.delete, file.patch. Their
 * table rows are in table.c. The work is done on uv's pool; the path is
 * resolved and asked of the policy before start and again there, and opened
 * so that a symbolic link put in between leads nowhere. */
#ifndef PHOTON_AGENT_TOOLS_FILE_H
#define PHOTON_AGENT_TOOLS_FILE_H

#include "agent/tools/tool.h"

extern const char file_read_input[], file_read_output[];
extern const char file_write_input[], file_write_output[];
extern const char file_list_input[], file_list_output[];
extern const char file_stat_input[], file_stat_output[];
extern const char file_delete_input[], file_delete_output[];
extern const char file_patch_input[], file_patch_output[];

int file_permit_read(const struct policy *p, const cJSON *input, struct err *e);
int file_permit_write(const struct policy *p, const cJSON *input, struct err *e);
int file_permit_patch(const struct policy *p, const cJSON *input, struct err *e); /* reads and writes */
int file_permit_stat(const struct policy *p, const cJSON *input,
                     struct err *e); /* follows the last link if asked */
int file_permit_delete(const struct policy *p, const cJSON *input,
                       struct err *e); /* never follows the last link */

int file_read_start(struct tool_call *c, const cJSON *input, struct err *e);
int file_write_start(struct tool_call *c, const cJSON *input, struct err *e);
int file_list_start(struct tool_call *c, const cJSON *input, struct err *e);
int file_stat_start(struct tool_call *c, const cJSON *input, struct err *e);
int file_delete_start(struct tool_call *c, const cJSON *input, struct err *e);
int file_patch_start(struct tool_call *c, const cJSON *input, struct err *e);
void file_cancel(struct tool_call *c, int grace_ms);
void file_free(struct tool_call *c);

#endif
