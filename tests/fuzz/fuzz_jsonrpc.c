/* jsonrpc_read: no line may crash it; what it accepts can be answered, and what it refuses says why. */
#include "agent/tools/jsonrpc.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_send(void *arg, const cJSON *v)
{
        return json_append(arg, v);
}

static void on_answer(void *arg, const struct jsonrpc_msg *m)
{
        (void)arg;
        if (m->kind != JSONRPC_RESULT && m->kind != JSONRPC_ERROR)
                abort();
}

/* Our own words must be messages, too. */
static void read_back(struct buf *b)
{
        struct jsonrpc_msg m;
        struct err e = {0};

        if (jsonrpc_read((char *)b->data, b->len, false, &m, &e) != 0)
                abort();
        jsonrpc_msg_fini(&m);
        buf_reset(b);
}

static void answer(struct jsonrpc *r, struct buf *b, const struct jsonrpc_msg *m)
{
        switch (m->kind) {
        case JSONRPC_REQUEST:
                if (jsonrpc_reply(r, m->id, cJSON_Duplicate(m->params, true)) != 0)
                        abort();
                read_back(b);
                break;
        case JSONRPC_NOTIFICATION:
                if (jsonrpc_notify(r, m->method, cJSON_Duplicate(m->params, true)) != 0)
                        abort();
                read_back(b);
                break;
        case JSONRPC_RESULT:
        case JSONRPC_ERROR:
                (void)jsonrpc_answer(r, m);
                break;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct jsonrpc r;
        struct jsonrpc_msg m;
        struct buf b;
        struct err e = {0};
        char *text;
        int rc;

        if (size == 0)
                return 0;
        text = mem_dup(data + 1, size - 1);
        buf_init(&b, 0);
        if ((!text && size > 1) || jsonrpc_init(&r, false, on_send, &b) ||
            jsonrpc_call(&r, "m", NULL, on_answer, NULL, NULL))
                abort();
        read_back(&b);
        rc = jsonrpc_read(text ? text : "", size - 1, data[0] & 1, &m, &e);
        if (rc == 0) {
                answer(&r, &b, &m);
                jsonrpc_msg_fini(&m);
        } else if (rc != -E_PROTO || !e.msg[0]) {
                abort();
        }
        jsonrpc_fini(&r);
        buf_fini(&b);
        mem_free(text);
        return 0;
}
