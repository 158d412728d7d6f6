/* Which model a step gets: what it needs, what endpoints offer and how they
 * have done lately in; reasons and a score for each out. Pure: no I/O, no clock.
 *
 *   score = 100 * (1 - e)^2 / ((1 + cost / 0.01) * (1 + latency / 2000))
 *
 * e: the share of failed calls, old ones counting less (half after ten minutes,
 * nothing after six hours); cost: USD that this call is expected to cost;
 * latency: the median time to the first token in ms. What is not known yet is
 * taken to be e = 0, 500 ms, one cent. docs/MODELS.md says the same. */
#ifndef PHOTON_SCHED_ROUTE_H
#define PHOTON_SCHED_ROUTE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum { ROUTE_TOOLS = 1, ROUTE_JSON = 2, ROUTE_IMAGES = 4, ROUTE_FILES = 8 };

/* ---- what is needed ---- */

struct route_need {
        bool local_only;
        unsigned capabilities;
        double max_cost_usd;    /* negative: whatever it costs */
        int64_t max_latency_ms; /* 0: however long */
        int64_t context;        /* tokens; 0: not said */
        char *endpoint, *model; /* only this one; or NULL */
        /* Estimates, for cost and context. */
        int64_t input_tokens, output_tokens;
        bool output_said; /* the call itself limits its answer */
};

/* From the input of llm.chat. Free it with route_need_fini, also after a failure. -E_INVAL, -E_NOMEM. */
int route_need_read(const cJSON *input, struct route_need *out, struct err *e);
void route_need_fini(struct route_need *n);
/* Equal texts: equal needs. mem_free; NULL: no memory. */
char *route_need_key(const struct route_need *n);

/* ---- what is offered ---- */

struct route_model {
        char *endpoint, *name, *kind;
        bool local, has_key;
        unsigned capabilities;
        int64_t context, max_output; /* 0: not known */
        double price_in, price_out;  /* USD per million tokens; negative: not known */
};

#define ROUTE_MODELS_MAX 1024 /* of one agent */

/* From the detail of an agent's tool llm.chat; what is not understood is left out. *out: n of them, freed
 * with route_models_free. -E_NOMEM. */
int route_models_read(const cJSON *detail, struct route_model **out, size_t *out_n);
void route_models_free(struct route_model *v, size_t n);

/* ---- what was measured ---- */

#define ROUTE_SAMPLES 64

struct route_sample {
        int64_t at_us;
        int32_t first_ms; /* to the first token; -1: none came */
        int32_t total_ms;
        bool failed; /* by the endpoint's fault */
};
struct route_history {
        struct route_sample v[ROUTE_SAMPLES]; /* a ring; next is the oldest when it is full */
        uint32_t n, next;
};
void route_note(struct route_history *h, const struct route_sample *s);
/* Compact JSON and back; what does not fit is left out. mem_free; NULL: no memory. */
char *route_history_text(const struct route_history *h);
void route_history_read(const char *text, struct route_history *out);

struct route_measure {
        uint32_t calls;         /* that still count */
        double error_rate;      /* 0 to 1 */
        int64_t p50_ms, p90_ms; /* to the first token; -1: not known */
};
/* h NULL: nothing is known. */
void route_measure(const struct route_history *h, int64_t now_us, struct route_measure *out);
/* Does a failure with this code count against the endpoint, and may the call go to another one then? */
bool route_code_is_endpoints(const char *code);

/* ---- the judgement ---- */

enum route_why {
        ROUTE_OK,
        ROUTE_OTHER_ENDPOINT,
        ROUTE_OTHER_MODEL,
        ROUTE_TRIED, /* it failed for this step already */
        ROUTE_NO_KEY,
        ROUTE_NOT_LOCAL,
        ROUTE_LACKS, /* a capability */
        ROUTE_CONTEXT,
        ROUTE_NO_PRICE,
        ROUTE_TOO_DEAR,
        ROUTE_TOO_SLOW,
};
struct route_judgement {
        enum route_why why;
        double score;          /* 0 unless ROUTE_OK */
        double cost_usd;       /* expected; negative: not known */
        int64_t output_tokens; /* that it was reckoned with */
        struct route_measure m;
};
void route_judge(const struct route_need *n, const struct route_model *m, const struct route_measure *seen,
                 bool tried, struct route_judgement *out);
/* One clause for people: "is not local". Returns out. */
const char *route_why_text(const struct route_judgement *j, const struct route_need *n,
                           const struct route_model *m, char *out, size_t size);

#endif
