/* Which platforms this machine has: programs on the PATH that tools are given,
 * their versions, and whether somebody is logged in.
 *
 * Where a program is, is looked up when it is asked for (a few stat calls).
 * Versions are asked of the programs themselves (--version), one after the other
 * in the background, with a scrubbed environment and a time limit: nothing waits
 * for them. A login is told from the presence of variables and files alone; what
 * is in them is never read. What is new is told through tools_changed. One per
 * process; loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_DISCOVER_H
#define PHOTON_AGENT_TOOLS_DISCOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct policy;
struct tool;

#define DISCOVER_VERSION_MS  20000   /* for one program to say its version */
#define DISCOVER_AGAIN_MS    3600000 /* then it is all looked at again */
#define DISCOVER_VERSION_MAX 64

/* Begins to look; the policy is lent until discover_close. */
int discover_start(uv_loop_t *loop, const struct policy *policy, struct err *e);
/* Looks at everything again now (SIGHUP). */
void discover_again(void);
bool discover_busy(void);
/* Stops looking; run the loop once more afterwards so that the handles go. Harmless when it never began. */
void discover_close(void);

/* Is there a program for this tool ("claude-code.prompt")? */
bool discover_has(const char *tool);
/* For struct tool: describe, and available by tool. */
const char *discover_describe(const struct tool *t);
bool discover_has_claude(void);
bool discover_has_codex(void);
bool discover_has_gemini(void);
bool discover_has_cursor_agent(void);
bool discover_has_cursor(void);
bool discover_has_acp(void);
bool discover_has_chromium(void);

/* The first thing in `text` that looks like a version: "2.1.328", "0.169.0-beta.1". false: there is none.
 * Pure. */
bool discover_version_in(const char *text, char out[DISCOVER_VERSION_MAX]);

#endif
