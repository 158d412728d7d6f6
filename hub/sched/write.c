#include "hub/sched/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

static void put_new_step(struct engine *en, struct step *s)
{
        struct row_step row = {
                .run_seq = s->run->seq,
                .idx = s->idx,
                .id = s->id,
                .tool = s->def->tool,
                .state = s->state,
                .def = (int32_t)(s->def - s->run->wf->steps),
                .parent = s->parent ? (int32_t)s->parent->idx : -1,
                .fanout = s->fanout,
                .attempt = s->attempt,
                .attempt_id = s->attempt_id,
                .losses = s->losses,
                .agent = s->agent ? s->agent->id : NULL,
                .agent_name = s->agent ? s->agent->name : NULL,
                .agent_boot = s->agent_boot,
                .placement = s->placement,
                .input = s->attempt ? step_own_input(s) : NULL,
                .error_code = s->error_code,
                .error_message = s->error_message,
                .not_before_us = s->not_before_us,
                .created_us = s->created_us,
                .ready_us = s->ready_us,
                .dispatched_us = s->dispatched_us,
                .started_us = s->started_us,
                .finished_us = s->finished_us,
        };
        char *matrix = s->matrix ? json_text(s->matrix) : NULL;
        struct row_seal seal;

        row.matrix = matrix;
        row.seal = seal_step(s, &seal);
        row.seal_len = row.seal ? sizeof seal.v : 0;
        store_put_step(engine_tx(en), &row);
        mem_free(matrix);
}

static void put_move(struct engine *en, struct step *s)
{
        bool final = step_state_final(s->state);
        struct row_seal seal;
        struct row_step_move m = {
                .run_seq = s->run->seq,
                .idx = s->idx,
                .state = s->state,
                .attempt = s->attempt,
                .attempt_id = s->attempt_id,
                .clear = s->clear,
                .has_exit_code = s->has_exit_code,
                .exit_code = s->exit_code,
                .losses = s->losses,
                .outputs = final ? s->outputs : NULL,
                .error_code = s->error_code,
                .error_message = s->error_message,
                .usage = s->usage,
                .output_bytes = s->output_bytes,
                .not_before_us = s->not_before_us,
                .ready_us = s->state == STEP_READY ? s->ready_us : 0,
                .started_us = s->started_us,
                .finished_us = s->finished_us,
        };

        if (s->state == STEP_DISPATCHED && s->agent) {
                m.agent = s->agent->id;
                m.agent_name = s->agent->name;
                m.agent_boot = s->agent_boot;
                m.placement = s->placement;
                m.input = step_own_input(s);
                m.ready_us = s->ready_us;
                m.dispatched_us = s->dispatched_us;
        }
        m.seal = seal_step(s, &seal);
        m.seal_len = m.seal ? sizeof seal.v : 0;
        store_move_step(engine_tx(en), &m);
}

static void step_event(struct engine *en, struct step *s)
{
        char type[32], fields[2048];
        struct buf b = {0};
        int n = 0;

        snprintf(type, sizeof type, "step.%s", step_state_name(s->state));
        if (s->state == STEP_RUNNING)
                strcpy(type, "step.started");
        fields[0] = 0;
        if (s->attempt)
                n = snprintf(fields, sizeof fields, "\"attempt\":%u", s->attempt);
        if (s->agent && n < (int)sizeof fields - 200)
                n += snprintf(fields + n, sizeof fields - (size_t)n, "%s\"agent\":\"%s\"", n ? "," : "",
                              s->agent->name);
        /* Who follows wants to know whether there is something to follow. */
        if (s->state == STEP_RUNNING && n < (int)sizeof fields - 400 && str_is_name(s->def->tool, 200))
                n += snprintf(fields + n, sizeof fields - (size_t)n, "%s\"tool\":\"%s\"", n ? "," : "",
                              s->def->tool);
        if (s->has_exit_code)
                n += snprintf(fields + n, sizeof fields - (size_t)n, "%s\"exit_code\":%d", n ? "," : "",
                              s->exit_code);
        if (s->error_code && !buf_puts(&b, fields) &&
            !buf_printf(&b, "%s\"error\":{\"code\":", n ? "," : "") &&
            !json_append_str(&b, s->error_code, strlen(s->error_code)) && !buf_puts(&b, ",\"message\":") &&
            !json_append_str(&b, s->error_message ? s->error_message : "",
                             strlen(s->error_message ? s->error_message : "")) &&
            !buf_puts(&b, "}") && !buf_putc(&b, 0))
                bus_publish(en->bus, engine_now(en), type, s->run->id, s->id, (const char *)b.data);
        else
                bus_publish(en->bus, engine_now(en), type, s->run->id, s->id, n ? fields : NULL);
        buf_fini(&b);
}

void write_step(struct engine *en, struct step *s)
{
        bool quiet = s->state == STEP_BLOCKED || s->state == STEP_READY;

        s->is_dirty = false;
        if (s->is_new)
                put_new_step(en, s);
        if (!s->is_new || s->outputs || s->has_exit_code || s->usage || s->output_bytes)
                put_move(en, s);
        if (!s->is_new || !quiet)
                step_event(en, s);
        if (s->small_output) {
                store_put_small_output(engine_tx(en), s->attempt_id, s->small_output, s->small_output_len);
                mem_free(s->small_output);
                s->small_output = NULL;
        }
        s->is_new = s->clear = false;
        if (step_state_final(s->state)) {
                /* What nobody will read again leaves memory; the row has it. */
                if (!s->run->info[s->def - s->run->wf->steps].wanted)
                        set_text(&s->outputs, NULL);
                set_text(&s->input, NULL);
                set_text(&s->usage, NULL);
        }
}

void write_new_run(struct engine *en, struct run *r)
{
        struct buf b = {0};

        if (r->def_text) {
                store_put_def(engine_tx(en), r->def_sha256, r->def_text, r->def_len);
                mem_free(r->def_text);
                r->def_text = NULL;
        }
        if (r->idem_key) {
                char body[128];

                snprintf(body, sizeof body, "{\"id\":\"%s\"}", r->id);
                store_put_idempotency(engine_tx(en), r->idem_key, r->idem_token, r->idem_sha, 201, body,
                                      r->created_us);
        }
        if (!buf_puts(&b, "\"workflow\":") && !json_append_str(&b, r->wf->name, strlen(r->wf->name)) &&
            !buf_printf(&b, ",\"kind\":\"%s\",\"steps\":%u", r->kind, r->n_steps) && !buf_putc(&b, 0))
                bus_publish(en->bus, r->created_us, "run.created", r->id, "", (const char *)b.data);
        buf_fini(&b);
        r->is_new = false;
}

static void run_event(struct engine *en, struct run *r)
{
        char type[32];
        struct buf b = {0};

        snprintf(type, sizeof type, "run.%s", run_state_name(r->state));
        if (r->state == RUN_QUEUED)
                return;
        if (r->state == RUN_RUNNING)
                strcpy(type, "run.started");
        if (r->error_code && !buf_printf(&b, "\"error\":{\"code\":\"%s\",\"message\":", r->error_code) &&
            !json_append_str(&b, r->error_message ? r->error_message : "",
                             strlen(r->error_message ? r->error_message : "")) &&
            !buf_puts(&b, "}") && !buf_putc(&b, 0))
                bus_publish(en->bus, engine_now(en), type, r->id, "", (const char *)b.data);
        else
                bus_publish(en->bus, engine_now(en), type, r->id, "", NULL);
        buf_fini(&b);
}

static void put_run(struct engine *en, struct run *r)
{
        struct row_seal seal;
        char *askers = r->askers ? json_text(r->askers) : NULL;
        struct row_run row = {
                .seq = r->seq,
                .id = r->id,
                .workflow = r->wf->name,
                .kind = r->kind,
                .def_sha256 = r->def_sha256,
                .state = r->state,
                .inputs = r->inputs_text,
                .outputs = r->outputs_text,
                .error_code = r->error_code,
                .error_message = r->error_message,
                .created_by = r->created_by,
                .askers = askers,
                .project = r->project,
                .concurrency_group = r->group_name,
                .priority = r->priority,
                .cancel_requested = r->cancel_requested,
                .created_us = r->created_us,
                .started_us = r->started_us,
                .finished_us = r->finished_us,
                .n_steps = r->n_steps,
        };

        if (r->askers && !askers)
                abort(); /* no memory: see engine.c */
        r->is_dirty = false;
        seal_run(r, &row, &seal);
        store_put_run(engine_tx(en), &row);
        mem_free(askers);
}

void write_run(struct engine *en, struct run *r)
{
        put_run(en, r);
        run_event(en, r);
}

void write_seals(struct engine *en, struct run *r)
{
        put_run(en, r);
        for (uint32_t i = 0; i < r->n_steps; i++)
                put_move(en, r->steps[i]);
}
