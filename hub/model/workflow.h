/* A workflow as written: parsed, checked and immutable.
 *
 * Pure: no I/O, no clock. The API checks here before anything is stored, so
 * that the scheduler never meets a cycle, an unknown step or a wrong type.
 * A struct workflow is owned by whoever parsed it and never changes after. */
#ifndef PHOTON_MODEL_WORKFLOW_H
#define PHOTON_MODEL_WORKFLOW_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/model/approval.h"
#include "hub/model/budget.h"
#include "hub/model/expr.h"

struct err;
struct map;

#define WORKFLOW_BYTES_MAX (16u << 20)
#define WORKFLOW_STEPS_MAX 20000u /* as written */
#define RUN_STEPS_MAX      50000u /* with matrix and for-each expanded */
#define STEP_NEEDS_MAX     10000u
#define STEP_RETRY_MAX     1000

enum effect { EFFECT_AT_MOST_ONCE, EFFECT_IDEMPOTENT, EFFECT_PURE };
const char *effect_name(enum effect e); /* "at-most-once" */
int effect_parse(const char *s, enum effect *out);

struct retry_def {
        int limit; /* further tries after the first; 0: none */
        int64_t duration_ms, max_ms;
        double factor; /* >= 1 */
        double jitter; /* 0..1: share of the delay that is random; default 0.5 */
};

struct concurrency_def {
        char *group;             /* template; NULL: none */
        int limit;               /* >= 1 */
        bool cancel_in_progress; /* workflow level only */
};

enum input_type { INPUT_STRING, INPUT_NUMBER, INPUT_BOOLEAN, INPUT_OBJECT, INPUT_ARRAY, INPUT_ANY };

struct input_def {
        char *name;
        enum input_type type;
        bool required;
        cJSON *def;     /* default or NULL */
        cJSON *options; /* allowed values or NULL */
        char *description;
};

/* A step that asks people and calls no tool. */
struct approval_def {
        char *question; /* template */
        cJSON *show;    /* object, strings are templates: what the answer is about; or NULL */
        struct approval_rules rules;
};

#define STEP_SECRETS_MAX 32
#define SECRET_NAME_MAX  128
struct step_secret {
        char *name;
        char *env; /* the variable that holds it; NULL: only ${{ secrets.NAME }} in the input */
        bool file; /* the variable holds the path of a file that holds it */
};
/* [A-Za-z0-9_][A-Za-z0-9._-]*, at most SECRET_NAME_MAX. */
bool workflow_secret_name(const char *name);
/* May a secret be in a variable of this name? */
bool workflow_secret_variable(const char *name);

struct step_def {
        char *id;   /* unique; [A-Za-z0-9][A-Za-z0-9._-]{0,127} */
        char *name; /* for people; may be NULL */
        char *tool;
        cJSON *with;                 /* object; strings are templates */
        cJSON *env;                  /* object of string templates, or NULL; process tools only */
        struct step_secret *secrets; /* all that the step may see */
        size_t n_secrets;
        struct expr *cond; /* NULL: success() */
        char *cond_text;
        size_t *needs; /* indices into workflow.steps */
        size_t n_needs;
        char *agent;        /* template; NULL: any */
        cJSON *runs_on;     /* object label -> string template, or NULL */
        int64_t timeout_ms; /* 0: none */
        struct retry_def retry;
        enum effect effect;
        struct concurrency_def concurrency;
        int priority;                  /* -100..100, higher first */
        struct budget_amount estimate; /* of one attempt; BUDGET_NONE: not said */
        bool continue_on_error;
        bool finally; /* runs after all others, whatever happened */
        /* Fan-out. At most one of matrix, for_each. */
        cJSON *matrix; /* object: name -> list or "${{ }}" text; include/exclude lists; or one "${{ }}" text;
                          or NULL */
        cJSON *for_each;  /* a list, or a string with one expression; or NULL */
        int max_parallel; /* 0: no limit */
        bool fail_fast;   /* default true */
        struct approval_def
                *approval; /* or NULL; then there is no `with` and the tool is STEP_TOOL_APPROVAL */
        int line, col;
};

/* What an approval step says its tool is: no agent has one of that name. */
#define STEP_TOOL_APPROVAL "approval"

struct workflow {
        char *name;
        char *description;
        struct input_def *inputs;
        size_t n_inputs;
        cJSON *env;     /* object of string templates or NULL */
        cJSON *outputs; /* object name -> template, or NULL */
        struct concurrency_def concurrency;
        int priority;
        int64_t timeout_ms;       /* of the run; 0: none */
        struct budget_cap budget; /* of the run */
        struct step_def *steps;   /* those of "finally" last */
        size_t n_steps;
        struct map *by_id; /* id -> struct step_def; through workflow_step */
};

/* Parses YAML or JSON text (also the founding operation shape) and checks all
 * that can be known before a run: unknown keys (with the nearest right one),
 * types, names, duplicate ids, unknown needs, cycles (naming the steps of one), expression
 * syntax, references to unknown inputs, contexts or steps, and to steps that are not
 * (transitively) needed. A step without an id is called step-N, a workflow without a
 * name "workflow". -E_INVAL with line, column and what would be right; -E_TOOBIG; -E_NOMEM. */
int workflow_parse(const char *text, size_t len, struct workflow **out, struct err *e);
void workflow_free(struct workflow *w);

const struct step_def *workflow_step(const struct workflow *w, const char *id);

/* Given values (object or NULL) + defaults -> the run's inputs, typed and complete. Strings from a command
 * line are converted when `from_text`. -E_INVAL names the input and what is expected. */
int workflow_inputs(const struct workflow *w, const cJSON *given, bool from_text, cJSON **out, struct err *e);

/* The combinations of a matrix (GitHub's include/exclude rules) or the items of for-each, after its
 * expressions were evaluated with env: an array of objects for the `matrix` context; for for-each
 * {"item":..., "index":n}, for the `each` context. -E_TOOBIG over `max`. */
int workflow_expand(const struct step_def *s, const struct expr_env *env, size_t max, cJSON **out,
                    struct err *e);

/* Delay before try number `retry` (1 = first retry); rnd in [0,1). Exponential, capped, jittered. */
int64_t retry_delay_ms(const struct retry_def *r, int retry, double rnd);

#endif
