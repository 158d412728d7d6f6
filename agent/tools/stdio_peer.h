/* A child process that is spoken to in messages over pipes: AI coding tools
 * (ACP, stream-json, app-server), MCP servers, plug-ins, browsers.
 *
 *   RUNNING --stop--> STOPPING --grace over--> KILLING --all gone--> DRAINING --pipes empty--> CLOSING -->
 * GONE |                 | it ended               ^
 *      +-- it ended -----+------------------------+   (what it left behind is killed)
 *
 * A message is a line, or what ends with a NUL. Lines are bounded: a longer one
 * is a fault, and the rest of it is dropped. The whole process tree is owned:
 * when on_gone comes, no process of it is left. Every callback comes from the
 * loop, never from within a function of this header, and may call any of them;
 * on_gone is the last one. The holder owns the peer and frees it in or after
 * on_gone. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_STDIO_PEER_H
#define PHOTON_AGENT_TOOLS_STDIO_PEER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct err;
struct stdio_peer;
struct tool_call;

#define STDIO_LINE_MAX    ((size_t)16 << 20) /* bytes of one message, either way */
#define STDIO_QUEUE_MAX   ((size_t)64 << 20) /* bytes that wait to be read by the child */
#define STDIO_STDERR_TAIL ((size_t)4 << 10)

struct stdio_peer_options {
        uv_loop_t *loop;
        const char *path; /* resolved (spawn_find); these four are lent for the call */
        char *const *argv, *const *env;
        const char *cwd;
        const char *tool; /* whose rules of the sandbox hold; NULL: the default ones; lent for the call */
        const struct tool_call *call; /* whose secrets in files it inherits; NULL: none; lent for the call;
                                         not with fds_3_4 */
        const char *marker;           /* "NAME=value" that stands in env: finds descendants; copied */
        size_t line_max;              /* 0: STDIO_LINE_MAX */
        bool nul_ended;               /* messages end with a NUL, not with a newline */
        bool fds_3_4; /* messages go in on descriptor 3 and come out on 4; stdin is /dev/null, stdout
                         is treated like stderr */
        /* One message without its end; lent, NUL-ended, may be written to. */
        void (*on_message)(void *arg, char *text, size_t n);
        /* Its standard error as it comes; may be NULL (the tail is kept in any case). */
        void (*on_stderr)(void *arg, const char *p, size_t n);
        /* Something is wrong with what it wrote: E_TOOBIG (a message over line_max), E_PROTO (it ended in the
         * middle of one). Goes on after it. */
        void (*on_fault)(void *arg, const struct err *e);
        /* It has closed its output, but runs on; may be NULL. */
        void (*on_eof)(void *arg);
        /* Gone with all its descendants, and all it wrote has been handed over. */
        void (*on_gone)(void *arg);
        void *arg;
};

/* Starts it. On failure nothing was started and no callback comes. */
int stdio_peer_start(const struct stdio_peer_options *o, struct stdio_peer **out, struct err *e);
/* Queues one message (its end is added). -E_TOOBIG, -E_FULL (the child does not read), -E_CLOSED (its input
 * is closed or it is gone), -E_NOMEM. */
int stdio_peer_send(struct stdio_peer *p, const void *text, size_t n);
int stdio_peer_send_json(struct stdio_peer *p, const cJSON *v);
/* Back-pressure: reads nothing more while it is on. */
void stdio_peer_hold(struct stdio_peer *p, bool on);
/* Closes its input once what is queued was written: the polite end of most protocols. */
void stdio_peer_end_input(struct stdio_peer *p);
/* TERM to the whole tree, KILL after grace_ms (0: at once). Again with less patience is allowed. */
void stdio_peer_stop(struct stdio_peer *p, int grace_ms);
/* SIGINT to the child alone: some tools end a turn that way. */
void stdio_peer_interrupt(struct stdio_peer *p);
/* Its holder is gone (the call was freed, the agent ends): killed at once, freed by itself, no more
 * callbacks. */
void stdio_peer_abandon(struct stdio_peer *p);
void stdio_peer_free(struct stdio_peer *p); /* after on_gone; accepts NULL */

pid_t stdio_peer_pid(const struct stdio_peer *p);
bool stdio_peer_exited(const struct stdio_peer *p, int *out_code, int *out_signal); /* any may be NULL */
/* The last of its standard error, as valid UTF-8; lent until the next call. */
const char *stdio_peer_stderr(struct stdio_peer *p);

#endif
