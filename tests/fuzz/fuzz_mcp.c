/* mcp_parse and mcp_settle: no message may crash them; what they refuse has a code, a status
 * and words, and an error can be written for it that is JSON again. The first two lines of the
 * input are headers, the rest is the body. */
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/http/mcp_rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts a line off the front; NULL: an empty one. mem_free. */
static char *line(const char **p, size_t *n)
{
        const char *nl = memchr(*p, '\n', *n);
        size_t len = nl ? (size_t)(nl - *p) : *n;
        char *out = len && !memchr(*p, 0, len) ? mem_strndup(*p, len) : NULL;

        *n -= len + (nl ? 1 : 0);
        *p += len + (nl ? 1 : 0);
        return out;
}

static void check_fault(const struct mcp_msg *m, const struct mcp_fault *f)
{
        cJSON *doc = NULL;
        struct buf b;

        if (!f->code || f->status < 400 || !f->why.msg[0])
                abort();
        buf_init(&b, 0);
        if (mcp_write_error(&b, m->id, f) || json_parse((const char *)b.data, b.len, &doc, NULL))
                abort();
        if (m->id && !cJSON_Compare(m->id, cJSON_GetObjectItemCaseSensitive(doc, "id"), true))
                abort();
        cJSON_Delete(doc);
        buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *p = (const char *)data;
        size_t n = size;
        char *version = line(&p, &n), *method = line(&p, &n);
        struct mcp_headers h = {version, method, method};
        struct mcp_fault f = {0};
        struct mcp_terms t;
        struct mcp_msg m;
        int rc = mcp_parse(p, n, &m, &f);

        if (!rc && !m.method == (m.kind != MCP_RESPONSE))
                abort();
        if (!rc)
                rc = mcp_settle(&m, &h, &t, &f);
        if (rc)
                check_fault(&m, &f);
        else if (!t.version || (t.era == MCP_MODERN && m.kind == MCP_REQUEST && !t.capabilities))
                abort();
        mcp_msg_fini(&m);
        mcp_fault_fini(&f);
        mem_free(version);
        mem_free(method);
        return 0;
}
