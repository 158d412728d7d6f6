#include "agent/tools/acp_error.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tools/jsonrpc.h"
#include "common/err.h"

#define AUTH_REQUIRED     (-32000)
#define NOT_FOUND         (-32002)
#define REQUEST_CANCELLED (-32800)

/* data.errorKind of claude-agent-acp. */
static const struct {
        const char *kind, *code;
} kinds[] = {
        {"authentication_failed", "auth_failed"},
        {"oauth_org_not_allowed", "auth_failed"},
        {"verification_required", "auth_failed"},
        {"cloud_credential_error", "auth_failed"},
        {"billing_error", "quota_exceeded"},
        {"account_on_hold", "quota_exceeded"},
        {"rate_limit", "rate_limited"},
        {"overloaded", "overloaded"},
        {"model_not_found", "unknown_model"},
        {"max_output_tokens", "max_tokens"},
        {"invalid_request", "bad_request"},
        {"server_error", "server_error"},
        {"unknown", "api_error"},
};

static const struct {
        const char *code, *advice;
} advices[] = {
        {"auth_failed", "look at its API key or log in again"},
        {"quota_exceeded", "look at the account's plan and bill"},
        {"rate_limited", "try again later, or lower the number of calls at once"},
        {"overloaded", "try again later"},
        {"unknown_model", "say another `model`"},
        {"max_tokens", "ask for less, or go on in the same session"},
        {"bad_request", "the API does not take this: look at the prompt, its files and the model"},
        {"server_error", "try again later; the API's own page on its state may say more"},
        {"api_error", "the message is the API's own"},
        {"protocol_error", "it may be too old or too new for PHOTON"},
        {"agent_error", "the message is its own"},
};

const char *acp_status_code(int status)
{
        switch (status) {
        case 401:
        case 403:
                return "auth_failed";
        case 402:
                return "quota_exceeded";
        case 404:
                return "unknown_model";
        case 429:
                return "rate_limited";
        case 503:
        case 529:
                return "overloaded";
        case 400:
        case 413:
        case 422:
                return "bad_request";
        default:
                return status >= 500 ? "server_error" : "api_error";
        }
}

int acp_find_status(const char *text)
{
        for (const char *p = text; p && *p; p++) {
                if ((*p != '4' && *p != '5') || !isdigit((unsigned char)p[1]) ||
                    !isdigit((unsigned char)p[2]))
                        continue;
                if (!isalnum((unsigned char)p[3]) && p[3] != '.' &&
                    (p == text || (!isalnum((unsigned char)p[-1]) && p[-1] != '.' && p[-1] != '-')))
                        return atoi(p);
        }
        return 0;
}

int acp_said_status(const char *text)
{
        int status = 0;

        for (const char *p = text; (p = strstr(p, "status")) != NULL;) {
                p += strlen("status");
                p += strspn(p, " :=\"");
                if ((*p == '4' || *p == '5') && strspn(p, "0123456789") == 3)
                        status = atoi(p);
        }
        return status;
}

static const char *advice(const char *code)
{
        for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
                if (strcmp(advices[i].code, code) == 0)
                        return advices[i].advice;
        return "";
}

/* The most telling text of an error object: many agents say "Internal error" and put the reason beside it. */
static const char *words(const struct jsonrpc_msg *m)
{
        const cJSON *d = m->data, *details = cJSON_GetObjectItemCaseSensitive(d, "details");

        if (cJSON_IsString(details))
                return details->valuestring;
        details = cJSON_GetObjectItemCaseSensitive(d, "message");
        if (cJSON_IsString(details))
                return details->valuestring;
        if (cJSON_IsString(d))
                return d->valuestring;
        return m->message[0] ? m->message : "it gives no reason";
}

static const char *kind_code(const struct jsonrpc_msg *m)
{
        const cJSON *k = cJSON_GetObjectItemCaseSensitive(m->data, "errorKind");

        for (size_t i = 0; cJSON_IsString(k) && i < sizeof kinds / sizeof *kinds; i++)
                if (strcmp(kinds[i].kind, k->valuestring) == 0)
                        return kinds[i].code;
        return NULL;
}

static const char *failed(const struct acp_failure *f, const char *code, const char *text, struct err *e)
{
        err_set(e, E_UNAVAIL, "%s failed: %.300s (%s)", f->agent, text, advice(code));
        return code;
}

static const char *not_logged_in(const struct acp_failure *f, struct err *e)
{
        err_set(e, E_UNAUTH,
                "%s is not logged in on this machine%s%s; log in there as the agent's user and try again",
                f->agent, f->login ? ": " : "", f->login ? f->login : "");
        return "not_logged_in";
}

/* "Authentication required". Before the first prompt nothing was sent to the API: there is no key or login at
 * all. Afterwards the API did not take it (401), unless the agent's own words say otherwise. */
static const char *auth(const struct acp_failure *f, struct err *e)
{
        const char *said = f->last_text ? f->last_text : "";
        int status = acp_find_status(said);

        if (f->phase != ACP_PHASE_PROMPT || strstr(said, "/login") || strstr(said, "ot logged in"))
                return not_logged_in(f, e);
        return failed(f, "auth_failed", status == 401 || status == 403 ? said : words(f->answer), e);
}

static const char *session_unknown(const struct acp_failure *f, struct err *e)
{
        err_set(e, E_NOENT,
                "%s does not know the session %.80s any more (%.200s); start without `session`, or say "
                "the `cwd` where it was made",
                f->agent, f->session ? f->session : "", words(f->answer));
        return "session_unknown";
}

static const char *by_number(const struct acp_failure *f, struct err *e)
{
        const struct jsonrpc_msg *m = f->answer;

        switch (m->code) {
        case AUTH_REQUIRED:
                return auth(f, e);
        case REQUEST_CANCELLED:
                return failed(f, "agent_error", words(m), e);
        case NOT_FOUND:
                if (f->phase == ACP_PHASE_PROMPT)
                        return session_unknown(f, e);
                break;
        case JSONRPC_METHOD_NOT_FOUND:
        case JSONRPC_INVALID_PARAMS:
        case JSONRPC_INVALID_REQUEST:
        case JSONRPC_PARSE_ERROR:
                return failed(f, "protocol_error", words(m), e);
        default:
                if (m->code >= 400 && m->code < 600)
                        return failed(f, acp_status_code((int)m->code), words(m), e);
        }
        return NULL;
}

const char *acp_error(const struct acp_failure *f, struct err *e)
{
        const struct jsonrpc_msg *m = f->answer;
        const char *code;
        int status;

        if (!m) {
                status = acp_find_status(f->last_text);
                return failed(f, status ? acp_status_code(status) : "agent_error",
                              f->last_text && f->last_text[0] ? f->last_text : "it gives no reason", e);
        }
        if (m->code == AUTH_REQUIRED)
                return auth(f, e);
        if (f->phase == ACP_PHASE_RESUME)
                return session_unknown(f, e);
        code = kind_code(m);
        if (code)
                return failed(f, code, words(m), e);
        code = by_number(f, e);
        if (code)
                return code;
        status = f->phase == ACP_PHASE_PROMPT ? acp_find_status(words(m)) : 0;
        if (status)
                return failed(f, acp_status_code(status), words(m), e);
        return failed(f, "agent_error", words(m), e);
}
