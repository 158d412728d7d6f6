/* The Session and Output streams of one connection: carries AgentMessages
 * from the jobs and HubMessages to them, and the output of calls. Lives
 * between the answer to Hello and the end of the connection. Loop thread only. */
#ifndef PHOTON_AGENT_SESSION_H
#define PHOTON_AGENT_SESSION_H

#include "photon/v1/agent.pb-c.h"

struct agent_session;
struct inventory;
struct jobs;
struct output_pool;
struct rpc_conn;
struct rpc_status;
struct step_guard;

struct agent_session_options {
        struct rpc_conn *conn;
        struct jobs *jobs;
        struct output_pool *pool;
        struct step_guard *guard; /* lent; NULL: steps need no signature (tests) */
        /* The hub ended the Session stream while the connection lived (not after agent_session_close). */
        void (*on_end)(void *arg, const struct rpc_status *st);
        void *arg;
};

/* Opens Session, gives the wire to jobs and pool, applies what the hub said about held attempts. */
int agent_session_open(const struct agent_session_options *o, const Photon__V1__HelloReply *hello,
                       struct agent_session **out);
/* Tells the hub what this machine now offers; at the next chance when there is no room now. The inventory is
 * lent until the session is closed. */
void agent_session_tell(struct agent_session *s, struct inventory *inv);
/* Takes the wire away from jobs and pool. The connection is ending or has ended. Accepts NULL. */
void agent_session_close(struct agent_session *s);

#endif
