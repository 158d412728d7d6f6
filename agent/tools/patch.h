/* Changing a text by edits or by a unified diff, strictly: what does not fit
 * exactly is an error that names the place, and nothing is changed. Pure. */
#ifndef PHOTON_AGENT_TOOLS_PATCH_H
#define PHOTON_AGENT_TOOLS_PATCH_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct buf;
struct err;

/* edits: [{old, new, replace_all}], one after the other on the outcome of the
 * one before. `old` must be there exactly once, or with replace_all at least
 * once. *out_count: replacements made. -E_STATE: does not fit; -E_INVAL; -E_TOOBIG (the limit of out);
 * -E_NOMEM. */
int patch_edits(const char *text, size_t n, const cJSON *edits, struct buf *out, size_t *out_count,
                struct err *e);

/* diff: of one file, as `diff -u` and git write it. Every hunk must fit at its
 * own line numbers. exists: false lets a diff from /dev/null make the file. */
int patch_diff(const char *text, size_t n, bool exists, const char *diff, size_t diff_n, struct buf *out,
               size_t *out_hunks, struct err *e);

#endif
