/* Store, engine and agents on one loop, as hub.c wires them, and a fake agent that speaks rpc over
 * loopback TLS: what it got is recorded, what it says is up to the test. */
#ifndef PHOTON_TEST_HUB_BENCH_H
#define PHOTON_TEST_HUB_BENCH_H

#include "common/err.h"
#include "common/mailbox.h"
#include "common/rpc.h"
#include "hub/agents/agents.h"
#include "hub/auth/auth.h"
#include "hub/event/bus.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"
#include "photon/v1/agent.pb-c.h"
#include "photon/v1/enroll.pb-c.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

struct hb {
        struct wire wire;
        const char *dir;
        struct mailbox *mb;
        struct store *store;
        struct bus *bus;
        struct logs *logs;
        struct ca ca;
        struct auth *auth;
        struct engine *en;
        struct agents *agents;
        uv_check_t check;
        uv_idle_t idle;
        bool want_flush, closed, mb_closed;
        int64_t heartbeat_ms; /* set before hb_open; 0: the default */
        struct clock clock;
        int64_t skew_ms; /* the hub's clock runs ahead by this */
        /* of the last hb_submit */
        char run[32];
        bool finished;
        enum run_state state;
        /* of the last answer to people */
        int answers, answer_rc;
};

void hb_open(struct hb *h);
void hb_close(struct hb *h);
void hb_submit(struct hb *h, const char *yaml);         /* waits for the 201 */
void hb_answer(void *arg, int rc, const struct err *e); /* an engine_answer; arg: struct hb */

/* ---- a machine that joins ---- */
struct hb_machine {
        char *key, *cert; /* PEM */
        uint8_t *csr;
        size_t csr_len;
        char id[32], name[64];
};
struct hb_token {
        char id[32];
        uint8_t secret[32];
};
struct hb_token hb_token_make(struct hb *h, int64_t uses);
struct hb_machine hb_machine_make(void);
void hb_machine_free(struct hb_machine *m);
/* The whole of enrolment; the code of what refused it (positive), or 0. why may be NULL. */
int hb_enroll(struct hb *h, struct hb_machine *m, const struct hb_token *t, const char *name, char why[512]);
int hb_rejoin(struct hb *h, struct hb_machine *m, const char *sign_key, char why[512]);

/* ---- one connection of a fake agent ---- */
struct hb_conn {
        struct hb *h;
        struct rpc_conn *conn;
        bool ready, closed;
        int rc;
        char why[512];
};
void hb_dial(struct hb *h, struct hb_conn *c, int port, const char *ca_pem, const char *cert,
             const char *key);
void hb_hang_up(struct hb_conn *c);

struct hb_reply {
        bool done;
        int code;
        char message[512];
        uint8_t *p;
        size_t n;
};
/* Calls and waits. r->p is mem_free'd by the caller. */
void hb_call(struct hb_conn *c, const char *method, const ProtobufCMessage *m, struct hb_reply *r);

#define HB_SEEN_MAX 4096
struct hb_agent {
        struct hb_conn c;
        struct rpc_call *session;
        bool session_ended;
        Photon__V1__HelloReply *hello;
        uint64_t starts[HB_SEEN_MAX], cancels[HB_SEEN_MAX], acks[HB_SEEN_MAX];
        int n_starts, n_cancels, n_acks, drains;
        char last_tool[64], last_input[256];
};
/* Dials, says Hello with two tools and what is held, opens Session. */
void hb_agent_up(struct hb *h, struct hb_agent *a, const struct hb_machine *m, const uint64_t *held,
                 size_t n_held);
Photon__V1__HelloRequest *hb_hello(void); /* a plain one, static */
void hb_session(struct hb_agent *a);
void hb_agent_down(struct hb_agent *a);
void hb_send(struct hb_agent *a, Photon__V1__AgentMessage *m);
void hb_started(struct hb_agent *a, uint64_t attempt);
void hb_finished(struct hb_agent *a, uint64_t attempt, const char *outputs, uint64_t output_bytes,
                 const char *inline_text);

struct hb_output {
        struct rpc_call *call;
        uint64_t durable;
        bool ended;
        int code;
        char message[512];
};
void hb_output_open(struct hb_agent *a, struct hb_output *o);
int hb_chunk(struct hb_output *o, uint64_t attempt, uint64_t offset, const void *p, size_t n);
/* All that the log has, or the small output. */
void hb_log_text(struct hb *h, uint64_t attempt, char *out, size_t size);

#define HB_UNTIL(h, cond) WIRE_UNTIL(&(h)->wire, cond)

#endif
