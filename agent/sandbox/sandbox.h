/* What the programs of tools may do to this machine: namespaces, Landlock, seccomp, limits, user.
 *
 * Opened once, when the agent starts: the rules of the policy become kernel objects (a mount namespace that
 * hides the agent's data folder, a Landlock ruleset and a seccomp filter for each set of rules). A call then
 * costs the launcher's exec and a few system calls. What this kernel does not have is known from then on
 * (sandbox_lacks): with SANDBOX_REQUIRE a call that would need it is refused, with SANDBOX_BEST_EFFORT it
 * runs with what there is, and both are told to whoever looks (sandbox_describe).
 *
 * Before sandbox_open, and with SANDBOX_OFF, programs start as they are. Loop thread. */
#ifndef PHOTON_AGENT_SANDBOX_SANDBOX_H
#define PHOTON_AGENT_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

enum sandbox_mode { SANDBOX_BEST_EFFORT, SANDBOX_REQUIRE, SANDBOX_OFF };

enum sandbox_network {
        SANDBOX_NET_ANY,
        SANDBOX_NET_NONE,  /* TCP neither out nor in */
        SANDBOX_NET_PORTS, /* TCP out to these ports only, and none in */
};

#define SANDBOX_RULES_MAX 32  /* sets of rules: the default one and those of single tools */
#define SANDBOX_PATHS_MAX 512 /* roots of one set */
#define SANDBOX_PORTS_MAX 64
#define SANDBOX_HIDE_MAX  16

/* 0: no limit of ours. */
struct sandbox_limits {
        int64_t cpu_s, memory, address_space, processes, open_files, file_size;
};

/* One set. Lent to sandbox_open; paths are absolute, what does not exist is left out. */
struct sandbox_rules {
        const char *tools; /* glob on tool names; NULL: the default, for all that no other set names */
        enum sandbox_mode mode;
        enum sandbox_network network;
        const char *const *read, *const *write;
        size_t n_read, n_write;
        uint16_t ports[SANDBOX_PORTS_MAX];
        size_t n_ports;
        struct sandbox_limits limits;
        const char *user; /* NULL: the agent's own */
};

struct sandbox_options {
        const struct sandbox_rules *rules; /* the default set first */
        size_t n_rules;
        const char *launcher;    /* NULL: looked for beside the program, then in ../libexec/photon */
        const char *data;        /* the agent's data folder: hidden from tools; NULL: none */
        const char *scratch;     /* below it, stays, may be written */
        const char *const *keep; /* folders below data that stay, read only (plug-ins) */
        size_t n_keep;
        const char *const *readonly; /* files elsewhere that no tool may change (policy, settings) */
        size_t n_readonly;
};

/* Only mistakes of the owner fail: a user that does not exist, an agent that may not change to it. */
int sandbox_open(const struct sandbox_options *o, struct err *e);
void sandbox_close(void);

/* 0, or -E_NOTSUP with what is missing: this tool's rules say `require` and the machine lacks something, or
 * there is no launcher. */
int sandbox_permits(const char *tool, struct err *e);

/* ---- for child_spawn ---- */

#define SANDBOX_FDS_MAX 6

/* How a program of this tool is started. */
struct sandbox_start {
        const char *launcher;     /* NULL: no sandbox, exec it as it is */
        char spec[2048];          /* of the launcher; what only the call knows is put behind it */
        int fds[SANDBOX_FDS_MAX]; /* that the launcher must find open, besides the report's */
        size_t n_fds;
        int leaf, leaf_fd; /* of the cgroup that it is born into (CLONE_INTO_CGROUP), or -1 */
};
/* Errors of sandbox_permits. Lent until sandbox_close. */
int sandbox_start(const char *tool, struct sandbox_start *out, struct err *e);
/* For the leaf of a start, -1 too: SIGKILL to all that is in it; and nothing of it is wanted any more. */
void sandbox_kill(int leaf);
bool sandbox_left(int leaf); /* is anybody in it? */
void sandbox_ended(int leaf);

/* What a report of the launcher (launch.h) means. Always -E_UNAVAIL, with a sentence; not for LAUNCH_EXEC and
 * LAUNCH_CHDIR, which are about the program and not about the sandbox. */
int sandbox_explain(uint32_t stage, int sys, struct err *e);

/* ---- for people and the hub ---- */

/* What there is and what is missing, one line each: "landlock 7, seccomp, ..." Lent until sandbox_close. */
const char *sandbox_has(void);
const char *sandbox_lacks(void);
enum sandbox_mode sandbox_mode(void); /* of the default set; SANDBOX_OFF before sandbox_open */
const char *sandbox_mode_name(enum sandbox_mode m);
/* The folder of all control groups of calls, or "". Lent until sandbox_close. */
const char *sandbox_cgroup(void);
/* Is a program of this tool in a sandbox? What is in one can neither mount nor rule a namespace (Landlock and
 * seccomp forbid it), so a sandbox of its own that is made of those does not work in there. */
bool sandbox_holds(const char *tool);
/* The user that calls of this tool run as: true and ids if it is another one than the agent's. */
bool sandbox_user(const char *tool, uid_t *uid, gid_t *gid);

#endif
