/* Connected agents: the mTLS listener and the enrolment listener, one session per
 * agent, and the engine's wire. Loop thread only. */
#ifndef PHOTON_HUB_AGENTS_H
#define PHOTON_HUB_AGENTS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "hub/sched/engine.h"

struct agents;
struct auth;
struct bus;
struct ca;
struct step_key;
struct err;
struct link_net;
struct logs;
struct vault;
struct store;

struct agents_options {
        uv_loop_t *loop;
        struct link_net *net;
        const struct clock *clock;
        struct auth *auth;
        struct store *store;
        struct bus *bus;
        struct logs *logs;
        struct vault *vault; /* opens what steps name; NULL: there is none */
        const struct ca *ca;
        struct step_key *step_key; /* NULL: steps are not signed (tests) */
        const char *agent_listen;  /* host:port */
        const char *enroll_listen; /* host:port */
        size_t max_agents;         /* default 10000 */
        int64_t heartbeat_ms;      /* default 15000 */
        int64_t cancel_grace_ms;
};

/* Listening starts with agents_listen, after the engine is set and loaded. */
int agents_create(const struct agents_options *o, struct agents **out, struct err *e);
struct engine_wire agents_wire(struct agents *a); /* for engine_options */
void agents_set_engine(struct agents *a, struct engine *en);
/* At the start, after engine_load: the engine hears of every enrolled agent, so that what only they can do
 * waits for them. */
void agents_tell_known(struct agents *a);
int agents_listen(struct agents *a, struct err *e);
int agents_port(const struct agents *a);
int agents_enroll_port(const struct agents *a);
/* Sends what the turn queued: once per loop turn, after commits. */
void agents_flush(struct agents *a);
/* Goodbye to all; on_closed when every link is gone or grace is over. */
void agents_close(struct agents *a, int grace_ms, void (*on_closed)(void *arg), void *arg);
void agents_free(struct agents *a);

/* People: change it durably, then act (cut the connection, tell the agent, plan again). cb after durable. */
void agents_revoke(struct agents *a, const char *id_or_name, engine_answer cb, void *arg);
void agents_drain(struct agents *a, const char *id_or_name, bool on, engine_answer cb, void *arg);
void agents_label(struct agents *a, const char *id_or_name, const cJSON *set, engine_answer cb, void *arg);
/* As the API shows it (contract.md "An agent"); new cJSON, NULL: -E_NOENT. */
cJSON *agents_describe(struct agents *a, const char *id_or_name);
cJSON *agents_describe_all(struct agents *a);
size_t agents_online(const struct agents *a);

#endif
