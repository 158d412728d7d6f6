/* Keeps one connection to the hub: dials, says Hello, holds the session,
 * comes back after trouble, and keeps the certificate fresh.
 *
 *              +--------------- lost, refused ---------------+
 *              v                                             |
 *   IDLE -> WAIT -> DIAL -> HELLO -> UP ---------------------+
 *              |                                             |
 *              +-> REJOIN (certificate expired) -------------+
 *   any -> CLOSING -> gone
 *
 * The certificate is renewed over the live connection when between half and two
 * thirds of its life are gone, and used from the next dial. A hub that refuses
 * this agent (revoked) is asked again only every CONN_REFUSED_MS, and the calls
 * that run are stopped. One that prefers a newer connection (a copy of the data
 * folder is in use elsewhere) is asked again after CONN_REPLACED_MS. Loop thread
 * only. */
#ifndef PHOTON_AGENT_CONN_H
#define PHOTON_AGENT_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/inventory.h"

struct agent_conn;
struct clock;
struct err;
struct identity;
struct jobs;
struct journal;
struct link_net;
struct output_pool;
struct policy;

#define CONN_DIAL_MS          10000
#define CONN_HELLO_MS         30000
#define CONN_RENEW_MS         60000
#define CONN_REFUSED_MS       300000
#define CONN_REPLACED_MS      60000
#define CONN_REVOKED_GRACE_MS 10000 /* from TERM to KILL */
#define CONN_KEEPALIVE_MS     15000 /* until the hub says otherwise */
#define CONN_STABLE_MS        1000  /* a session this long makes the backoff start over */
/* A sleeping machine's timers sleep too: look at the certificate this often. */
#define CONN_LOOK_MS 43200000
/* Changes of the inventory that come together travel together, and a hub hears them at most this often. */
#define CONN_GATHER_MS  50
#define CONN_CHANGES_MS 2000

struct agent_conn_options {
        uv_loop_t *loop;
        struct link_net *net;
        struct identity *id; /* lent; renewed in place */
        struct jobs *jobs;
        struct output_pool *pool;
        const struct journal *journal;
        const struct policy *policy;
        struct inventory *inventory; /* lent; made anew when it is stale */
        const char *kind;
        int max_running;
        bool unsigned_steps; /* tests: a hub that signs nothing is obeyed */
        const struct clock *clock;
        /* Up or down; for status and systemd. May be NULL. */
        void (*on_change)(void *arg);
        void *arg;
};

struct agent_conn_view {
        const char *state;      /* "connected", "connecting", "waiting", "refused", "rejoining" */
        int64_t since_us;       /* of this state */
        const char *last_error; /* "" */
        const char *hub_version;
        int64_t rtt_us;
};

int agent_conn_create(const struct agent_conn_options *o, struct agent_conn **out, struct err *e);
void agent_conn_start(struct agent_conn *c);
bool agent_conn_is_up(const struct agent_conn *c);
void agent_conn_view(const struct agent_conn *c, struct agent_conn_view *out);
/* The tools of this machine are others now (the inventory is stale): the hub hears it soon. */
void agent_conn_inventory_changed(struct agent_conn *c);
/* Says goodbye, closes. */
void agent_conn_close(struct agent_conn *c, void (*on_closed)(void *arg), void *arg);

#endif
