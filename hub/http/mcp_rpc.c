#include "hub/http/mcp_rpc.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* The legacy era's revisions, newest first. */
static const char *const legacy[] = {MCP_LEGACY_VERSION, "2025-06-18", "2025-03-26", "2024-11-05"};

#define N_LEGACY (sizeof legacy / sizeof *legacy)
#define UNNAMED_VERSION                                                                                      \
        "2025-03-26" /* what a missing header means (2025-11-25, "Protocol Version Header")                  \
                      */

static const cJSON *member(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

int mcp_fault_set(struct mcp_fault *f, int code, int status, const char *fmt, ...)
{
        va_list ap;

        f->code = code;
        f->status = status;
        va_start(ap, fmt);
        err_setv(&f->why, E_INVAL, fmt, ap);
        va_end(ap);
        return -1;
}

void mcp_fault_fini(struct mcp_fault *f)
{
        mem_free(f->data);
        *f = (struct mcp_fault){0};
}

void mcp_msg_fini(struct mcp_msg *m)
{
        cJSON_Delete(m->doc);
        *m = (struct mcp_msg){0};
}

/* ---- the shape of a message ---- */

static bool good_id(const cJSON *id)
{
        if (cJSON_IsString(id))
                return strlen(id->valuestring) <= MCP_ID_MAX;
        return cJSON_IsNumber(id) && fabs(id->valuedouble) <= MCP_INT_MAX &&
               id->valuedouble == floor(id->valuedouble);
}

static int read_response(struct mcp_msg *m, struct mcp_fault *f)
{
        const cJSON *error = member(m->doc, "error");

        m->kind = MCP_RESPONSE;
        m->result = member(m->doc, "result");
        if (!m->result == !error)
                return mcp_fault_set(f, MCP_E_REQUEST, 400,
                                     "a message has a \"method\", a \"result\" or an \"error\", one of them");
        if (!m->id)
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "a response needs the \"id\" that it answers");
        if (error ? !cJSON_IsObject(error) : !cJSON_IsObject(m->result))
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "\"result\" and \"error\" are objects");
        return 0;
}

static int read_call(struct mcp_msg *m, const cJSON *method, struct mcp_fault *f)
{
        m->kind = m->id ? MCP_REQUEST : MCP_NOTIFICATION;
        if (!cJSON_IsString(method) || !*method->valuestring || strlen(method->valuestring) > MCP_METHOD_MAX)
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "\"method\" must be text of 1 to %d bytes",
                                     MCP_METHOD_MAX);
        if (member(m->doc, "result") || member(m->doc, "error"))
                return mcp_fault_set(f, MCP_E_REQUEST, 400,
                                     "a request carries no \"result\" and no \"error\"");
        m->method = method->valuestring;
        m->params = member(m->doc, "params");
        if (m->params && !cJSON_IsObject(m->params)) {
                m->params = NULL;
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "\"params\" must be an object");
        }
        m->meta = member(m->params, "_meta");
        if (m->meta && !cJSON_IsObject(m->meta)) {
                m->meta = NULL;
                return mcp_fault_set(f, MCP_E_PARAMS, 400, "params._meta must be an object");
        }
        return 0;
}

int mcp_parse(const char *text, size_t n, struct mcp_msg *out, struct mcp_fault *f)
{
        const cJSON *version, *id, *method;
        struct err e = {0};
        int rc;

        *out = (struct mcp_msg){0};
        rc = json_parse(text, n, &out->doc, &e);
        if (rc == -E_NOMEM)
                return mcp_fault_set(f, MCP_E_INTERNAL, 503, "out of memory");
        if (rc)
                return mcp_fault_set(f, MCP_E_PARSE, 400, "the body is not JSON: line %d, column %d: %s",
                                     e.line, e.col, e.msg);
        if (cJSON_IsArray(out->doc))
                return mcp_fault_set(f, MCP_E_REQUEST, 400,
                                     "batches are not taken: send each message as its own POST");
        if (!cJSON_IsObject(out->doc))
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "a message is a JSON object");
        id = member(out->doc, "id");
        if (id && !good_id(id))
                return mcp_fault_set(f, MCP_E_REQUEST, 400,
                                     "\"id\" must be a whole number or text of at most %d bytes", MCP_ID_MAX);
        out->id = id;
        version = member(out->doc, "jsonrpc");
        if (!cJSON_IsString(version) || strcmp(version->valuestring, "2.0") != 0)
                return mcp_fault_set(f, MCP_E_REQUEST, 400, "\"jsonrpc\" must be \"2.0\"");
        method = member(out->doc, "method");
        return method ? read_call(out, method, f) : read_response(out, f);
}

/* ---- the terms ---- */

const char *mcp_negotiate(const char *asked)
{
        for (size_t i = 0; asked && i < N_LEGACY; i++)
                if (strcmp(asked, legacy[i]) == 0)
                        return legacy[i];
        return MCP_LEGACY_VERSION;
}

const char *mcp_legacy_version(const char *header)
{
        if (!header || !*header)
                return UNNAMED_VERSION;
        for (size_t i = 0; i < N_LEGACY; i++)
                if (strcmp(header, legacy[i]) == 0)
                        return legacy[i];
        return NULL;
}

bool mcp_can(const cJSON *capabilities, const char *name)
{
        return cJSON_IsObject(member(capabilities, name));
}

static bool is_modern(const char *version)
{
        return version && strcmp(version, MCP_MODERN_VERSION) == 0;
}

/* Both eras' lists: who asks with an unknown version has not said which era it is of. */
static int unsupported(struct mcp_fault *f, const char *asked)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, "{\"supported\":[\"" MCP_MODERN_VERSION "\"],\"requested\":");
        if (!rc)
                rc = json_append_str(&b, asked, strlen(asked));
        if (!rc)
                rc = buf_putc(&b, '}');
        f->data = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        return mcp_fault_set(f, MCP_E_VERSION, 400,
                             "protocol version %.64s is not spoken here: " MCP_MODERN_VERSION
                             ", or " MCP_LEGACY_VERSION " and older with initialize",
                             asked);
}

/* Header values that are not plain text come as =?base64?...?=. mem_free; NULL: malformed. */
static char *header_text(const char *v)
{
        size_t n;
        uint8_t *raw = NULL;

        v += strspn(v, " \t");
        n = strlen(v);
        while (n && (v[n - 1] == ' ' || v[n - 1] == '\t'))
                n--;
        if (n < 11 || strncmp(v, "=?base64?", 9) != 0 || memcmp(v + n - 2, "?=", 2) != 0)
                return mem_strndup(v, n);
        if (str_unb64(v + 9, n - 11, &raw, &n))
                return NULL;
        if (memchr(raw, 0, n)) {
                mem_free(raw);
                return NULL;
        }
        return (char *)raw; /* str_unb64 ends it with a NUL */
}

/* Does the header say the same as the body? */
static int agree(const char *name, const char *header, const char *body, struct mcp_fault *f)
{
        char *text;
        bool same;

        if (!header)
                return mcp_fault_set(f, MCP_E_HEADER, 400,
                                     "the header %s is missing; the body says \"%.100s\"", name, body);
        text = header_text(header);
        same = text && strcmp(text, body) == 0;
        mem_free(text);
        if (same)
                return 0;
        return mcp_fault_set(f, MCP_E_HEADER, 400,
                             "the header %s says \"%.100s\", but the body says \"%.100s\"", name, header,
                             body);
}

/* The member that Mcp-Name repeats. */
static const char *named(const struct mcp_msg *m)
{
        static const struct {
                const char *method, *key;
        } names[] = {{"tools/call", "name"}, {"prompts/get", "name"}, {"resources/read", "uri"}};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (strcmp(m->method, names[i].method) == 0)
                        return cJSON_GetStringValue(member(m->params, names[i].key));
        return NULL;
}

static int settle_modern(const struct mcp_msg *m, const struct mcp_headers *h, struct mcp_terms *out,
                         struct mcp_fault *f)
{
        const cJSON *version = member(m->meta, MCP_META "protocolVersion");
        const char *name = named(m);

        out->era = MCP_MODERN;
        out->capabilities = member(m->meta, MCP_META "clientCapabilities");
        out->log_level = cJSON_GetStringValue(member(m->meta, MCP_META "logLevel"));
        if (!cJSON_IsString(version))
                return mcp_fault_set(f, MCP_E_PARAMS, 400,
                                     "params._meta[\"" MCP_META "protocolVersion\"] is missing or no text");
        if (!cJSON_IsObject(out->capabilities))
                return mcp_fault_set(f, MCP_E_PARAMS, 400,
                                     "params._meta[\"" MCP_META
                                     "clientCapabilities\"] is missing or no object");
        if (agree("MCP-Protocol-Version", h->version, version->valuestring, f))
                return -1;
        if (!is_modern(version->valuestring))
                return unsupported(f, version->valuestring);
        out->version = MCP_MODERN_VERSION;
        if (agree("Mcp-Method", h->method, m->method, f))
                return -1;
        return name ? agree("Mcp-Name", h->name, name, f) : 0;
}

/* A message is of the modern era when its _meta says so, or, where a request's _meta says nothing, when its
 * header does: then it is refused for what it lacks. Notifications and responses have nothing to lack. */
int mcp_settle(const struct mcp_msg *m, const struct mcp_headers *h, struct mcp_terms *out,
               struct mcp_fault *f)
{
        const cJSON *token = member(m->meta, "progressToken");
        bool claims = m->meta && member(m->meta, MCP_META "protocolVersion");

        *out = (struct mcp_terms){0};
        if (token && (cJSON_IsString(token) || cJSON_IsNumber(token)))
                out->progress_token = token;
        if (m->kind == MCP_REQUEST && !claims && is_modern(h->version) &&
            strcmp(m->method, "initialize") == 0)
                return mcp_fault_set(f, MCP_E_HEADER, 400,
                                     "the header MCP-Protocol-Version says " MCP_MODERN_VERSION
                                     ", which has no initialize");
        if (m->kind == MCP_REQUEST && (claims || is_modern(h->version)))
                return settle_modern(m, h, out, f);
        if (is_modern(h->version)) {
                out->era = MCP_MODERN;
                out->version = MCP_MODERN_VERSION;
                return 0;
        }
        out->version = mcp_legacy_version(h->version);
        return out->version ? 0 : unsupported(f, h->version);
}

/* ---- writing ---- */

int mcp_write_error(struct buf *b, const cJSON *id, const struct mcp_fault *f)
{
        int rc = buf_puts(b, "{\"jsonrpc\":\"2.0\",\"id\":");

        if (!rc)
                rc = id ? json_append(b, id) : buf_puts(b, "null");
        if (!rc)
                rc = buf_printf(b, ",\"error\":{\"code\":%d,\"message\":", f->code);
        if (!rc)
                rc = json_append_str(b, f->why.msg, strlen(f->why.msg));
        if (!rc && f->data)
                rc = buf_printf(b, ",\"data\":%s", f->data);
        return rc ? rc : buf_puts(b, "}}");
}
