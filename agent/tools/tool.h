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
        cJSON *usage;              /* object (see event_usage), taken by tool_finish; NULL: none */
};

struct tool {
        const char *name;
        const char *version;
        const char *description;
        const char *input_schema; /* JSON Schema text */
        const char *output_schema;
        const char *effect; /* pure | idempotent | at-most-once */
        bool no_scratch;    /* its calls never look at scratch_dir: none is made */
        const char *detail; /* JSON object for people: where it was found, its version, is it logged in; or
                               NULL */
        /* The same, asked each time the inventory is made (call tools_changed when it says something new).
         * The text is the tool's, and stays until the next tools_changed. NULL: `detail` holds. */
        const char *(*describe)(const struct tool *t);
        bool secret_env;     /* a call starts a program, which gets its secrets: in variables, and in files in
                                memory that it inherits (struct call_secret.fd) */
        const char *install; /* what to do where it is not available: "npm install -g ..."; or NULL */
        void *data;          /* of a tool that was added at run time: its owner's */
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

/* The tools that are built in. Ended by a row with name NULL. */
extern const struct tool tools[];
/* Built in, or added while the agent runs (plug-ins, MCP servers, what was discovered on the machine). */
const struct tool *tool_find(const char *name);
/* Adds a row, lent with all it points to. -E_EXIST: there is one of that name. -E_FULL, -E_NOMEM. */
int tool_add(const struct tool *t);
/* Takes the row out of the table, so that no new call finds it. Calls that run keep using it: free it only
 * when none is left. */
void tool_remove(const struct tool *t);
/* Every row, built in ones first. Stops when fn returns non-zero, and returns that. */
int tool_each(int (*fn)(void *arg, const struct tool *t), void *arg);
/* Called on the loop after the table changed (the inventory goes to the hub); one listener. */
void tools_on_change(void (*fn)(void *arg), void *arg);
/* A row changed in place (its detail, its availability): tells the listener. */
void tools_changed(void);
/* Ends what is kept warm between calls (browsers). No call may be live; run the loop until nothing is left on
 * it, then tools_close. */
void tools_stop(void);
/* Closes what calls share (the SIGCHLD watcher, the HTTP engine). No call may be live; run the loop once more
 * afterwards so that the handles go. */
void tools_close(void);

/* Secrets of a call as files, at most. */
#define TOOL_FILES_MAX 32

/* A secret that came with the call; the tool's children get it, nobody else. Its value is masked already. */
struct call_secret {
        char *name;
        char *env;      /* the variable; NULL: it was put into the input */
        uint8_t *value; /* followed by a NUL */
        size_t n;
        int fd;        /* -1, or a file in memory: the variable is /proc/self/fd/<passed_fd> */
        int passed_fd; /* which it must become in the child: in the order of the list, from 3 on */
};

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
        const struct call_secret *secrets; /* the job's; gone after free */
        size_t n_secrets;
        bool has_events; /* it wrote typed events: its end will be one too */
        void *state;
        void *job; /* the owner's */
};

/* What the tool calls; implemented by agent/job.c. */

/* Takes a copy of the bytes, always. 0, or -E_FULL: kept, but produce no more until output_room. */
int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n);
/* The call works with this secret (a key, a password): from now on it is taken out of what the call writes,
 * of its outputs and of its error message (agent/mask.h). Copies. -E_INVAL: shorter than MASK_SECRET_MIN, and
 * so not masked; -E_TOOBIG, -E_NOMEM: refuse the call. */
int tool_secret(struct tool_call *c, const void *p, size_t n);
/* A stream of what the tool keeps for its result and will cut (the end of an output, a part of a body):
 * masked before it is cut, so that no half of a secret is left. *io is NULL at first; `last` ends and frees
 * it. Appends to `out`. Not to be mixed with tool_secret. -E_NOMEM, and *io is freed. */
struct tool_filter;
struct buf;
bool tool_has_secrets(const struct tool_call *c);
int tool_filter(struct tool_call *c, struct tool_filter **io, const void *p, size_t n, bool last,
                struct buf *out);
void tool_filter_free(struct tool_filter *f);
/* For event.h, of a call that has secrets: a whole text, masked (also what is left of a secret at its edges,
 * since long ones were perhaps cut), appended to `out`, -E_NOMEM; a masked copy of a tree, NULL: no memory.
 */
int tool_mask_text(const struct tool_call *c, const void *p, size_t n, struct buf *out);
cJSON *tool_mask_tree(const struct tool_call *c, const cJSON *v);
/* Texts that leave in pieces, each of them one stream for the mask, until `last`. Appends to `out` what may
 * leave now. -E_NOMEM: the piece was not taken. */
enum tool_text { TOOL_TEXT, TOOL_THOUGHT, TOOL_TEXTS };
int tool_mask_piece(struct tool_call *c, enum tool_text which, const void *p, size_t n, bool last,
                    struct buf *out);
/* Bytes of standard input taken so far (all up to this offset). */
void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed);
/* Exactly once, also from within start. Texts in r are lent until it returns. Later the job calls tool->free
 * on another turn of the loop. */
void tool_finish(struct tool_call *c, struct tool_result *r);
/* ---- questions to people ----
 *
 * A tool that needs a decision asks here. The agent's policy answers what it has a rule for, at once; the
 * rest becomes a checkpoint on the hub, which a person answers. While a question is open the call's time
 * limit stands still. */

enum ask_kind {
        ASK_PERMISSION, /* may the tool do this? */
        ASK_INPUT,      /* what shall it use? (a form) */
};

/* Everything is lent for the call. */
struct tool_question {
        enum ask_kind kind;
        const char *action; /* kind of the action: read edit delete move search execute fetch think other */
        const char *title;  /* one sentence for people: "Write /srv/www/index.html" */
        const char *tool;   /* what the asking program calls it: "Bash", "create_file" */
        const cJSON *arguments;   /* exactly what will be done; shown to people and hashed (SHA-256) */
        const char *command;      /* what would be run, for the policy; or NULL */
        const char *const *paths; /* what would be touched, for the policy; NULL-ended; or NULL */
        const char *cwd;          /* where paths start, and where accept-edits ends; or NULL */
        const cJSON *schema;      /* ASK_INPUT: JSON Schema of the answer's content; or NULL */
        const char *mode;         /* the call's permission mode: ask accept-edits allow deny; NULL: ask */
        int64_t timeout_ms;       /* 0: the hub's default; when it has passed the answer is no */
};

enum ask_outcome {
        ASK_ALLOWED,
        ASK_DENIED,    /* by a person, by the policy, or by the call's mode */
        ASK_EXPIRED,   /* nobody answered in time: no */
        ASK_WITHDRAWN, /* the call ends, nobody will answer any more: no */
};

/* Lent for the callback. */
struct tool_decision {
        enum ask_outcome outcome;
        bool always;          /* for the rest of this call, the same action needs no question */
        const cJSON *content; /* ASK_INPUT, allowed: what was filled in */
        const char *reason;   /* a person's words, or the rule that answered; "" if none */
        const char *by;       /* "policy", "mode", "agent", "hub", or the person's name */
};

/* Asks; on_decision comes exactly once, from the loop, never from within tool_ask, and not after tool_finish
 * or tool_ask_withdraw. A call may have ASK_OPEN_MAX questions open. *out_id names the question within the
 * call. -E_FULL, -E_NOMEM. */
#define ASK_OPEN_MAX 16
int tool_ask(struct tool_call *c, const struct tool_question *q,
             void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id);
/* The program does not want to know any more. */
void tool_ask_withdraw(struct tool_call *c, uint32_t id);

/* A child process group belongs to this call: journaled, so that a restarted agent can end it.
 * -E_*: could not be written down; kill it and refuse. */
int tool_owns_process(struct tool_call *c, int pid);

#endif
