/* The tool read_logs: a bounded piece of what one attempt of a step wrote, as text, with
 * the place where to go on. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/attempt_log.h"
#include "hub/http/jsonw.h"
#include "hub/http/mcp.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define PIECE_DEFAULT (16 << 10)
#define PIECE_MAX     (256 << 10)

struct ask {
        const char *run, *step, *channel;
        int64_t attempt; /* 0: the current one */
        int64_t offset, max;
        bool tail;
        unsigned channels;
};

struct found {
        const struct ask *a;
        bool any;
        int n; /* steps that match */
        char step[320];
        int64_t seq, idx;
        uint64_t attempt_id, output_bytes;
        uint32_t attempt;
        bool over;
};

static int read_channel(struct ask *a, struct err *e)
{
        static const struct {
                const char *name;
                unsigned bits;
        } names[] = {{"output", ATTEMPT_OUTPUT},
                     {"stdout", 1u << LOG_STDOUT},
                     {"stderr", 1u << LOG_STDERR},
                     {"event", 1u << LOG_EVENT}};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (!a->channel || strcmp(a->channel, names[i].name) == 0) {
                        a->channels = names[i].bits;
                        return 0;
                }
        return err_set(e, E_INVAL, "\"channel\" must be output, stdout, stderr or event");
}

static int read_ask(const cJSON *args, struct ask *a, struct err *e)
{
        int rc = json_str(args, "run", &a->run, e);

        *a = (struct ask){.run = a->run, .max = PIECE_DEFAULT, .offset = -1};
        if (!rc)
                rc = json_str_opt(args, "step", &a->step, e);
        if (!rc)
                rc = json_str_opt(args, "channel", &a->channel, e);
        if (!rc)
                rc = json_i64_opt(args, "attempt", 1, UINT32_MAX, &a->attempt, e);
        if (!rc)
                rc = json_i64_opt(args, "offset", 0, (int64_t)1 << 53, &a->offset, e);
        if (!rc)
                rc = json_i64_opt(args, "max_bytes", 1, PIECE_MAX, &a->max, e);
        if (!rc)
                rc = json_bool_opt(args, "tail", &a->tail, e);
        if (!rc && a->tail && a->offset >= 0)
                rc = err_set(e, E_INVAL, "give \"tail\" or \"offset\", not both");
        if (!rc && a->tail && a->max > (int64_t)ATTEMPT_TAIL_MAX)
                a->max = ATTEMPT_TAIL_MAX;
        if (a->offset < 0)
                a->offset = 0;
        return rc ? rc : read_channel(a, e);
}

/* ---- which attempt ---- */

static int on_run(void *arg, const struct row_run *r)
{
        ((struct found *)arg)->seq = r->seq;
        return 0;
}

static int on_step(void *arg, const struct row_step *s)
{
        struct found *f = arg;

        if (s->fanout && s->started_us)
                return 0; /* its instances did the work */
        if (f->a->step && strcmp(f->a->step, s->id) != 0)
                return 0;
        f->n++;
        f->idx = s->idx;
        f->attempt_id = s->attempt_id;
        f->attempt = s->attempt;
        f->output_bytes = s->output_bytes;
        f->over = step_state_final(s->state);
        snprintf(f->step, sizeof f->step, "%s", s->id);
        return 0;
}

static int on_earlier(void *arg, const struct row_attempt *r)
{
        struct found *f = arg;

        if (r->attempt != f->a->attempt)
                return 0;
        f->any = true;
        f->attempt_id = r->attempt_id;
        f->attempt = r->attempt;
        f->output_bytes = r->output_bytes;
        f->over = true;
        return 0;
}

static int find(struct store_reader *r, const struct ask *a, struct found *f, struct err *e)
{
        int rc = read_run(r, a->run, on_run, f);

        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no run '%.64s'", a->run);
        if (!rc)
                rc = read_steps(r, f->seq, on_step, f);
        if (!rc && !f->n)
                return err_set(e, E_NOENT, "run '%.64s' has no step '%.128s'", a->run,
                               a->step ? a->step : "");
        if (!rc && f->n > 1)
                return err_set(e, E_INVAL,
                               "run %.64s has %d steps: name one with \"step\"; get_run lists them", a->run,
                               f->n);
        if (!rc && a->attempt && a->attempt != f->attempt) {
                rc = read_attempts(r, f->seq, f->idx, on_earlier, f);
                if (!rc && !f->any)
                        return err_set(e, E_NOENT, "step '%.128s' has no attempt %lld", f->step,
                                       (long long)a->attempt);
        }
        return rc;
}

/* ---- its text ---- */

struct piece {
        struct buf text;
        uint64_t next;
        bool more, cut;
};

static int read_piece(const char *dir, struct store_reader *r, const struct ask *a, const struct found *f,
                      struct piece *p)
{
        struct log_reader *rd = NULL;
        int rc = f->attempt_id ? attempt_log_open(dir, r, f->attempt_id, f->over, &rd) : -E_NOENT;

        p->next = (uint64_t)a->offset;
        if (rc)
                return rc == -E_NOENT ? 0 : rc; /* nothing yet, or nothing ever */
        if (a->tail) {
                rc = attempt_log_tail(rd, a->channels, (size_t)a->max, f->output_bytes, &p->text, &p->cut);
                p->next = log_reader_offset(rd);
        } else {
                rc = log_reader_seek(rd, (uint64_t)a->offset);
                if (!rc)
                        rc = attempt_log_text(rd, a->channels, (size_t)a->max, f->over, &p->text, &p->next,
                                              &p->more);
        }
        log_reader_close(rd);
        return rc;
}

static int answer(struct http_req *q, struct mcp_call *c, const struct ask *a, const struct found *f,
                  const struct piece *p)
{
        struct jsonw w;
        struct buf doc, b;
        int rc;

        buf_init(&doc, 0);
        buf_init(&b, 0);
        jw_begin(&w, &doc);
        jw_open(&w, NULL, '{');
        jw_str(&w, "run", a->run);
        jw_str(&w, "step", f->step);
        jw_i64(&w, "attempt", f->attempt);
        jw_str(&w, "text", p->text.len > 1 ? (const char *)p->text.data : "");
        jw_i64(&w, "next_offset", (int64_t)p->next);
        jw_bool(&w, "more", p->more);
        jw_bool(&w, "over", f->over);
        if (a->tail)
                jw_bool(&w, "cut", p->cut);
        jw_close(&w, '}');
        rc = jw_end(&w);
        if (!rc)
                rc = mcp_tool_members(&b, (const char *)doc.data, doc.len, true, false);
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&doc);
        buf_fini(&b);
        return rc;
}

int mcp_read_logs(struct http_req *q, struct mcp_call *c, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct ask a = {0};
        struct found f = {.a = &a};
        struct piece p = {0};
        int rc = r ? read_ask(c->args, &a, e) : -E_UNAVAIL;

        if (!rc)
                rc = find(r, &a, &f, e);
        if (rc)
                return rc;
        buf_init(&p.text, 0);
        rc = read_piece(q->h->o.logs_dir, r, &a, &f, &p);
        if (!rc)
                rc = buf_putc(&p.text, '\0');
        if (rc)
                rc = err_set(e, -rc, "what step '%.128s' wrote could not be read: %s", f.step, err_name(rc));
        else
                rc = answer(q, c, &a, &f, &p);
        buf_fini(&p.text);
        return rc;
}
