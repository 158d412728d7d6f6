#include "hub/store/store_impl.h"

#include "common/log.h"
#include "common/mac.h"
#include "common/mem.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST    4096
#define ARENA_KEEP_MAX ((size_t)256 << 10) /* an arena that one big run blew up is given back */
#define SPARE_MAX      8

void store_no_memory(void)
{
        log_error("store", "out of memory, stopping: what is not committed would be lost silently", "%s", "");
        abort();
}

/* ---- transactions ---- */

struct store_tx *store_begin(struct store *s)
{
        struct store_tx *tx = s->spare;

        if (tx) {
                s->spare = tx->next;
                s->n_spare--;
        } else {
                tx = mem_calloc(1, sizeof *tx);
                if (!tx)
                        store_no_memory();
                tx->store = s;
        }
        tx->next = NULL;
        s->out++;
        return tx;
}

static void tx_free(struct store_tx *tx)
{
        if (!tx)
                return;
        mem_free(tx->data);
        mem_free(tx);
}

static void store_free(struct store *s)
{
        while (s->spare) {
                struct store_tx *tx = s->spare;

                s->spare = tx->next;
                tx_free(tx);
        }
        pthread_cond_destroy(&s->wake);
        pthread_mutex_destroy(&s->lock);
        mac_free(s->seals);
        mem_free(s);
}

/* Back on the loop: keeps the memory for the next turn. The last one after
 * store_close takes the store along. */
static void tx_retire(struct store_tx *tx)
{
        struct store *s = tx->store;

        s->out--;
        if (s->closed || s->n_spare >= SPARE_MAX || tx->cap > ARENA_KEEP_MAX) {
                tx_free(tx);
        } else {
                uint8_t *data = tx->data;
                size_t cap = tx->cap;

                *tx = (struct store_tx){.store = s, .data = data, .cap = cap, .next = s->spare};
                s->spare = tx;
                s->n_spare++;
        }
        if (s->closed && s->out == 0)
                store_free(s);
}

void store_abandon(struct store_tx *tx)
{
        if (tx)
                tx_retire(tx);
}

bool store_tx_empty(const struct store_tx *tx)
{
        return tx->len == 0;
}

void store_commit(struct store_tx *tx, void (*on_done)(void *arg), void *arg)
{
        struct store *s = tx->store;

        assert(!s->closed);
        tx->on_done = on_done;
        tx->arg = arg;
        tx->next = NULL;
        pthread_mutex_lock(&s->lock);
        /* Signalled only for the first: a worker that has not yet come round takes all. */
        if (!s->first)
                pthread_cond_signal(&s->wake);
        *s->last = tx;
        s->last = &tx->next;
        s->stats.queue++;
        pthread_mutex_unlock(&s->lock);
}

void store_deliver(struct store_tx *first)
{
        while (first) {
                struct store_tx *tx = first;

                first = tx->next;
                if (tx->on_done)
                        tx->on_done(tx->arg);
                tx_retire(tx);
        }
}

void store_pump(struct store *s)
{
        struct store_tx *batch;

        assert(!s->mailbox);
        while ((batch = worker_commit_queue(s, true)) != NULL)
                store_deliver(batch);
}

int store_health(struct store *s, struct err *e)
{
        int code;

        pthread_mutex_lock(&s->lock);
        code = s->health.code;
        if (e && code)
                *e = s->health;
        pthread_mutex_unlock(&s->lock);
        return -code;
}

int64_t store_seals_accepted(const struct store *s)
{
        return s->db.accepted;
}

bool store_budgets_whole(const struct store *s)
{
        return !s->db.budgets_broken;
}

void store_stats(struct store *s, struct store_stats *out)
{
        pthread_mutex_lock(&s->lock);
        *out = s->stats;
        pthread_mutex_unlock(&s->lock);
}

/* ---- rows into the arena ---- */

static uint8_t *arena_room(struct store_tx *tx, size_t n)
{
        size_t cap = tx->cap ? tx->cap : ARENA_FIRST;
        uint8_t *data;

        if (tx->cap - tx->len >= n)
                return tx->data + tx->len;
        while (cap - tx->len < n)
                cap *= 2;
        data = mem_realloc(tx->data, cap);
        if (!data)
                store_no_memory();
        tx->data = data;
        tx->cap = cap;
        return data + tx->len;
}

static struct rec *put(struct store_tx *tx, const struct table *t, enum row_kind kind, const void *row)
{
        _Alignas(max_align_t) uint8_t room[SEAL_ROW_MAX];
        uint8_t seal[SEAL_LEN], *p;

        if (t->sealed)
                row = seal_row(tx->store->seals, t, row, room, seal);
        p = arena_room(tx, row_bound(t, row));
        tx->len += row_encode(t, kind, row, p);
        tx->rows++;
        return (struct rec *)(void *)p;
}

static void put_number(struct store_tx *tx, enum row_kind kind, int64_t v)
{
        struct rec rec = {.size = sizeof rec + sizeof v, .kind = (uint8_t)kind, .mask = 1};
        uint8_t *p = arena_room(tx, rec.size);

        memcpy(p, &rec, sizeof rec);
        memcpy(p + sizeof rec, &v, sizeof v);
        tx->len += rec.size;
}

static void mark_attempt(struct store_tx *tx, uint64_t attempt_id)
{
        if ((int64_t)attempt_id > tx->attempt_id)
                tx->attempt_id = (int64_t)attempt_id;
}

void store_put_run(struct store_tx *tx, const struct row_run *r)
{
        put(tx, &store_tables[ROW_RUN], ROW_RUN, r);
}

void store_put_step(struct store_tx *tx, const struct row_step *r)
{
        put(tx, &store_tables[ROW_STEP], ROW_STEP, r);
        mark_attempt(tx, r->attempt_id);
}

void store_move_step(struct store_tx *tx, const struct row_step_move *m)
{
        put(tx, &store_step_moves, ROW_STEP_MOVE, m)->clear = m->clear;
        mark_attempt(tx, m->attempt_id);
}

void store_put_attempt(struct store_tx *tx, const struct row_attempt *a)
{
        put(tx, &store_tables[ROW_ATTEMPT], ROW_ATTEMPT, a);
        mark_attempt(tx, a->attempt_id);
}

void store_put_checkpoint(struct store_tx *tx, const struct row_checkpoint *r)
{
        put(tx, &store_tables[ROW_CHECKPOINT], ROW_CHECKPOINT, r);
}

void store_put_ledger(struct store_tx *tx, const struct row_ledger *l)
{
        put(tx, &store_tables[ROW_LEDGER], ROW_LEDGER, l);
}

void store_put_budget(struct store_tx *tx, const struct row_budget *b)
{
        put(tx, &store_tables[ROW_BUDGET], ROW_BUDGET, b);
}

void store_put_budget_raise(struct store_tx *tx, const struct row_budget_raise *r)
{
        put(tx, &store_tables[ROW_BUDGET_RAISE], ROW_BUDGET_RAISE, r);
}

void store_put_token_use(struct store_tx *tx, const struct row_token_use *u)
{
        put(tx, &store_tables[ROW_TOKEN_USE], ROW_TOKEN_USE, u);
}

void store_put_def(struct store_tx *tx, const char *sha256_hex, const void *text, size_t n)
{
        struct row_def r = {sha256_hex, text, n};

        put(tx, &store_tables[ROW_DEF], ROW_DEF, &r);
}

void store_put_small_output(struct store_tx *tx, uint64_t attempt_id, const void *framed, size_t n)
{
        struct row_small_output r = {attempt_id, framed, n};

        put(tx, &store_tables[ROW_SMALL_OUTPUT], ROW_SMALL_OUTPUT, &r);
}

void store_put_events(struct store_tx *tx, const char *run_id, int64_t first_id, int64_t last_id,
                      const void *lines, size_t n)
{
        struct row_events r = {run_id ? run_id : "", first_id, last_id, lines, n};

        put(tx, &store_tables[ROW_EVENTS], ROW_EVENTS, &r);
}

void store_trim_events(struct store_tx *tx, int64_t keep_after_id)
{
        put_number(tx, ROW_TRIM_EVENTS, keep_after_id);
}

void store_put_notice(struct store_tx *tx, const struct row_notice *n)
{
        put(tx, &store_tables[ROW_NOTICE], ROW_NOTICE, n);
}

void store_trim_notices(struct store_tx *tx, int64_t before_us)
{
        put_number(tx, ROW_TRIM_NOTICES, before_us);
}

void store_trim_idempotency(struct store_tx *tx, int64_t before_us)
{
        put_number(tx, ROW_TRIM_IDEMPOTENCY, before_us);
}

void store_sync_fd(struct store_tx *tx, int fd)
{
        put_number(tx, ROW_SYNC_FD, fd);
        tx->has_fds = true;
}

void store_put_agent(struct store_tx *tx, const struct row_agent *a)
{
        put(tx, &store_tables[ROW_AGENT], ROW_AGENT, a);
}

void store_put_join_token(struct store_tx *tx, const struct row_join_token *t)
{
        put(tx, &store_tables[ROW_JOIN_TOKEN], ROW_JOIN_TOKEN, t);
}

void store_put_redemption(struct store_tx *tx, const struct row_redemption *r)
{
        put(tx, &store_tables[ROW_REDEMPTION], ROW_REDEMPTION, r);
}

void store_put_api_token(struct store_tx *tx, const struct row_api_token *t)
{
        put(tx, &store_tables[ROW_API_TOKEN], ROW_API_TOKEN, t);
}

void store_put_project(struct store_tx *tx, const struct row_project *p)
{
        put(tx, &store_tables[ROW_PROJECT], ROW_PROJECT, p);
}

void store_put_user(struct store_tx *tx, const struct row_user *u)
{
        put(tx, &store_tables[ROW_USER], ROW_USER, u);
}

void store_put_model(struct store_tx *tx, const struct row_model *m)
{
        put(tx, &store_tables[ROW_MODEL], ROW_MODEL, m);
}

void store_put_idempotency(struct store_tx *tx, const char *key, const char *token_id,
                           const char *request_sha256, int status, const char *body, int64_t at_us)
{
        struct row_idempotency r = {key, token_id ? token_id : "", request_sha256, body, status, at_us};

        put(tx, &store_tables[ROW_IDEMPOTENCY], ROW_IDEMPOTENCY, &r);
}

void store_put_audit(struct store_tx *tx, int64_t at_us, const char *actor, const char *action,
                     const char *object, const char *detail_json)
{
        struct row_audit r = {at_us, actor, action, object, detail_json};

        put(tx, &store_tables[ROW_AUDIT], ROW_AUDIT, &r);
}

void store_erase_audit(struct store_tx *tx, int64_t at_us, const char *by, const char *actor,
                       const char *object)
{
        struct row_audit_erase r = {at_us, by, actor, object};

        put(tx, &store_audit_erase, ROW_AUDIT_ERASE, &r);
}

void store_trim_audit(struct store_tx *tx, int64_t at_us, const char *by, int64_t before_us)
{
        struct row_audit_trim r = {at_us, before_us, by};

        put(tx, &store_audit_trim, ROW_AUDIT_TRIM, &r);
}

void store_put_vault(struct store_tx *tx, const struct row_vault *v)
{
        put(tx, &store_tables[ROW_VAULT], ROW_VAULT, v);
}

void store_put_vault_key(struct store_tx *tx, const struct row_vault_key *k)
{
        put(tx, &store_tables[ROW_VAULT_KEY], ROW_VAULT_KEY, k);
}

void store_drop_vault_key(struct store_tx *tx, int64_t id)
{
        put_number(tx, ROW_VAULT_KEY_DROP, id);
}

void store_put_secret(struct store_tx *tx, const struct row_secret *s)
{
        put(tx, &store_tables[ROW_SECRET], ROW_SECRET, s);
}

void store_put_secret_version(struct store_tx *tx, const struct row_secret_version *v)
{
        put(tx, &store_tables[ROW_SECRET_VERSION], ROW_SECRET_VERSION, v);
}

void store_reseal_secret(struct store_tx *tx, const struct row_secret_version *v, int64_t from_key)
{
        struct row_secret_reseal r = {v->project, v->name,   v->version,   from_key,
                                      v->key_id,  v->sealed, v->sealed_len};

        put(tx, &store_secret_reseal, ROW_SECRET_RESEAL, &r);
}

void store_cut_secret(struct store_tx *tx, const char *project, const char *name, int64_t below)
{
        struct row_secret_cut r = {project, name, below};

        put(tx, &store_secret_cut, ROW_SECRET_CUT, &r);
}

void store_put_meta(struct store_tx *tx, const char *key, const char *value)
{
        struct row_meta r = {.key = key, .value = value};

        put(tx, &store_tables[ROW_META], ROW_META, &r);
}

/* ---- life ---- */

static int store_create(const struct store_options *o, struct store **out)
{
        struct store *s = mem_calloc(1, sizeof *s);
        pthread_condattr_t attr;

        if (!s)
                return -E_NOMEM;
        s->mailbox = o->mailbox;
        s->last = &s->first;
        pthread_mutex_init(&s->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&s->wake, &attr);
        pthread_condattr_destroy(&attr);
        *out = s;
        return 0;
}

int store_open(const struct store_options *o, struct store **out, struct err *e)
{
        struct store *s;
        int rc = store_create(o, &s);

        if (rc)
                return err_set(e, -rc, "out of memory");
        if (o->seal_key && !(s->seals = mac_create(o->seal_key))) {
                rc = err_set(e, E_NOMEM, "out of memory");
                goto fail;
        }
        rc = db_open(&s->db, o->dir, o->create, e);
        if (rc)
                goto fail;
        s->db.seals = s->seals;
        rc = seals_open(&s->db, o, e);
        if (rc)
                goto fail_db;
        if (o->mailbox) {
                rc = worker_start(s, e);
                if (rc)
                        goto fail_db;
        }
        *out = s;
        return 0;
fail_db:
        db_close(&s->db, true);
fail:
        store_free(s);
        return rc;
}

void store_close(struct store *s)
{
        struct err e = {0};

        if (!s)
                return;
        if (s->has_thread)
                worker_stop(s);
        else
                store_pump(s);
        if (s->first) {
                store_health(s, &e);
                log_error("store", "closed with changes that could not be written",
                          "transactions=%llu reason=\"%s\"", (unsigned long long)s->stats.queue, e.msg);
        }
        db_close(&s->db, !s->first);
        s->closed = true;
        s->out++; /* keeps s while the rest goes */
        while (s->first) {
                struct store_tx *tx = s->first;

                s->first = tx->next;
                tx_retire(tx);
        }
        if (--s->out == 0)
                store_free(s);
}
