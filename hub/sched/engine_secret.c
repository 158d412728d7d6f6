/* Steps that name secrets. The engine never holds a value: it asks whether the vault is open and knows the
 * name, writes down the use with the dispatch, and puts marks where the agent is to put values. While the
 * vault is locked such a step waits, in no queue; one that was dispatched and not sent when it closed is
 * taken back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

static bool vault_open_now(const struct engine *en)
{
        return en->opt.vault.is_open && en->opt.vault.is_open(en->opt.vault.ctx);
}

const char *secrets_why(const struct step *s)
{
        const struct engine *en = s->run->en;

        if (!s->def->n_secrets || list_empty(&s->vault_wait))
                return NULL;
        return en->opt.vault.why(en->opt.vault.ctx);
}

/* Without a vault at all nothing will ever open: secrets_check says so. */
bool secrets_must_wait(const struct step *s)
{
        const struct engine *en = s->run->en;

        return s->def->n_secrets && en->opt.vault.is_open && !vault_open_now(en);
}

void secrets_wait(struct step *s)
{
        struct engine *en = s->run->en;

        if (s->state == STEP_DISPATCHED) { /* its agent has not got it: another attempt will do */
                step_detach(s);
                step_reset(s);
        }
        if (s->state != STEP_WAITING)
                step_move(s, STEP_WAITING);
        list_remove(&s->vault_wait);
        list_push_back(&en->vault_waiting, &s->vault_wait);
        run_settle(s->run);
}

int secrets_check(const struct step *s, const char **code, struct err *e)
{
        const struct engine *en = s->run->en;

        for (size_t i = 0; i < s->def->n_secrets; i++) {
                const char *name = s->def->secrets[i].name;

                if (en->opt.vault.latest && en->opt.vault.latest(en->opt.vault.ctx, s->run->project, name))
                        continue;
                *code = "secret_unknown";
                return err_set(e, E_NOENT, "project %s has no secret %s: photon secret set %s --project %s",
                               s->run->project, name, name, s->run->project);
        }
        return 0;
}

/* {NAME: mark}; the next attempt's. */
cJSON *secrets_context(const struct step *s)
{
        const struct engine *en = s->run->en;
        cJSON *o = cJSON_CreateObject();
        char mark[ENGINE_MARK_LEN];

        if (!o)
                abort(); /* no memory: see engine.c */
        if (!s->def->n_secrets || !en->opt.vault.mark)
                return o;
        en->opt.vault.mark(en->opt.vault.ctx, s->run->id, s->id, s->attempt + 1, mark);
        for (size_t i = 0; i < s->def->n_secrets; i++) {
                const char *name = s->def->secrets[i].name;
                char *text = str_printf("{{photon-secret:%s:%s}}", mark, name);

                if (!text ||
                    (!cJSON_GetObjectItemCaseSensitive(o, name) && !cJSON_AddStringToObject(o, name, text)))
                        abort();
                mem_free(text);
        }
        return o;
}

void secrets_used(struct step *s)
{
        struct engine *en = s->run->en;

        for (size_t i = 0; i < s->def->n_secrets; i++) {
                const char *name = s->def->secrets[i].name;
                char *object = str_printf("%s/%s", s->run->project, name);
                char *detail = str_printf(
                        "{\"run\":\"%s\",\"step\":\"%s\",\"attempt\":%u,\"agent\":\"%s\",\"version\":%" PRId64
                        "}",
                        s->run->id, s->id, s->attempt, s->agent->name,
                        en->opt.vault.latest(en->opt.vault.ctx, s->run->project, name));

                if (!object || !detail)
                        abort();
                store_put_audit(engine_tx(en), engine_now(en), s->run->created_by, "secret.use", object,
                                detail);
                mem_free(object);
                mem_free(detail);
        }
}

void engine_vault_opened(struct engine *en)
{
        struct list todo, *it;

        list_init(&todo);
        while ((it = list_pop(&en->vault_waiting)))
                list_push_back(&todo, it);
        while ((it = list_pop(&todo))) {
                struct step *s = container_of(it, struct step, vault_wait);

                step_prepare(s);
        }
        engine_want_flush(en);
}
