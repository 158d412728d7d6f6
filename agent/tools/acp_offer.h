/* What an ACP agent says it can do: its capabilities (answer to initialize),
 * and the models and modes that a session offers (answer to session/new,
 * session/load, session/resume). Reads what others wrote; whatever is missing
 * or of a wrong type counts as not offered. Pure. */
#ifndef PHOTON_AGENT_TOOLS_ACP_OFFER_H
#define PHOTON_AGENT_TOOLS_ACP_OFFER_H

#include <cjson/cJSON.h>
#include <stdbool.h>

struct buf;
struct err;

#define ACP_CHOICES_MAX 500

/* One thing that is chosen from a list. */
struct acp_choice {
        char *config; /* the id of the config option it is set by; NULL: it has its own method */
        char *current;
        cJSON *values; /* [[id, name], ...] or NULL: no choice is offered */
};

struct acp_offer {
        int version;
        bool load, resume, image, embedded, mcp_http, mcp_sse;
        char *name, *agent_version; /* of the agent, as it says; or NULL */
        cJSON *auth;                /* [[id, name, description], ...] */
        struct acp_choice model, mode;
};

void acp_offer_init(struct acp_offer *o);
void acp_offer_fini(struct acp_offer *o);
/* result: of initialize. -E_PROTO: it is no such answer; -E_VERSION: it speaks no version of ours. */
int acp_offer_agent(struct acp_offer *o, const cJSON *result, struct err *e);
/* result: of session/new and the like, or of a config_option_update. -E_NOMEM. */
int acp_offer_session(struct acp_offer *o, const cJSON *result);

/* The id of what a person calls `wanted` (an id, else a name whatever the case); lent, or NULL. */
const char *acp_choice_find(const struct acp_choice *c, const char *wanted);
/* "a, b, c"; cut with "..." where it gets long. */
void acp_choice_list(const struct acp_choice *c, struct buf *into);

#endif
