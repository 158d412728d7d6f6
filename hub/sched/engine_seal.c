/* Seals: each row that decides what is run carries a MAC under a key that is not in the database, so that a
 * row which somebody else has written there is not believed when it is read back (docs/SECURITY.md, "Signed
 * steps").
 *
 * Covered are, of a run: what was asked for, by whom, where, and how far it is; the definition through its
 * own hash, which is compared; of a step: which one it is, its state, its attempts, the values of its matrix,
 * and its outputs where other steps read them; of a checkpoint: what is asked and what was answered. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/json.h"
#include "common/mac.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define PARTS_MAX 48
/* Longer texts go in by their hash, which has hardware for it; a call's input may have megabytes. */
#define WHOLE_MAX 1024

/* What is sealed, piece by piece: numbers as they are, texts with their length before them. */
struct sealing {
        struct mac_part parts[PARTS_MAX];
        uint64_t numbers[PARTS_MAX];
        uint8_t hashes[8][SHA256_LEN];
        size_t n, n_numbers, n_hashes;
};

static void add(struct sealing *s, const void *p, size_t n)
{
        if (s->n == PARTS_MAX)
                abort(); /* a list below has outgrown it */
        s->parts[s->n++] = (struct mac_part){p, n};
}

static void add_number(struct sealing *s, uint64_t v)
{
        if (s->n_numbers == PARTS_MAX)
                abort();
        s->numbers[s->n_numbers] = v;
        add(s, &s->numbers[s->n_numbers++], sizeof v);
}

/* NULL is another thing than "". */
static void add_text(struct sealing *s, const char *text)
{
        size_t n = text ? strlen(text) : 0;

        add_number(s, text ? n : UINT64_MAX);
        if (n <= WHOLE_MAX) {
                add(s, text ? text : "", n);
                return;
        }
        if (s->n_hashes == sizeof s->hashes / sizeof *s->hashes ||
            gnutls_hash_fast(GNUTLS_DIG_SHA256, text, n, s->hashes[s->n_hashes]))
                abort();
        add(s, s->hashes[s->n_hashes++], SHA256_LEN);
}

static const uint8_t *finish(struct engine *en, const struct sealing *s, struct row_seal *out)
{
        uint8_t sum[MAC_LEN];

        mac_sum(en->seal, s->parts, s->n, sum);
        memcpy(out->v, sum, sizeof out->v);
        return out->v;
}

/* ---- what each row's seal covers ---- */

static void put_run(struct sealing *s, const struct row_run *r, const uint8_t inputs[SHA256_LEN])
{
        add(s, "run", 4);
        add_number(s, (uint64_t)r->seq);
        add_number(s, (uint64_t)r->state);
        add_number(s, (uint64_t)(uint32_t)r->priority);
        add_number(s, r->cancel_requested);
        add_number(s, (uint64_t)r->created_us);
        add_text(s, r->id);
        add_text(s, r->kind);
        add_text(s, r->def_sha256);
        add_text(s, r->created_by ? r->created_by : "");
        add_text(s, r->project);
        add_text(s, r->concurrency_group);
        add(s, inputs, SHA256_LEN);
        if (r->askers) /* rows from before there was such a list hold as they are */
                add_text(s, r->askers);
}

static void hash_inputs(const char *text, uint8_t out[SHA256_LEN])
{
        if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), out))
                abort();
}

void seal_run(struct run *r, struct row_run *row, struct row_seal *room)
{
        struct sealing s = {.n = 0};

        if (!r->en->seal)
                return;
        if (!r->inputs_hashed)
                hash_inputs(row->inputs, r->inputs_hash);
        r->inputs_hashed = true;
        put_run(&s, row, r->inputs_hash);
        row->seal = finish(r->en, &s, room);
        row->seal_len = sizeof room->v;
}

static void put_step(struct sealing *s, const struct step *st, enum step_state state, uint32_t attempt,
                     uint64_t attempt_id, uint32_t losses, const char *outputs, const char *matrix)
{
        bool read = step_state_final(state) && st->run->info[st->def - st->run->wf->steps].wanted;

        add(s, "step", 5);
        add_number(s, (uint64_t)st->run->seq);
        add_number(s, st->idx);
        add_number(s, (uint64_t)(st->def - st->run->wf->steps));
        add_number(s, st->parent ? st->parent->idx : UINT64_MAX);
        add_number(s, st->fanout);
        add_number(s, (uint64_t)state);
        add_number(s, attempt);
        add_number(s, attempt_id);
        add_number(s, losses);
        add_text(s, read ? outputs : NULL);
        add_text(s, matrix);
}

const uint8_t *seal_step(const struct step *st, struct row_seal *room)
{
        struct sealing s = {.n = 0};
        char *matrix;

        if (!st->run->en->seal)
                return NULL;
        matrix = st->matrix ? json_text(st->matrix) : NULL;
        put_step(&s, st, st->state, st->attempt, st->attempt_id, st->losses, st->outputs, matrix);
        finish(st->run->en, &s, room);
        mem_free(matrix);
        return room->v;
}

static void put_checkpoint(struct sealing *s, const struct row_checkpoint *r)
{
        add(s, "checkpoint", 11);
        add_number(s, (uint64_t)r->seq);
        add_number(s, (uint64_t)r->state);
        add_number(s, (uint64_t)r->run_seq);
        add_number(s, r->step_idx);
        add_number(s, r->attempt_id);
        add_number(s, r->attempt);
        add_number(s, r->question_id);
        add_number(s, r->always);
        add_number(s, (uint64_t)r->expires_us);
        add_text(s, r->id);
        add_text(s, r->kind);
        add_text(s, r->action);
        add_text(s, r->sha256);
        add_text(s, r->decided_by);
        add_text(s, r->content);
        add_text(s, r->schema);
        add_text(s, r->arguments);
        add_text(s, r->rules);
        add_text(s, r->record);
}

void seal_checkpoint(struct engine *en, struct row_checkpoint *row, struct row_seal *room)
{
        struct sealing s = {.n = 0};

        if (!en->seal)
                return;
        put_checkpoint(&s, row);
        row->seal = finish(en, &s, room);
        row->seal_len = sizeof room->v;
}

/* ---- what was read ---- */

/* Rows from before there was a key have none; only the start that makes the key takes them. */
static bool holds(const struct engine *en, const struct sealing *s, const uint8_t *seal, size_t n)
{
        uint8_t sum[MAC_LEN];

        if (n == 0)
                return en->opt.adopt_unsealed;
        mac_sum(en->seal, s->parts, s->n, sum);
        return n == ROW_SEAL_LEN && secret_equal(sum, seal, n);
}

bool seal_run_holds(struct engine *en, const struct row_run *row)
{
        struct sealing s = {.n = 0};
        uint8_t inputs[SHA256_LEN];

        if (!en->seal)
                return true;
        hash_inputs(row->inputs ? row->inputs : "", inputs);
        put_run(&s, row, inputs);
        return holds(en, &s, row->seal, row->seal_len);
}

bool seal_step_holds(const struct step *st, const struct row_step *row)
{
        struct sealing s = {.n = 0};
        char *matrix;
        bool yes;

        if (!st->run->en->seal)
                return true;
        matrix = st->matrix ? json_text(st->matrix) : NULL;
        put_step(&s, st, row->state, row->attempt, row->attempt_id, row->losses, row->outputs, matrix);
        yes = holds(st->run->en, &s, row->seal, row->seal_len);
        mem_free(matrix);
        return yes;
}

bool seal_checkpoint_holds(struct engine *en, const struct row_checkpoint *row)
{
        struct sealing s = {.n = 0};

        if (!en->seal)
                return true;
        put_checkpoint(&s, row);
        return holds(en, &s, row->seal, row->seal_len);
}

bool seal_definition_holds(struct engine *en, const char *sha256_hex, const void *text, size_t n)
{
        uint8_t sum[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];

        if (!en->seal)
                return true;
        secret_sha256(text, n, sum);
        str_hex(sum, sizeof sum, hex);
        return sha256_hex && strcmp(hex, sha256_hex) == 0;
}

/* ---- what is said of it ---- */

int seal_broken(struct engine *en, const char *run_id, const char *step_id, const char *what, struct err *e)
{
        char object[256], fields[128];

        snprintf(object, sizeof object, "%.100s%s%.100s", run_id, *step_id ? "/" : "", step_id);
        snprintf(fields, sizeof fields, "\"row\":\"%s\"", what);
        log_error("engine", "a row of the database was changed by somebody else", "run=%s step=%s row=%s",
                  run_id, step_id, what);
        bus_publish(en->bus, engine_now(en), "row.refused", run_id, *step_id ? step_id : NULL, fields);
        engine_audit(en, "hub", "row.refused", object, NULL);
        return err_set(e, E_DENIED,
                       "the %s of run %s%s%s in the database is not as this hub wrote it: nothing more of "
                       "the run is "
                       "started. Find out who can write hub.db, and submit the run anew",
                       what, run_id, *step_id ? ", step " : "", step_id);
}
