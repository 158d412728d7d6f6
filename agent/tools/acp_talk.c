/* The conversation: initialize, a session, its mode and model, the prompt, and what the agent says meanwhile.
 */
#include "agent/tools/acp_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/acp_content.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define NOISE_SHOWN 20 /* lines on its standard output that are no messages */

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* The end of what it said last, beginning with a whole character. */
static const char *tail(const struct acp *x)
{
        const char *p = x->view.tail;

        while (((unsigned char)*p & 0xc0) == 0x80)
                p++;
        return p;
}

static void fail_answer(struct acp *x, enum acp_phase phase, const struct jsonrpc_msg *m)
{
        const struct acp_failure f = {
                .phase = phase,
                .agent = x->program.name,
                .login = x->program.known ? x->program.known->login : NULL,
                .session = x->session,
                .last_text = tail(x),
                .answer = m,
        };
        struct err e = {0};
        const char *code = acp_error(&f, &e);

        acp_decide(x, TOOL_FAILED, code, &e);
        acp_leave(x, false);
}

/* Takes params (NULL: no memory). The child's pipe may be broken: then its end is near and says why. */
static void call(struct acp *x, const char *method, cJSON *params,
                 void (*on_answer)(void *arg, const struct jsonrpc_msg *m))
{
        int rc = params ? jsonrpc_call(&x->rpc, method, params, on_answer, x, NULL) : -E_NOMEM;

        if (rc == 0 || rc == -E_CLOSED)
                return;
        acp_decidef(x, TOOL_FAILED, rc == -E_TOOBIG ? "prompt_too_large" : "io_error",
                    "%s could not be sent to %s: %s", method, x->program.name, err_name(rc));
        acp_leave(x, true);
}

static cJSON *params_of(const struct acp *x)
{
        cJSON *o = cJSON_CreateObject();

        if (o && x->session && !cJSON_AddStringToObject(o, "sessionId", x->session)) {
                cJSON_Delete(o);
                return NULL;
        }
        return o;
}

/* --- the prompt ---------------------------------------------------------------------- */

static const struct {
        const char *reason, *code, *why;
} stops[] = {
        {"max_tokens", "max_tokens",
         "reached the most tokens that a model may answer with; ask for less, or go on in "
         "the same session"},
        {"max_turn_requests", "turn_limit",
         "asked its model as often as it may in one turn; go on in the same session"},
        {"refusal", "refused", "refused to do this; say it in another way"},
};

static void decide_stop(struct acp *x, const char *reason)
{
        if (strcmp(reason, "end_turn") == 0) {
                acp_decide(x, TOOL_SUCCEEDED, NULL, NULL);
                return;
        }
        if (strcmp(reason, "cancelled") == 0) {
                if (x->ai.denied > 0)
                        acp_decidef(x, TOOL_FAILED, "permission_refused",
                                    "%s ended its turn because a permission was refused; see the answers "
                                    "among the "
                                    "events",
                                    x->program.name);
                acp_decidef(x, TOOL_FAILED, "turn_cancelled", "%s cancelled its own turn", x->program.name);
                return;
        }
        for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
                if (strcmp(stops[i].reason, reason) == 0)
                        acp_decidef(x, TOOL_FAILED, stops[i].code, "%s %s", x->program.name, stops[i].why);
        acp_decidef(x, TOOL_FAILED, "protocol_error",
                    "%s ended its turn for a reason that PHOTON does not know: %.80s", x->program.name,
                    reason);
}

static void on_prompted(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;
        const char *reason = text(m->result, "stopReason");

        if (x->state != ACP_PROMPTING && x->state != ACP_CANCELLING)
                return;
        if (m->kind == JSONRPC_ERROR) {
                fail_answer(x, ACP_PHASE_PROMPT, m);
                return;
        }
        if (!reason) {
                acp_decidef(x, TOOL_FAILED, "protocol_error", "%s ended its turn without a stopReason",
                            x->program.name);
                acp_leave(x, false);
                return;
        }
        ai_set(&x->ai.stop_reason, reason);
        acp_view_usage(&x->view, m->result);
        if (x->view.broken && strcmp(reason, "end_turn") == 0) {
                fail_answer(x, ACP_PHASE_PROMPT, NULL);
                return;
        }
        decide_stop(x, reason);
        acp_leave(x, false);
}

/* Files are read on a worker thread. */
struct acp_reading {
        uv_work_t work;
        struct acp *x; /* NULL: nobody waits any more */
        char *prompt;
        cJSON *files, *blocks;
        bool images, embedded;
        int rc;
};

static void read_work(uv_work_t *w)
{
        struct acp_reading *r = container_of(w, struct acp_reading, work);

        r->rc = acp_content(r->prompt, r->files, r->images, r->embedded, &r->blocks);
}

static void reading_free(struct acp_reading *r)
{
        mem_free(r->prompt);
        cJSON_Delete(r->files);
        cJSON_Delete(r->blocks);
        mem_free(r);
}

void acp_reading_abandon(struct acp *x)
{
        if (x->reading)
                x->reading->x = NULL;
        x->reading = NULL;
}

static void on_read(uv_work_t *w, int status)
{
        struct acp_reading *r = container_of(w, struct acp_reading, work);
        struct acp *x = r->x;
        cJSON *params;

        (void)status;
        if (x)
                x->reading = NULL;
        if (!x || x->state != ACP_READING) {
                reading_free(r);
                return;
        }
        params = r->rc ? NULL : params_of(x);
        if (params && cJSON_AddItemToObject(params, "prompt", r->blocks)) {
                r->blocks = NULL;
        } else {
                cJSON_Delete(params);
                params = NULL;
        }
        reading_free(r);
        acp_move(x, ACP_PROMPTING);
        ai_alive(&x->ai);
        call(x, "session/prompt", params, on_prompted);
}

static void read_files(struct acp *x)
{
        struct acp_reading *r = mem_calloc(1, sizeof *r);

        acp_move(x, ACP_READING);
        if (r) {
                r->prompt = mem_strdup(x->ai.prompt);
                r->files = x->ai.files ? cJSON_Duplicate(x->ai.files, true) : NULL;
                r->images = x->offer.image;
                r->embedded = x->offer.embedded;
                r->x = x;
        }
        if (!r || !r->prompt || (x->ai.files && !r->files) ||
            uv_queue_work(x->c->loop, &r->work, read_work, on_read)) {
                if (r)
                        reading_free(r);
                acp_decidef(x, TOOL_FAILED, "out_of_memory", "the agent has no memory left for the prompt");
                acp_leave(x, false);
                return;
        }
        x->reading = r;
}

static void on_quiet(uv_timer_t *t)
{
        struct acp *x = t->data;

        x->view.replaying = false;
        read_files(x);
}

/* After session/load the old conversation may still be on its way: it is waited for until nothing more comes.
 */
static void prompt(struct acp *x)
{
        if (!x->view.replaying) {
                read_files(x);
                return;
        }
        acp_move(x, ACP_SETTLING);
        acp_timer(x, ACP_QUIET_MS, on_quiet);
}

/* --- mode and model -------------------------------------------------------------------- */

static void on_model_set(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;

        if (x->state != ACP_SETTING)
                return;
        if (m->kind == JSONRPC_ERROR)
                fail_answer(x, ACP_PHASE_SETUP, m);
        else
                prompt(x);
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
        cJSON *o = params_of(x);
        bool ok = o && (c->config ? cJSON_AddStringToObject(o, "configId", c->config) &&
                                            cJSON_AddStringToObject(o, "value", id)
                                  : cJSON_AddStringToObject(o, key, id) != NULL);

        if (!ok) {
                cJSON_Delete(o);
                o = NULL;
        }
        call(x, c->config ? "session/set_config_option" : method, o, on_answer);
}

static void set_model(struct acp *x)
{
        const struct acp_choice *c = &x->offer.model;
        const char *id;

        if (!x->ai.model || (c->current && strcmp(c->current, x->ai.model) == 0)) {
                prompt(x);
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
                fail_answer(x, ACP_PHASE_SETUP, m);
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
                fail_answer(x, x->resumes ? ACP_PHASE_RESUME : ACP_PHASE_OPEN, m);
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
        params = params_of(x);
        if (!params || !cJSON_AddStringToObject(params, "cwd", x->ai.cwd) ||
            !cJSON_AddItemToObject(params, "mcpServers", servers)) {
                cJSON_Delete(servers);
                cJSON_Delete(params);
                params = NULL;
        }
        x->view.replaying = x->resumes && !x->offer.resume;
        call(x, method, params, on_opened);
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
                fail_answer(x, ACP_PHASE_INITIALIZE, m);
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
        call(x, "authenticate", params, on_authenticated);
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
        call(x, "initialize", o, on_initialized);
}

/* --- what comes ---------------------------------------------------------------------------- */

static void on_notification(struct acp *x, const struct jsonrpc_msg *m)
{
        const char *session = text(m->params, "sessionId");

        if (strcmp(m->method, "session/update") != 0 || !x->session || !session ||
            strcmp(session, x->session) != 0 || x->state == ACP_GONE)
                return; /* other notifications are the vendor's own */
        acp_update(&x->view, cJSON_GetObjectItemCaseSensitive(m->params, "update"));
        if (x->view.limit && x->state == ACP_PROMPTING) {
                acp_decidef(x, TOOL_FAILED, x->view.limit,
                            "%s passed a limit of this call (%s): allow more in `limits`, or "
                            "go on in the same session",
                            x->program.name, x->view.limit);
                acp_stop_turn(x, ACP_KILL_MS);
        }
}

static void on_request(struct acp *x, const struct jsonrpc_msg *m)
{
        char why[200];

        if (strcmp(m->method, "session/request_permission") == 0) {
                acp_ask(x, m);
                return;
        }
        snprintf(why, sizeof why, "PHOTON does not offer %.150s", m->method);
        (void)jsonrpc_reply_error(&x->rpc, m->id, JSONRPC_METHOD_NOT_FOUND, why);
}

/* A line that is no message: some programs greet on standard output. One that was meant to be one is a fault:
 * it may have been the answer that is waited for. */
static void on_no_message(struct acp *x, const char *line, size_t n, const struct err *e)
{
        char *clean;

        if (n == 0)
                return;
        if (line[0] == '{') {
                acp_decidef(x, TOOL_FAILED, "protocol_error", "%s sent what is no message of ACP: %s",
                            x->program.name, e->msg);
                acp_leave(x, true);
                return;
        }
        if (x->noise++ >= NOISE_SHOWN)
                return;
        clean = str_utf8_lossy(line, n < 1000 ? n : 1000);
        if (clean)
                event_log(x->c, "debug", clean);
        mem_free(clean);
}

void acp_message(struct acp *x, char *line, size_t n)
{
        struct jsonrpc_msg m;
        struct err e = {0};
        int rc = jsonrpc_read(line, n, false, &m, &e);

        if (rc) {
                on_no_message(x, line, n, &e);
                return;
        }
        ai_alive(&x->ai);
        if (x->state == ACP_SETTLING)
                acp_timer(x, ACP_QUIET_MS, on_quiet);
        switch (m.kind) {
        case JSONRPC_REQUEST:
                on_request(x, &m);
                break;
        case JSONRPC_NOTIFICATION:
                on_notification(x, &m);
                break;
        case JSONRPC_RESULT:
        case JSONRPC_ERROR:
                if (jsonrpc_answer(&x->rpc, &m))
                        log_debug("acp", "an answer that nobody waits for", "attempt=%llu",
                                  (unsigned long long)x->c->attempt_id);
                break;
        }
        jsonrpc_msg_fini(&m);
}
