/* Inside of jules.session: jules.c is the call and its states, jules_say.c turns activities into events. */
#ifndef PHOTON_AGENT_TOOLS_JULES_IN_H
#define PHOTON_AGENT_TOOLS_JULES_IN_H

#include "agent/tools/jules.h"
#include "agent/tools/rest.h"
#include "common/buf.h"

#define JULES_TEXT_MAX ((size_t)512 << 10) /* of outputs.text and outputs.patch */
#define JULES_SEEN_MAX 20000               /* activities of a session */
#define JULES_ID_MAX   128
#define JULES_PAGE     100

enum jules_state {
        JULES_KEY,
        JULES_CREATING,
        JULES_TELLING,
        JULES_LOOKING,
        JULES_READING,
        JULES_WAITING,
        JULES_ASKING,
        JULES_APPROVING,
        JULES_OVER,
};

struct jules {
        struct tool_call *c;
        enum jules_state state, again; /* again: what is repeated after the wait */
        const struct endpoint *ep;
        const struct policy *policy;
        cJSON *input;
        char *prompt, *message; /* message: what is to be told */
        char *key;
        struct rest rest;
        uv_work_t work;
        uv_timer_t timer;
        bool working, timer_open, gone, key_read;
        struct err work_err;
        int64_t poll_ms, question_ms;
        int failures; /* in a row */
        uint32_t question;
        bool asking;
        /* the session */
        char id[JULES_ID_MAX], remote[40]; /* remote: the state that Jules names */
        char *url, *title, *pull_request;
        char *page; /* token of the page that is read; NULL: the first */
        size_t seen_on_page, seen;
        cJSON *plan;
        char *said;  /* Jules' newest message */
        char *patch; /* its newest one */
        char *why;   /* sessionFailed */
};

/* Says one activity as typed events, and keeps what the outputs need. */
void jules_say(struct jules *j, const cJSON *activity);

#endif
