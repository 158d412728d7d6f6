/* Inside hub/agents: who is connected and what travels. Loop thread only.
 *
 *   agents -- sessions (one per connection of an agent) -- attempts (output or result under way) -- output (a
 * stream)
 *          -- enroll_conns (strangers)
 *          -- ops (certificates in the making, changes on their way to disk)
 *
 * A session is found by its agent's id from the moment it is known until it goes
 * down; then everything it holds ends, and its memory follows when rpc says on_close. */
#ifndef PHOTON_HUB_AGENTS_IMPL_H
#define PHOTON_HUB_AGENTS_IMPL_H

#include "common/buf.h"
#include "common/err.h"
#include "common/link.h"
#include "common/list.h"
#include "common/map.h"
#include "common/rpc.h"
#include "hub/agents/agents.h"
#include "hub/agents/rate.h"
#include "hub/auth/auth.h"
#include "photon/v1/agent.pb-c.h"
#include "photon/v1/enroll.pb-c.h"

struct usage_watch;
struct log_file;
struct store_tx;

#define AREA "agents"

#define ENROLL_CONNS_MAX    64                     /* more, and somebody has to make room */
#define ENROLL_LINKS_MAX    (4 * ENROLL_CONNS_MAX) /* with those that are being closed */
#define ENROLL_DEADLINE_MS  10000
#define ENROLL_CALLS_MAX    8 /* on one connection */
#define ENROLL_MESSAGE_MAX  (16u << 10)
#define CSR_MAX             (4u << 10)
#define HELLO_BYTES_MAX     (4u << 20)
#define HELLO_TOOLS_MAX     1000
#define HELLO_HELD_MAX      20000
#define SCHEMA_BYTES_MAX    (64u << 10)
#define SESSION_MESSAGE_MAX RPC_MESSAGE_MAX /* one AgentMessage */
#define SEGMENT_BYTES       (256u << 10)    /* a HubMessage is closed when it is this long */
#define PENDING_BYTES_MAX   (64u << 20)     /* messages that an agent does not take */
#define HELD_BYTES_MAX      (64u << 20)     /* results that wait for their output */
#define JSON_BYTES_MAX      (8u << 20)      /* outputs of a step */
#define MESSAGE_TEXT_MAX    4096u           /* error_message */
#define QUESTION_BYTES_MAX  (2u << 20)      /* arguments and schema of a question */
#define HELD_QUESTIONS_MAX  256             /* of one held attempt; an agent of ours has 16 */
#define QUESTION_TITLE_MAX  512u
#define QUESTION_TOOL_MAX   256u
#define CHUNK_BYTES_MAX     (1u << 20)   /* data of one OutputChunk */
#define SYNC_BYTES          (1u << 20)   /* output is made durable after this much ... */
#define SYNC_NEXT_BYTES     (128u << 10) /* or this much came during the last sync */
#define SYNC_MS             100          /* ... or after this long, or when it ends */
#define STALL_MS            500          /* a log that could not be written is tried again */
#define SEEN_MS             60000        /* rows of last_seen are this fresh at best */
#define SEEN_BATCH          256          /* rows for one housekeeping */
#define TICK_MS             1000
#define WINDOW_STDIN        (256u << 10)
#define STRANGER_BURST      100 /* log lines about strangers: so many at once, then one each ... */
#define STRANGER_REFILL_MS  1000

struct agents {
        struct agents_options opt;
        struct engine *engine;
        struct link_listener *agent_ll, *enroll_ll;
        uint8_t *ca_der;
        size_t ca_der_len;
        struct list sessions;  /* struct session.link: every connection */
        struct map *by_agent;  /* agent id -> struct session, known ones */
        struct list dirty;     /* struct session.dirty */
        struct list enrolling; /* struct enroll_conn.link, oldest first */
        struct list ops;       /* struct op.link */
        size_t works;          /* on the uv pool: signing, syncing */
        struct list unsynced;  /* struct attempt.unsynced */
        struct list stalled;   /* struct attempt.stalled */
        uv_timer_t tick, sync_timer, stall_timer;
        int timers_open;
        struct rate *failed_joins; /* by source address */
        struct bucket denied_audits, stranger_lines;
        unsigned long untold;    /* strangers that got no line in the log */
        struct buf frame;        /* small output of the result in hand */
        struct list spare_notes; /* of on_step.c */
        size_t n_spare_notes;
        bool log_broken; /* said once, until it works again */
        bool closing;
        void (*on_closed)(void *arg);
        void *on_closed_arg;
};

int64_t agents_now_us(const struct agents *a);
int64_t agents_mono_ms(const struct agents *a);
/* Whether one more line about a stranger fits into the log: anybody can cause them. */
bool agents_tell_stranger(struct agents *a);
void agents_maybe_closed(struct agents *a);
/* Something lives that the clock must look after; nothing ticks without one. */
void agents_arm_tick(struct agents *a);
void agents_arm_sync(struct agents *a);
void agents_arm_stall(struct agents *a);

/* ---- op: what outlives the call that asked for it ---- */

/* First member of everything that waits for the store or the pool. a is NULL once agents_free ran. */
struct op {
        struct list link;
        struct agents *a;
};
void op_start(struct agents *a, struct op *op);
void op_end(struct op *op); /* the caller frees */

/* ---- session ----
 *
 *   CONNECTING --prefaces, certificate known--> KNOWN --Hello--> GREETING --reply--> GREETED --Session-->
 * READY |                                        |                 |                  |                  |
 *        +----------------------------------------+---- DOWN (fenced, violation, revoked, closed) <-------+
 */
enum session_state {
        SESSION_CONNECTING,
        SESSION_KNOWN,
        SESSION_GREETING,
        SESSION_GREETED,
        SESSION_READY,
        SESSION_DOWN
};

struct hello;

struct session {
        struct list link, dirty;
        struct agents *a;
        enum session_state state;
        struct rpc_conn *conn;
        struct rpc_call *stream; /* the Session call */
        char agent_id[32], name[AGENT_NAME_MAX + 1], address[64];
        int64_t connected_us;
        int64_t seen_ms; /* when last_seen was last written */
        bool in_engine;
        struct hello *hello;  /* being answered */
        struct map *attempts; /* id -> struct attempt; NULL until the first */
        size_t held_bytes;
        bool renewing;
        struct bucket renewals, inventories;
        /* Towards the agent: full segments, then the open one. */
        struct list segments;
        struct buf out;
        size_t pending_bytes;
        bool blocked;       /* no credit; on_writable goes on */
        int broken;         /* E_*: to be cut by the next flush */
        struct buf refused; /* of struct start_refusal: starts that could not be sent */
        bool takes_secrets; /* it said so in its Hello */
        bool has_secrets;   /* among what is queued: wiped when it is sent */
        /* What its steps are signed with; NULL until Hello, or for an agent that gave no nonce. */
        struct mac *step_mac;
        uint64_t step_order;
};

const char *session_state_name(enum session_state s);
int session_move(struct session *s, enum session_state to);               /* -E_STATE */
struct session *session_of(const struct agents *a, const char *agent_id); /* not down; or NULL */
struct session *session_create(struct agents *a);
void session_known(struct session *s, const char *agent_id, const char *address);
/* The agent is not here any more: tells the engine, ends what is held. The connection stays to be closed. */
void session_down(struct session *s);
/* session_down, then goodbye with a reason. */
void session_cut(struct session *s, int code, const char *why);
void session_violation(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void session_free(struct session *s);
void session_flush(struct session *s);
void session_drain(struct session *s, bool on);
void session_seen(struct session *s, struct store_tx *tx, const char *info_json); /* its row */

extern const struct rpc_service_method agent_methods[];
void on_session(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg);
void on_hello(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg);
void on_output(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg);
void on_renew(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg);

struct engine_wire session_wire(struct agents *a);

/* on_hello.c */
void hello_orphan(struct hello *h);

/* secrets.c: opens what the step names into m->secrets. -E_*: *code and e say why. start_secrets_free wipes.
 */
struct start_refusal {
        uint64_t attempt_id;
        char code[40];
        char message[512];
};
int start_secrets(struct agents *a, const struct engine_start *e, Photon__V1__StepStart *m, const char **code,
                  struct err *err);
void start_secrets_free(Photon__V1__StepStart *m);

/* inventory.c: what an agent says of itself, checked, as the JSON that auth keeps (agent_record.info). */
int inventory_from_hello(const Photon__V1__HelloRequest *q, char **out_json, struct err *e);
void on_inventory(struct session *s, const Photon__V1__Inventory *m);
/* Tells the engine of a connected agent: `fn` with what auth knows. */
int inventory_tell(struct agents *a, const char *agent_id,
                   int (*fn)(struct engine *en, const struct engine_agent *ea), struct err *e);
/* Labels or draining changed by people. */
void inventory_refresh(struct agents *a, const char *agent_id);

/* on_question.c */
void on_questions(struct session *s, const Photon__V1__AgentMessage *m);
void on_answer_acks(struct session *s, const Photon__V1__AgentMessage *m);

/* on_step.c */
void on_agent_message(struct session *s, const uint8_t *p, size_t n);

/* ---- attempt: output and result of one tool call until the engine has them ----
 *
 * Exists while its output comes in a stream, or may (held at Hello), or its result waits. Bytes go
 * chunk -> log_append -> log_sync -> OutputAck; the result is delivered when all that it speaks of is
 * durable. */
struct output;

struct attempt {
        struct list unsynced, stalled;
        uint64_t id;
        struct agents *a;
        struct session *s;     /* NULL: over; freed when the sync is */
        struct log_file *file; /* NULL: not open */
        bool logged;           /* the log has bytes of it */
        bool syncing;
        uint64_t durable;
        struct output *out;            /* the stream, if there is one now */
        struct list chunks;            /* struct chunk: could not be appended yet */
        Photon__V1__StepFinished *fin; /* waits for output */
        size_t fin_bytes;
        struct usage_watch *usage; /* its events are looked at while they come; or NULL */
};

struct attempt *attempt_find(struct session *s, uint64_t id);
int attempt_get(struct session *s, uint64_t id, struct attempt **out); /* finds or makes; -E_NOMEM */
void attempt_free_all(struct session *s);
/* 0: appended. 1: kept, the log cannot be written now; `credit` is returned later. -E_INVAL: a gap. -E_NOMEM.
 */
int attempt_append(struct attempt *t, const Photon__V1__OutputChunk *c, size_t credit, struct err *e);
void attempt_drop_stream(
        struct attempt *t);            /* its stream is gone: what of it is not appended will come again */
void attempt_stale(struct attempt *t); /* nobody wants its output; t is gone afterwards */
void attempt_sync(struct attempt *t);
uint64_t attempt_end(const struct attempt *t);
/* Takes fin: delivers it now or when its output is durable. t may be gone afterwards. */
void attempt_finish(struct attempt *t, Photon__V1__StepFinished *fin, size_t bytes);
void attempts_sync_tick(struct agents *a);
void attempts_stall_tick(struct agents *a);

/* on_output.c: what the attempt tells its stream. */
void output_durable(struct output *o, uint64_t durable);       /* acknowledge */
void output_appended(struct output *o, size_t credit);         /* a kept chunk is in the log */
void output_over(struct output *o, int code, const char *why); /* the attempt ends; o forgets it */

/* on_step.c: hands a result to the engine; inline output framed if `small`. */
void result_deliver(struct session *s, const Photon__V1__StepFinished *fin, bool small,
                    uint64_t output_bytes);

/* ---- enrolment ---- */

struct enroll_conn {
        struct list link;
        struct agents *a;
        struct rpc_conn *conn;
        const struct link *l; /* as long as conn lives */
        char address[64];
        uint8_t key[16];     /* of the address, see rate.h */
        int64_t deadline_ms; /* INT64_MAX: is being closed */
        uint8_t nonce[32];
        bool has_nonce;
        int calls;
};
extern const struct rpc_service_method enroll_methods[];
struct enroll_conn *enroll_create(struct agents *a);
void enroll_free(struct enroll_conn *ec);
void enroll_make_room(struct agents *a); /* before one more is accepted */
void enroll_tick(struct agents *a, int64_t now_ms);

/* issue.c: a certificate for `en` (taken), then the reply on `c`. */
struct issue_request {
        struct enrolled en;
        const uint8_t *csr;
        size_t csr_len;
        const uint8_t *sig; /* over `signed_text` by the CSR's key, or NULL */
        size_t sig_len;
        const uint8_t *signed_text;
        size_t signed_len;
        struct rate *blame; /* a wrong signature counts here, for `address` */
        const char *address;
        bool *busy; /* set until the call ends; may be NULL */
};
/* Owns the call's events from now on; refuses the call itself when it cannot begin. */
void issue_start(struct agents *a, struct rpc_call *c, struct issue_request *rq);

/* ---- listener.c ---- */
int listener_open(struct agents *a, struct err *e);
void listener_close(struct agents *a);

#endif
