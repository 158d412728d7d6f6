/* What the policy answered for a call, kept until its result takes it to the hub, whose audit has it. */
#include "agent/job_in.h"

#include "agent/policy.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 300 /* bytes of a title or a reason */

typedef Photon__V1__PolicyAnswer answer_msg;

/* At most max bytes, whole characters. NULL: no memory. */
static char *cut(const char *s, size_t max)
{
        size_t n = 0, len = strlen(s);

        for (size_t span; n < len; n += span) {
                span = str_utf8_len(s + n, len - n);
                if (!span || n + span > max)
                        break;
        }
        return mem_strndup(s, n);
}

static void answer_free(answer_msg *m)
{
        if (!m)
                return;
        mem_free(m->action);
        mem_free(m->tool);
        mem_free(m->title);
        mem_free(m->arguments_sha256);
        mem_free(m->by);
        mem_free(m->reason);
        mem_free(m);
}

static answer_msg *answer_make(uint32_t id, const struct tool_question *q, const char *arguments,
                               const struct policy_answer *a)
{
        answer_msg *m = mem_calloc(1, sizeof *m);
        uint8_t sha[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];

        if (!m)
                return NULL;
        photon__v1__policy_answer__init(m);
        secret_sha256(arguments, strlen(arguments), sha);
        str_hex(sha, sizeof sha, hex);
        m->question_id = id;
        m->allowed = a->verdict == POLICY_ALLOW;
        m->action = cut(q->action ? q->action : "other", TEXT_MAX);
        m->tool = cut(q->tool ? q->tool : "", TEXT_MAX);
        m->title = cut(q->title ? q->title : "", TEXT_MAX);
        m->arguments_sha256 = mem_strdup(hex);
        m->by = mem_strdup(a->by);
        m->reason = cut(a->reason, TEXT_MAX);
        if (m->action && m->tool && m->title && m->arguments_sha256 && m->by && m->reason)
                return m;
        answer_free(m);
        return NULL;
}

void job_policy_note(struct job *j, uint32_t id, const struct tool_question *q, const char *arguments,
                     const struct policy_answer *a)
{
        answer_msg **all, *m;

        if (j->n_policy == JOB_POLICY_MAX) {
                j->policy_more++;
                return;
        }
        all = mem_realloc(j->policy, (j->n_policy + 1) * sizeof(answer_msg *));
        if (all)
                j->policy = all;
        m = all ? answer_make(id, q, arguments, a) : NULL;
        if (m) {
                all[j->n_policy++] = m;
                return;
        }
        j->policy_more++;
        log_error("job", "no memory to note what the policy answered", "attempt=%" PRIu64, j->id);
}

void job_policy_say(const struct job *j, Photon__V1__StepFinished *m)
{
        m->policy_answers = j->policy;
        m->n_policy_answers = j->n_policy;
        m->policy_answers_more = j->policy_more;
}

void job_policy_free(struct job *j)
{
        for (size_t i = 0; i < j->n_policy; i++)
                answer_free(j->policy[i]);
        mem_free(j->policy);
        j->policy = NULL;
        j->n_policy = 0;
}
