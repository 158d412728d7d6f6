/* Before the turn: what the agent can do, a session, its mode and model. */
#include "agent/tools/acp_in.h"

#include <string.h>

#include "agent/tools/acp_content.h"
#include "common/clock.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

void acp_fail(struct acp *x, enum acp_phase phase, const struct jsonrpc_msg *m)
{
        const struct acp_failure f = {
                .phase = phase,
                .agent = x->program.name,
                .login = x->program.known ? x->program.known->login : NULL,
                .session = x->session,
                .last_text = acp_tail(x),
                .answer = m,
        };
        struct err e = {0};
        const char *code = acp_error(&f, &e);

        acp_decide(x, TOOL_FAILED, code, &e);
        acp_leave(x, false);
}

/* Takes params (NULL: no memory). The child's pipe may be broken: then its end is near and says why. */
void acp_call(struct acp *x, const char *method, cJSON *params,
              void (*on_answer)(void *arg, const struct jsonrpc_msg *m))
{
        int rc = params ? jsonrpc_call(&x->rpc, method, params, on_answer, x, NULL) : -E_NOMEM;

        if (rc == 0 || rc == -E_CLOSED)
                return;
        acp_decidef(x, TOOL_FAILED, rc == -E_TOOBIG ? "prompt_too_large" : "io_error",
                    "%s could not be sent to %s: %s", method, x->program.name, err_name(rc));
        acp_leave(x, true);
}

cJSON *acp_params(const struct acp *x)
{
        cJSON *o = cJSON_CreateObject();

        if (o && x->session && !cJSON_AddStringToObject(o, "sessionId", x->session)) {
                cJSON_Delete(o);
                return NULL;
        }
        return o;
}

/* --- mode and model -------------------------------------------------------------------- */

static void on_model_set(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;

        if (x->state != ACP_SETTING)
                return;
        if (m->kind == JSONRPC_ERROR)
                acp_fail(x, ACP_PHASE_SETUP, m);
        else
                acp_prompt(x);
}

static void unknown_model(struct acp *x)
{
        struct buf b;

        buf_init(&b, 4096);
        acp_choice_list(&x->offer.model, &b);
        if (b.len)
                acp_decidef(x, TOOL_FAILED, "unknown_model", "%s has no model \"%.100s\"; it offers %.*s",
                            x->program.name, x->ai.model, (int)b.len, (const char *)b.data);
        else
                acp_decidef(x, TOOL_FAILED, "unknown_model",
                            "%s lets nobody choose a model, so not \"%.100s\" either: leave `model` out",
                            x->program.name, x->ai.model);
        buf_fini(&b);
        acp_leave(x, false);
}

/* Sends a choice by its own method, or as a config option where it is one. */
static void choose(struct acp *x, const struct acp_choice *c, const char *method, const char *key,
                   const char *id, void (*on_answer)(void *arg, const struct jsonrpc_msg *m))
{
        cJSON *o = acp_params(x);
        bool ok = o && (c->config ? cJSON_AddStringToObject(o, "configId", c->config) &&
                                            cJSON_AddStringToObject(o, "value", id)
                                  : cJSON_AddStringToObject(o, key, id) != NULL);

        if (!ok) {
                cJSON_Delete(o);
                o = NULL;
        }
        acp_call(x, c->config ? "session/set_config_option" : method, o, on_answer);
}

static void set_model(struct acp *x)
{
        const struct acp_choice *c = &x->offer.model;
        const char *id;

        if (!x->ai.model || (c->current && strcmp(c->current, x->ai.model) == 0)) {
                acp_prompt(x);
                return;
        }
        id = acp_choice_find(c, x->ai.model);
        if (!id) {
                unknown_model(x);
                return;
        }
        ai_set(&x->ai.out_model, id);
        choose(x, c, "session/set_model", "modelId", id, on_model_set);
}

static void on_mode_set(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;

        if (x->state != ACP_SETTING)
                return;
        if (m->kind == JSONRPC_ERROR)
                acp_fail(x, ACP_PHASE_SETUP, m);
        else
                set_model(x);
}

/* A mode in which the program, or a model, decides by itself what it may do. */
static bool decides_itself(const char *mode)
{
        static const char *const modes[] = {"bypassPermissions", "dontAsk", "auto",
                                            "acceptEdits",       "yolo",    "autoEdit",
                                            "agent-full-access"};

        for (size_t i = 0; mode && i < sizeof modes / sizeof *modes; i++)
                if (str_ieq(modes[i], mode))
                        return true;
        return false;
}

static const char *wanted_mode(const struct acp *x)
{
        static const char *const asking[] = {"default",         "ask",       "manual",
                                             "workspace-write", "read-only", "plan"};
        const struct acp_known *k = x->program.known;
        bool deny = x->ai.mode && strcmp(x->ai.mode, "deny") == 0;
        const char *id = k && deny && k->mode_deny ? k->mode_deny : k ? k->mode : NULL;

        if (id && acp_choice_find(&x->offer.mode, id))
                return id;
        if (!decides_itself(x->offer.mode.current))
                return NULL;
        for (size_t i = 0; i < sizeof asking / sizeof *asking; i++)
                if (acp_choice_find(&x->offer.mode, asking[i]))
                        return asking[i];
        return NULL;
}

static void set_mode(struct acp *x)
{
        const struct acp_choice *c = &x->offer.mode;
        const char *id = wanted_mode(x);

        acp_move(x, ACP_SETTING);
        acp_timer(x, ACP_INIT_MS, acp_on_slow_start);
        if (id && (!c->current || strcmp(c->current, id) != 0)) {
                choose(x, c, "session/set_mode", "modeId", id, on_mode_set);
                return;
        }
        if (!id && decides_itself(c->current))
                event_log(x->c, "warning",
                          "the program is in a mode in which it decides itself what it may do, and "
                          "offers no other: it will not ask");
        set_model(x);
}

/* --- the session ------------------------------------------------------------------------- */

static void on_opened(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;
        const char *id = text(m->result, "sessionId");

        if (x->state != ACP_OPENING)
                return;
        x->opened_ms = clock_now_us(&clock_system) / 1000;
        if (m->kind == JSONRPC_ERROR) {
                acp_fail(x, x->resumes ? ACP_PHASE_RESUME : ACP_PHASE_OPEN, m);
                return;
        }
        if (!x->resumes)
                ai_set(&x->session, id);
        if (!x->session || acp_offer_session(&x->offer, m->result)) {
                acp_decidef(x, TOOL_FAILED, "protocol_error", "%s opened a session without an id",
                            x->program.name);
                acp_leave(x, false);
                return;
        }
        set_mode(x);
}

static void open_session(struct acp *x)
{
        const char *method = !x->resumes       ? "session/new"
                             : x->offer.resume ? "session/resume"
                                               : "session/load";
        struct err e = {0};
        cJSON *params, *servers = NULL;
        int rc;

        acp_move(x, ACP_OPENING);
        acp_timer(x, ACP_OPEN_MS, acp_on_slow_start);
        if (x->resumes && !x->offer.resume && !x->offer.load) {
                acp_decidef(x, TOOL_FAILED, "session_unsupported",
                            "%s cannot go on with an earlier session: leave "
                            "`session` out",
                            x->program.name);
                acp_leave(x, false);
                return;
        }
        rc = acp_servers(&x->ai, x->ai.mcp_servers, &x->offer, &servers, &e);
        if (rc) {
                acp_decide(x, TOOL_REFUSED, rc == -E_DENIED ? "policy_denied" : "bad_mcp_server", &e);
                acp_leave(x, false);
                return;
        }
        if (x->resumes)
                ai_set(&x->session, x->resumed.id);
        params = acp_params(x);
        if (!params || !cJSON_AddStringToObject(params, "cwd", x->ai.cwd) ||
            !cJSON_AddItemToObject(params, "mcpServers", servers)) {
                cJSON_Delete(servers);
                cJSON_Delete(params);
                params = NULL;
        }
        x->view.replaying = x->resumes && !x->offer.resume;
        acp_call(x, method, params, on_opened);
}

/* --- the agent --------------------------------------------------------------------------- */

static void on_authenticated(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;

        if (x->state != ACP_AUTHENTICATING)
                return;
        if (m->kind == JSONRPC_ERROR) {
                acp_decidef(x, TOOL_FAILED, "not_logged_in",
                            "%s is not logged in on this machine (%.200s): %s; log in there "
                            "as the agent's user and try again",
                            x->program.name, m->message, x->program.known->login);
                acp_leave(x, false);
                return;
        }
        open_session(x);
}

static bool wants_auth(const struct acp *x)
{
        const struct acp_choice methods = {.values = x->offer.auth};

        return x->program.known && x->program.known->auth &&
               acp_choice_find(&methods, x->program.known->auth);
}

static void on_initialized(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;
        struct err e = {0};
        cJSON *params;
        int rc;

        if (x->state != ACP_INITIALIZING)
                return;
        if (m->kind == JSONRPC_ERROR) {
                acp_fail(x, ACP_PHASE_INITIALIZE, m);
                return;
        }
        rc = acp_offer_agent(&x->offer, m->result, &e);
        if (rc) {
                acp_decidef(x, TOOL_FAILED, rc == -E_VERSION ? "version_mismatch" : "protocol_error",
                            "%s: %s", x->program.name, e.msg);
                acp_leave(x, false);
                return;
        }
        if (!wants_auth(x)) {
                open_session(x);
                return;
        }
        acp_move(x, ACP_AUTHENTICATING);
        acp_timer(x, ACP_INIT_MS, acp_on_slow_start);
        params = cJSON_CreateObject();
        cJSON_AddStringToObject(params, "methodId", x->program.known->auth);
        acp_call(x, "authenticate", params, on_authenticated);
}

void acp_initialize(struct acp *x)
{
        cJSON *o = cJSON_CreateObject(), *caps = o ? cJSON_AddObjectToObject(o, "clientCapabilities") : NULL,
              *fs = caps ? cJSON_AddObjectToObject(caps, "fs") : NULL,
              *info = fs ? cJSON_AddObjectToObject(o, "clientInfo") : NULL;

        /* No files and no terminals of ours: the program acts by itself, and what it does is looked at
         * afterwards. */
        if (!info || !cJSON_AddNumberToObject(o, "protocolVersion", 1) ||
            !cJSON_AddFalseToObject(fs, "readTextFile") || !cJSON_AddFalseToObject(fs, "writeTextFile") ||
            !cJSON_AddFalseToObject(caps, "terminal") || !cJSON_AddStringToObject(info, "name", "photon") ||
            !cJSON_AddStringToObject(info, "version", PHOTON_VERSION)) {
                cJSON_Delete(o);
                o = NULL;
        }
        acp_call(x, "initialize", o, on_initialized);
}
