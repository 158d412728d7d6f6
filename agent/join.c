/* `photon-agent join`: enrols once and says what came of it. */
#include "agent/agent.h"

#include "agent/conf.h"
#include "agent/datadir.h"
#include "agent/enroll.h"
#include "agent/identity.h"
#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/jointoken.h"
#include "common/link.h"
#include "common/mem.h"
#include "common/secret.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct join {
        const struct agent_conf *conf;
        uv_loop_t loop;
        struct link_net *net;
        struct identity *id;
        struct policy *policy;
        char *policy_path;
        struct enroller *enroller;
        struct join_token token;
        struct err *e;
        int lock, rc;
};

static void on_done(void *arg, int rc, const struct err *e)
{
        struct join *j = arg;

        j->rc = rc;
        if (rc)
                *j->e = *e;
        link_net_close(j->net, NULL, NULL);
}

/* What belongs to the old hub means nothing to the new one. */
static int forget_old(const char *data, struct err *e)
{
        char *journal = path_join(data, "journal"), *spool = NULL;
        int rc = journal ? identity_delete(data, e) : err_set(e, E_NOMEM, "no memory");

        if (!rc && unlink(journal) && errno != ENOENT)
                rc = err_set(e, err_from_errno(errno), "cannot delete %s: %s", journal, strerror(errno));
        if (!rc)
                rc = datadir_fresh(data, "spool", &spool, e);
        mem_free(journal);
        mem_free(spool);
        return rc;
}

/* 0 with *out_done: nothing to do. */
static int check_joined(const struct join *j, bool *out_done, struct err *e)
{
        *out_done = false;
        if (!identity_enrolled(j->id))
                return 0;
        if (!secret_equal(j->id->ca_pin, j->token.ca_pin, sizeof j->token.ca_pin))
                return err_set(e, E_EXIST,
                               "this machine has joined the hub at %s as %s already; to leave it for "
                               "another, say --replace",
                               j->id->agent_addr, j->id->name);
        *out_done = strcmp(j->id->token_id, j->token.id) == 0 &&
                    clock_now_us(&clock_system) < j->id->not_after_us;
        return 0;
}

static int copy_labels(struct identity *id, const struct conf_list *l, struct err *e)
{
        for (size_t i = 0; i < id->labels.n; i++)
                mem_free(id->labels.v[i]);
        mem_free(id->labels.v);
        id->labels = (struct conf_list){0};
        if (l->n == 0)
                return 0;
        id->labels.v = mem_calloc(l->n, sizeof *id->labels.v);
        for (size_t i = 0; id->labels.v && i < l->n; i++) {
                id->labels.v[i] = mem_strdup(l->v[i]);
                if (!id->labels.v[i])
                        return err_set(e, E_NOMEM, "no memory for labels");
                id->labels.n++;
        }
        return id->labels.v ? 0 : err_set(e, E_NOMEM, "no memory for labels");
}

static int enroll(struct join *j, struct err *e)
{
        struct enroller_options o = {.loop = &j->loop,
                                     .id = j->id,
                                     .token = &j->token,
                                     .name = j->conf->name,
                                     .labels = &j->conf->labels,
                                     .clock = &clock_system,
                                     .give_up_ms = j->conf->timeout_ms,
                                     .on_done = on_done,
                                     .arg = j};
        int rc = uv_loop_init(&j->loop);

        if (rc)
                return err_set(e, E_IO, "cannot make an event loop: %s", uv_strerror(rc));
        rc = copy_labels(j->id, &j->conf->labels, e);
        if (!rc)
                rc = link_net_create(&j->loop, &j->net, e);
        o.net = j->net;
        if (!rc) {
                rc = enroller_start(&o, &j->enroller, e);
                if (rc)
                        link_net_close(j->net, NULL, NULL);
        }
        uv_run(&j->loop, UV_RUN_DEFAULT);
        uv_loop_close(&j->loop);
        return rc ? rc : j->rc;
}

/* What the machine's kernel has for the policy's sandbox, before the first call relies on it. */
static void say_sandbox(const struct join *j)
{
        struct sandbox_options o = {.data = j->conf->data};
        struct err e = {0};

        o.rules = policy_sandbox(j->policy, &o.n_rules);
        if (sandbox_open(&o, &e))
                printf("Sandbox of programs: none: %s\n", e.msg);
        else if (sandbox_mode() == SANDBOX_OFF)
                printf("Sandbox of programs: off, as the policy says\n");
        else if (!*sandbox_lacks())
                printf("Sandbox of programs: %s\n", sandbox_has());
        else
                printf("Sandbox of programs: %s; this machine lacks: %s (%s)\n", sandbox_has(),
                       sandbox_lacks(),
                       sandbox_mode() == SANDBOX_REQUIRE ? "the policy requires it: calls are refused"
                                                         : "programs run without it");
        sandbox_close();
}

static void say_joined(const struct join *j, bool already)
{
        char at[CLOCK_RFC3339_LEN];

        clock_format(j->id->not_after_us, at);
        printf("%s %s as %s (id %s), certificate valid until %s\n", already ? "already joined" : "joined",
               j->id->agent_addr, j->id->name, j->id->agent_id, at);
        printf("What the hub may do on this machine (%s):\n%s", j->policy_path, policy_text(j->policy));
        if (policy_text(j->policy)[0] && policy_text(j->policy)[strlen(policy_text(j->policy)) - 1] != '\n')
                putchar('\n');
        say_sandbox(j);
        printf("Start the agent with: photon-agent run --data %s\n", j->conf->data);
}

int agent_join(const struct agent_conf *conf, const char *token_text, struct err *e)
{
        struct join j = {.conf = conf, .e = e, .lock = -1};
        bool done = false;
        int rc = join_token_parse(token_text, &j.token, e);

        if (!rc)
                rc = datadir_open(conf->data, &j.lock, e);
        if (!rc && conf->replace)
                rc = forget_old(conf->data, e);
        if (!rc)
                rc = datadir_policy(conf, true, &j.policy, &j.policy_path, e);
        if (!rc)
                rc = identity_load(conf->data, &j.id, e);
        if (!rc)
                rc = check_joined(&j, &done, e);
        if (!rc && !done)
                rc = enroll(&j, e);
        if (!rc)
                say_joined(&j, done);
        join_token_wipe(&j.token);
        identity_free(j.id);
        policy_free(j.policy);
        mem_free(j.policy_path);
        if (j.lock >= 0)
                close(j.lock);
        return rc;
}
