/* The parts of process.exec: process.c (life of a call), process_env.c (what
 * the command is given), process_stdin.c, process_output.c (what it wrote). */
#ifndef PHOTON_AGENT_TOOLS_PROCESS_IN_H
#define PHOTON_AGENT_TOOLS_PROCESS_IN_H

#include "agent/tools/process.h"
#include "agent/tools/spawn.h"
#include "common/err.h"

#define STDOUT_TAIL          ((size_t)64 << 10)
#define STDERR_TAIL          ((size_t)4 << 10)
#define OUTPUT_FILE_MAX      ((size_t)1 << 20)
#define OUTPUT_NAMES_MAX     1000
#define STDIN_INLINE_MAX     ((size_t)16 << 20)
#define ARGV_MAX             65536
#define PROCESS_LINGER_MS    250  /* for what still writes after the command itself ended */
#define PROCESS_KILL_WAIT_MS 2000 /* for the kernel to end what was killed */
#define PROCESS_SWEEP_MS     20

/* The last `cap` bytes of a stream. Memory comes with the first byte. */
struct tail {
        uint8_t *v;
        size_t cap, len, at; /* at: where the oldest byte stands once it is full */
        uint64_t total;
};
int tail_put(struct tail *t, const void *p, size_t n); /* -E_NOMEM */
char *tail_text(const struct tail *t);                 /* valid UTF-8; mem_free; NULL: no memory */
void tail_fini(struct tail *t);

/* What the command is started with; everything owned. */
struct command {
        char **argv, **env;
        char *path, *cwd, *output_file;
        const char *marker;     /* points into env */
        const char *stdin_text; /* points into the input; NULL: none */
        int64_t timeout_ms;     /* 0: none of its own */
};
/* code gets the stable error name when it fails with anything but -E_NOMEM. */
int command_build(struct command *m, const struct tool_call *c, const cJSON *input, const char **code,
                  struct err *e);
void command_fini(struct command *m);

/* Reads NAME=VALUE and NAME<<END ... END into members of `into`. -E_INVAL with line. */
int output_parse(const char *text, size_t n, cJSON *into, struct err *e);
/* The same from the file; none is fine. */
int output_read(struct tool_call *c, const char *path, cJSON *into, struct err *e);

/* In order; each state's way on is in process.c. */
enum process_state {
        PROCESS_RUNNING,
        PROCESS_STOPPING, /* TERM was sent, the grace runs */
        PROCESS_LINGER,   /* the command ended, others still hold its output */
        PROCESS_KILLING,  /* KILL was sent, they have not all gone yet */
        PROCESS_DRAINING, /* nobody is left; what is in the pipes goes out */
        PROCESS_CLOSING,
        PROCESS_DONE,
};

struct stream {
        uv_pipe_t pipe;
        enum tool_channel channel;
        struct tail tail;
        struct tool_filter *filter;
        bool open, eof, grown, reading;
        size_t drained;
        struct process *owner;
};

struct feed { /* standard input */
        uv_pipe_t pipe;
        bool open, eof, broken;
        uint64_t given, taken; /* streamed bytes */
        unsigned writes;
};

struct process {
        struct tool_call *c;
        enum process_state state;
        struct child child;
        struct command cmd;
        struct stream out, err;
        struct feed in;
        uv_timer_t timer; /* of the state; in RUNNING: the input's own timeout */
        bool timer_open, held, cancelled, timed_out, refused;
        bool hurry;  /* somebody waits for the end: room or not, drain */
        int handles; /* open uv handles; finish when 0 */
        int grace_ms;
        int waited_ms;
        struct err trouble; /* why it fails, beyond its exit status */
        const char *trouble_code;
};

/* *fd_child: what the command reads; *own says whether the caller must close it. */
int feed_open(struct process *p, int *fd_child, bool *own, struct err *e);
void feed_data(struct process *p, const void *v, size_t n, bool eof);
void feed_close(struct process *p);

/* A uv handle of p was closed. */
void process_handle_closed(struct process *p);

#endif
