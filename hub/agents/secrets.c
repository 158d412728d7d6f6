/* The one place where a secret's value is open: between the vault and the bytes for the agent. */
#include "hub/agents/agents_impl.h"

#include "common/err.h"
#include "common/mem.h"
#include "hub/model/workflow.h"
#include "hub/sched/engine.h"
#include "hub/vault/vault.h"

#include <string.h>

static int open_one(struct vault *v, const char *project, const struct step_secret *s,
                    Photon__V1__StepSecret **out, const char **code, struct err *err)
{
        Photon__V1__StepSecret *m = mem_alloc(sizeof *m);
        struct vault_value val;
        int rc;

        if (!m) {
                *code = "out_of_memory";
                return err_set(err, E_NOMEM, "the hub has no memory for the step's secrets");
        }
        rc = vault_open(v, project, s->name, 0, &val, code, err);
        if (rc) {
                mem_free(m);
                return rc;
        }
        photon__v1__step_secret__init(m);
        m->name = s->name;
        m->env = s->env ? s->env : (char *)(uintptr_t) "";
        m->file = s->file;
        m->value.data = val.p; /* now the message's */
        m->value.len = val.n;
        *out = m;
        return 0;
}

int start_secrets(struct agents *a, const struct engine_start *e, Photon__V1__StepStart *m, const char **code,
                  struct err *err)
{
        int rc = 0;

        if (!e->n_secrets)
                return 0;
        if (!a->opt.vault) {
                *code = "secret_unknown";
                return err_set(err, E_NOENT, "this hub has no vault");
        }
        m->secrets = mem_calloc(e->n_secrets, sizeof *m->secrets);
        if (!m->secrets) {
                *code = "out_of_memory";
                return err_set(err, E_NOMEM, "the hub has no memory for the step's secrets");
        }
        for (size_t i = 0; i < e->n_secrets && !rc; i++) {
                rc = open_one(a->opt.vault, e->project, &e->secrets[i], &m->secrets[i], code, err);
                m->n_secrets += rc == 0;
        }
        return rc;
}

void start_secrets_free(Photon__V1__StepStart *m)
{
        for (size_t i = 0; i < m->n_secrets; i++) {
                mem_wipe(m->secrets[i]->value.data, m->secrets[i]->value.len);
                mem_free(m->secrets[i]->value.data);
                mem_free(m->secrets[i]);
        }
        mem_free(m->secrets);
        m->secrets = NULL;
        m->n_secrets = 0;
}
