/* Secrets that the hub sent with a call: in the child's environment, in a file in memory, or where their mark
 * stands in the input. They live as long as the call, in memory only; whatever the call writes is masked. */
#include "agent/job_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/mask.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define SECRETS_MAX  32
#define MARK_LEN     32
#define MARK_OPEN    "{{photon-secret:"
#define FIRST_FD     64 /* spawn.h: SPAWN_EXTRA_FD */
#define FIRST_PASSED 3  /* the first one becomes this in a child */

/* ---- marks in the input ---- */

struct filling {
        const Photon__V1__StepStart *m;
        char open[sizeof MARK_OPEN + MARK_LEN + 1]; /* "{{photon-secret:MARK:" */
        struct err *e;
};

static const Photon__V1__StepSecret *named(const Photon__V1__StepStart *m, const char *name, size_t n)
{
        for (size_t i = 0; i < m->n_secrets; i++)
                if (strlen(m->secrets[i]->name) == n && memcmp(m->secrets[i]->name, name, n) == 0)
                        return m->secrets[i];
        return NULL;
}

static int fill_text(const struct filling *f, cJSON *v)
{
        const char *p = v->valuestring, *at;
        struct buf b;
        char *text;
        int rc = 0;

        if (!strstr(p, f->open))
                return 0;
        buf_init(&b, 0);
        while (!rc && (at = strstr(p, f->open))) {
                const char *name = at + strlen(f->open), *end = strstr(name, "}}");
                const Photon__V1__StepSecret *s = end ? named(f->m, name, (size_t)(end - name)) : NULL;

                if (!s) { /* no place of ours */
                        rc = buf_put(&b, p, (size_t)(name - p));
                        p = name;
                        continue;
                }
                if (memchr(s->value.data, 0, s->value.len) || !str_is_utf8(s->value.data, s->value.len)) {
                        rc = err_set(f->e, E_INVAL,
                                     "the secret %.128s is not text and cannot stand in the input of a tool: "
                                     "give it as a "
                                     "file (secrets: [{name: ..., file: true}])",
                                     s->name);
                        break;
                }
                rc = buf_put(&b, p, (size_t)(at - p));
                if (!rc)
                        rc = buf_put(&b, s->value.data, s->value.len);
                p = end + 2;
        }
        if (!rc)
                rc = buf_puts(&b, p);
        text = rc ? NULL : buf_steal_str(&b);
        if (text) {
                cJSON_free(v->valuestring);
                v->valuestring = text;
        } else if (!rc) {
                rc = -E_NOMEM;
        }
        if (b.data)
                mem_wipe(b.data, b.cap);
        buf_fini(&b);
        return rc;
}

static int fill_tree(const struct filling *f, cJSON *v, unsigned depth)
{
        int rc = 0;

        for (; v && !rc; v = v->next) {
                if (cJSON_IsString(v))
                        rc = fill_text(f, v);
                if (v->child && !rc)
                        rc = depth ? fill_tree(f, v->child, depth - 1) : -E_TOOBIG;
        }
        return rc;
}

int job_secrets_fill(const struct tool *t, const Photon__V1__StepStart *m, cJSON *input, struct err *e)
{
        bool process = strncmp(t->name, "process.", 8) == 0;
        struct filling f = {.m = m, .e = e};
        int rc = 0;

        if (!m->n_secrets || strlen(m->secret_mark) != MARK_LEN)
                return 0;
        snprintf(f.open, sizeof f.open, MARK_OPEN "%s:", m->secret_mark);
        for (cJSON *v = input->child; v && !rc; v = v->next) {
                /* A command line is for all to see on this machine: there a mark stays what it is. */
                if (process && strcmp(v->string, "env") != 0 && strcmp(v->string, "stdin") != 0)
                        continue;
                if (cJSON_IsString(v))
                        rc = fill_text(&f, v);
                else if (v->child)
                        rc = fill_tree(&f, v->child, JSON_DEPTH_MAX);
        }
        return rc && !e->code
                       ? err_set(e, -rc, "the secrets could not be put into the input: %s", err_name(rc))
                       : rc;
}

/* ---- words before there is a call ---- */

/* What a refusal says may quote the input. */
void job_secrets_hide(const Photon__V1__StepStart *m, struct err *e)
{
        struct mask *mask = NULL;
        char *text = NULL;
        int rc = 0;

        if (!m->n_secrets)
                return;
        rc = mask_create(&mask);
        for (size_t i = 0; i < m->n_secrets && !rc; i++) {
                rc = mask_add(mask, m->secrets[i]->value.data, m->secrets[i]->value.len);
                rc = rc == -E_INVAL ? 0 : rc;
        }
        if (!rc && (text = mask_sentence(mask, e->msg)))
                snprintf(e->msg, sizeof e->msg, "%s", text);
        else
                snprintf(e->msg, sizeof e->msg,
                         "the input is refused; why cannot be said without its secrets");
        mem_free(text);
        mask_free(mask);
}

/* ---- for the call's life ---- */

/* Written once, then sealed: who opens /proc/self/fd/N reads it from its beginning, and cannot change it. */
static int open_file(struct call_secret *s, struct err *e)
{
        int fd = memfd_create("photon-secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t done = 0;

        while (fd >= 0 && done < s->n) {
                ssize_t k = write(fd, s->value + done, s->n - done);

                if (k < 0 && errno != EINTR)
                        break;
                done += k > 0 ? (size_t)k : 0;
        }
        if (fd >= 0 && done == s->n &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
                s->fd = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
        if (s->fd < 0)
                err_set(e, err_from_errno(errno), "the secret %s cannot be put into a file in memory: %s",
                        s->name, strerror(errno));
        if (fd >= 0)
                close(fd);
        return s->fd < 0 ? -E_IO : 0;
}

static int take_one(struct job *j, const Photon__V1__StepSecret *m, struct call_secret *s, struct err *e)
{
        int rc;

        s->fd = -1;
        s->n = m->value.len;
        s->name = mem_strdup(m->name);
        s->env = m->env[0] ? mem_strdup(m->env) : NULL;
        s->value = mem_alloc(s->n + 1);
        if (!s->name || (m->env[0] && !s->env) || !s->value)
                return err_set(e, E_NOMEM, "this agent has no memory left for the call's secrets");
        memcpy(s->value, m->value.data, s->n);
        s->value[s->n] = '\0';
        rc = tool_secret(&j->call, s->value, s->n);
        if (rc == -E_NOMEM)
                return err_set(e, E_NOMEM, "this agent has no memory left for the call's secrets");
        if (rc && rc != -E_INVAL) /* the hub has been told that one so short is not masked */
                return err_set(e, E_TOOBIG,
                               "the secret %s cannot be masked: it has too many lines, or is too long",
                               s->name);
        if (m->file)
                return open_file(s, e);
        if (s->env && strlen((const char *)s->value) != s->n)
                return err_set(
                        e, E_INVAL,
                        "the secret %s holds a NUL and cannot be in a variable: give it as a file (secrets: "
                        "[{name: %s, file: true}])",
                        s->name, s->name);
        return 0;
}

/* The owner of this machine decides which programs run, whatever a hub sends. */
static int check(const struct tool *t, const Photon__V1__StepSecret *m, struct err *e)
{
        if (m->value.len > MASK_SECRET_MAX)
                return err_set(e, E_TOOBIG, "the secret %.128s is too large", m->name);
        if (!strcmp(m->env, "PATH") || !strncmp(m->env, "LD_", 3) || !strncmp(m->env, "PHOTON_", 7) ||
            strchr(m->env, '='))
                return err_set(e, E_DENIED, "a secret may not be in the variable %.128s", m->env);
        if (m->env[0] && !t->secret_env)
                return err_set(
                        e, E_NOTSUP,
                        "%s starts no program for this call that could have the secret %.128s in %s: "
                        "write ${{ secrets.%.128s }} where its input takes it, and leave it out of the "
                        "step's secrets",
                        t->name, m->name, m->file ? "a file" : "a variable", m->name);
        return 0;
}

int job_secrets_take(struct job *j, const struct tool *t, const Photon__V1__StepStart *m, struct err *e)
{
        int rc = 0, files = 0;

        if (!m->n_secrets)
                return 0;
        if (m->n_secrets > SECRETS_MAX)
                return err_set(e, E_TOOBIG, "the hub sent %zu secrets, this agent takes %d", m->n_secrets,
                               SECRETS_MAX);
        j->secrets = mem_calloc(m->n_secrets, sizeof *j->secrets);
        if (!j->secrets)
                return err_set(e, E_NOMEM, "this agent has no memory left for the call's secrets");
        for (size_t i = 0; i < m->n_secrets && !rc; i++) {
                rc = check(t, m->secrets[i], e);
                if (rc)
                        break;
                j->n_secrets++;
                rc = take_one(j, m->secrets[i], &j->secrets[i], e);
                if (!rc && j->secrets[i].fd >= 0)
                        j->secrets[i].passed_fd = FIRST_PASSED + files++;
        }
        j->call.secrets = j->secrets;
        j->call.n_secrets = j->n_secrets;
        return rc;
}

static void wipe_tree(cJSON *v)
{
        for (; v; v = v->next) {
                if (v->valuestring)
                        mem_wipe(v->valuestring, strlen(v->valuestring));
                wipe_tree(v->child);
        }
}

void job_secrets_free(struct job *j)
{
        for (size_t i = 0; i < j->n_secrets; i++) {
                struct call_secret *s = &j->secrets[i];

                if (s->value)
                        mem_wipe(s->value, s->n);
                mem_free(s->value);
                mem_free(s->name);
                mem_free(s->env);
                if (s->fd >= 0)
                        close(s->fd);
        }
        mem_free(j->secrets);
        j->secrets = NULL;
        j->call.secrets = NULL;
        j->call.n_secrets = 0;
        if (j->n_secrets && j->input)
                wipe_tree(j->input);
        j->n_secrets = 0;
}

void job_secrets_wipe(Photon__V1__StepStart *m)
{
        for (size_t i = 0; i < m->n_secrets; i++)
                if (m->secrets[i]->value.data)
                        mem_wipe(m->secrets[i]->value.data, m->secrets[i]->value.len);
}
