/* What a tool is, and what it may ask of the job that runs it.
 *
 * A tool is a row in the table tools[] (agent/tools/table.c). The job
 * (agent/job.c) owns each call: it checks input against the schema and the
 * policy before start, enforces the time limit by calling cancel, and keeps
 * output and result until the hub has them. Loop thread only; a tool that
 * must block uses uv_queue_work and comes back. */
#ifndef PHOTON_AGENT_TOOL_H
#define PHOTON_AGENT_TOOL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct policy;
struct tool_call;

enum tool_channel { TOOL_STDOUT = 1, TOOL_STDERR = 2, TOOL_EVENT = 3 };

enum tool_outcome { TOOL_SUCCEEDED, TOOL_FAILED, TOOL_REFUSED, TOOL_CANCELLED, TOOL_TIMED_OUT };

struct tool_result {
        enum tool_outcome outcome;
        cJSON *outputs; /* object; taken by tool_finish; NULL: {} */
        bool has_exit_code;
        int exit_code;             /* 128+signal when killed by one */
        const char *error_code;    /* stable, lower case: "exit_nonzero"; NULL on success */
        const char *error_message; /* what happened, to what, why, what to do */
};

struct tool {
        const char *name;
        const char *version;
        const char *description;
        const char *input_schema; /* JSON Schema text */
        const char *output_schema;
        const char *effect; /* pure | idempotent | at-most-once */
        bool no_scratch;    /* its calls never look at scratch_dir: none is made */
        /* Can it work on this machine? NULL: always. */
        bool (*available)(void);
        /* May this call do this here? Asked before start; -E_DENIED with the policy line that says so. */
        int (*permit)(const struct policy *p, const cJSON *input, struct err *e);
        /* 0: under way, tool_finish will come (also before start returns). Otherwise nothing was started:
         * -E_* becomes REFUSED with e. */
        int (*start)(struct tool_call *c, const cJSON *input, struct err *e);
        /* Stop now: ask nicely, and after grace_ms make it so. tool_finish must come, soon after grace. */
        void (*cancel)(struct tool_call *c, int grace_ms);
        /* More input for the call (NULL: the tool takes none). The tool copies what it keeps and reports
         * progress with tool_stdin_taken. */
        void (*stdin_data)(struct tool_call *c, const void *p, size_t n, bool eof);
        /* There is room again after tool_output said -E_FULL. */
        void (*output_room)(struct tool_call *c);
        /* After tool_finish: release c->state. */
        void (*free)(struct tool_call *c);
};

/* Ended by a row with name NULL. */
extern const struct tool tools[];
const struct tool *tool_find(const char *name);
/* Closes what calls share (the SIGCHLD watcher, the HTTP engine). No call may be live; run the loop once more
 * afterwards so that the handles go. */
void tools_close(void);

/* One call in the hands of a tool. Readable by the tool; `state` is the tool's own. */
struct tool_call {
        const struct tool *tool;
        const struct policy *policy;
        uv_loop_t *loop;
        uint64_t attempt_id;
        const char *run_id, *step_id;
        int attempt;
        const char *scratch_dir; /* private folder of this call, exists, emptied afterwards */
        const char *traceparent; /* or "" */
        bool stdin_follows;
        int grace_ms;
        void *state;
        void *job; /* the owner's */
};

/* What the tool calls; implemented by agent/job.c. */

/* Takes a copy of the bytes, always. 0, or -E_FULL: kept, but produce no more until output_room. */
int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n);
/* Bytes of standard input taken so far (all up to this offset). */
void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed);
/* Exactly once, also from within start. Texts in r are lent until it returns. Later the job calls tool->free
 * on another turn of the loop. */
void tool_finish(struct tool_call *c, struct tool_result *r);
/* A child process group belongs to this call: journaled, so that a restarted agent can end it.
 * -E_*: could not be written down; kill it and refuse. */
int tool_owns_process(struct tool_call *c, int pid);

#endif
