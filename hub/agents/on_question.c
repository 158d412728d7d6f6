/* Questions that an agent's tools ask people: checked, then the engine's. */
#include "hub/agents/agents_impl.h"

#include "common/json.h"
#include "common/str.h"
#include "hub/sched/engine.h"

#include <inttypes.h>
#include <string.h>

static bool is_action(const char *s)
{
        static const char *const known[] = {"read",    "edit",  "delete", "move", "search",
                                            "execute", "think", "fetch",  "other"};

        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (strcmp(known[i], s) == 0)
                        return true;
        return false;
}

static bool is_json(const char *text, bool object, struct err *e)
{
        cJSON *v = NULL;
        int rc = json_parse(text, strlen(text), &v, e);
        bool ok = rc == 0 && (!object || cJSON_IsObject(v));

        if (rc == 0 && !ok)
                err_set(e, E_INVAL, "it is no object");
        cJSON_Delete(v);
        return ok;
}

/* What people will read and answer is as we promise it, whatever agent it comes from. */
static bool check(struct session *s, const Photon__V1__Question *q)
{
        bool input = strcmp(q->kind, "input") == 0;
        struct err e = {0};

        if (q->attempt_id == 0 || q->question_id == 0)
                session_violation(s, "a question without attempt or number");
        else if (!input && strcmp(q->kind, "permission") != 0)
                session_violation(s, "a question of kind \"%.20s\"", q->kind);
        else if (!is_action(q->action))
                session_violation(s, "a question about the action \"%.20s\"", q->action);
        else if (!q->title[0] || strlen(q->title) > QUESTION_TITLE_MAX || strlen(q->tool) > QUESTION_TOOL_MAX)
                session_violation(s, "a question whose title or tool is missing or too long");
        else if (strlen(q->arguments) + strlen(q->schema) > QUESTION_BYTES_MAX)
                session_violation(s, "a question of more than %u bytes", QUESTION_BYTES_MAX);
        else if (!is_json(q->arguments, false, &e) || (q->schema[0] && !is_json(q->schema, true, &e)))
                session_violation(s, "a question whose arguments or schema are no JSON: %s", e.msg);
        else
                return true;
        return false;
}

static void on_question(struct session *s, const Photon__V1__Question *q)
{
        struct engine_question m = {.attempt_id = q->attempt_id,
                                    .question_id = q->question_id,
                                    .kind = q->kind,
                                    .action = q->action,
                                    .title = q->title,
                                    .tool = q->tool,
                                    .arguments = q->arguments,
                                    .schema = q->schema[0] ? q->schema : NULL,
                                    .timeout_ms = q->timeout_ms};

        if (check(s, q))
                engine_on_question(s->a->engine, s->agent_id, &m);
}

void on_questions(struct session *s, const Photon__V1__AgentMessage *m)
{
        for (size_t i = 0; i < m->n_question && s->state == SESSION_READY; i++)
                on_question(s, m->question[i]);
        for (size_t i = 0; i < m->n_question_withdrawn && s->state == SESSION_READY; i++)
                engine_on_question_withdrawn(s->a->engine, s->agent_id, m->question_withdrawn[i]->attempt_id,
                                             m->question_withdrawn[i]->question_id);
}

void on_answer_acks(struct session *s, const Photon__V1__AgentMessage *m)
{
        for (size_t i = 0; i < m->n_answer_ack && s->state == SESSION_READY; i++)
                engine_on_reply_ack(s->a->engine, s->agent_id, m->answer_ack[i]->attempt_id,
                                    m->answer_ack[i]->question_id);
}
