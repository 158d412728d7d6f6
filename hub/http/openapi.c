/* The route table as an OpenAPI 3.1 document. */
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/version.h"
#include "hub/http/jsonw.h"
#include "hub/http/router.h"

/* Answers are open: fields may be added. Bodies are closed: unknown keys are refused. */
#define NULLABLE(t) "{\"type\":[\"" t "\",\"null\"]}"
#define STRING      "{\"type\":\"string\"}"
#define INTEGER     "{\"type\":\"integer\"}"
#define OBJECT      "{\"type\":\"object\"}"
#define BOOLEAN     "{\"type\":\"boolean\"}"
#define TIME        "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define DURATION    "{\"type\":\"string\",\"examples\":[\"300ms\",\"10s\",\"5m\"]}"
#define LABELS      "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}"
#define ROLE        "{\"enum\":[\"client\",\"operator\",\"technical-operator\",\"admin\"]}"
#define ERROR_OF                                                                                             \
        "{\"type\":[\"object\",\"null\"],\"properties\":{\"code\":" STRING ",\"message\":" STRING "}}"
#define REF(n) "{\"$ref\":\"#/components/schemas/" n "\"}"
#define PAGE(n)                                                                                              \
        "{\"type\":\"object\",\"required\":[\"items\",\"next_cursor\"],\"properties\":{\"items\":{\"type\":" \
        "\"array\",\"items\":" REF(n) "},\"next_cursor\":" NULLABLE("string") "}}"
#define WORKFLOW                                                                                             \
        "{\"type\":[\"string\",\"object\"],\"description\":\"The workflow as YAML or JSON text, or as an "   \
        "object\"}"

#define AMOUNT(name) ",\"" name "\":" REF("Amount")
#define TEXT(name)   ",\"" name "\":" NULLABLE("string")
#define AMOUNT_SCHEMA                                                                                        \
        "{\"type\":\"object\",\"properties\":{\"usd\":" NULLABLE("string") ",\"tokens\":" NULLABLE(          \
                "integer") "}}"
#define BUDGET_SCHEMA                                                                                        \
        "{\"type\":\"object\",\"required\":[\"id\",\"scope\",\"cap\",\"over\"],\"properties\":{"             \
        "\"id\":" STRING ",\"scope\":{\"enum\":[\"run\",\"project\",\"agent\",\"day\"]}" TEXT("name")        \
                AMOUNT("cap") ",\"over\":{\"enum\":[\"stop\",\"ask\"]}" AMOUNT("spent") AMOUNT("reserved")   \
                        AMOUNT("raised") AMOUNT("left") ",\"refused\":" BOOLEAN ",\"waiting\":" INTEGER      \
                                                        ",\"updated_at\":" TIME ",\"updated_by\":" STRING    \
                                                        "}}"
#define BUDGET_REQUEST_SCHEMA                                                                                \
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"                               \
        "\"usd\":{\"type\":[\"string\",\"number\",\"null\"]},\"tokens\":" NULLABLE(                          \
                "integer") ",\"over\":{\"enum\":[\"stop\",\"ask\"]},\"restart\":" BOOLEAN "}}"
#define LEDGER_ENTRY_SCHEMA                                                                                  \
        "{\"type\":\"object\",\"required\":[\"id\",\"state\"],\"properties\":{\"id\":" STRING                \
        ",\"state\":{\"enum\":[\"reserved\",\"settled\",\"lost\"]},\"attempt\":" INTEGER ",\"day\":" STRING  \
        ",\"stopped\":" BOOLEAN ",\"reserved_at\":" TIME ",\"settled_at\":" TIME TEXT("run") TEXT("step")    \
                TEXT("project") TEXT("agent") TEXT("tool") TEXT("model") TEXT("estimate") AMOUNT("reserved") \
                        AMOUNT("spent") AMOUNT("overrun") "}}"

static const struct {
        const char *name, *json;
} schemas[] = {
        {"Object", OBJECT},
        {"Problem",
         "{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\",\"detail\",\"code\"],"
         "\"properties\":{\"type\":" STRING ",\"title\":" STRING ",\"status\":" INTEGER ",\"detail\":" STRING
         ",\"code\":" STRING ",\"line\":" INTEGER ",\"column\":" INTEGER "}}"},
        {"Run", "{\"type\":\"object\",\"required\":[\"id\",\"workflow\",\"state\",\"created_at\"],"
                "\"properties\":{\"id\":" STRING ",\"workflow\":" STRING ",\"project\":" STRING
                ",\"kind\":{\"enum\":[\"run\",\"call\"]},\"state\":{\"enum\":[\"queued\",\"running\","
                "\"waiting\",\"succeeded\","
                "\"failed\",\"cancelled\"]},\"inputs\":" OBJECT ",\"outputs\":" OBJECT ",\"error\":" ERROR_OF
                ",\"priority\":" INTEGER ",\"created_by\":" STRING
                ",\"askers\":{\"type\":\"array\",\"items\":" STRING "},\"cancel_requested\":" BOOLEAN
                ",\"step_count\":" INTEGER ",\"created_at\":" TIME ",\"started_at\":" TIME
                ",\"finished_at\":" TIME AMOUNT("spent")
                        AMOUNT("reserved") ",\"steps\":{\"type\":\"array\",\"items\":" REF("Step") "}}}"},
        {"Step",
         "{\"type\":\"object\",\"required\":[\"id\",\"tool\",\"state\",\"attempt\"],\"properties\":{"
         "\"id\":" STRING ",\"tool\":" STRING
         ",\"state\":{\"enum\":[\"blocked\",\"ready\",\"waiting\",\"dispatched\",\"running\",\"succeeded\","
         "\"failed\",\"skipped\",\"cancelled\","
         "\"unknown\"]},\"attempt\":" INTEGER ",\"agent\":" NULLABLE(
                 "string") ",\"needs\":{\"type\":\"array\",\"items\":" STRING
                           "},\"exit_code\":" NULLABLE(
                                   "integer") ",\"error\":" ERROR_OF ",\"outputs\":" OBJECT
                                              ",\"created_at\":" TIME ",\"started_at\":" TIME
                                              ",\"finished_at\":" TIME ",\"usage\":" OBJECT
                                              ",\"checkpoint\":" STRING AMOUNT("spent")
                                                      AMOUNT("reserved") ",\"output_bytes\":" INTEGER
                                                                         ",\"attempts\":{\"type\":\"array\","
                                                                         "\"items\":" OBJECT "}}}"},
        {"Checkpoint",
         "{\"type\":\"object\",\"required\":[\"id\",\"state\",\"kind\",\"title\",\"sha256\"],\"properties\":{"
         "\"id\":" STRING ",\"state\":{\"enum\":[\"open\",\"approved\",\"rejected\",\"expired\","
         "\"withdrawn\"]},\"kind\":{\"enum\":["
         "\"permission\",\"input\",\"approval\",\"budget\",\"policy\"]},\"action\":" STRING
         ",\"title\":" STRING ",\"tool\":" STRING ",\"run\":" STRING ",\"workflow\":" STRING
         ",\"project\":" STRING ",\"step\":" STRING ",\"attempt\":" INTEGER ",\"step_tool\":" STRING
         ",\"agent\":" STRING ",\"asked_by\":" STRING ",\"sha256\":" STRING ",\"quorum\":" INTEGER
         ",\"approved\":" INTEGER ",\"rejected\":" INTEGER
         ",\"then\":{\"enum\":[\"deny\",\"fail\",\"skip\",\"escalate\"]},\"rules\":" OBJECT
         ",\"answers\":{\"type\":\"array\",\"items\":" OBJECT
         "},\"delegations\":{\"type\":\"array\",\"items\":" OBJECT "},\"escalated_at\":" TIME
         ",\"escalates_at\":" TIME
         ",\"arguments\":{\"type\":\"string\",\"description\":\"JSON text; sha256 is over these bytes\"}"
         ",\"schema\":" NULLABLE("object") ",\"content\":" NULLABLE(
                 "object") ",\"created_at\":" TIME ",\"expires_at\":" TIME ",\"decided_at\":" TIME
                           ",\"delivered_at\":" TIME ",\"decided_by\":" NULLABLE(
                                   "string") ",\"reason\":" NULLABLE("string") ",\"always\":" BOOLEAN "}}"},
        {"Agent",
         "{\"type\":\"object\",\"required\":[\"name\",\"id\",\"state\"],\"properties\":{\"name\":" STRING
         ",\"id\":" STRING
         ",\"state\":{\"enum\":[\"online\",\"offline\",\"draining\",\"revoked\"]},\"kind\":" STRING
         ",\"labels\":" LABELS ",\"tools\":{\"type\":\"array\"},\"version\":" STRING ",\"os\":" STRING
         ",\"arch\":" STRING ",\"last_seen_at\":" TIME ",\"running\":" INTEGER "}}"},
        {"Tool", "{\"type\":\"object\",\"required\":[\"name\",\"agents\"],\"properties\":{\"name\":" STRING
                 ",\"agents\":{\"type\":\"array\",\"items\":" STRING "}}}"},
        {"Model", "{\"type\":\"object\",\"required\":[\"id\",\"agent\",\"endpoint\",\"model\",\"local\"],"
                  "\"properties\":{"
                  "\"id\":" STRING ",\"agent\":" STRING ",\"online\":" BOOLEAN ",\"endpoint\":" STRING
                  ",\"kind\":" STRING ",\"model\":" STRING ",\"local\":" BOOLEAN ",\"has_key\":" BOOLEAN
                  ",\"capabilities\":{\"type\":\"array\",\"items\":" STRING "},\"context\":" INTEGER
                  ",\"max_output\":" INTEGER ",\"price\":" OBJECT ",\"measured\":" OBJECT "}}"},
        {"JoinToken", "{\"type\":\"object\",\"required\":[\"id\"],\"properties\":{\"id\":" STRING
                      ",\"token\":" STRING ",\"state\":" STRING ",\"uses\":" INTEGER ",\"uses_max\":" INTEGER
                      ",\"name\":" STRING ",\"labels\":" LABELS ",\"created_by\":" STRING
                      ",\"created_at\":" TIME ",\"expires_at\":" TIME ",\"revoked_at\":" TIME "}}"},
        {"ApiToken",
         "{\"type\":\"object\",\"required\":[\"id\",\"name\",\"role\"],\"properties\":{\"id\":" STRING
         ",\"token\":" STRING ",\"name\":" STRING ",\"role\":" STRING ",\"project\":" STRING
         ",\"user\":" NULLABLE("string") ",\"scopes\":{\"type\":[\"array\",\"null\"]},\"kind\":" STRING
                                         ",\"state\":" STRING ",\"created_by\":" STRING
                                         ",\"created_at\":" TIME ",\"expires_at\":" TIME
                                         ",\"revoked_at\":" TIME ",\"last_used_at\":" TIME "}}"},
        {"User",
         "{\"type\":\"object\",\"required\":[\"name\",\"id\",\"kind\",\"state\"],\"properties\":{"
         "\"name\":" STRING ",\"id\":" STRING
         ",\"kind\":{\"enum\":[\"user\",\"service\"]},\"state\":{\"enum\":[\"active\","
         "\"disabled\"]},\"email\":" NULLABLE("string") ",\"issuer\":" NULLABLE(
                 "string") ",\"roles\":" LABELS ",\"provider_roles\":" LABELS ",\"created_by\":" STRING
                           ",\"created_at\":" TIME ",\"disabled_at\":" TIME ",\"last_login_at\":" TIME "}}"},
        {"Project", "{\"type\":\"object\",\"required\":[\"name\",\"state\"],\"properties\":{\"name\":" STRING
                    ",\"title\":" STRING ",\"state\":{\"enum\":[\"open\",\"archived\"]},\"role\":" STRING
                    ",\"created_by\":" STRING ",\"created_at\":" TIME ",\"archived_at\":" TIME "}}"},
        {"Member", "{\"type\":\"object\",\"required\":[\"name\",\"role\"],\"properties\":{\"name\":" STRING
                   ",\"kind\":" STRING ",\"state\":" STRING ",\"project\":" STRING ",\"role\":" STRING "}}"},
        {"Validation",
         "{\"type\":\"object\",\"required\":[\"valid\",\"errors\",\"warnings\"],\"properties\":{"
         "\"valid\":" BOOLEAN
         ",\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"line\":" INTEGER
         ",\"column\":" INTEGER ",\"message\":" STRING ",\"code\":" STRING
         "}}},\"warnings\":{\"type\":\"array\",\"items\":" STRING "},\"name\":" STRING ",\"steps\":" INTEGER
         "}}"},
        {"AuditRecord",
         "{\"type\":\"object\",\"required\":[\"seq\",\"at\",\"action\",\"hash\"],\"properties\":{"
         "\"seq\":" INTEGER ",\"at\":" TIME ",\"action\":" STRING
         ",\"actor\":" NULLABLE("string") ",\"object\":" NULLABLE("string") ",\"detail\":" NULLABLE(
                 "object") ",\"erased\":{\"type\":\"array\",\"items\":" STRING "},\"hash\":" STRING "}}"},
        {"AuditPage", PAGE("AuditRecord")},
        {"AuditErase", "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"actor\":" STRING
                       ",\"object\":" STRING "}}"},
        {"AuditTrim", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"older_than\"],"
                      "\"properties\":{\"older_than\":" DURATION "}}"},
        {"Amount", AMOUNT_SCHEMA},
        {"Budget", BUDGET_SCHEMA},
        {"BudgetRequest", BUDGET_REQUEST_SCHEMA},
        {"LedgerEntry", LEDGER_ENTRY_SCHEMA},
        {"BudgetPage", PAGE("Budget")},
        {"LedgerPage", PAGE("LedgerEntry")},
        {"Secret", "{\"type\":\"object\",\"required\":[\"name\",\"project\",\"version\"],\"properties\":{"
                   "\"name\":" STRING ",\"project\":" STRING ",\"version\":" INTEGER ",\"keep\":" INTEGER
                   ",\"created_by\":" STRING ",\"updated_by\":" STRING ",\"created_at\":" TIME
                   ",\"updated_at\":" TIME ",\"versions\":{\"type\":\"array\",\"items\":" OBJECT "}}}"},
        {"SecretPage", PAGE("Secret")},
        {"SecretRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"value\":{\"type\":\"string\","
         "\"writeOnly\":true},\"value_base64\":{\"type\":\"string\",\"writeOnly\":true},\"keep\":{\"type\":"
         "\"integer\",\"minimum\":1,\"maximum\":100},\"unmasked\":" BOOLEAN "}}"},
        {"Vault", "{\"type\":\"object\",\"required\":[\"state\",\"key\"],\"properties\":{\"state\":{\"enum\":"
                  "[\"open\",\"locked\"]},\"why\":" STRING
                  ",\"key\":{\"enum\":[\"file\",\"credential\",\"passphrase\"]},\"master\":" STRING
                  ",\"data_key\":" INTEGER ",\"data_key_uses\":" INTEGER ",\"data_keys\":" INTEGER
                  ",\"resealing\":" BOOLEAN ",\"secrets\":" INTEGER "}}"},
        {"VaultUnlock", "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"passphrase\":{"
                        "\"type\":\"string\",\"writeOnly\":true}}}"},
        {"VaultRotate",
         "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"level\"],\"properties\":{"
         "\"level\":{"
         "\"enum\":[\"data\",\"master\"]},\"key\":{\"enum\":[\"file\",\"credential\",\"passphrase\"]},"
         "\"passphrase\":{\"type\":\"string\",\"writeOnly\":true},\"new_key\":{\"type\":\"string\","
         "\"writeOnly\":"
         "true}}}"},
        {"RunPage", PAGE("Run")},
        {"AgentPage", PAGE("Agent")},
        {"Notice",
         "{\"type\":\"object\",\"required\":[\"id\",\"state\",\"target\"],\"properties\":{\"id\":" STRING
         ",\"state\":{\"enum\":[\"pending\",\"delivered\",\"given_up\"]},\"event\":" STRING
         ",\"target\":" STRING ",\"checkpoint\":" STRING ",\"run\":" STRING ",\"project\":" STRING
         ",\"title\":" STRING ",\"attempts\":" INTEGER ",\"last_error\":" NULLABLE(
                 "string") ",\"created_at\":" TIME ",\"next_at\":" TIME ",\"done_at\":" TIME "}}"},
        {"NoticePage", PAGE("Notice")},
        {"CheckpointPage", PAGE("Checkpoint")},
        {"ToolPage", PAGE("Tool")},
        {"ModelPage", PAGE("Model")},
        {"JoinTokenPage", PAGE("JoinToken")},
        {"ApiTokenPage", PAGE("ApiToken")},
        {"UserPage", PAGE("User")},
        {"ProjectPage", PAGE("Project")},
        {"MemberPage", PAGE("Member")},
        {"UserRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\"],"
         "\"properties\":{\"name\":" STRING ",\"kind\":{\"enum\":[\"user\",\"service\"]},\"email\":" STRING
         ",\"subject\":" STRING "}}"},
        {"ProjectRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\"],"
                           "\"properties\":{\"name\":" STRING ",\"title\":" STRING "}}"},
        {"MemberRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"role\"],"
                          "\"properties\":{\"role\":" ROLE "}}"},
        {"RunRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"workflow\"],"
                       "\"properties\":{\"workflow\":" WORKFLOW ",\"inputs\":" OBJECT
                       ",\"priority\":{\"type\":\"integer\",\"minimum\":-100,\"maximum\":100}}}"},
        {"ValidateRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"workflow\"],"
                            "\"properties\":{\"workflow\":" WORKFLOW "}}"},
        {"CallRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"tool\"],\"properties\":{"
         "\"tool\":" STRING ",\"input\":" OBJECT ",\"agent\":" STRING ",\"labels\":" LABELS
         ",\"timeout\":" DURATION
         ",\"effect\":{\"enum\":[\"pure\",\"idempotent\",\"at-most-once\"]},\"stdin\":" BOOLEAN
         ",\"secrets\":{\"type\":\"array\"}}}"},
        {"CancelRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"reason\":" STRING "}}"},
        {"DecisionRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"reason\":" STRING
         ",\"content\":" OBJECT ",\"sha256\":" STRING ",\"always\":" BOOLEAN "}}"},
        {"DelegateRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"to\"],"
                            "\"properties\":{\"to\":" STRING "}}"},
        {"ResolveRequest", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"outcome\"],"
                           "\"properties\":{\"outcome\":{\"enum\":[\"retry\","
                           "\"succeeded\",\"failed\"]}}}"},
        {"LoginToken", "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"handle\"],"
                       "\"properties\":{\"handle\":" STRING "}}"},
        {"JoinTokenRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"uses\":{\"type\":\"integer\","
         "\"minimum\":1},\"ttl\":" DURATION ",\"name\":" STRING ",\"labels\":" LABELS "}}"},
        {"ApiTokenRequest",
         "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\",\"role\"],"
         "\"properties\":{\"name\":" STRING ",\"role\":" ROLE ",\"project\":" STRING ",\"user\":" STRING
         ",\"scopes\":{\"type\":\"array\",\"items\":" STRING "},\"ttl\":" DURATION "}}"},
};

static void parameter(struct jsonw *w, const char *name, size_t n, const char *in)
{
        char t[64];

        if (n >= sizeof t)
                return;
        memcpy(t, name, n);
        t[n] = '\0';
        jw_open(w, NULL, '{');
        jw_str(w, "name", t);
        jw_str(w, "in", in);
        if (strcmp(in, "path") == 0)
                jw_bool(w, "required", true);
        jw_raw(w, "schema", STRING, "");
        jw_close(w, '}');
}

static void parameters(struct jsonw *w, const struct route *r)
{
        jw_open(w, "parameters", '[');
        for (const char *p = strchr(r->pattern, '{'); p; p = strchr(p, '{')) {
                size_t n = strcspn(++p, "}");

                parameter(w, p, n, "path");
        }
        for (const char *p = r->query; *p;) {
                size_t n = strcspn(p, " ");

                parameter(w, p, n, "query");
                p += n + strspn(p + n, " ");
        }
        if (strcmp(r->method, "POST") == 0 && (r->flags & ROUTE_CHANGES))
                parameter(w, "Idempotency-Key", 15, "header");
        if (r->flags & ROUTE_STREAM)
                parameter(w, "Last-Event-ID", 13, "header");
        jw_close(w, ']');
}

static void reference(struct jsonw *w, const char *schema)
{
        char t[96] = "#/components/schemas/";

        strncat(t, schema, sizeof t - strlen(t) - 1);
        jw_open(w, "schema", '{');
        jw_str(w, "$ref", t);
        jw_close(w, '}');
}

static void request_body(struct jsonw *w, const struct route *r)
{
        if (!r->body_max || !(r->body || (r->flags & ROUTE_RAW)))
                return;
        jw_open(w, "requestBody", '{');
        jw_open(w, "content", '{');
        if (r->body) {
                jw_open(w, "application/json", '{');
                reference(w, r->body);
                jw_close(w, '}');
        }
        if (r->flags & ROUTE_YAML)
                jw_raw(w, "application/yaml", "{\"schema\":" STRING "}", "");
        if (r->flags & ROUTE_RAW)
                jw_raw(w, "application/octet-stream", "{}", "");
        jw_close(w, '}');
        jw_close(w, '}');
}

static const char *media_type(const struct route *r)
{
        return r->flags & ROUTE_STREAM  ? "text/event-stream"
               : r->flags & ROUTE_BYTES ? "application/octet-stream"
               : r->flags & ROUTE_TEXT  ? "text/plain"
               : r->flags & ROUTE_HTML  ? "text/html"
                                        : "application/json";
}

static void responses(struct jsonw *w, const struct route *r)
{
        char status[4] = {(char)('0' + r->status / 100), (char)('0' + r->status / 10 % 10),
                          (char)('0' + r->status % 10), 0};

        jw_open(w, "responses", '{');
        jw_open(w, status, '{');
        jw_str(w, "description", r->status == 201 ? "Created" : r->status == 204 ? "Done" : "OK");
        if (r->status != 204) {
                jw_open(w, "content", '{');
                jw_open(w, media_type(r), '{');
                if (r->answer)
                        reference(w, r->answer);
                jw_close(w, '}');
                jw_close(w, '}');
        }
        jw_close(w, '}');
        jw_raw(w, "default",
               "{\"description\":\"A problem (RFC "
               "9457)\",\"content\":{\"application/problem+json\":{\"schema\":" REF("Problem") "}}}",
               "");
        jw_close(w, '}');
}

static void operation(struct jsonw *w, const struct route *r)
{
        char key[8];
        size_t n = strlen(r->method);

        for (size_t i = 0; i <= n && i < sizeof key; i++)
                key[i] =
                        (char)(r->method[i] >= 'A' && r->method[i] <= 'Z' ? r->method[i] + 32 : r->method[i]);
        jw_open(w, key, '{');
        jw_str(w, "summary", r->summary);
        if (r->perm == PERM_PUBLIC)
                jw_raw(w, "security", "[]", "");
        else
                jw_str(w, "x-permission", permission_name(r->perm));
        parameters(w, r);
        request_body(w, r);
        responses(w, r);
        jw_close(w, '}');
}

/* Routes of one path stand together in the document, wherever they are in the table. */
static bool is_first(const struct route *rs, size_t i)
{
        for (size_t k = 0; k < i; k++)
                if (strcmp(rs[k].pattern, rs[i].pattern) == 0)
                        return false;
        return true;
}

int openapi_write(struct buf *b)
{
        size_t n;
        const struct route *rs = route_table(&n);
        struct jsonw w;

        jw_begin(&w, b);
        jw_open(&w, NULL, '{');
        jw_str(&w, "openapi", "3.1.0");
        jw_raw(&w, "info", "{\"title\":\"PHOTON hub\",\"version\":\"" PHOTON_VERSION "\"}", "");
        jw_raw(&w, "security", "[{\"token\":[]}]", "");
        jw_open(&w, "paths", '{');
        for (size_t i = 0; i < n; i++) {
                if (!is_first(rs, i))
                        continue;
                jw_open(&w, rs[i].pattern, '{');
                for (size_t k = i; k < n; k++)
                        if (strcmp(rs[k].pattern, rs[i].pattern) == 0)
                                operation(&w, &rs[k]);
                jw_close(&w, '}');
        }
        jw_close(&w, '}');
        jw_open(&w, "components", '{');
        jw_raw(&w, "securitySchemes", "{\"token\":{\"type\":\"http\",\"scheme\":\"bearer\"}}", "");
        jw_open(&w, "schemas", '{');
        for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
                jw_raw(&w, schemas[i].name, schemas[i].json, "{}");
        jw_close(&w, '}');
        jw_close(&w, '}');
        jw_close(&w, '}');
        return jw_end(&w);
}
