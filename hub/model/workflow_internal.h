/* What the parts of the workflow parser share. Only workflow_*.c and
 * operation.c include this. */
#ifndef PHOTON_MODEL_WORKFLOW_INTERNAL_H
#define PHOTON_MODEL_WORKFLOW_INTERNAL_H

#include <stdint.h>

#include "common/err.h"
#include "common/map.h"
#include "common/yaml.h"
#include "hub/model/expr_internal.h"
#include "hub/model/workflow.h"

#define WORKFLOW_TEXT_MAX   4096 /* names, descriptions, labels, groups */
#define WORKFLOW_INPUTS_MAX 500
#define WORKFLOW_NAMES_MAX  1000 /* of one env, outputs, runs-on; entries of include and exclude */
#define MATRIX_KEYS_MAX     64
#define STEP_ID_MAX         128
#define LABEL_MAX           128
#define TOOL_MAX            128

enum step_slot {
        S_ID,
        S_NAME,
        S_DESCRIPTION,
        S_RUN,
        S_USES,
        S_WITH,
        S_SHELL,
        S_CWD,
        S_STDIN,
        S_ENV,
        S_NEEDS,
        S_IF,
        S_AGENT,
        S_RUNS_ON,
        S_TIMEOUT,
        S_TIMEOUT_MINUTES,
        S_RETRY,
        S_EFFECT,
        S_CONCURRENCY,
        S_PRIORITY,
        S_ESTIMATE,
        S_CONTINUE,
        S_MATRIX,
        S_STRATEGY,
        S_FOR_EACH,
        S_MAX_PARALLEL,
        S_FAIL_FAST,
        S_APPROVAL,
        S_SECRETS,
        STEP_SLOTS
};

/* A step's members as they stand in the document. */
struct step_src {
        const struct doc *at; /* the step itself */
        const struct doc *slot[STEP_SLOTS];
};

/* A mention of a step that is not directly needed: to be checked when the order is known. */
struct far_ref {
        size_t step, target; /* indices */
        const struct doc *d; /* the text, and where in it */
        size_t offset;
};

struct wf_parser {
        const char *text;
        size_t len;
        struct err *e;
        struct workflow *w;
        struct step_src *src; /* as many as w->steps */
        struct map *ids;      /* id -> (index + 1) */
        size_t *direct;       /* direct[i] == s + 1: step s needs i, for the step in hand */
        struct far_ref *refs;
        size_t n_refs, cap_refs;
        char where[STEP_ID_MAX + 32]; /* "step \"build\"" for messages */
};

/* A key and the slot its value goes to; several keys may share one. */
struct wf_key {
        const char *name;
        int slot;
};

/* ---- reading (workflow_read.c) ---- */

int wf_fail(struct wf_parser *p, const struct doc *d, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
int wf_nomem(struct wf_parser *p);
/* At an offset in the text of a scalar; where it stands in the file is found out. */
int wf_fail_in(struct wf_parser *p, const struct doc *d, size_t offset, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* Sorts the members of `map` into slots; unknown keys and two names for one slot are errors. */
int wf_keys(struct wf_parser *p, const struct doc *map, const char *where, const struct wf_key *keys,
            size_t n_keys, const struct doc **slots);
/* `d` may be NULL (absent): then *out stays. Each names `key` and p->where. */
int wf_text(struct wf_parser *p, const struct doc *d, const char *key, size_t max,
            char **out); /* strings, numbers, booleans */
int wf_bool(struct wf_parser *p, const struct doc *d, const char *key, bool *out);
int wf_int(struct wf_parser *p, const struct doc *d, const char *key, int64_t min, int64_t max, int64_t *out);
int wf_real(struct wf_parser *p, const struct doc *d, const char *key, double min, double max, double *out);
int wf_duration(struct wf_parser *p, const struct doc *d, const char *key, int64_t *out);
bool wf_scalar(const struct doc *d); /* string, number or boolean: has text */
bool wf_is_variable(const char *name);
/* Puts `with` (taken) in the place and under the name of `item`, which is deleted. Cannot fail. */
void wf_replace(cJSON *parent, cJSON *item, cJSON *with);

/* ---- templates and their references (workflow_scope.c) ---- */

enum scope_context {
        C_INPUTS = 1,
        C_STEPS = 2,
        C_NEEDS = 4,
        C_ENV = 8,
        C_MATRIX = 16,
        C_EACH = 32,
        C_RUN = 64,
        C_WORKFLOW = 128,
        C_SECRETS = 256
};
#define C_STEP_ALL (C_INPUTS | C_STEPS | C_NEEDS | C_ENV | C_MATRIX | C_EACH | C_RUN | C_WORKFLOW)
#define C_BEFORE   (C_INPUTS | C_RUN | C_WORKFLOW) /* known before any step */

/* Where a text stands, and so what it may mention. */
struct scope {
        struct wf_parser *p;
        const struct step_def *step; /* NULL: of the workflow */
        size_t index;                /* of the step */
        unsigned allowed;
        const char *key; /* "with", "env" ...: for messages */
        /* of the text in hand */
        const struct doc *d;
        size_t base;
};
int scope_text(struct scope *sc, const struct doc *d); /* one scalar */
int scope_tree(struct scope *sc, const struct doc *d); /* every string in it */
int scope_expr(struct scope *sc, const struct doc *d, const struct expr *x, size_t base); /* an `if` */
/* A map of names to texts -> cJSON object of strings, checked. `names` NULL: any. */
int scope_text_map(struct scope *sc, const struct doc *d, bool (*name_ok)(const char *name),
                   const char *name_rule, cJSON **out);

/* ---- the parts ---- */

int wf_parse_inputs(struct wf_parser *p, const struct doc *d); /* workflow_inputs.c */
int wf_concurrency(struct scope *sc, const struct doc *d, struct concurrency_def *out); /* workflow_step.c */
int wf_add_step(struct wf_parser *p, const struct doc *at, const char *id,
                bool finally);                         /* workflow_parse.c; id NULL: none given */
int wf_step_fields(struct wf_parser *p, size_t index); /* workflow_step.c */
void wf_step_defaults(struct wf_parser *p, struct step_def *s);
/* {usd: "5.00", tokens: 1000}, and over: stop | ask where `over` is wanted. workflow_budget.c */
int wf_budget(struct wf_parser *p, const struct doc *d, const char *key, struct budget_amount *out,
              enum budget_over *over);
int wf_needs(struct wf_parser *p, size_t index, const struct doc *d);
extern const struct wf_key wf_step_keys[];
extern const size_t wf_n_step_keys;
int wf_run(struct scope *sc, struct step_def *s, const struct doc *const *slot);  /* workflow_tool.c */
int wf_uses(struct scope *sc, struct step_def *s, const struct doc *const *slot); /* workflow_tool.c */
int wf_approval(struct scope *sc, struct step_def *s,
                const struct doc *const *slot); /* workflow_approval.c */
/* workflow_secret.c */
int wf_secrets(struct scope *sc, struct step_def *s, const struct doc *d);
/* ${{ secrets.NAME }} at an offset of a text: the step is to have it. */
int wf_secret_ref(struct scope *sc, const struct doc *d, size_t pos, const char *name);
bool wf_member_takes_secrets(const char *tool, const char *member); /* of `with` */
int wf_fanout(struct wf_parser *p, size_t index);                   /* workflow_fanout.c */
int wf_check_graph(struct wf_parser *p);                            /* workflow_check.c */
bool operation_is(const struct doc *root);                          /* operation.c */
int operation_parse(struct wf_parser *p, const struct doc *root);

#endif
