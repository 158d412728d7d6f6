/* The hub's own policy (hub/model/askfirst.h): a step that it names waits for people before it is sent. What
 * they said yes to is exactly this tool with this input: another input is asked about anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/model/askfirst.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define SHOWN_MAX ((size_t)64 << 10) /* bytes of an input that people are shown */

struct policy_question {
        char *title, sha256[2 * SHA256_LEN + 1];
        cJSON *about;
};

static void *must(void *p)
{
        if (!p)
                abort(); /* no memory: see engine.c */
        return p;
}

static void digest(const char *text, char out[2 * SHA256_LEN + 1])
{
        uint8_t sum[SHA256_LEN];

        secret_sha256(text, strlen(text), sum);
        str_hex(sum, sizeof sum, out);
}

/* The same bytes for the same step, whenever it is asked. */
static void make_question(const struct step *s, const struct askfirst_rule *r, struct policy_question *q)
{
        cJSON *input = NULL;
        size_t n = s->input ? strlen(s->input) : 0;
        char *text, sha[2 * SHA256_LEN + 1];

        q->title = must(r->question ? mem_strdup(r->question)
                                    : str_printf("May step %.200s call %.200s?", s->id, s->def->tool));
        q->about = must(cJSON_CreateObject());
        must(cJSON_AddStringToObject(q->about, "tool", s->def->tool));
        if (n > SHOWN_MAX) { /* nobody reads it; the answer is bound to it all the same */
                digest(s->input, sha);
                must(cJSON_AddStringToObject(q->about, "input_sha256", sha));
                must(cJSON_AddNumberToObject(q->about, "input_bytes", (double)n));
        } else {
                if (n && json_parse(s->input, n, &input, NULL))
                        abort(); /* the hub's own words */
                if (!cJSON_AddItemToObject(q->about, "input", input ? input : must(cJSON_CreateObject())))
                        abort();
        }
        if (r->agents && !cJSON_AddItemToObject(q->about, "agents", must(cJSON_Duplicate(r->agents, true))))
                abort();
        text = must(json_text(q->about));
        digest(text, q->sha256);
        mem_free(text);
}

static void question_fini(struct policy_question *q)
{
        mem_free(q->title);
        cJSON_Delete(q->about);
}

/* ---- what people allowed ---- */

static void about_digest(const char *arguments, char out[2 * SHA256_LEN + 1])
{
        cJSON *doc = NULL;
        char *text = NULL;

        out[0] = '\0';
        if (json_parse(arguments, strlen(arguments), &doc, NULL) == 0)
                text = json_text(cJSON_GetObjectItemCaseSensitive(doc, "about"));
        if (text)
                digest(text, out);
        mem_free(text);
        cJSON_Delete(doc);
}

static void on_granted(struct step *s, const struct gate_answer *m)
{
        char sha[2 * SHA256_LEN + 1];

        about_digest(m->arguments, sha);
        set_text(&s->allowed_sha256, sha);
}

struct search {
        struct engine *en;
        const struct step *s;
        const char *sha256;
        bool found;
};

static int on_row(void *arg, const struct row_checkpoint *c)
{
        struct search *f = arg;
        char sha[2 * SHA256_LEN + 1];

        if (c->step_idx != f->s->idx || !c->kind || strcmp(c->kind, checkpoint_kind_name(KIND_POLICY)) != 0 ||
            !c->arguments || c->sealed.refused || !seal_checkpoint_holds(f->en, c))
                return 0;
        about_digest(c->arguments, sha);
        f->found = strcmp(sha, f->sha256) == 0;
        return f->found;
}

/* From before the hub was started anew. */
static bool was_granted(struct engine *en, const struct step *s, const char *sha256)
{
        struct checkpoint_filter f = {.state = CHECKPOINT_APPROVED, .run_seq = s->run->seq};
        struct search look = {.en = en, .s = s, .sha256 = sha256};

        (void)read_checkpoints(en->reader, &f, on_row, &look); /* it cannot be read: people are asked again */
        return look.found;
}

/* ---- the gate ---- */

bool policy_gate(struct engine *en, struct step *s, const struct fleet_agent *a)
{
        const struct askfirst_rule *r;
        struct policy_question q;
        bool ok;

        if (!en->opt.ask_first || !en->opt.ask_first->n)
                return true;
        r = askfirst_find(en->opt.ask_first, s->def->tool, s->run->project, s->run->wf->name, a->name);
        if (!r)
                return true;
        make_question(s, r, &q);
        ok = (s->allowed_sha256 && strcmp(s->allowed_sha256, q.sha256) == 0) || was_granted(en, s, q.sha256);
        if (!ok) {
                struct gate_question m = {.kind = KIND_POLICY,
                                          .title = q.title,
                                          .shown = q.about,
                                          .rules = &r->rules,
                                          .denied_code = "not_allowed_by_people"};

                step_gate(s, &m);
        }
        question_fini(&q);
        return ok;
}

void policy_begin(struct engine *en)
{
        gate_on_granted(en, KIND_POLICY, on_granted);
}
