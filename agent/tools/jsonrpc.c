#include "agent/tools/jsonrpc.h"

#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"

#define INTEGER_MAX 9007199254740991.0 /* 2^53 - 1: larger ones do not come through JSON unharmed */

struct waiting {
        void (*on_answer)(void *arg, const struct jsonrpc_msg *m);
        void *arg;
};

/* ---- reading ---- */

static bool whole(const cJSON *v)
{
        return cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble) &&
               fabs(v->valuedouble) <= INTEGER_MAX;
}

static int bad(struct err *e, const char *why)
{
        return err_set(e, E_PROTO, "this is no JSON-RPC message: %s", why);
}

static int read_id(const cJSON *o, struct jsonrpc_msg *m, struct err *e)
{
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(o, "id");

        if (!id || cJSON_IsNull(id))
                return 0;
        if (!whole(id) && !(cJSON_IsString(id) && strlen(id->valuestring) <= JSONRPC_ID_MAX))
                return bad(e, "\"id\" must be a whole number or a short text");
        m->id = id;
        return 0;
}

static int read_request(const cJSON *o, const cJSON *method, struct jsonrpc_msg *m, struct err *e)
{
        const cJSON *params = cJSON_GetObjectItemCaseSensitive(o, "params");

        if (!cJSON_IsString(method))
                return bad(e, "\"method\" must be a text");
        if (params && !cJSON_IsNull(params)) {
                if (!cJSON_IsObject(params) && !cJSON_IsArray(params))
                        return bad(e, "\"params\" must be an object or an array");
                m->params = params;
        }
        m->method = method->valuestring;
        m->kind = m->id ? JSONRPC_REQUEST : JSONRPC_NOTIFICATION;
        return 0;
}

static int read_error(const cJSON *error, struct jsonrpc_msg *m, struct err *e)
{
        const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
        const cJSON *message = cJSON_GetObjectItemCaseSensitive(error, "message");

        if (!cJSON_IsObject(error))
                return bad(e, "\"error\" must be an object");
        m->kind = JSONRPC_ERROR;
        m->code = whole(code) ? (int64_t)code->valuedouble : JSONRPC_INTERNAL_ERROR;
        m->message = cJSON_IsString(message) ? message->valuestring : "";
        m->data = cJSON_GetObjectItemCaseSensitive(error, "data");
        return 0;
}

static int read_answer(const cJSON *o, struct jsonrpc_msg *m, struct err *e)
{
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(o, "error");
        const cJSON *result = cJSON_GetObjectItemCaseSensitive(o, "result");

        if (error && !cJSON_IsNull(error))
                return read_error(error, m, e);
        if (!m->id)
                return bad(e, "it has neither \"method\" nor an \"id\"");
        m->kind = JSONRPC_RESULT;
        m->result = cJSON_IsNull(result) ? NULL : result;
        return 0;
}

static int read_members(const cJSON *o, bool bare, struct jsonrpc_msg *m, struct err *e)
{
        const cJSON *version = cJSON_GetObjectItemCaseSensitive(o, "jsonrpc");
        const cJSON *method = cJSON_GetObjectItemCaseSensitive(o, "method");
        int rc;

        if (!cJSON_IsObject(o))
                return bad(e, "it must be an object");
        if (version ? !cJSON_IsString(version) || strcmp(version->valuestring, "2.0") != 0 : !bare)
                return bad(e, "\"jsonrpc\" must be \"2.0\"");
        rc = read_id(o, m, e);
        if (rc)
                return rc;
        return method ? read_request(o, method, m, e) : read_answer(o, m, e);
}

int jsonrpc_read_tree(cJSON *tree, bool bare, struct jsonrpc_msg *out, struct err *e)
{
        struct jsonrpc_msg m = {.tree = tree};
        int rc = read_members(tree, bare, &m, e);

        if (rc)
                cJSON_Delete(tree);
        else
                *out = m;
        return rc;
}

int jsonrpc_read(char *text, size_t n, bool bare, struct jsonrpc_msg *out, struct err *e)
{
        struct err why = {0};
        cJSON *tree = NULL;
        int rc;

        json_mend(text, n);
        rc = json_parse(text, n, &tree, &why);
        if (rc == -E_NOMEM)
                return err_set(e, E_NOMEM, "no memory for a message");
        if (rc)
                return bad(e, why.msg);
        return jsonrpc_read_tree(tree, bare, out, e);
}

void jsonrpc_msg_fini(struct jsonrpc_msg *m)
{
        cJSON_Delete(m->tree);
        memset(m, 0, sizeof *m);
}

/* ---- our end ---- */

int jsonrpc_init(struct jsonrpc *r, bool bare, int (*send)(void *arg, const cJSON *message), void *arg)
{
        memset(r, 0, sizeof *r);
        r->bare = bare;
        r->send = send;
        r->arg = arg;
        r->waiting = map_create();
        return r->waiting ? 0 : -E_NOMEM;
}

void jsonrpc_fini(struct jsonrpc *r)
{
        size_t it = 0;
        void *w;

        if (!r->waiting)
                return;
        while (map_next(r->waiting, &it, NULL, &w))
                mem_free(w);
        map_free(r->waiting);
        r->waiting = NULL;
}

/* Takes v; v NULL: no memory was left for it. */
static bool put(cJSON *o, const char *key, cJSON *v)
{
        if (v && cJSON_AddItemToObject(o, key, v))
                return true;
        cJSON_Delete(v);
        return false;
}

static cJSON *envelope(const struct jsonrpc *r)
{
        cJSON *o = cJSON_CreateObject();

        if (o && !r->bare && !put(o, "jsonrpc", cJSON_CreateString("2.0"))) {
                cJSON_Delete(o);
                return NULL;
        }
        return o;
}

/* Takes o. */
static int send_and_free(struct jsonrpc *r, cJSON *o)
{
        int rc = r->send(r->arg, o);

        cJSON_Delete(o);
        return rc;
}

/* id: a number, or NULL for a notification; taken like params. */
static int send_request(struct jsonrpc *r, cJSON *id, const char *method, cJSON *params)
{
        cJSON *o = envelope(r);
        bool ok = o && (!id || put(o, "id", id));

        if (!o)
                cJSON_Delete(id);
        if (ok)
                ok = put(o, "method", cJSON_CreateString(method));
        if (ok && params)
                ok = put(o, "params", params);
        else
                cJSON_Delete(params);
        if (ok)
                return send_and_free(r, o);
        cJSON_Delete(o);
        return -E_NOMEM;
}

int jsonrpc_call(struct jsonrpc *r, const char *method, cJSON *params,
                 void (*on_answer)(void *arg, const struct jsonrpc_msg *m), void *arg, uint64_t *out_id)
{
        uint64_t number = r->next_id;
        struct waiting *w = NULL;
        cJSON *id = NULL;
        int rc = -E_FULL;

        if (map_count(r->waiting) >= JSONRPC_WAITING_MAX)
                goto fail;
        rc = -E_NOMEM;
        w = mem_calloc(1, sizeof *w);
        id = cJSON_CreateNumber((double)number);
        if (!w || !id)
                goto fail;
        w->on_answer = on_answer;
        w->arg = arg;
        rc = map_put_u64(r->waiting, number, w, NULL);
        if (rc)
                goto fail;
        r->next_id++;
        rc = send_request(r, id, method, params);
        if (rc)
                jsonrpc_forget(r, number);
        else if (out_id)
                *out_id = number;
        return rc;
fail:
        mem_free(w);
        cJSON_Delete(id);
        cJSON_Delete(params);
        return rc;
}

int jsonrpc_notify(struct jsonrpc *r, const char *method, cJSON *params)
{
        return send_request(r, NULL, method, params);
}

/* Takes value. */
static int send_answer(struct jsonrpc *r, const cJSON *id, const char *key, cJSON *value)
{
        cJSON *o = envelope(r);
        bool ok = o && put(o, "id", id ? cJSON_Duplicate(id, false) : cJSON_CreateNull());

        if (ok)
                ok = put(o, key, value);
        else
                cJSON_Delete(value);
        if (ok)
                return send_and_free(r, o);
        cJSON_Delete(o);
        return -E_NOMEM;
}

int jsonrpc_reply(struct jsonrpc *r, const cJSON *id, cJSON *result)
{
        return send_answer(r, id, "result", result ? result : cJSON_CreateNull());
}

int jsonrpc_reply_error(struct jsonrpc *r, const cJSON *id, int code, const char *message)
{
        cJSON *error = cJSON_CreateObject();

        if (error && put(error, "code", cJSON_CreateNumber(code)) &&
            put(error, "message", cJSON_CreateString(message)))
                return send_answer(r, id, "error", error);
        cJSON_Delete(error);
        return -E_NOMEM;
}

int jsonrpc_answer(struct jsonrpc *r, const struct jsonrpc_msg *m)
{
        struct waiting *w = NULL;

        if (cJSON_IsNumber(m->id) && m->id->valuedouble >= 0)
                w = map_del_u64(r->waiting, (uint64_t)m->id->valuedouble);
        if (!w)
                return -E_NOENT;
        w->on_answer(w->arg, m);
        mem_free(w);
        return 0;
}

void jsonrpc_forget(struct jsonrpc *r, uint64_t id)
{
        mem_free(map_del_u64(r->waiting, id));
}

size_t jsonrpc_waiting(const struct jsonrpc *r)
{
        return map_count(r->waiting);
}
