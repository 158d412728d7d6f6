/* What this machine lets the hub do. Read from a file that only the machine's
 * owner edits (policy.yaml in the data folder or --policy); the hub cannot
 * widen it. Pure after loading: questions have no side effects.
 *
 *     version: 1
 *     tools: {allow: ["*"], deny: []}            # globs on tool names; deny wins
 *     files: {read: ["/"], write: ["~", "/tmp"], deny: ["~/.ssh", ...]}   # roots, after symlinks
 *     commands: {allow: ["*"], deny: ["sudo"], shell: true}   # globs on argv[0] (path or base name)
 *     env: {pass: [PATH, HOME, LANG, LC_*, TZ, TERM, USER, SHELL, TMPDIR], set: {}}   # inherited by children
 *     http: {allow: ["*"], deny: []}             # globs on host[:port]
 *     browser: {evaluate: false, files: false}
 *     questions: {deny: [], ask: [], allow: []}  # what tools ask: {action, tool, command, paths} each
 *     sandbox: {mode: best-effort, read: [], write: [], network: any, user: "", limits: {}, tools: {}}
 *     limits: {runtime: 24h, output: 64GiB, spool: 1GiB, running: 32, input: 4MiB}
 */
#ifndef PHOTON_AGENT_POLICY_H
#define PHOTON_AGENT_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct policy;
struct sandbox_rules;

/* path NULL or absent file: the default policy. A file that others may write to (group/other) is refused.
 * Mistakes: -E_INVAL with line and column. */
int policy_load(const char *path, struct policy **out, struct err *e);
/* What a new join gets written (commented YAML) so that the owner can see and edit it. */
const char *policy_default_text(void);
void policy_free(struct policy *p);

/* Each: 0 or -E_DENIED, with a sentence naming the rule, the file and what to change. */
int policy_tool(const struct policy *p, const char *tool, struct err *e);
/* argv0 as given; resolved against PATH by the caller if it likes. */
int policy_command(const struct policy *p, const char *argv0, bool shell, struct err *e);
enum policy_access { POLICY_READ, POLICY_WRITE };
/* `path` is absolute or relative to cwd (NULL: home); symlinks and ".." are resolved (for a file not
 * yet there: its nearest existing folder) before the roots are looked at. out_real (may be NULL) gets the
 * resolved path, mem_free. */
int policy_path(const struct policy *p, enum policy_access a, const char *path, const char *cwd,
                char **out_real, struct err *e);
/* Only the resolving, without asking any rule. */
int policy_resolve(const struct policy *p, const char *path, char **out_real, struct err *e);
/* The same for a path that is known to be resolved (absolute, plain, no symlink in it): only the rules are
 * looked at, never the disk. */
int policy_path_real(const struct policy *p, enum policy_access a, const char *real, struct err *e);
/* Does a file that is denied or protected lie under this resolved folder? Its whole removal is then refused.
 */
bool policy_covers_denied(const struct policy *p, const char *real);
/* Is it "/", the home folder or one of the write roots itself? Those are never removed. */
bool policy_is_root(const struct policy *p, const char *real);
/* The agent's own data folder: neither read nor written by tools, whatever the rules say. Call after
 * policy_load. */
int policy_protect(struct policy *p, const char *path);
/* host: a name, an IPv4 address or an IPv6 address with or without brackets. */
int policy_host(const struct policy *p, const char *host, int port, struct err *e);
/* A numeric address that a permitted name led to: only http.deny is asked (a name may not lead to what is
 * denied). */
int policy_address(const struct policy *p, const char *ip, int port, struct err *e);
/* True while commands.allow is ["*"]: then the environment of a call need not be guarded either. */
bool policy_commands_open(const struct policy *p);
/* ---- what a tool asks before it does something (tool_ask) ---- */

/* Everything is lent. */
struct policy_question {
        const char *action;       /* read edit delete move search execute think fetch other */
        const char *tool;         /* what the asking program calls it; or NULL */
        const char *caller;       /* the tool of ours that makes the call */
        const char *command;      /* text for a shell; or NULL */
        const char *const *paths; /* NULL-ended; or NULL */
        const char *cwd;          /* relative paths start here; accept-edits ends here; or NULL */
        const char *scratch;      /* the call's own folder: no rule on files binds there; or NULL */
        const char *mode;         /* ask accept-edits allow deny; NULL: ask */
        bool form;                /* asks for values: no rule can fill them in, so none allows */
};

enum policy_verdict { POLICY_ASK, POLICY_ALLOW, POLICY_DENY };

struct policy_answer {
        enum policy_verdict verdict; /* POLICY_ASK: a person decides */
        const char *by;              /* "policy", "mode"; "" when it is asked because nothing speaks of it */
        char reason[600];
};

/* Never fails: what cannot be looked at is denied, with the reason. */
void policy_question(const struct policy *p, const struct policy_question *q, struct policy_answer *out);

const char *policy_home(const struct policy *p); /* "/" where the user has none */

/* The environment a child starts with: "K=V" strings, NULL-ended; mem_free each and the array. */
char **policy_base_env(const struct policy *p);

/* What the pages of browser.* may do besides what http says. */
struct policy_browser {
        bool evaluate; /* scripts of the caller in pages */
        bool files;    /* file: pages, of what files.read allows */
};
const struct policy_browser *policy_browser(const struct policy *p);

struct policy_limits {
        int64_t runtime_ms, output_bytes, spool_bytes, input_bytes;
        int running;
};
const struct policy_limits *policy_limits(const struct policy *p);
/* For sandbox_open: the default set first. Lent. */
const struct sandbox_rules *policy_sandbox(const struct policy *p, size_t *out_n);
const char *policy_text(const struct policy *p);   /* a few lines for people: what is allowed */
const char *policy_sha256(const struct policy *p); /* hex, of the rules in force */

#endif
