/* A whole hub's brain (engine, real store, bus) and many agents in one process, on a
 * fake clock and a fake wire, with faults drawn from a seed.
 *
 * The world delivers messages with random delays, cuts connections, kills and reboots agents,
 * and kills the hub; it counts how often each step really ran, which no part of
 * the code under test can see. */
#ifndef PHOTON_SIM_WORLD_H
#define PHOTON_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/map.h"
#include "hub/event/bus.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#define SIM_AGENTS_MAX 8
#define SIM_HELD_MAX   512
#define SIM_MAIL_MAX   4096

struct sim_held {
        uint64_t attempt_id;
        char key[96]; /* run/step */
        bool finished, lost, cancelled;
        int64_t ends_ms;
        int exit_code;
        int64_t micros; /* what it takes, from its first moment on */
};

struct sim_agent {
        char id[32], name[32], boot[32];
        bool connected, up;
        struct sim_held held[SIM_HELD_MAX];
        int n_held;
};

enum sim_mail_kind { SIM_START, SIM_CANCEL, SIM_ACK, SIM_STARTED, SIM_FINISHED };

struct sim_mail {
        enum sim_mail_kind kind;
        int agent;
        uint64_t attempt_id;
        int64_t at_ms; /* delivery */
        char key[96], effect[16], tool[32];
        int epoch; /* of the connection: a cut loses what is in flight */
};

/* What really happened to a step, as the machines saw it. */
struct sim_truth {
        int runs; /* times its command was started */
        int at_most_once;
        int forgiven; /* times a person said "retry" */
        bool succeeded;
};

struct world {
        uint64_t rng;
        int64_t now_ms;
        struct clock clock;
        const char *dir;
        struct store *store;
        struct bus *bus;
        struct engine *en;
        int n_agents;
        struct sim_agent agents[SIM_AGENTS_MAX];
        int epoch[SIM_AGENTS_MAX];
        struct sim_mail mail[SIM_MAIL_MAX];
        int n_mail;
        int starts;        /* of the hub: the first one makes the key that rows are sealed with */
        struct map *truth; /* key -> sim_truth */
        struct map *needs; /* key -> NULL-ended array of keys */
        int fail_percent;
        int places;         /* of each agent; 0: 4 */
        int64_t micros_max; /* calls take up to so much; 0: nothing */
        int64_t spent;      /* what calls really took: no code under test sees it */
        int hub_kills, agent_kills, cuts, reboots, losses;
        bool in_callback;
};

uint32_t sim_rnd(struct world *w, uint32_t below);
void world_init(struct world *w, uint64_t seed, const char *dir, int n_agents);
void world_fini(struct world *w);
/* One millisecond-ish step of everything. */
void world_step(struct world *w);
void world_hub_kill(struct world *w);
void world_cut(struct world *w, int agent);
void world_agent_kill(struct world *w, int agent);
void world_agent_reboot(struct world *w, int agent);
/* Submits; the id is durable when this returns. */
void world_submit(struct world *w, const char *text, char out_run[32]);
struct sim_truth *world_truth(struct world *w, const char *run, const char *step);
/* State of a run as the store has it. */
enum run_state world_run_state(struct world *w, const char *run);

#endif
