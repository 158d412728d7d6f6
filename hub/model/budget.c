#include "hub/model/budget.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/str.h"

#define MICROS         INT64_C(1000000)
#define MICRO_DIGITS   6
#define DAY_US         (INT64_C(86400) * 1000000)
#define DAYS_IN_ERA    146097 /* 400 years */
#define DAYS_TO_1970   719468 /* from 0000-03-01 */
#define PADDING_FACTOR 2

/* ---- words ---- */

static const char *const over_names[] = {[BUDGET_STOP] = "stop", [BUDGET_ASK] = "ask"};
static const char *const unpriced_names[] = {
        [BUDGET_UNPRICED_DENY] = "deny", [BUDGET_UNPRICED_ASK] = "ask", [BUDGET_UNPRICED_ALLOW] = "allow"};
static const char *const ledger_names[LEDGER_STATES] = {
        [LEDGER_RESERVED] = "reserved", [LEDGER_SETTLED] = "settled", [LEDGER_LOST] = "lost"};
static const char *const kind_names[BUDGET_KINDS] = {[BUDGET_RUN] = "run",
                                                     [BUDGET_PROJECT] = "project",
                                                     [BUDGET_AGENT] = "agent",
                                                     [BUDGET_DAY] = "day",
                                                     [BUDGET_PROJECT_DAY] = "day"};

static int word(const char *text, const char *const *names, int n)
{
        for (int i = 0; i < n; i++)
                if (strcmp(text, names[i]) == 0)
                        return i;
        return -E_INVAL;
}

int budget_over_parse(const char *text, enum budget_over *out)
{
        int i = word(text, over_names, 2);

        if (i < 0)
                return i;
        *out = (enum budget_over)i;
        return 0;
}

const char *budget_over_name(enum budget_over o)
{
        return over_names[o];
}

int budget_unpriced_parse(const char *text, enum budget_unpriced *out)
{
        int i = word(text, unpriced_names, 3);

        if (i < 0)
                return i;
        *out = (enum budget_unpriced)i;
        return 0;
}

const char *ledger_state_name(enum ledger_state s)
{
        return (unsigned)s < LEDGER_STATES ? ledger_names[s] : "unknown";
}

int ledger_state_parse(const char *text, enum ledger_state *out)
{
        int i = word(text, ledger_names, LEDGER_STATES);

        if (i < 0)
                return i;
        *out = (enum ledger_state)i;
        return 0;
}

const char *budget_kind_name(enum budget_kind k)
{
        return kind_names[k];
}

bool budget_cap_any(const struct budget_cap *c)
{
        return c->max.v[BUDGET_MONEY] != BUDGET_NONE || c->max.v[BUDGET_TOKENS] != BUDGET_NONE;
}

int budget_id_parse(const char *id, enum budget_kind *kind, const char **name, struct err *e)
{
        static const struct {
                const char *word;
                enum budget_kind bare, named; /* BUDGET_KINDS: not in this form */
        } forms[] = {{"run", BUDGET_RUN, BUDGET_KINDS},
                     {"project", BUDGET_KINDS, BUDGET_PROJECT},
                     {"agent", BUDGET_KINDS, BUDGET_AGENT},
                     {"day", BUDGET_DAY, BUDGET_PROJECT_DAY}};
        size_t n = strcspn(id, ":");

        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
                enum budget_kind k = id[n] ? forms[i].named : forms[i].bare;

                if (strlen(forms[i].word) != n || memcmp(forms[i].word, id, n) != 0 || k == BUDGET_KINDS)
                        continue;
                if (id[n] && !str_is_name(id + n + 1, BUDGET_NAME_MAX))
                        break;
                *kind = k;
                *name = id[n] ? id + n + 1 : NULL;
                return 0;
        }
        return err_set(e, E_INVAL,
                       "\"%.150s\" is no budget: it is run, project:NAME, agent:NAME, day or day:PROJECT",
                       id);
}

/* ---- numbers ---- */

int64_t budget_add(int64_t a, int64_t b)
{
        int64_t sum;

        if (!__builtin_add_overflow(a, b, &sum))
                return sum;
        return a < 0 ? INT64_MIN : INT64_MAX;
}

int budget_money_parse(const char *text, int64_t *out, struct err *e)
{
        int64_t v = 0;
        int decimals = -1;
        bool digits = false;

        for (const char *p = text; *p; p++) {
                if (*p == '.' && decimals < 0 && digits) {
                        decimals = 0;
                        continue;
                }
                if (*p < '0' || *p > '9' || decimals == MICRO_DIGITS)
                        return err_set(e, E_INVAL,
                                       "\"%.40s\" is no amount of money: it is dollars such as 5 or 0.25, at "
                                       "most six decimals",
                                       text);
                digits = true;
                decimals += decimals >= 0;
                v = v * 10 + (*p - '0');
                if (v > BUDGET_MAX)
                        return err_set(e, E_TOOBIG, "\"%.40s\" is too much money: at most 1000000000", text);
        }
        if (!digits || decimals == 0)
                return err_set(e, E_INVAL, "\"%.40s\" is no amount of money: it is dollars such as 5 or 0.25",
                               text);
        for (int i = decimals < 0 ? 0 : decimals; i < MICRO_DIGITS; i++) {
                v *= 10;
                if (v > BUDGET_MAX)
                        return err_set(e, E_TOOBIG, "\"%.40s\" is too much money: at most 1000000000", text);
        }
        *out = v;
        return 0;
}

const char *budget_money_text(int64_t micros, char out[BUDGET_MONEY_LEN])
{
        uint64_t abs = micros < 0 ? 0 - (uint64_t)micros : (uint64_t)micros;
        int n = snprintf(out, BUDGET_MONEY_LEN, "%s%" PRIu64 ".%06" PRIu64, micros < 0 ? "-" : "",
                         abs / (uint64_t)MICROS, abs % (uint64_t)MICROS);

        while (out[n - 1] == '0' && out[n - 3] != '.')
                out[--n] = '\0';
        return out;
}

int64_t budget_money_of(double usd)
{
        double micros = usd * (double)MICROS;

        /* A hair above a whole number is the binary form of that number, not one more. */
        if (!(usd >= 0) || micros > (double)BUDGET_MAX)
                return BUDGET_NONE;
        return (int64_t)ceil(micros - 1e-6);
}

int budget_amount_read(const cJSON *o, struct budget_amount *out, struct err *e)
{
        const cJSON *usd = cJSON_GetObjectItemCaseSensitive(o, "usd");
        const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(o, "tokens");
        struct budget_amount a = {{BUDGET_NONE, BUDGET_NONE}};
        int rc = 0;

        if (cJSON_IsNumber(usd)) {
                a.v[BUDGET_MONEY] = budget_money_of(usd->valuedouble);
                if (a.v[BUDGET_MONEY] == BUDGET_NONE)
                        rc = err_set(e, E_INVAL, "\"usd\" is an amount of dollars from 0 to 1000000000");
        } else if (cJSON_IsString(usd)) {
                rc = budget_money_parse(usd->valuestring, &a.v[BUDGET_MONEY], e);
        } else if (usd && !cJSON_IsNull(usd)) {
                rc = err_set(e, E_INVAL, "\"usd\" is an amount of dollars such as \"5.00\"");
        }
        if (!rc && cJSON_IsNumber(tokens) && tokens->valuedouble >= 0 &&
            tokens->valuedouble <= (double)BUDGET_MAX && floor(tokens->valuedouble) == tokens->valuedouble)
                a.v[BUDGET_TOKENS] = (int64_t)tokens->valuedouble;
        else if (!rc && tokens && !cJSON_IsNull(tokens))
                rc = err_set(e, E_INVAL, "\"tokens\" is a whole number of tokens");
        if (!rc)
                *out = a;
        return rc;
}

const char *budget_amount_text(const struct budget_amount *a, char *out, size_t size)
{
        char money[BUDGET_MONEY_LEN];
        bool usd = a->v[BUDGET_MONEY] != BUDGET_NONE, tokens = a->v[BUDGET_TOKENS] != BUDGET_NONE;

        if (usd)
                budget_money_text(a->v[BUDGET_MONEY], money);
        if (usd && tokens)
                snprintf(out, size, "%s USD and %" PRId64 " tokens", money, a->v[BUDGET_TOKENS]);
        else if (usd)
                snprintf(out, size, "%s USD", money);
        else if (tokens)
                snprintf(out, size, "%" PRId64 " tokens", a->v[BUDGET_TOKENS]);
        else
                snprintf(out, size, "nothing");
        return out;
}

int64_t budget_day(int64_t at_us)
{
        return at_us / DAY_US - (at_us % DAY_US < 0);
}

/* Days and the proleptic Gregorian calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
 */
const char *budget_day_text(int64_t day, char out[BUDGET_DAY_LEN])
{
        int64_t z = day + DAYS_TO_1970;
        int64_t era = (z >= 0 ? z : z - (DAYS_IN_ERA - 1)) / DAYS_IN_ERA;
        int64_t doe = z - era * DAYS_IN_ERA;
        int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / (DAYS_IN_ERA - 1)) / 365;
        int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        int64_t mp = (5 * doy + 2) / 153;
        int month = (int)(mp < 10 ? mp + 3 : mp - 9);

        snprintf(out, BUDGET_DAY_LEN, "%04d-%02d-%02d", (int)(yoe + era * 400 + (month <= 2)) % 10000,
                 month % 100, (int)(doy - (153 * mp + 2) / 5 + 1) % 100);
        return out;
}

int budget_day_parse(const char *text, int64_t *out)
{
        char back[BUDGET_DAY_LEN];
        int y, m, d, n = 0;
        int64_t era, yoe, doy, day;

        if (strlen(text) != 10 || sscanf(text, "%4d-%2d-%2d%n", &y, &m, &d, &n) != 3 || n != 10 || y < 1970 ||
            m < 1 || m > 12 || d < 1 || d > 31)
                return -E_INVAL;
        y -= m <= 2;
        era = y / 400;
        yoe = y - era * 400;
        doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
        day = era * DAYS_IN_ERA + yoe * 365 + yoe / 4 - yoe / 100 + doy - DAYS_TO_1970;
        if (strcmp(budget_day_text(day, back), text) != 0)
                return -E_INVAL; /* no such day */
        *out = day;
        return 0;
}

/* ---- accounts ---- */

enum budget_verdict budget_check(const struct budget_cap *cap, const struct budget_account *a,
                                 const struct budget_amount *asked, struct budget_shortage *out)
{
        enum budget_verdict worst = BUDGET_OK;

        for (int m = 0; m < BUDGET_MEASURES; m++) {
                int64_t want = asked->v[m] == BUDGET_NONE ? 0 : asked->v[m];
                int64_t room = budget_add(cap->max.v[m], a->raised.v[m]);
                int64_t settled = budget_add(a->settled.v[m], want);
                enum budget_verdict v = BUDGET_OK;

                if (cap->max.v[m] == BUDGET_NONE)
                        continue;
                if (settled > room || settled == INT64_MAX)
                        v = BUDGET_OVER;
                else if (asked->v[m] == BUDGET_NONE)
                        v = BUDGET_UNPRICED;
                else if (budget_add(settled, a->reserved.v[m]) > room)
                        v = BUDGET_WAIT;
                if (v <= worst)
                        continue;
                worst = v;
                *out = (struct budget_shortage){.measure = m,
                                                .cap = room,
                                                .settled = a->settled.v[m],
                                                .reserved = a->reserved.v[m],
                                                .asked = asked->v[m]};
        }
        return worst;
}

const char *budget_shortage_text(const struct budget_shortage *s, char *out, size_t size)
{
        int64_t v[4] = {s->cap, s->settled, s->reserved, s->asked == BUDGET_NONE ? 0 : s->asked};
        char text[4][BUDGET_MONEY_LEN];

        for (int i = 0; i < 4; i++) {
                if (s->measure == BUDGET_MONEY)
                        budget_money_text(v[i], text[i]);
                else
                        snprintf(text[i], sizeof text[i], "%" PRId64, v[i]);
        }
        snprintf(out, size, "the cap is %s %s, %s spent, %s reserved, %s%s", text[0],
                 s->measure == BUDGET_MONEY ? "USD" : "tokens", text[1], text[2],
                 s->asked == BUDGET_NONE ? "not known what is asked for" : text[3],
                 s->asked == BUDGET_NONE ? "" : " asked for");
        return out;
}

void budget_hold(struct budget_account *a, const struct budget_amount *reserved)
{
        for (int m = 0; m < BUDGET_MEASURES; m++)
                if (reserved->v[m] > 0)
                        a->reserved.v[m] = budget_add(a->reserved.v[m], reserved->v[m]);
}

void budget_settle(struct budget_account *a, const struct budget_amount *reserved,
                   const struct budget_amount *spent)
{
        for (int m = 0; m < BUDGET_MEASURES; m++) {
                if (reserved->v[m] > 0)
                        a->reserved.v[m] -= reserved->v[m];
                if (spent->v[m] > 0)
                        a->settled.v[m] = budget_add(a->settled.v[m], spent->v[m]);
        }
}

bool budget_exceeds(const struct budget_amount *limit, const struct budget_amount *used, int *measure)
{
        for (int m = 0; m < BUDGET_MEASURES; m++) {
                if (limit->v[m] == BUDGET_NONE || used->v[m] <= limit->v[m])
                        continue;
                *measure = m;
                return true;
        }
        return false;
}

struct budget_amount budget_charge(enum budget_end how, const struct budget_amount *reserved,
                                   const struct budget_amount *seen, const struct budget_amount *said)
{
        struct budget_amount out = {{0, 0}};

        for (int m = 0; m < BUDGET_MEASURES && how != BUDGET_END_NOTHING; m++) {
                int64_t most = reserved->v[m] > seen->v[m] ? reserved->v[m] : seen->v[m];

                if (how == BUDGET_END_SAID && said->v[m] != BUDGET_NONE)
                        most = said->v[m];
                out.v[m] = most > 0 ? most : 0;
        }
        return out;
}

bool budget_code_is_free(const char *code)
{
        static const char *const codes[] = {"rate_limited", "overloaded",     "auth_failed",
                                            "key_missing",  "connect_failed", "host_not_found",
                                            "tls_failed",   "unknown_model",  "no_endpoint",
                                            "not_local",    "quota_exceeded"};

        return code && word(code, codes, sizeof codes / sizeof *codes) >= 0;
}

/* ---- estimates ---- */

void budget_usage_read(const cJSON *usage, struct budget_amount *out)
{
        /* As limits.tokens of AI tools: without the cache; what was thought is in what was written. */
        static const char *const counts[] = {"input_tokens", "output_tokens"};
        const cJSON *cost = cJSON_GetObjectItemCaseSensitive(usage, "cost_usd");

        *out = (struct budget_amount){{BUDGET_NONE, BUDGET_NONE}};
        if (cJSON_IsNumber(cost))
                out->v[BUDGET_MONEY] = budget_money_of(cost->valuedouble);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                const cJSON *c = cJSON_GetObjectItemCaseSensitive(usage, counts[i]);
                int64_t so_far = out->v[BUDGET_TOKENS] == BUDGET_NONE ? 0 : out->v[BUDGET_TOKENS];

                if (!cJSON_IsNumber(c) || !(c->valuedouble >= 0))
                        continue;
                out->v[BUDGET_TOKENS] = c->valuedouble > (double)BUDGET_MAX
                                                ? BUDGET_MAX
                                                : budget_add(so_far, (int64_t)c->valuedouble);
        }
}

void budget_history_note(struct budget_history *h, const struct budget_amount *spent)
{
        h->v[h->next] = *spent;
        h->next = (h->next + 1) % BUDGET_HISTORY;
        h->n += h->n < BUDGET_HISTORY;
}

struct budget_amount budget_history_estimate(const struct budget_history *h)
{
        struct budget_amount out = {{BUDGET_NONE, BUDGET_NONE}};

        for (int m = 0; m < BUDGET_MEASURES; m++) {
                for (uint32_t i = 0; i < h->n; i++)
                        if (h->v[i].v[m] > out.v[m])
                                out.v[m] = h->v[i].v[m];
                if (out.v[m] > 0)
                        out.v[m] = out.v[m] > BUDGET_MAX / PADDING_FACTOR ? BUDGET_MAX
                                                                          : out.v[m] * PADDING_FACTOR;
        }
        return out;
}

bool budget_tool_is_free(const char *tool)
{
        static const char *const families[] = {"process.", "file.", "http.", "browser.", "photon."};

        for (size_t i = 0; i < sizeof families / sizeof *families; i++)
                if (strncmp(tool, families[i], strlen(families[i])) == 0)
                        return true;
        return strcmp(tool, "cursor.open") == 0;
}
