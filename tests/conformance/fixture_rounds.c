/* Questions of the modern era: the result is unfinished (resultType "input_required"),
 * and the client asks again with the answers and the state that it was given. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "tests/conformance/mcp_fixtures.h"

#define ASK_TEXT(key, message, field, type)                                                                  \
        "\"" key                                                                                             \
        "\":{\"method\":\"elicitation/create\",\"params\":{\"mode\":\"form\",\"message\":\"" message         \
        "\",\"requestedSchema\":{\"type\":\"object\",\"properties\":{\"" field "\":{\"type\":\"" type        \
        "\"}},\"required\":[\"" field "\"]}}}"
#define ASK_MODEL(key, text, tokens)                                                                         \
        "\"" key "\":{\"method\":\"sampling/createMessage\",\"params\":{\"messages\":[{\"role\":\"user\","   \
        "\"content\":{\"type\":\"text\",\"text\":\"" text "\"}}],\"maxTokens\":" tokens "}}"
#define ASK_ROOTS(key) "\"" key "\":{\"method\":\"roots/list\",\"params\":{}}"

/* A round: what is asked for, under which state, and which answers lead on. */
struct round {
        const char *tool;
        const char *state;   /* that this round is entered with; NULL: none, the first */
        const char *answers; /* keys that must be answered then, separated by a space */
        const char *asks;    /* members of inputRequests; NULL: the end */
        const char *gives;   /* the state that goes out; NULL: none */
        const char *text;    /* of the end */
};

#define NAME(key, message) ASK_TEXT(key, message, "name", "string")
#define CONFIRM            ASK_TEXT("confirm", "Please confirm", "ok", "boolean")
#define IRR                "test_input_required_result_"

static const struct round rounds[] = {
        {IRR "elicitation", NULL, "", NAME("user_name", "What is your name?"), NULL, NULL},
        {IRR "elicitation", NULL, "user_name", NULL, NULL, "Hello!"},
        {"test_streaming_elicitation", NULL, "", NAME("user_name", "What is your name?"), NULL, NULL},
        {"test_streaming_elicitation", NULL, "user_name", NULL, NULL, "Hello!"},
        {IRR "sampling", NULL, "", ASK_MODEL("capital_question", "What is the capital of France?", "100"),
         NULL, NULL},
        {IRR "sampling", NULL, "capital_question", NULL, NULL, "The model has answered."},
        {IRR "list_roots", NULL, "", ASK_ROOTS("client_roots"), NULL, NULL},
        {IRR "list_roots", NULL, "client_roots", NULL, NULL, "The roots are known."},
        {IRR "request_state", NULL, "", CONFIRM, "asked", NULL},
        {IRR "request_state", "asked", "confirm", NULL, NULL, "state-ok"},
        {IRR "tampered_state", NULL, "", CONFIRM, "asked", NULL},
        {IRR "tampered_state", "asked", "confirm", NULL, NULL, "state-ok"},
        {IRR "multiple_inputs", NULL, "",
         NAME("user_name", "What is your name?") "," ASK_MODEL("greeting", "Generate a greeting",
                                                               "50") "," ASK_ROOTS("client_roots"),
         "asked", NULL},
        {IRR "multiple_inputs", "asked", "user_name greeting client_roots", NULL, NULL, "All is known."},
        {IRR "multi_round", NULL, "", NAME("step1", "Step 1: What is your name?"), "first", NULL},
        {IRR "multi_round", "first", "step1",
         ASK_TEXT("step2", "Step 2: What is your favorite color?", "color", "string"), "second", NULL},
        {IRR "multi_round", "second", "step2", NULL, NULL, "Both steps are done."},
};

/* ---- the state that goes out and comes back: nobody else can make one ---- */

static uint8_t key[32];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
        id_random(key, sizeof key);
}

static void sign(const char *state, char out[128])
{
        uint8_t mac[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];

        pthread_once(&once, make_key);
        secret_hmac(key, sizeof key, state, strlen(state), mac);
        str_hex(mac, sizeof mac, hex);
        snprintf(out, 128, "%.40s.%s", state, hex);
}

/* False: it is not one of ours. "" where none came. */
static bool read_state(const struct mcp_call *c, char state[64])
{
        const cJSON *given = cJSON_GetObjectItemCaseSensitive(c->msg.params, "requestState");
        const char *dot = given ? strchr(cJSON_IsString(given) ? given->valuestring : "", '.') : NULL;
        char again[128];

        state[0] = '\0';
        if (!given)
                return true;
        if (!dot || dot - given->valuestring > 40)
                return false;
        snprintf(state, 64, "%.*s", (int)(dot - given->valuestring), given->valuestring);
        sign(state, again);
        return strlen(again) == strlen(given->valuestring) &&
               secret_equal(again, given->valuestring, strlen(again));
}

/* ---- rounds ---- */

static bool answered(const cJSON *responses, const char *keys)
{
        char word[32];

        while (*keys) {
                size_t n = strcspn(keys, " ");

                snprintf(word, sizeof word, "%.*s", (int)n, keys);
                if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(responses, word)))
                        return false;
                keys += n + strspn(keys + n, " ");
        }
        return true;
}

/* The last of the tool's rounds that this request has reached. */
static const struct round *find_round(const char *tool, const char *state, const cJSON *responses)
{
        const struct round *best = NULL;

        for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++)
                if (strcmp(rounds[i].tool, tool) == 0 &&
                    strcmp(rounds[i].state ? rounds[i].state : "", state) == 0 &&
                    answered(responses, rounds[i].answers))
                        best = &rounds[i];
        return best;
}

static int ask(struct http_req *q, struct mcp_call *c, const char *asks, const char *gives)
{
        char state[128];
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_printf(&b, "\"inputRequests\":{%s}", asks);
        if (!rc && gives) {
                sign(gives, state);
                rc = buf_printf(&b, ",\"requestState\":\"%s\"", state);
        }
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer_typed(q, c, "input_required", (const char *)b.data);
        buf_fini(&b);
        return rc;
}

static const cJSON *responses_of(struct mcp_call *c)
{
        const cJSON *r = cJSON_GetObjectItemCaseSensitive(c->msg.params, "inputResponses");

        if (r && !cJSON_IsObject(r))
                mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.inputResponses must be an object");
        return r;
}

/* Only what the client has said it can be asked. */
static int ask_what_it_can(struct http_req *q, struct mcp_call *c)
{
        bool elicit = c->can & MCP_CAN_ELICIT, sample = c->can & MCP_CAN_SAMPLE;
        char asks[1024];

        snprintf(asks, sizeof asks, "%s%s%s", elicit ? NAME("user_name", "What is your name?") : "",
                 elicit && sample ? "," : "",
                 sample ? ASK_MODEL("greeting", "Generate a greeting", "50") : "");
        return ask(q, c, asks, NULL);
}

int fixture_round_tool(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const cJSON *responses = responses_of(c);
        const struct round *r;
        char state[64];

        (void)e;
        if (c->fault.code)
                return -E_INVAL;
        if (!read_state(c, state)) {
                mcp_fault_set(&c->fault, MCP_E_PARAMS, 200,
                              "params.requestState is not one that was given out");
                return -E_INVAL;
        }
        if (strcmp(c->tool->name, IRR "capabilities") == 0)
                return ask_what_it_can(q, c);
        r = find_round(c->tool->name, state, responses);
        if (!r)
                r = find_round(c->tool->name, "", NULL); /* what was asked is not there: ask again */
        return r->asks ? ask(q, c, r->asks, r->gives) : fixture_text(q, c, r->text);
}

int fixture_round_prompt(struct http_req *q, struct mcp_call *c)
{
        const cJSON *responses = responses_of(c);

        if (c->fault.code)
                return -1;
        if (!answered(responses, "user_context"))
                return ask(
                        q, c,
                        ASK_TEXT("user_context", "What context should the prompt use?", "context", "string"),
                        NULL);
        return mcp_answer(q, c,
                          "\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":"
                          "\"A prompt with its context.\"}}]");
}

int fixture_needs_sampling(struct http_req *q, struct mcp_call *c, struct err *e)
{
        (void)e;
        if (c->can & MCP_CAN_SAMPLE)
                return fixture_text(q, c, "The client offers sampling.");
        mcp_fault_set(&c->fault, MCP_E_CAPABILITY, 400, "this tool needs the client's capability sampling");
        c->fault.data = mem_strdup("{\"requiredCapabilities\":{\"sampling\":{}}}");
        return -E_NOTSUP;
}
