/* What a failed ACP conversation means: the codes and sentences that people
 * get. Agents say the same thing in several ways (a JSON-RPC code of their own,
 * an HTTP status as the code, a kind in `data`, a number in the text); they
 * are brought together here. Pure. */
#ifndef PHOTON_AGENT_TOOLS_ACP_ERROR_H
#define PHOTON_AGENT_TOOLS_ACP_ERROR_H

#include <stddef.h>

struct err;
struct jsonrpc_msg;

enum acp_phase { ACP_PHASE_INITIALIZE, ACP_PHASE_OPEN, ACP_PHASE_RESUME, ACP_PHASE_SETUP, ACP_PHASE_PROMPT };

/* Everything is lent. */
struct acp_failure {
        enum acp_phase phase;
        const char *agent;                /* its name, for the sentence */
        const char *login;                /* how one logs in there, a clause; or NULL */
        const char *model;                /* that was asked for; or NULL */
        const char *session;              /* of ACP_PHASE_RESUME */
        const char *last_text;            /* the end of what it said last; or NULL */
        const struct jsonrpc_msg *answer; /* of kind JSONRPC_ERROR; NULL: it only said so in last_text */
};

/* The stable code of the failure (static text); the sentence goes to e. */
const char *acp_error(const struct acp_failure *f, struct err *e);
/* What an HTTP status of a model's API means: auth_failed, rate_limited, overloaded, unknown_model (404),
 * bad_request, server_error, api_error. */
const char *acp_status_code(int status);
/* The first HTTP error status (400 to 599) that stands alone in a text; 0: none. */
int acp_find_status(const char *text);
/* The last one that is called so ("status 429", "status: 503"), for the chatter on standard error; 0: none.
 */
int acp_said_status(const char *text);

#endif
