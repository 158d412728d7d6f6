/* Questions of tool calls: the policy answers, or the hub is asked and a person answers.
 *
 *   tool_ask -> policy -> DECIDED ------------------------------> on_decision, gone
 *                  \-> OPEN --(sent, and again after each Hello)--> Answer -> DECIDED
 *
 * An ask belongs to its job. The callback always comes from a timer of its own, so that a tool is never
 * called from within its own call. Open questions are in the journal: a restarted agent can say what was
 * asked when the call was lost. */
#include "agent/job_in.h"

#include "agent/journal.h"
#include "agent/policy.h"
#include "agent/tools/event.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#include <inttypes.h>
#include <string.h>

#define ASK_TEXT_MAX  ((size_t)1 << 20)  /* arguments and schema of a question, as JSON */
#define ASK_CALL_MAX  ((size_t)4 << 20)  /* all open questions of a call together */
#define ASK_EVENT_MAX ((size_t)64 << 10) /* longer arguments are left out of the event */
#define TITLE_MAX     512
#define TOOL_MAX      256

enum ask_state { ASK_OPEN, ASK_DECIDED };

struct ask {
        struct list link; /* job.asks */
        struct list due;  /* OPEN: jobs.questions, to be sent; DECIDED: jobs.decided, to be delivered */
        struct job *job;
        uint32_t id;
        enum ask_state state;
        bool sent; /* on this connection or an earlier one */
        char title[TITLE_MAX + 1];
        uint8_t *packed; /* Question */
        size_t packed_len;
        void (*on_decision)(void *arg, const struct tool_decision *d);
        void *arg;
        enum ask_outcome outcome;
        bool always;
        cJSON *content;
        char *reason, *by;
};

/* A short word to the hub about a question that may be gone already. */
struct ask_note {
        struct list link; /* jobs.ask_notes */
        bool is_ack;      /* else: withdrawn */
        uint64_t attempt_id;
        uint32_t id;
};

static const char *const outcome_names[] = {
        [ASK_ALLOWED] = "allowed",
        [ASK_DENIED] = "denied",
        [ASK_EXPIRED] = "expired",
        [ASK_WITHDRAWN] = "withdrawn",
};

static void ask_free(struct ask *a)
{
        list_remove(&a->link);
        list_remove(&a->due);
        cJSON_Delete(a->content);
        mem_free(a->packed);
        mem_free(a->reason);
        mem_free(a->by);
        mem_free(a);
}

static struct ask *find(const struct job *j, uint32_t id)
{
        LIST_EACH (l, &j->asks) {
                struct ask *a = container_of(l, struct ask, link);

                if (a->id == id)
                        return a;
        }
        return NULL;
}

static size_t count_open(const struct job *j)
{
        size_t n = 0;

        LIST_EACH (l, &j->asks)
                n += container_of(l, struct ask, link)->state == ASK_OPEN;
        return n;
}

static void note(struct jobs *js, bool is_ack, uint64_t attempt_id, uint32_t id)
{
        struct ask_note *n;

        if (!js->attached)
                return; /* Hello says what is open, and the hub sends what it did not hear acknowledged */
        n = mem_calloc(1, sizeof *n);
        if (!n) {
                log_warn("job", "no memory to speak of a question", "attempt=%" PRIu64 " question=%" PRIu32,
                         attempt_id, id);
                return;
        }
        n->is_ack = is_ack;
        n->attempt_id = attempt_id;
        n->id = id;
        list_push_back(&js->ask_notes, &n->link);
}

/* The call's clock: stands while a question is open. */

static void clock_stop(struct job *j)
{
        if (!j->timer_open || j->left_ms >= 0 || !uv_is_active((uv_handle_t *)&j->timer))
                return;
        uv_update_time(j->jobs->o.loop);
        j->left_ms = (int64_t)uv_timer_get_due_in(&j->timer);
        uv_timer_stop(&j->timer);
}

static void clock_go(struct job *j)
{
        if (!j->timer_open || j->left_ms < 0 || j->state == JOB_FINISHED || count_open(j) > 0)
                return;
        uv_update_time(j->jobs->o.loop);
        uv_timer_start(&j->timer, job_on_timeout, (uint64_t)j->left_ms, 0);
        j->left_ms = -1;
}

bool job_is_asking(const struct job *j)
{
        return count_open(j) > 0;
}

char *job_asks_title(const struct job *j)
{
        LIST_EACH (l, &j->asks) {
                const struct ask *a = container_of(l, struct ask, link);

                if (a->state == ASK_OPEN)
                        return mem_strdup(a->title);
        }
        return NULL;
}

/* Decisions. */

static void on_deliver(uv_timer_t *t)
{
        struct jobs *js = t->data;
        struct list now, *l;

        /* What is asked from within is for the next time. */
        list_init(&now);
        while ((l = list_pop(&js->decided)))
                list_push_back(&now, l);
        while ((l = list_pop(&now))) {
                struct ask *a = container_of(l, struct ask, due);
                struct tool_decision d = {.outcome = a->outcome,
                                          .always = a->always,
                                          .content = a->content,
                                          .reason = a->reason ? a->reason : "",
                                          .by = a->by ? a->by : ""};

                list_remove(&a->link); /* the tool may finish now */
                a->on_decision(a->arg, &d);
                ask_free(a);
        }
}

static void decide(struct ask *a, enum ask_outcome o, const char *by, const char *reason)
{
        struct job *j = a->job;
        bool was_open = a->state == ASK_OPEN && a->packed;

        a->state = ASK_DECIDED;
        a->outcome = o;
        a->by = mem_strdup(by);
        a->reason = mem_strdup(reason);
        event_answer(&j->call, a->id, outcome_names[o], by, reason);
        list_remove(&a->due);
        list_push_back(&j->jobs->decided, &a->due);
        if (!uv_is_active((uv_handle_t *)&j->jobs->deliver))
                uv_timer_start(&j->jobs->deliver, on_deliver, 0, 0);
        if (was_open) {
                journal_answered(j->jobs->o.journal, j->id, a->id);
                clock_go(j);
        }
        log_info("job", "a question is decided", "attempt=%" PRIu64 " question=%" PRIu32 " outcome=%s by=%s",
                 j->id, a->id, outcome_names[o], by);
}

/* Asking. */

static void write_event(struct ask *a, const struct tool_question *q, const char *arguments)
{
        uint8_t sum[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];
        cJSON *m = cJSON_CreateObject();
        size_t n = strlen(arguments);

        secret_sha256(arguments, n, sum);
        str_hex(sum, sizeof sum, hex);
        if (!m || !cJSON_AddStringToObject(m, "kind", q->kind == ASK_INPUT ? "input" : "permission") ||
            !cJSON_AddStringToObject(m, "action", q->action) ||
            !cJSON_AddStringToObject(m, "title", q->title) ||
            (q->tool && !cJSON_AddStringToObject(m, "tool", q->tool)) ||
            !cJSON_AddStringToObject(m, "sha256", hex) ||
            (n <= ASK_EVENT_MAX && q->arguments &&
             !cJSON_AddItemReferenceToObject(m, "arguments", (cJSON *)(uintptr_t)q->arguments)) ||
            (n > ASK_EVENT_MAX && !cJSON_AddTrueToObject(m, "truncated")))
                log_warn("job", "no memory for the event of a question", "attempt=%" PRIu64, a->job->id);
        else
                event_question(&a->job->call, a->id, m);
        cJSON_Delete(m);
}

/* A program's words as the wire takes them: whole characters, at most `max` bytes. */
static int plain(const char *s, size_t max, char *out)
{
        char *clean = str_utf8_lossy(s, strlen(s));
        size_t n = clean ? strlen(clean) : 0;

        if (!clean)
                return -E_NOMEM;
        if (n > max)
                for (n = max; n > 0 && ((unsigned char)clean[n] & 0xc0) == 0x80;)
                        n--;
        memcpy(out, clean, n);
        out[n] = '\0';
        mem_free(clean);
        return 0;
}

/* What the hub would refuse must not reach it. */
static bool is_json(const char *text)
{
        cJSON *v = NULL;
        bool ok = json_parse(text, strlen(text), &v, NULL) == 0;

        cJSON_Delete(v);
        return ok;
}

static const char *known_action(const char *action)
{
        static const char *const known[] = {"read",    "edit",  "delete", "move", "search",
                                            "execute", "think", "fetch",  "other"};

        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (strcmp(known[i], action) == 0)
                        return known[i];
        return "other";
}

static int pack(struct ask *a, const struct tool_question *q, char *arguments, char *schema)
{
        Photon__V1__Question m = PHOTON__V1__QUESTION__INIT;
        char tool[TOOL_MAX + 1];

        if (plain(q->title[0] ? q->title : a->job->call.tool->name, TITLE_MAX, a->title) ||
            plain(q->tool ? q->tool : "", TOOL_MAX, tool))
                return -E_NOMEM;
        m.attempt_id = a->job->id;
        m.question_id = a->id;
        m.kind = q->kind == ASK_INPUT ? "input" : "permission";
        m.action = (char *)(uintptr_t)known_action(q->action);
        m.title = a->title;
        m.tool = tool;
        m.arguments = arguments;
        m.schema = schema ? schema : "";
        m.timeout_ms = q->timeout_ms > UINT32_MAX ? UINT32_MAX
                       : q->timeout_ms > 0        ? (uint32_t)q->timeout_ms
                                                  : 0;
        m.asked_us = jobs_now_us(a->job->jobs);
        a->packed_len = photon__v1__question__get_packed_size(&m);
        a->packed = mem_alloc(a->packed_len);
        if (!a->packed)
                return -E_NOMEM;
        photon__v1__question__pack(&m, a->packed);
        /* Not fatal: without it a restarted agent only says that the call was lost. */
        if (journal_question(a->job->jobs->o.journal, a->job->id, a->id, a->title))
                log_warn("job", "a question is not in the journal", "attempt=%" PRIu64, a->job->id);
        return 0;
}

static size_t held_bytes(const struct job *j)
{
        size_t n = 0;

        LIST_EACH (l, &j->asks)
                n += container_of(l, struct ask, link)->packed_len;
        return n;
}

static void by_policy(const struct job *j, const struct tool_question *q, struct policy_answer *out)
{
        struct policy_question pq = {.action = q->action,
                                     .tool = q->tool,
                                     .caller = j->call.tool->name,
                                     .command = q->command,
                                     .paths = q->paths,
                                     .cwd = q->cwd,
                                     .scratch = j->slot >= 0 ? j->scratch : NULL,
                                     .mode = q->mode,
                                     .form = q->kind == ASK_INPUT};

        policy_question(j->call.policy, &pq, out);
}

/* The question is written down and on its way, or decided. */
static int open_or_decide(struct ask *a, const struct tool_question *q, char *arguments, char *schema)
{
        struct job *j = a->job;
        struct policy_answer answer;
        int rc;

        by_policy(j, q, &answer);
        if (j->state == JOB_STOPPING || j->stop != JOB_STOP_NONE) {
                decide(a, ASK_WITHDRAWN, "agent", "the call is being stopped");
        } else if (answer.verdict != POLICY_ASK) {
                job_policy_note(j, a->id, q, arguments, &answer);
                decide(a, answer.verdict == POLICY_ALLOW ? ASK_ALLOWED : ASK_DENIED, answer.by,
                       answer.reason);
        } else if (strlen(arguments) + (schema ? strlen(schema) : 0) > ASK_TEXT_MAX) {
                decide(a, ASK_DENIED, "agent",
                       "what would be done is larger than 1 MiB, which no person can judge");
        } else if (!is_json(arguments) || (schema && !is_json(schema))) {
                decide(a, ASK_DENIED, "agent", "what would be done cannot be shown: it is no valid JSON");
        } else if (j->jobs->attached && !j->jobs->hub_answers) {
                decide(a, ASK_DENIED, "agent",
                       "this hub cannot ask people; upgrade it, or give the call another permission mode");
        } else {
                rc = pack(a, q, arguments, schema);
                if (rc)
                        return rc;
                list_push_back(&j->jobs->questions, &a->due);
                clock_stop(j);
                log_info("job", "a question waits for people",
                         "attempt=%" PRIu64 " question=%" PRIu32 " title=%s", j->id, a->id, q->title);
        }
        return 0;
}

static int ask(struct tool_call *c, const struct tool_question *q,
               void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        struct job *j = c->job;
        char *arguments = NULL, *schema = NULL;
        struct ask *a = NULL;
        size_t n = 0;
        int rc = -E_NOMEM;

        LIST_EACH (l, &j->asks)
                n++;
        if (n >= ASK_OPEN_MAX || held_bytes(j) > ASK_CALL_MAX)
                return -E_FULL;
        arguments = q->arguments ? json_text(q->arguments) : mem_strdup("{}");
        schema = q->schema ? json_text(q->schema) : NULL;
        a = mem_calloc(1, sizeof *a);
        if (!arguments || (q->schema && !schema) || !a)
                goto fail;
        list_init(&a->due);
        a->job = j;
        a->id = ++j->asked;
        a->on_decision = on_decision;
        a->arg = arg;
        list_push_back(&j->asks, &a->link);
        write_event(a, q, arguments);
        rc = open_or_decide(a, q, arguments, schema);
        if (rc) {
                event_answer(c, a->id, "denied", "agent", "the agent has no memory left to ask");
                goto fail;
        }
        *out_id = a->id;
        mem_free(arguments);
        mem_free(schema);
        return 0;
fail:
        mem_free(arguments);
        mem_free(schema);
        if (a && a->job)
                ask_free(a);
        else
                mem_free(a);
        return rc;
}

/* What leaves the machine, and what the answer is bound to, is masked. The policy here judges what would be
 * done. */
static int masked_question(const struct job *j, const struct tool_question *q, struct tool_question *out)
{
        *out = *q;
        out->title = job_masked_text(j, q->title);
        out->tool = q->tool ? job_masked_text(j, q->tool) : NULL;
        out->arguments = q->arguments ? job_masked_tree(j, q->arguments) : NULL;
        out->schema = q->schema ? job_masked_tree(j, q->schema) : NULL;
        return out->title && (out->tool || !q->tool) && (out->arguments || !q->arguments) &&
                               (out->schema || !q->schema)
                       ? 0
                       : -E_NOMEM;
}

static void masked_free(struct tool_question *m)
{
        mem_free((char *)(uintptr_t)m->title);
        mem_free((char *)(uintptr_t)m->tool);
        cJSON_Delete((cJSON *)(uintptr_t)m->arguments);
        cJSON_Delete((cJSON *)(uintptr_t)m->schema);
}

int tool_ask(struct tool_call *c, const struct tool_question *q,
             void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        struct tool_question m;
        int rc;

        if (!tool_has_secrets(c))
                return ask(c, q, on_decision, arg, out_id);
        rc = masked_question(c->job, q, &m);
        if (!rc)
                rc = ask(c, &m, on_decision, arg, out_id);
        masked_free(&m);
        return rc;
}

/* Nobody waits for it any more: no callback. */
static void drop(struct ask *a, bool tell)
{
        struct job *j = a->job;

        if (a->state == ASK_OPEN) {
                event_answer(&j->call, a->id, outcome_names[ASK_WITHDRAWN], "agent", "");
                journal_answered(j->jobs->o.journal, j->id, a->id);
                if (tell && a->sent)
                        note(j->jobs, false, j->id, a->id);
        }
        ask_free(a);
        clock_go(j);
}

void tool_ask_withdraw(struct tool_call *c, uint32_t id)
{
        struct ask *a = find(c->job, id);

        if (a)
                drop(a, true);
}

void job_asks_stop(struct job *j)
{
        LIST_EACH_SAFE (l, nx, &j->asks) {
                struct ask *a = container_of(l, struct ask, link);

                if (a->state != ASK_OPEN)
                        continue;
                if (a->sent)
                        note(j->jobs, false, j->id, a->id);
                decide(a, ASK_WITHDRAWN, "agent", "the call is being stopped");
        }
}

void job_asks_end(struct job *j)
{
        LIST_EACH_SAFE (l, nx, &j->asks)
                drop(container_of(l, struct ask, link), false); /* the result says it */
}

void job_asks_free(struct job *j)
{
        LIST_EACH_SAFE (l, nx, &j->asks)
                ask_free(container_of(l, struct ask, link));
}

/* The hub. */

void job_asks_resend(struct job *j)
{
        LIST_EACH_SAFE (l, nx, &j->asks) {
                struct ask *a = container_of(l, struct ask, link);

                if (a->state != ASK_OPEN)
                        continue;
                if (!j->jobs->hub_answers) {
                        decide(a, ASK_DENIED, "agent", "this hub cannot ask people; upgrade it");
                        continue;
                }
                list_remove(&a->due);
                list_push_back(&j->jobs->questions, &a->due);
        }
}

int job_asks_held(const struct job *j, Photon__V1__HeldAttempt *h)
{
        size_t n = count_open(j);

        if (n == 0)
                return 0;
        h->open_questions = mem_calloc(n, sizeof *h->open_questions);
        if (!h->open_questions)
                return -E_NOMEM;
        LIST_EACH (l, &j->asks) {
                const struct ask *a = container_of(l, struct ask, link);

                if (a->state == ASK_OPEN)
                        h->open_questions[h->n_open_questions++] = a->id;
        }
        return 0;
}

static const enum ask_outcome outcomes[] = {
        [PHOTON__V1__ANSWER_OUTCOME__ANSWER_UNSPECIFIED] = ASK_DENIED,
        [PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED] = ASK_ALLOWED,
        [PHOTON__V1__ANSWER_OUTCOME__ANSWER_DENIED] = ASK_DENIED,
        [PHOTON__V1__ANSWER_OUTCOME__ANSWER_EXPIRED] = ASK_EXPIRED,
        [PHOTON__V1__ANSWER_OUTCOME__ANSWER_WITHDRAWN] = ASK_WITHDRAWN,
};

void jobs_on_answer(struct jobs *js, const Photon__V1__Answer *m)
{
        struct job *j = map_get_u64(js->by_id, m->attempt_id);
        struct ask *a = j ? find(j, m->question_id) : NULL;
        enum ask_outcome o = ASK_DENIED;
        struct err e = {0};

        note(js, true, m->attempt_id, m->question_id);
        if (!a || a->state != ASK_OPEN)
                return; /* a repeat, or the tool did not want to wait */
        if ((unsigned)m->outcome < sizeof outcomes / sizeof *outcomes)
                o = outcomes[m->outcome];
        if (o == ASK_ALLOWED && m->content[0] &&
            json_parse(m->content, strlen(m->content), &a->content, &e)) {
                log_error("job", "the hub sent a malformed answer", "attempt=%" PRIu64 " error=%s", j->id,
                          e.msg);
                decide(a, ASK_DENIED, "agent", "the answer's content cannot be read");
                return;
        }
        a->always = m->always && o == ASK_ALLOWED;
        decide(a, o, m->by, m->reason);
}

enum { FIELD_QUESTION = 5, FIELD_WITHDRAWN = 6, FIELD_ANSWER_ACK = 7 };

bool jobs_asks_due(const struct jobs *js)
{
        return !list_empty(&js->questions) || !list_empty(&js->ask_notes);
}

static int put_note(struct buf *b, const struct ask_note *n)
{
        Photon__V1__QuestionWithdrawn w = PHOTON__V1__QUESTION_WITHDRAWN__INIT;
        Photon__V1__AnswerAck k = PHOTON__V1__ANSWER_ACK__INIT;
        uint8_t raw[32];
        size_t len;

        if (n->is_ack) {
                k.attempt_id = n->attempt_id;
                k.question_id = n->id;
                len = photon__v1__answer_ack__pack(&k, raw);
        } else {
                w.attempt_id = n->attempt_id;
                w.question_id = n->id;
                len = photon__v1__question_withdrawn__pack(&w, raw);
        }
        return jobs_put_member(b, n->is_ack ? FIELD_ANSWER_ACK : FIELD_WITHDRAWN, raw, len);
}

void jobs_asks_gather(struct jobs *js, size_t n[2])
{
        n[0] = n[1] = 0;
        LIST_EACH (l, &js->questions) {
                struct ask *a = container_of(l, struct ask, due);

                if (js->msg.len >= JOB_MESSAGE_SOFT ||
                    jobs_put_member(&js->msg, FIELD_QUESTION, a->packed, a->packed_len))
                        return;
                n[0]++;
        }
        LIST_EACH (l, &js->ask_notes) {
                if (js->msg.len >= JOB_MESSAGE_SOFT ||
                    put_note(&js->msg, container_of(l, struct ask_note, link)))
                        return;
                n[1]++;
        }
}

void jobs_asks_sent(struct jobs *js, const size_t n[2])
{
        for (size_t i = 0; i < n[0]; i++)
                container_of(list_pop(&js->questions), struct ask, due)->sent = true;
        for (size_t i = 0; i < n[1]; i++)
                mem_free(container_of(list_pop(&js->ask_notes), struct ask_note, link));
}

void jobs_asks_forget_notes(struct jobs *js)
{
        struct list *l;

        while ((l = list_pop(&js->ask_notes)))
                mem_free(container_of(l, struct ask_note, link));
}

void jobs_asks_init(struct jobs *js)
{
        list_init(&js->questions);
        list_init(&js->decided);
        list_init(&js->ask_notes);
}

void jobs_asks_open(struct jobs *js)
{
        uv_timer_init(js->o.loop, &js->deliver);
        js->deliver.data = js;
        js->handles++;
}

static void on_deliver_closed(uv_handle_t *h)
{
        jobs_handle_closed(h->data);
}

void jobs_asks_close(struct jobs *js)
{
        jobs_asks_forget_notes(js);
        uv_close((uv_handle_t *)&js->deliver, on_deliver_closed);
}
