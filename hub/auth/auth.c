#include "hub/auth/auth_impl.h"

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

#define CERT_LIFE_DEFAULT_MS (INT64_C(24) * 3600 * 1000)

/* A transaction on its way to disk. */
struct commit {
        struct list link;
        struct auth *a; /* NULL: auth is gone */
        int64_t last_event;
        void (*on_done)(void *arg);
        void *arg;
};

int64_t auth_now(const struct auth *a)
{
        return clock_now_us(a->opt.clock);
}

int64_t auth_cert_life_ms(const struct auth *a)
{
        return a->opt.agent_cert_life_ms;
}

int auth_create(const struct auth_options *o, struct auth **out, struct err *e)
{
        struct auth *a = mem_calloc(1, sizeof *a);
        struct store_reader *r = NULL;
        int rc;

        if (!a)
                return err_set(e, E_NOMEM, "no memory");
        a->opt = *o;
        if (a->opt.agent_cert_life_ms <= 0)
                a->opt.agent_cert_life_ms = CERT_LIFE_DEFAULT_MS;
        list_init(&a->tokens);
        list_init(&a->agents);
        list_init(&a->people);
        list_init(&a->projects);
        list_init(&a->commits);
        id_random(a->no_key, sizeof a->no_key);
        a->token_by_id = map_create();
        a->agent_by_id = map_create();
        a->agent_by_name = map_create();
        a->agent_by_key = map_create();
        a->info_tails = map_create();
        a->person_by_name = map_create();
        a->person_by_subject = map_create();
        a->gone_tokens = map_create();
        a->project_by_name = map_create();
        rc = a->token_by_id && a->agent_by_id && a->agent_by_name && a->agent_by_key && a->info_tails &&
                             a->person_by_name && a->person_by_subject && a->gone_tokens && a->project_by_name
                     ? 0
                     : err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = store_reader_open(o->store, &r, e);
        if (!rc)
                rc = registry_load(a, r, e);
        if (!rc)
                rc = join_load(a, r, e);
        if (!rc)
                rc = people_load(a, r, e);
        if (r)
                store_reader_close(r);
        if (rc) {
                auth_free(a);
                return rc;
        }
        *out = a;
        return 0;
}

void auth_free(struct auth *a)
{
        struct list *it;

        if (!a)
                return;
        while ((it = list_pop(&a->commits)))
                container_of(it, struct commit, link)->a = NULL;
        while ((it = list_pop(&a->tokens)))
                join_tok_free(container_of(it, struct join_tok, link));
        while ((it = list_pop(&a->agents)))
                agent_rec_free(container_of(it, struct agent_rec, link));
        while ((it = list_pop(&a->people)))
                person_free(container_of(it, struct person, link));
        while ((it = list_pop(&a->projects)))
                project_free(container_of(it, struct project, link));
        map_free(a->person_by_name);
        map_free(a->person_by_subject);
        map_free(a->gone_tokens);
        map_free(a->project_by_name);
        map_free(a->token_by_id);
        map_free(a->agent_by_id);
        map_free(a->agent_by_name);
        map_free(a->agent_by_key);
        map_free(a->info_tails);
        mem_free(a->lent_info);
        mem_free(a);
}

void auth_act_as(struct auth *a, const char *who)
{
        snprintf(a->actor, sizeof a->actor, "%s", who ? who : "");
}

void auth_record(struct auth *a, struct store_tx *tx, const char *action, const char *object,
                 const char *detail, const char *event, const char *fields)
{
        store_put_audit(tx, auth_now(a), a->actor[0] ? a->actor : "hub", action, object, detail);
        a->actor[0] = '\0';
        if (event && a->opt.bus)
                bus_put(a->opt.bus, tx, auth_now(a), event, "", NULL, fields);
}

static void on_committed(void *arg)
{
        struct commit *c = arg;
        void (*on_done)(void *) = c->on_done;
        void *done_arg = c->arg;

        if (c->a) {
                list_remove(&c->link);
                if (c->last_event && c->a->opt.bus)
                        bus_durable(c->a->opt.bus, c->last_event);
        }
        mem_free(c);
        if (on_done)
                on_done(done_arg);
}

void auth_commit(struct auth *a, struct store_tx *tx, void (*on_done)(void *arg), void *arg)
{
        struct commit *c = mem_calloc(1, sizeof *c);

        /* Without memory the rows still get to disk; the events are announced with the next ones. */
        if (!c) {
                store_commit(tx, on_done, arg);
                return;
        }
        c->a = a;
        /* Every number given so far belongs to this transaction or to one that was handed over before it. */
        c->last_event = a->opt.bus ? bus_written(a->opt.bus) : 0;
        c->on_done = on_done;
        c->arg = arg;
        list_push_back(&a->commits, &c->link);
        store_commit(tx, on_committed, c);
}

bool label_reserved(const char *key)
{
        static const char *const facts[] = {"os", "arch", "kind", "name"};

        for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
                if (strcmp(key, facts[i]) == 0)
                        return true;
        }
        return false;
}

int label_check(const char *key, const char *value, struct err *e)
{
        size_t n = strlen(value);

        if (!str_is_name(key, LABEL_KEY_MAX))
                return err_set(e, E_INVAL,
                               "\"%.80s\" is no label key: letters, digits, '.', '_' and '-', at most %d",
                               key, LABEL_KEY_MAX);
        if (n > LABEL_VALUE_MAX || !str_is_utf8(value, n))
                return err_set(e, E_INVAL, "the value of label \"%s\" is not text of at most %d bytes", key,
                               LABEL_VALUE_MAX);
        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
                        return err_set(e, E_INVAL, "the value of label \"%s\" holds a control character",
                                       key);
        }
        return 0;
}

int labels_check(const cJSON *labels, bool null_ok, struct err *e)
{
        const cJSON *l;
        int n = 0, rc = 0;

        if (!labels)
                return 0;
        if (!cJSON_IsObject(labels))
                return err_set(e, E_INVAL, "labels: expected an object of strings");
        cJSON_ArrayForEach(l, labels)
        {
                if (++n > LABELS_MAX)
                        return err_set(e, E_INVAL, "more than %d labels", LABELS_MAX);
                if (label_reserved(l->string))
                        return err_set(
                                e, E_INVAL,
                                "the label \"%s\" is a fact that the agent reports; choose another key",
                                l->string);
                if (null_ok && cJSON_IsNull(l))
                        rc = label_check(l->string, "", e);
                else if (cJSON_IsString(l))
                        rc = label_check(l->string, l->valuestring, e);
                else
                        rc = err_set(e, E_INVAL, "the value of label \"%.80s\" is not a string", l->string);
                if (rc)
                        return rc;
        }
        return 0;
}
