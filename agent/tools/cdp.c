#include "agent/tools/cdp.h"

#include <inttypes.h>
#include <string.h>

#include "agent/tools/stdio_peer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"

struct waiting {
        uint64_t id;
        struct list link;
        cdp_answer *on_answer;
        void *arg;
};

struct cdp {
        struct cdp_options o;
        struct stdio_peer *peer;
        struct map *by_id;
        struct list waiting;
        uint64_t next_id;
        bool gone;
};

int cdp_read(char *text, size_t n, struct jsonrpc_msg *m, const char **session, struct err *e)
{
        const char *s = NULL;
        int rc = jsonrpc_read(text, n, true, m, e);

        if (rc)
                return rc;
        if (json_str_opt(m->tree, "sessionId", &s, e)) {
                jsonrpc_msg_fini(m);
                return -E_PROTO;
        }
        *session = s ? s : "";
        return 0;
}

/* ---- answers ---- */

static struct waiting *take_waiting(struct cdp *c, const cJSON *id)
{
        struct waiting *w;

        if (!cJSON_IsNumber(id) || id->valuedouble < 1 || id->valuedouble > 9e15)
                return NULL;
        w = map_del_u64(c->by_id, (uint64_t)id->valuedouble);
        if (w)
                list_remove(&w->link);
        return w;
}

static void on_answer(struct cdp *c, const struct jsonrpc_msg *m)
{
        struct waiting *w = take_waiting(c, m->id);
        struct err e = {0};
        int rc = 0;

        if (!w)
                return;
        if (m->kind == JSONRPC_ERROR)
                rc = err_set(&e, E_INVAL, "%s", *m->message ? m->message : "the browser refused a command");
        if (w->on_answer)
                w->on_answer(w->arg, rc, m->result, &e);
        mem_free(w);
}

static void fail_waiting(struct cdp *c)
{
        struct err e = {0};
        struct list *it;

        err_set(&e, E_CLOSED, "the browser died");
        while ((it = list_pop(&c->waiting))) {
                struct waiting *w = container_of(it, struct waiting, link);

                map_del_u64(c->by_id, w->id);
                if (w->on_answer)
                        w->on_answer(w->arg, -E_CLOSED, NULL, &e);
                mem_free(w);
        }
}

void cdp_forget(struct cdp *c, void *arg)
{
        LIST_EACH (it, &c->waiting) {
                struct waiting *w = container_of(it, struct waiting, link);

                if (w->arg == arg)
                        w->on_answer = NULL;
        }
}

/* ---- the process ---- */

static void on_message(void *arg, char *text, size_t n)
{
        struct cdp *c = arg;
        struct jsonrpc_msg m;
        const char *session;
        struct err e = {0};
        int rc = cdp_read(text, n, &m, &session, &e);

        if (rc) {
                /* Nothing to hold an answer against: what waits for it would wait for ever. */
                log_warn("cdp", "the browser wrote what is no message", "pid=%d error=%s",
                         (int)stdio_peer_pid(c->peer), e.msg);
                stdio_peer_stop(c->peer, 0);
                return;
        }
        if (m.kind == JSONRPC_RESULT || m.kind == JSONRPC_ERROR)
                on_answer(c, &m);
        else if (m.kind == JSONRPC_NOTIFICATION)
                c->o.on_event(c->o.arg, session, m.method, m.params);
        jsonrpc_msg_fini(&m);
}

static void on_fault(void *arg, const struct err *e)
{
        struct cdp *c = arg;

        if (e->code == E_PROTO)
                return; /* it was killed while it wrote */
        log_warn("cdp", "the browser is ended", "pid=%d error=%s", (int)stdio_peer_pid(c->peer), e->msg);
        stdio_peer_stop(c->peer, 0);
}

static void on_eof(void *arg)
{
        struct cdp *c = arg;

        stdio_peer_stop(c->peer, 0);
}

static void on_gone(void *arg)
{
        struct cdp *c = arg;

        c->gone = true;
        fail_waiting(c);
        c->o.on_gone(c->o.arg);
}

int cdp_start(const struct cdp_options *o, struct cdp **out, struct err *e)
{
        struct cdp *c = mem_calloc(1, sizeof *c);
        struct stdio_peer_options po = {.loop = o->loop,
                                        .path = o->path,
                                        .tool = "browser",
                                        .argv = o->argv,
                                        .env = o->env,
                                        .cwd = o->cwd,
                                        .marker = o->marker,
                                        .line_max = CDP_MESSAGE_MAX,
                                        .nul_ended = true,
                                        .fds_3_4 = true,
                                        .on_message = on_message,
                                        .on_fault = on_fault,
                                        .on_eof = on_eof,
                                        .on_gone = on_gone,
                                        .arg = c};
        int rc = -E_NOMEM;

        if (!c)
                return err_set(e, E_NOMEM, "out of memory");
        c->o = *o;
        c->next_id = 1;
        list_init(&c->waiting);
        c->by_id = map_create();
        rc = c->by_id ? stdio_peer_start(&po, &c->peer, e) : err_set(e, E_NOMEM, "out of memory");
        if (rc) {
                map_free(c->by_id);
                mem_free(c);
                return rc;
        }
        *out = c;
        return 0;
}

void cdp_free(struct cdp *c)
{
        if (!c)
                return;
        fail_waiting(c);
        stdio_peer_free(c->peer);
        map_free(c->by_id);
        mem_free(c);
}

void cdp_kill(struct cdp *c)
{
        stdio_peer_stop(c->peer, 0);
}

void cdp_close(struct cdp *c, int grace_ms)
{
        stdio_peer_end_input(c->peer);
        stdio_peer_stop(c->peer, grace_ms);
}

void cdp_abandon(struct cdp *c)
{
        struct list *it;

        if (!c)
                return;
        while ((it = list_pop(&c->waiting)))
                mem_free(container_of(it, struct waiting, link));
        stdio_peer_abandon(c->peer);
        map_free(c->by_id);
        mem_free(c);
}

pid_t cdp_pid(const struct cdp *c)
{
        return stdio_peer_pid(c->peer);
}

const char *cdp_stderr(struct cdp *c)
{
        return stdio_peer_stderr(c->peer);
}

/* ---- sending ---- */

static cJSON *message(uint64_t id, const char *session, const char *method, cJSON *params)
{
        cJSON *m = cJSON_CreateObject();

        if (m && cJSON_AddNumberToObject(m, "id", (double)id) &&
            cJSON_AddStringToObject(m, "method", method) &&
            (!session || cJSON_AddStringToObject(m, "sessionId", session)) &&
            (!params || cJSON_AddItemToObject(m, "params", params)))
                return m;
        cJSON_Delete(m);
        cJSON_Delete(params);
        return NULL;
}

int cdp_send(struct cdp *c, const char *session, const char *method, cJSON *params, cdp_answer *fn, void *arg)
{
        struct waiting *w = NULL;
        cJSON *m = NULL;
        int rc = -E_NOMEM;

        if (c->gone || map_count(c->by_id) >= CDP_WAITING_MAX) {
                cJSON_Delete(params);
                return c->gone ? -E_CLOSED : -E_FULL;
        }
        m = message(c->next_id, session, method, params);
        w = m ? mem_calloc(1, sizeof *w) : NULL;
        if (!w)
                goto fail;
        *w = (struct waiting){.id = c->next_id, .on_answer = fn, .arg = arg};
        if (map_put_u64(c->by_id, w->id, w, NULL))
                goto fail;
        rc = stdio_peer_send_json(c->peer, m);
        if (rc) {
                map_del_u64(c->by_id, w->id);
                goto fail;
        }
        c->next_id++;
        list_push_back(&c->waiting, &w->link);
        cJSON_Delete(m);
        return 0;
fail:
        mem_free(w);
        cJSON_Delete(m);
        return rc;
}
