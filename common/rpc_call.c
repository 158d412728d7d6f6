/* Calls: their life, metadata, deadlines, and the unary short form. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"
#include "common/str.h"

/* --- life --- */

struct rpc_call *rpc_call_create(struct rpc_conn *c, uint32_t id, bool ours)
{
        struct rpc_call *call = mem_calloc(1, sizeof *call);

        if (!call)
                return NULL;
        if (map_put_u64(c->calls, id, call, NULL) != 0) {
                mem_free(call);
                return NULL;
        }
        call->conn = c;
        call->id = id;
        call->ours = ours;
        call->send_credit = (int64_t)c->peer_stream_window;
        call->recv_window = RPC_STREAM_WINDOW;
        call->q_last = &call->q_first;
        list_init(&call->in_unsent);
        list_init(&call->in_sendable);
        list_init(&call->in_waiting);
        list_init(&call->in_ended);
        list_push_back(&c->all, &call->in_all);
        if (ours)
                c->n_ours++;
        else
                c->n_theirs++;
        return call;
}

static void call_free(struct rpc_call *call)
{
        for (size_t i = 0; i < call->n_out_md; i++) {
                mem_free(call->out_md[i]->key);
                mem_free(call->out_md[i]->value.data);
                mem_free(call->out_md[i]);
        }
        mem_free(call->out_md);
        mem_free(call->method);
        mem_free(call->in);
        if (call->header)
                protobuf_c_message_free_unpacked(&call->header->base, NULL);
        if (call->status)
                protobuf_c_message_free_unpacked(&call->status->base, NULL);
        mem_free(call);
}

void rpc_call_end(struct rpc_call *call, int code, const char *message)
{
        struct rpc_conn *c = call->conn;

        if (call->ended)
                return;
        call->ended = true;
        call->st.code = code < 0 ? -code : code;
        snprintf(call->st.message, sizeof call->st.message, "%s", message ? message : "");
        map_del_u64(c->calls, call->id);
        list_remove(&call->in_all);
        list_remove(&call->in_unsent);
        list_remove(&call->in_sendable);
        list_remove(&call->in_waiting);
        rpc_drop_queue(call);
        if (call->ours)
                c->n_ours--;
        else
                c->n_theirs--;
        /* What was received and never given back would be lost to all streams. */
        rpc_grant(c, NULL, call->uncredited);
        call->uncredited = 0;
        list_push_back(&c->ended, &call->in_ended);
        c->wire->wake(c->w);
        rpc_conn_settle(c);
}

static void tell_cancel(struct rpc_call *call, int code, const char *message)
{
        Photon__V1__CallStatus m = PHOTON__V1__CALL_STATUS__INIT;
        char text[512];

        snprintf(text, sizeof text, "%s", message ? message : "");
        m.code = (uint32_t)err_to_grpc(code);
        m.error = (char *)err_name(code);
        m.message = text;
        rpc_control_msg(call->conn, RPC_CANCEL, call->id, &m.base);
}

void rpc_call_abort(struct rpc_call *call, int code, const char *message)
{
        if (call->ended)
                return;
        code = code < 0 ? -code : code;
        if (!call->ours) {
                rpc_drop_queue(call);
                call->st.code = code;
                snprintf(call->st.message, sizeof call->st.message, "%s", message ? message : "");
                rpc_send_status(call); /* ends the call */
                return;
        }
        if (call->headers_sent)
                tell_cancel(call, code, message);
        rpc_call_end(call, code, message);
}

void rpc_call_reap(struct rpc_conn *c)
{
        struct list *it;

        while ((it = list_pop(&c->ended))) {
                struct rpc_call *call = container_of(it, struct rpc_call, in_ended);

                if (call->ev && call->ev->on_end)
                        call->ev->on_end(call, &call->st, call->arg);
                call_free(call);
        }
}

/* --- deadlines --- */

/* All calls are looked at, but only when the earliest deadline that was known
 * comes: at most once per time-out, while a heap would be kept up to date for every
 * call that ends in time. */
void rpc_call_expire(struct rpc_conn *c, int64_t now)
{
        int64_t next = 0;

        c->calls_at = 0;
        LIST_EACH_SAFE (it, nx, &c->all) {
                struct rpc_call *call = container_of(it, struct rpc_call, in_all);

                if (!call->deadline)
                        continue;
                if (call->deadline <= now)
                        rpc_call_abort(call, E_TIMEOUT, "the call's deadline passed");
                else if (!next || call->deadline < next)
                        next = call->deadline;
        }
        c->calls_at = next;
}

static void set_deadline(struct rpc_call *call, uint32_t timeout_ms)
{
        struct rpc_conn *c = call->conn;

        if (!timeout_ms)
                return;
        call->deadline = rpc_now(c) + timeout_ms;
        if (!c->calls_at || call->deadline < c->calls_at)
                c->calls_at = call->deadline;
        rpc_conn_timer(c, c->calls_at);
}

void rpc_call_set_timeout(struct rpc_call *call, uint32_t timeout_ms)
{
        set_deadline(call, timeout_ms);
}

/* --- opening --- */

int rpc_call_open(struct rpc_conn *c, const char *method, int timeout_ms, const struct rpc_call_events *ev,
                  void *arg, struct rpc_call **out)
{
        struct rpc_call *call;

        if (c->state == RPC_OPENING)
                return -E_STATE;
        if (c->state != RPC_READY)
                return -E_UNAVAIL;
        if (c->n_ours >= c->peer_max_streams)
                return -E_FULL;
        if (strlen(method) > RPC_METHOD_MAX)
                return -E_INVAL;
        if (c->next_id > UINT32_MAX - 2)
                return -E_UNAVAIL; /* the connection has used up its stream numbers */
        call = rpc_call_create(c, c->next_id, true);
        if (!call)
                return -E_NOMEM;
        call->method = mem_strdup(method);
        if (!call->method) {
                map_del_u64(c->calls, call->id);
                list_remove(&call->in_all);
                c->n_ours--;
                mem_free(call);
                return -E_NOMEM;
        }
        c->next_id += 2;
        call->ev = ev;
        call->arg = arg;
        call->timeout_ms = timeout_ms > 0 ? (uint32_t)timeout_ms : 0;
        set_deadline(call, call->timeout_ms);
        list_push_back(&c->unsent, &call->in_unsent);
        c->wire->wake(c->w);
        *out = call;
        return 0;
}

/* --- metadata --- */

static bool is_key(const char *key)
{
        size_t n = strlen(key);

        return n > 0 && n <= 64 && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

bool rpc_metadata_ok(Photon__V1__Metadatum *const *md, size_t n)
{
        size_t bytes = 0;

        if (n > RPC_METADATA_KEYS)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (!is_key(md[i]->key))
                        return false;
                bytes += strlen(md[i]->key) + md[i]->value.len;
        }
        return bytes <= RPC_METADATA_MAX;
}

int rpc_call_add_metadata(struct rpc_call *call, const char *key, const void *v, size_t n)
{
        Photon__V1__Metadatum *md, **list;

        if (call->ended)
                return -E_CLOSED;
        if (call->ours ? call->headers_sent : call->finishing)
                return -E_STATE;
        if (!is_key(key))
                return -E_INVAL;
        if (call->n_out_md == RPC_METADATA_KEYS || call->out_md_bytes + strlen(key) + n > RPC_METADATA_MAX)
                return -E_TOOBIG;
        list = mem_realloc(call->out_md, (call->n_out_md + 1) * sizeof *list);
        if (!list)
                return -E_NOMEM;
        call->out_md = list;
        md = mem_calloc(1, sizeof *md);
        if (!md)
                return -E_NOMEM;
        photon__v1__metadatum__init(md);
        md->key = mem_strdup(key);
        md->value.data = n ? mem_dup(v, n) : NULL;
        md->value.len = n;
        if (!md->key || (n && !md->value.data)) {
                mem_free(md->key);
                mem_free(md->value.data);
                mem_free(md);
                return -E_NOMEM;
        }
        call->out_md_bytes += strlen(key) + n;
        list[call->n_out_md++] = md;
        return 0;
}

const char *rpc_call_metadata(const struct rpc_call *call, const char *key, size_t *out_len)
{
        Photon__V1__Metadatum **md = call->header   ? call->header->metadata
                                     : call->status ? call->status->metadata
                                                    : NULL;
        size_t n = call->header ? call->header->n_metadata : call->status ? call->status->n_metadata : 0;

        for (size_t i = 0; i < n; i++) {
                if (strcmp(md[i]->key, key) != 0)
                        continue;
                if (out_len)
                        *out_len = md[i]->value.len;
                return md[i]->value.data ? (const char *)md[i]->value.data : "";
        }
        return NULL;
}

/* --- small public ones --- */

void rpc_set_events(struct rpc_call *call, const struct rpc_call_events *ev, void *arg)
{
        call->ev = ev;
        call->arg = arg;
}

void *rpc_call_arg(const struct rpc_call *call)
{
        return call->arg;
}

struct rpc_conn *rpc_call_conn(const struct rpc_call *call)
{
        return call->conn;
}

void rpc_cancel(struct rpc_call *call, const char *why)
{
        if (call->ended)
                return;
        if (call->headers_sent || !call->ours)
                tell_cancel(call, E_CANCELLED, why);
        rpc_call_end(call, E_CANCELLED, why);
}

/* --- unary --- */

struct unary {
        void (*on_reply)(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg);
        void *arg;
        uint8_t *reply;
        size_t n;
        bool got;
};

static void unary_message(struct rpc_call *call, const uint8_t *p, size_t n, void *arg)
{
        struct unary *u = arg;

        if (u->got) {
                rpc_call_abort(call, E_PROTO, "a second reply came to a unary call");
                return;
        }
        u->reply = mem_dup(p, n ? n : 1);
        u->n = n;
        u->got = true;
        if (!u->reply)
                rpc_call_abort(call, E_NOMEM, "no memory for the reply");
}

static void unary_end(struct rpc_call *call, const struct rpc_status *st, void *arg)
{
        static const struct rpc_status no_reply = {E_PROTO, "the call ended without a reply"};
        struct unary *u = arg;

        (void)call;
        if (st->code == 0 && !u->got)
                st = &no_reply;
        u->on_reply(st, st->code == 0 ? u->reply : NULL, st->code == 0 ? u->n : 0, u->arg);
        mem_free(u->reply);
        mem_free(u);
}

int rpc_unary(struct rpc_conn *c, const char *method, const ProtobufCMessage *req, int timeout_ms,
              void (*on_reply)(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg), void *arg)
{
        static const struct rpc_call_events ev = {.on_message = unary_message, .on_end = unary_end};
        struct unary *u = mem_calloc(1, sizeof *u);
        struct rpc_call *call;
        int rc;

        if (!u)
                return -E_NOMEM;
        u->on_reply = on_reply;
        u->arg = arg;
        rc = rpc_call_open(c, method, timeout_ms, &ev, u, &call);
        if (rc) {
                mem_free(u);
                return rc;
        }
        rc = rpc_send(call, req);
        if (rc) {
                /* Nobody has heard of it yet: it goes without on_reply. */
                call->ev = NULL;
                rpc_call_abort(call, -rc, "");
                mem_free(u);
                return rc;
        }
        rpc_send_end(call);
        return 0;
}
