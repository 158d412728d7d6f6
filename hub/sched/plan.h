/* Where steps go: a snapshot in, decisions out. Pure: no I/O, no clock, no state.
 *
 * Ready steps that want the same thing are one demand; the engine keeps their
 * queues. Demands are served by priority, then by age; each step goes to the
 * eligible agent with the smallest share of its places taken, or with the highest
 * score where the demand comes with scores (route.h). */
#ifndef PHOTON_SCHED_PLAN_H
#define PHOTON_SCHED_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan_label {
        char *key, *value;
};

struct plan_agent {
        const char *id, *name;
        bool online, draining;
        uint32_t max_running, running;
        const struct plan_label *labels; /* sorted by key */
        size_t n_labels;
        const char *const *tools; /* sorted; allowed by its policy */
        size_t n_tools;
        const char *const *denied; /* sorted; there, but the policy says no */
        size_t n_denied;
};

struct plan_want {
        const char *tool;
        const char *agent; /* name or id; NULL: any */
        const struct plan_label *labels;
        size_t n_labels;
};

/* Why an agent cannot take a step, most lasting reason first. */
enum plan_why {
        PLAN_OK,
        PLAN_OTHER_AGENT, /* the step names another */
        PLAN_LABEL,
        PLAN_NO_TOOL,
        PLAN_TOOL_DENIED,
        PLAN_OFFLINE,
        PLAN_DRAINING,
        PLAN_BUSY,
};

/* *out_label: index in want->labels of the first that does not fit (PLAN_LABEL). */
enum plan_why plan_fits(const struct plan_want *w, const struct plan_agent *a, size_t *out_label);
/* One clause for people: "label gpu is \"false\", wanted \"true\"". Returns out. */
const char *plan_why_text(enum plan_why why, const struct plan_want *w, const struct plan_agent *a,
                          size_t label, char *out, size_t n);

struct plan_demand {
        const struct plan_want *want;
        int priority;
        uint64_t age;   /* smaller: older */
        uint32_t ready; /* steps that wait */
        uint32_t room;  /* free places in their concurrency group; UINT32_MAX: no group */
        size_t group;   /* demands with the same group share `room` of the first of them; SIZE_MAX: none */
        const double
                *score; /* of each agent, the highest goes first; negative: not this one. NULL: by load */
};

struct plan_pick {
        size_t demand, agent;
        uint32_t eligible; /* agents that could have taken it */
};

/* Fills picks in the order to act on; returns how many (at most max). `running` of
 * agents is counted up in the scratch array `load` (n_agents long, filled by the call). */
size_t plan_run(const struct plan_demand *demands, size_t n_demands, const struct plan_agent *agents,
                size_t n_agents, uint32_t *load, struct plan_pick *picks, size_t max);

#endif
