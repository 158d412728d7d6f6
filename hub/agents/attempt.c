/* Output of an attempt on its way into its log, and the result that waits for it. */
#include "hub/agents/agents_impl.h"

#include "common/log.h"
#include "common/mem.h"
#include "hub/logs/logs.h"
#include "hub/sched/engine.h"

#include <inttypes.h>
#include <string.h>

/* Bytes for which there was no room on the disk. Bounded: a stream's by the credit that it
 * was given, a result's by its own size. */
struct chunk {
        struct list link;
        uint64_t offset;
        int channel;
        int64_t at_us;
        size_t credit; /* of the stream; 0: from the result */
        size_t len;
        uint8_t data[];
};

struct attempt *attempt_find(struct session *s, uint64_t id)
{
        return s->attempts ? map_get_u64(s->attempts, id) : NULL;
}

int attempt_get(struct session *s, uint64_t id, struct attempt **out)
{
        struct attempt *t = attempt_find(s, id);

        if (t) {
                *out = t;
                return 0;
        }
        if (!s->attempts && !(s->attempts = map_create()))
                return -E_NOMEM;
        t = mem_calloc(1, sizeof *t);
        if (!t)
                return -E_NOMEM;
        t->id = id;
        t->a = s->a;
        t->s = s;
        list_init(&t->unsynced);
        list_init(&t->stalled);
        list_init(&t->chunks);
        if (map_put_u64(s->attempts, id, t, NULL)) {
                mem_free(t);
                return -E_NOMEM;
        }
        *out = t;
        return 0;
}

static void fin_drop(struct attempt *t)
{
        if (!t->fin)
                return;
        t->s->held_bytes -= t->fin_bytes;
        protobuf_c_message_free_unpacked(&t->fin->base, NULL);
        t->fin = NULL;
}

/* The caller has taken it out of the map. */
static void attempt_end_of(struct attempt *t, int code, const char *why)
{
        struct list *it;

        fin_drop(t);
        list_remove(&t->unsynced);
        list_remove(&t->stalled);
        while ((it = list_pop(&t->chunks)))
                mem_free(container_of(it, struct chunk, link));
        t->s = NULL;
        if (t->out)
                output_over(t->out, code, why);
        t->out = NULL;
        if (t->file)
                log_close(t->file);
        t->file = NULL;
        mem_free(t->usage);
        t->usage = NULL;
        if (!t->syncing)
                mem_free(t);
}

static void attempt_remove(struct attempt *t, int code, const char *why)
{
        map_del_u64(t->s->attempts, t->id);
        attempt_end_of(t, code, why);
}

void attempt_free_all(struct session *s)
{
        size_t it = 0;
        void *v;

        while (s->attempts && map_next(s->attempts, &it, NULL, &v)) {
                struct attempt *t = v;

                map_del_u64(s->attempts, t->id);
                attempt_end_of(t, E_CLOSED, "the session is over");
        }
}

uint64_t attempt_end(const struct attempt *t)
{
        return t->file ? log_end(t->file) : 0;
}

/* ---- into the log ---- */

/* -E_INVAL only for a gap: whatever else the file system says will pass. */
static int append(struct attempt *t, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us,
                  struct err *e)
{
        uint64_t end;
        int rc = 0;

        if (!t->file) {
                rc = logs_open(t->a->opt.logs, t->id, &t->file, &end, e);
                if (rc)
                        return rc == -E_INVAL ? -E_IO : rc;
                /* Whether earlier bytes are on disk is not known until the next sync. */
                t->durable = 0;
                t->logged = end > 0;
        }
        if (offset > log_end(t->file))
                return err_set(e, E_INVAL, "output is missing between %" PRIu64 " and %" PRIu64,
                               log_end(t->file), offset);
        if (n)
                rc = log_append(t->file, offset, channel, p, n, at_us, e);
        if (!rc && n)
                t->logged = true;
        return rc == -E_INVAL ? -E_IO : rc;
}

static int keep(struct attempt *t, const Photon__V1__OutputChunk *c, size_t credit)
{
        struct chunk *k = mem_alloc(sizeof *k + c->data.len);

        if (!k)
                return -E_NOMEM;
        k->offset = c->offset;
        k->channel = (int)c->channel;
        k->at_us = c->at_us;
        k->credit = credit;
        k->len = c->data.len;
        if (k->len)
                memcpy(k->data, c->data.data, k->len);
        list_push_back(&t->chunks, &k->link);
        if (list_empty(&t->stalled))
                list_push_back(&t->a->stalled, &t->stalled);
        agents_arm_stall(t->a);
        return 1;
}

static void say_broken(struct agents *a, const struct err *e)
{
        if (a->log_broken)
                return;
        a->log_broken = true;
        log_error(AREA, "output cannot be written; tools are held back until it can", "reason=\"%s\"",
                  e->msg);
}

static void note_unsynced(struct attempt *t)
{
        if (list_empty(&t->unsynced))
                list_push_back(&t->a->unsynced, &t->unsynced);
        agents_arm_sync(t->a);
}

int attempt_append(struct attempt *t, const Photon__V1__OutputChunk *c, size_t credit, struct err *e)
{
        int rc;

        if (!list_empty(&t->chunks))
                return keep(t, c, credit);
        rc = append(t, c->offset, (int)c->channel, c->data.data, c->data.len, c->at_us, e);
        if (rc == -E_INVAL)
                return rc;
        if (rc) {
                say_broken(t->a, e);
                return keep(t, c, credit);
        }
        if (attempt_end(t) - t->durable >= SYNC_BYTES)
                attempt_sync(t);
        else
                note_unsynced(t);
        return 0;
}

/* ---- durable ---- */

static void try_deliver(struct attempt *t);

static void on_durable(void *arg, int rc, uint64_t end)
{
        struct attempt *t = arg;
        struct agents *a = t->a;

        t->syncing = false;
        a->works--;
        if (!t->s) {
                mem_free(t);
                agents_maybe_closed(a);
                return;
        }
        if (rc) {
                struct err e;

                err_set(&e, -rc, "%s", err_name(rc));
                say_broken(t->a, &e);
                note_unsynced(t);
                return;
        }
        if (end > t->durable)
                t->durable = end;
        /* A fast stream keeps the disk busy: what came during one sync goes with the next. */
        if (attempt_end(t) - t->durable >= SYNC_NEXT_BYTES)
                attempt_sync(t);
        else if (attempt_end(t) > t->durable)
                note_unsynced(t);
        if (t->out)
                output_durable(t->out, t->durable);
        if (t->s && t->fin)
                try_deliver(t);
}

void attempt_sync(struct attempt *t)
{
        int rc;

        if (t->syncing || !t->file || attempt_end(t) == t->durable)
                return;
        list_remove(&t->unsynced);
        t->syncing = true;
        t->a->works++;
        rc = log_sync(t->file, on_durable, t);
        if (rc) {
                t->syncing = false;
                t->a->works--;
                note_unsynced(t);
        }
}

void attempts_sync_tick(struct agents *a)
{
        struct list now;

        /* Those that cannot start put themselves on the list again. */
        list_init(&now);
        while (!list_empty(&a->unsynced)) {
                struct list *it = list_pop(&a->unsynced);

                list_push_back(&now, it);
        }
        while (!list_empty(&now)) {
                struct attempt *t = container_of(list_pop(&now), struct attempt, unsynced);

                if (t->syncing)
                        note_unsynced(t);
                else
                        attempt_sync(t);
        }
}

/* ---- when the disk is full ---- */

/* 0: nothing waits any more. 1: still stuck. -E_INVAL: a gap. */
static int drain_chunks(struct attempt *t, struct err *e)
{
        while (!list_empty(&t->chunks)) {
                struct chunk *k = container_of(t->chunks.next, struct chunk, link);
                int rc = append(t, k->offset, k->channel, k->data, k->len, k->at_us, e);

                if (rc == -E_INVAL)
                        return rc;
                if (rc)
                        return 1;
                list_remove(&k->link);
                if (k->credit && t->out)
                        output_appended(t->out, k->credit);
                mem_free(k);
        }
        list_remove(&t->stalled);
        attempt_sync(t);
        return 0;
}

void attempts_stall_tick(struct agents *a)
{
        struct list now;

        list_init(&now);
        while (!list_empty(&a->stalled))
                list_push_back(&now, list_pop(&a->stalled));
        while (!list_empty(&now)) {
                struct attempt *t = container_of(list_pop(&now), struct attempt, stalled);
                struct err e = {0};
                int rc = drain_chunks(t, &e);

                if (rc == -E_INVAL) {
                        session_violation(t->s, "output of attempt %" PRIu64 ": %s", t->id, e.msg);
                } else if (rc) {
                        list_push_back(&a->stalled, &t->stalled);
                } else if (t->fin) {
                        try_deliver(t);
                }
        }
        if (!list_empty(&a->stalled)) {
                agents_arm_stall(a);
        } else if (a->log_broken) {
                a->log_broken = false;
                log_info(AREA, "output can be written again", "%s", "");
        }
}

void attempt_drop_stream(struct attempt *t)
{
        t->out = NULL;
        LIST_EACH_SAFE (it, next, &t->chunks) {
                struct chunk *k = container_of(it, struct chunk, link);

                if (!k->credit)
                        continue;
                list_remove(&k->link);
                mem_free(k);
        }
        if (list_empty(&t->chunks))
                list_remove(&t->stalled);
}

/* ---- the result ---- */

static void deliver(struct attempt *t, bool small, uint64_t bytes)
{
        struct session *s = t->s;
        Photon__V1__StepFinished *fin = t->fin;

        t->fin = NULL;
        s->held_bytes -= t->fin_bytes;
        attempt_remove(t, 0, "");
        result_deliver(s, fin, small, bytes);
        protobuf_c_message_free_unpacked(&fin->base, NULL);
}

static void try_deliver(struct attempt *t)
{
        uint64_t have = attempt_end(t);

        if (!engine_wants_output(t->a->engine, t->s->agent_id, t->id)) {
                deliver(t, false, have);
                return;
        }
        if (!list_empty(&t->chunks) || have < t->fin->output_bytes)
                return;
        if (have > t->durable) {
                attempt_sync(t);
                return;
        }
        if (have > t->fin->output_bytes)
                log_warn(AREA, "more output than the result speaks of",
                         "agent=%s attempt=%" PRIu64 " have=%" PRIu64 " said=%" PRIu64, t->s->name, t->id,
                         have, t->fin->output_bytes);
        deliver(t, false, have);
}

void attempt_stale(struct attempt *t)
{
        if (t->fin)
                deliver(t, false, attempt_end(t));
        else
                attempt_remove(t, E_NOENT, "stale"); /* the code that tells the agent to drop the output */
}

/* The log may have the beginning of this attempt from an earlier session. */
static int look_in_log(struct attempt *t, struct err *e)
{
        uint64_t end = 0;
        int rc;

        if (t->file || t->logged)
                return 0;
        rc = logs_end(t->a->opt.logs, t->id, &end, e);
        t->logged = !rc && end > 0;
        return rc;
}

static uint64_t inline_bytes(const Photon__V1__StepFinished *f)
{
        uint64_t n = 0;

        for (size_t i = 0; i < f->n_inline_output; i++)
                n += f->inline_output[i]->data.len;
        return n;
}

void attempt_finish(struct attempt *t, Photon__V1__StepFinished *fin, size_t bytes)
{
        struct session *s = t->s;
        struct err e = {0};
        int rc;

        fin_drop(t); /* said twice: the later one counts */
        t->fin = fin;
        t->fin_bytes = bytes;
        s->held_bytes += bytes;
        rc = fin->output_bytes ? look_in_log(t, &e) : 0; /* no look for what was never written */
        if (rc) {
                log_error(AREA, "the log of an attempt cannot be read",
                          "agent=%s attempt=%" PRIu64 " reason=\"%s\"", s->name, t->id, e.msg);
                session_cut(s, -rc, "the hub cannot read the log of an attempt; see the hub's own log");
                return;
        }
        if (!t->logged && !t->out && inline_bytes(fin) >= fin->output_bytes) {
                deliver(t, true, inline_bytes(fin));
                return;
        }
        for (size_t i = 0; i < fin->n_inline_output; i++) {
                rc = attempt_append(t, fin->inline_output[i], 0, &e);
                if (rc == -E_INVAL) {
                        session_violation(s, "inline output of attempt %" PRIu64 ": %s", t->id, e.msg);
                        return;
                }
                if (rc < 0) {
                        session_cut(s, E_NOMEM, "the hub is out of memory");
                        return;
                }
        }
        /* The log is opened to learn what it has, and to make that durable. */
        if (t->logged && !t->file) {
                Photon__V1__OutputChunk none = PHOTON__V1__OUTPUT_CHUNK__INIT;

                if (attempt_append(t, &none, 0, &e) < 0) {
                        session_cut(s, E_NOMEM, "the hub is out of memory");
                        return;
                }
        }
        try_deliver(t);
}
