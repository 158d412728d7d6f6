#include "agent/tools/codex_in.h"

#include <string.h>
#include <strings.h>

#include "agent/tools/ai_json.h"

static const struct {
        const char *info, *code;
} named[] = {
        {"unauthorized", "auth_failed"},
        {"usageLimitExceeded", "quota_exceeded"},
        {"rateLimitExceeded", "rate_limited"},
        {"serverOverloaded", "overloaded"},
        {"flexUnavailable", "overloaded"},
        {"policyCapacityUnavailable", "overloaded"},
        {"modelNotFound", "unknown_model"},
        {"contextWindowExceeded", "max_tokens"},
        {"sessionBudgetExceeded", "cost_limit"},
        {"internalServerError", "server_error"},
        {"badRequest", "bad_request"},
        {"cyberPolicy", "refused"},
        {"misalignmentPolicyViolation", "refused"},
        {"tooManyDenials", "permission_refused"},
};

static const char *status_code(int64_t status)
{
        if (status == 401 || status == 403)
                return "auth_failed";
        if (status == 404)
                return "unknown_model";
        if (status == 429)
                return "rate_limited";
        if (status == 503 || status == 529)
                return "overloaded";
        if (status >= 500)
                return "server_error";
        return status >= 400 ? "bad_request" : NULL;
}

/* {"httpConnectionFailed": {"httpStatusCode": 401}}: one member, whose name is the kind. */
static const char *kind_code(const cJSON *info, const char *message)
{
        const char *code = status_code(ai_count_of(info->child, "httpStatusCode"));

        if (code)
                return code;
        if (strstr(message, "401 Unauthorized"))
                return "auth_failed";
        return ai_is(info->child->string, "responseStreamDisconnected") ? "stream_ended" : "connect_failed";
}

const char *codex_error_code(const cJSON *error)
{
        const cJSON *info = ai_member(error, "codexErrorInfo");
        const char *message = ai_text_of(error, "message");

        if (!message)
                message = "";
        for (size_t i = 0; cJSON_IsString(info) && i < sizeof named / sizeof *named; i++)
                if (strcmp(named[i].info, info->valuestring) == 0)
                        return named[i].code;
        if (cJSON_IsObject(info) && info->child)
                return kind_code(info, message);
        if (strcasestr(message, "model") &&
            (strcasestr(message, "not found") || strcasestr(message, "does not exist")))
                return "unknown_model";
        /* "other" with the body of an HTTP answer: the API did not take the request. */
        return strncmp(message, "{\"error\"", 8) == 0 ? "bad_request" : "agent_error";
}

static const struct {
        const char *code, *advice;
} advices[] = {
        {"auth_failed", "the key or the login is not accepted: log in again on this machine (codex login)"},
        {"quota_exceeded", "see the account's balance and limits"},
        {"rate_limited", "wait, or use another account or model"},
        {"overloaded", "the service has too much to do: try again later"},
        {"unknown_model", "see which models this account may use, and change \"model\""},
        {"max_tokens", "the conversation is too long for the model: begin a new one"},
        {"server_error", "the service is in trouble: try again later"},
        {"bad_request", "the service does not take the request"},
        {"connect_failed",
         "see whether this machine reaches the service, and the base URL in Codex's configuration"},
        {"stream_ended", "the service broke off: try again"},
};

const char *codex_error_advice(const char *code)
{
        for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
                if (strcmp(advices[i].code, code) == 0)
                        return advices[i].advice;
        return "see its words and its events";
}
