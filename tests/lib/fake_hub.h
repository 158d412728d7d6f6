/* A hub made for tests of the agent: enrolment and agents' listeners over real TLS on
 * loopback. It does what its switches say and counts what it saw. */
#ifndef PHOTON_TEST_FAKE_HUB_H
#define PHOTON_TEST_FAKE_HUB_H

#include "common/link.h"
#include "common/rpc.h"
#include "photon/v1/agent.pb-c.h"
#include "photon/v1/enroll.pb-c.h"
#include "tests/lib/wire.h"

#define HOUR_US (3600LL * 1000000)

extern const uint8_t fake_hub_secret[32]; /* of its only token, "tok-1" */

struct fake_hub {
        struct wire wire;
        struct link_listener *enroll, *agents;
        int enroll_port, agent_port;
        uint8_t *ca_der;
        size_t ca_len;
        /* what it does */
        bool lose_redeem;            /* the next Redeem is done, its answer never sent */
        int refuse;                  /* Redeem, Rejoin and Hello answer with this code */
        int64_t before_us, after_us; /* of certificates, from now */
        bool ack_results, ack_output;
        uint64_t output_from;
        Photon__V1__HeldVerdict verdict;
        /* what it saw */
        int closes, get_cas, challenges, redeems, rejoins, renews, hellos, dials;
        uint8_t nonce[32], spki[4][32];
        struct rpc_conn *conn;
        struct rpc_call *session, *output;
        uint64_t held[16];
        Photon__V1__AttemptState held_state[16];
        size_t n_held;
        char journal_id[64];
        int inventories;  /* that came while connected */
        char tools[4096]; /* names as last told, each with a space before and after it */
        int started, finished;
        uint64_t finished_id;
        Photon__V1__Outcome outcome;
        uint8_t *last, *before; /* the last two results, packed */
        size_t last_len, before_len;
        uint8_t *bytes;
        uint64_t bytes_len, first_offset;
        bool gap, output_ended;
};

struct fake_hub *fake_hub_make(void);
void fake_hub_free(struct fake_hub *h);
/* Listens (again); port 0 picks one. */
void fake_hub_listen(struct fake_hub *h, bool enroll, int port);
void fake_hub_start(struct fake_hub *h, uint64_t attempt, const char *tool);

#define UNTIL(h, cond) WIRE_UNTIL(&(h)->wire, cond)

#endif
