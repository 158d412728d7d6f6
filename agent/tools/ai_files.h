/* What a folder looks like, and what has changed in it since. The tools that
 * change files are not asked: the disk is.
 *
 * A file counts as changed when its size, its inode, or the times of its
 * content or its inode differ; symbolic links are looked at, not followed;
 * what lies in a folder named .git is left out. Blocking: for a worker thread;
 * pure otherwise. */
#ifndef PHOTON_AGENT_TOOLS_AI_FILES_H
#define PHOTON_AGENT_TOOLS_AI_FILES_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct ai_files;

#define AI_FILES_MAX   200000 /* entries; a larger folder is seen in part */
#define AI_FILES_DEPTH 64

/* Never fails halfway: what cannot be read is left out and makes the picture incomplete. -E_NOMEM. */
int ai_files_scan(const char *dir, struct ai_files **out);
/* Appends {"path", "change": added|modified|deleted} for each difference, at most max, in order of path.
 * *complete: both pictures were whole and nothing was cut. -E_NOMEM. */
int ai_files_changes(const struct ai_files *before, const struct ai_files *after, size_t max, cJSON *into,
                     bool *complete);
void ai_files_free(struct ai_files *f);

#endif
