/* The text by which a later step goes on with a conversation of an AI tool
 * (outputs.session): which tool and machine it belongs to, the vendor's own id,
 * the folder it took place in, and what it had cost by then (vendors report the
 * sum of the session). Opaque to its holders; nothing in it is secret, and
 * nothing in it is trusted more than the rest of a call's input. Pure but for
 * the host's name. */
#ifndef PHOTON_AGENT_TOOLS_AI_SESSION_H
#define PHOTON_AGENT_TOOLS_AI_SESSION_H

#include <stdint.h>

struct err;

#define AI_SESSION_MAX 16384 /* bytes of the text */

struct ai_session {
        char *kind; /* the tool, and what it drives: "gemini.prompt", "acp.prompt codex-acp" */
        char *id, *cwd;
        double cost_usd;   /* 0: not known */
        int64_t opened_ms; /* when it was last begun or gone on with, since 1970; 0: not known */
};

/* mem_free the result. NULL: no memory. */
char *ai_session_make(const char *kind, const char *id, const char *cwd, double cost_usd);
char *ai_session_text(const struct ai_session *s); /* the same with all there is to say */
/* -E_INVAL: it is none; -E_DENIED: it belongs to another tool or machine. Both with a sentence that says so:
 * the code is "session_unknown". */
int ai_session_read(const char *text, const char *kind, struct ai_session *out, struct err *e);
void ai_session_fini(struct ai_session *s);

#endif
