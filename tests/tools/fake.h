/* A job that only remembers: it implements what a tool calls (tool_output ...)
 * instead of agent/job.c, on a loop of its own. One at a time per test.
 *
 *     struct fake f;
 *     fake_init(&f, NULL);
 *     fake_call(&f, "process.exec", "{\"argv\":[\"true\"]}");
 *     CHECK_INT(f.outcome, TOOL_SUCCEEDED);
 *     fake_fini(&f);      // also checks: no handle, process, descriptor left
 */
#ifndef PHOTON_TESTS_TOOLS_FAKE_H
#define PHOTON_TESTS_TOOLS_FAKE_H

#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/buf.h"

#define FAKE_ASKS 16

struct fake {
        char secrets[4096]; /* what tools said that it must not be told, a line each */
        uv_loop_t loop;
        struct policy *policy;
        struct tool_call c;
        char home[256], scratch[256];
        struct buf out, err, events; /* events: one JSON object a line */
        uint64_t out_bytes;          /* stdout, also when not kept */
        uint8_t out_sum;             /* xor of it */
        bool count_only;             /* do not keep stdout */
        size_t full_every;           /* say -E_FULL after so many bytes; room comes on the next turn */
        size_t since_full;
        uv_idle_t room;
        bool room_wanted, idle_open;
        void (*on_output)(struct fake *f);
        void *data;

        bool live, finished;
        enum tool_outcome outcome;
        cJSON *outputs;
        char code[64], msg[600];
        bool has_exit_code;
        int exit_code;
        uint64_t stdin_taken;
        bool stdin_closed;
        int pid, own_rc;
        int fds_before, grace_ms;

        /* Questions: the policy answers as it does in a real job; the rest gets `decision` on a later turn,
         * or waits for fake_answer while hold is set. Texts in `decision` and its content are the test's. */
        struct tool_decision decision; /* zeros: allowed */
        bool hold;
        int asked, withdrawn;
        struct fake_ask {
                uint32_t id; /* 0: free */
                bool decided;
                struct tool_decision d;
                void (*on_decision)(void *arg, const struct tool_decision *d);
                void *arg;
        } asks[FAKE_ASKS];
        struct fake_question { /* the last one, as it was asked */
                enum ask_kind kind;
                char action[16], title[300], tool[100], mode[16], command[1000];
                char arguments[4000], schema[2000]; /* JSON */
                char paths[1000];                   /* joined by a space */
                int64_t timeout_ms;
        } question;
        char ask_reason[600]; /* of the policy, when it answered */
        uv_timer_t deliver;
};

/* policy: YAML text, NULL: the default one. HOME becomes a fresh folder (f->home). */
void fake_init(struct fake *f, const char *policy);
void fake_fini(struct fake *f);

/* start: schema, permit and start as the job does it; a refusal fills outcome and code. run: until the end.
 */
void fake_start(struct fake *f, const char *tool, const char *input);
void fake_run(struct fake *f);
/* Turns of the loop until the end or for ms (a bound against hanging, not a delay). */
void fake_run_for(struct fake *f, int ms);
void fake_call(struct fake *f, const char *tool, const char *input);
/* The same with printf; '%s' pieces are not escaped. */
void fake_callf(struct fake *f, const char *tool, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Decides the oldest question that is open; it reaches the tool on a later turn of the loop. */
void fake_answer(struct fake *f, const struct tool_decision *d);
void fake_cancel(struct fake *f, int grace_ms);

const char *fake_text(const struct fake *f, const char *key); /* a string of outputs, or "" */
double fake_number(const struct fake *f, const char *key);    /* -1 if there is none */

/* In home. */
void fake_put(struct fake *f, const char *name, const char *text);
const char *fake_get(struct fake *f, const char *name); /* NULL: no such file; static memory */
int fake_fds(void);
bool fake_alive(int pid); /* exists and is no zombie */
int fake_children(void);

/* ThreadSanitizer turns vfork into fork: what a child could not do is then told by its exit status alone. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FAKE_VFORK_IS_FORK 1
#endif
#endif
#ifndef FAKE_VFORK_IS_FORK
#define FAKE_VFORK_IS_FORK 0
#endif

#endif
