/* Money and tokens: what a step may cost, what a budget says to that, and what
 * is charged in the end. Pure: no clock, no I/O.
 *
 *   estimate -> budget_check against every cap that applies -> budget_hold (reserved)
 *            -> the attempt runs -> budget_charge says what it cost -> budget_settle
 *
 * Money is a whole number of millionths of a US dollar ("micros"), never a
 * floating point number; what comes as one (usage, prices) is rounded up once,
 * at the border. BUDGET_NONE stands for no cap, and for what is not known. */
#ifndef PHOTON_MODEL_BUDGET_H
#define PHOTON_MODEL_BUDGET_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define BUDGET_NONE      (-1)
#define BUDGET_MAX       INT64_C(1000000000000000) /* micros or tokens: of a cap, an estimate, one call */
#define BUDGET_NAME_MAX  128
#define BUDGET_ID_MAX    (BUDGET_NAME_MAX + 16)
#define BUDGET_MONEY_LEN 32
#define BUDGET_DAY_LEN   16
#define BUDGET_MEASURES  2 /* money, tokens */
#define BUDGET_MONEY     0
#define BUDGET_TOKENS    1
#define BUDGET_HISTORY   16
#define BUDGET_TEXT_LEN  320

struct budget_amount {
        int64_t v[BUDGET_MEASURES]; /* micros, tokens */
};

/* What happens over the cap. */
enum budget_over { BUDGET_STOP, BUDGET_ASK };
int budget_over_parse(const char *text, enum budget_over *out); /* "stop" | "ask"; -E_INVAL */
const char *budget_over_name(enum budget_over o);

/* What becomes of a step whose cost nobody can say, where a cap is set. */
enum budget_unpriced { BUDGET_UNPRICED_DENY, BUDGET_UNPRICED_ASK, BUDGET_UNPRICED_ALLOW };
int budget_unpriced_parse(const char *text, enum budget_unpriced *out); /* -E_INVAL */

struct budget_cap {
        struct budget_amount max; /* BUDGET_NONE: no cap */
        enum budget_over over;
};
bool budget_cap_any(const struct budget_cap *c);

/* ---- which budgets there are ----
 *
 *   run            each run         project:NAME   all of a project
 *   agent:NAME     all of an agent  day            a day (UTC) of the hub
 *   day:NAME       a day of a project */
enum budget_kind { BUDGET_RUN, BUDGET_PROJECT, BUDGET_AGENT, BUDGET_DAY, BUDGET_PROJECT_DAY, BUDGET_KINDS };
const char *budget_kind_name(enum budget_kind k);
/* *name: into id, or NULL. -E_INVAL says what an id looks like. */
int budget_id_parse(const char *id, enum budget_kind *kind, const char **name, struct err *e);

/* ---- numbers ---- */

/* "5", "5.00", "0.000125": at most six decimals. -E_INVAL, -E_TOOBIG. */
int budget_money_parse(const char *text, int64_t *out, struct err *e);
/* "5.00", "0.000125"; returns out. */
const char *budget_money_text(int64_t micros, char out[BUDGET_MONEY_LEN]);
/* Rounded up; BUDGET_NONE: not a number, negative or out of range. */
int64_t budget_money_of(double usd);
/* {"usd": "5.00" or 5, "tokens": 1000}: what is absent is BUDGET_NONE. Members beside these are the caller's
 * business. -E_INVAL. */
int budget_amount_read(const cJSON *o, struct budget_amount *out, struct err *e);
/* "$1.50 and 2000 tokens", without what is not known; "nothing". Returns out. */
const char *budget_amount_text(const struct budget_amount *a, char *out, size_t size);
/* The sum, held within int64_t: what does not fit stays at the end of the range, so no sum turns small. */
int64_t budget_add(int64_t a, int64_t b);
/* Whole days since 1970 in UTC, also before. */
int64_t budget_day(int64_t at_us);
const char *budget_day_text(int64_t day, char out[BUDGET_DAY_LEN]); /* "2026-11-29" */
int budget_day_parse(const char *text, int64_t *out);               /* -E_INVAL */

/* ---- what a budget has been asked for ---- */

struct budget_account {
        struct budget_amount settled;  /* spent for good */
        struct budget_amount reserved; /* by attempts that are not over */
        struct budget_amount raised;   /* what people allowed over the cap */
};

enum budget_verdict {
        BUDGET_OK,
        BUDGET_WAIT,     /* it fits when what others reserved comes back unspent */
        BUDGET_UNPRICED, /* the cap counts what the estimate does not know */
        BUDGET_OVER,     /* it does not fit, whatever comes back */
        BUDGET_VERDICTS
};

/* The measure that did not fit. */
struct budget_shortage {
        int measure;
        int64_t cap, settled, reserved, asked; /* cap: with what was raised */
};
/* The worst of both measures. `out` is written unless BUDGET_OK. An estimate of 0 fits while the cap is not
 * overrun. */
enum budget_verdict budget_check(const struct budget_cap *cap, const struct budget_account *a,
                                 const struct budget_amount *asked, struct budget_shortage *out);
/* One clause: "5.00 USD are the cap, 4.10 are spent, 0.50 reserved, 1.00 asked for". Returns out. */
const char *budget_shortage_text(const struct budget_shortage *s, char *out, size_t size);

/* What is not known counts as 0. */
void budget_hold(struct budget_account *a, const struct budget_amount *reserved);
void budget_settle(struct budget_account *a, const struct budget_amount *reserved,
                   const struct budget_amount *spent);
/* Did a running call use more than it may? limit BUDGET_NONE: it may. *measure says which. */
bool budget_exceeds(const struct budget_amount *limit, const struct budget_amount *used, int *measure);

/* What an entry of the ledger says; the numbers are in databases.
 *
 *   reserved -> settled     the call told what it used
 *            -> lost        nobody knows: the reservation counts as spent
 *   lost     -> settled     it became known after all */
enum ledger_state { LEDGER_RESERVED, LEDGER_SETTLED, LEDGER_LOST, LEDGER_STATES };
const char *ledger_state_name(enum ledger_state s);
int ledger_state_parse(const char *text, enum ledger_state *out); /* -E_INVAL */

enum budget_end {
        BUDGET_END_SAID,    /* it is over, and `said` is its usage as far as it told */
        BUDGET_END_NOTHING, /* nothing ran */
        BUDGET_END_LOST     /* nobody knows */
};
/* What is charged: what the call said; where it said nothing, or was lost, the larger of what was reserved
 * and what had been seen. */
struct budget_amount budget_charge(enum budget_end how, const struct budget_amount *reserved,
                                   const struct budget_amount *seen, const struct budget_amount *said);

/* Did a model call that failed with this code, before its first token, certainly cost nothing? */
bool budget_code_is_free(const char *code);

/* ---- estimates ---- */

/* From a usage object (docs/EVENTS.md): tokens are those read and written, without those of the cache. */
void budget_usage_read(const cJSON *usage, struct budget_amount *out);

/* What the last calls of one tool and model cost. */
struct budget_history {
        struct budget_amount v[BUDGET_HISTORY];
        uint32_t n, next;
};
void budget_history_note(struct budget_history *h, const struct budget_amount *spent);
/* Twice the dearest of them; BUDGET_NONE where none is known. */
struct budget_amount budget_history_estimate(const struct budget_history *h);

/* Tools of this project that use no model: they cost nothing and need no estimate. */
bool budget_tool_is_free(const char *tool);

#endif
