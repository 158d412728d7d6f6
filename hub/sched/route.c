#include "hub/sched/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define BYTES_PER_TOKEN  4
#define IMAGE_TOKENS     1500
#define FILE_TOKENS      3000
#define OUTPUT_DEFAULT   4096 /* tokens, where neither the call nor the model says */
#define HALF_LIFE_US     (600 * (int64_t)1000000)
#define FORGOTTEN_US     (6 * 3600 * (int64_t)1000000)
#define COST_SCALE_USD   0.01
#define LATENCY_SCALE_MS 2000.0
#define LATENCY_GUESS_MS 500.0

static const char *const capability_names[] = {"tools", "json", "images", "files", NULL};

static const cJSON *get(const cJSON *o, const char *key)
{
        return cJSON_IsObject(o) ? cJSON_GetObjectItemCaseSensitive(o, key) : NULL;
}

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = get(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

static int64_t count(const cJSON *o, const char *key)
{
        const cJSON *v = get(o, key);

        return cJSON_IsNumber(v) && v->valuedouble > 0 && v->valuedouble < 1e15 ? (int64_t)v->valuedouble : 0;
}

static unsigned capability_bit(const char *name)
{
        for (unsigned i = 0; capability_names[i]; i++)
                if (strcmp(capability_names[i], name) == 0)
                        return 1u << i;
        return 0;
}

/* ---- what is needed ---- */

/* Images and files within messages; what they hold is on the agent, so a round number stands for them. */
static void look_at_messages(const cJSON *input, struct route_need *n)
{
        const cJSON *m, *p;

        cJSON_ArrayForEach(m, get(input, "messages"))
        {
                for (p = cJSON_IsArray(get(m, "content")) ? get(m, "content")->child : NULL; p; p = p->next) {
                        bool image = strcmp(text(p, "type"), "image") == 0;

                        if (!image && strcmp(text(p, "type"), "file") != 0)
                                continue;
                        n->capabilities |= image ? ROUTE_IMAGES : 0;
                        n->input_tokens += image ? IMAGE_TOKENS : FILE_TOKENS;
                        if (*text(p, "data"))
                                n->input_tokens -= (int64_t)strlen(text(p, "data")) / BYTES_PER_TOKEN;
                }
        }
}

static int read_limits(const cJSON *need, struct route_need *n, struct err *e)
{
        static const char *const keys[] = {"privacy",        "capability", "max_cost_usd",
                                           "max_latency_ms", "context",    NULL};
        const cJSON *cost = get(need, "max_cost_usd"), *caps = NULL, *c;
        const char *privacy = "any";
        int rc = need ? json_only(need, keys, e) : 0;

        if (!rc)
                rc = json_str_opt(need, "privacy", &privacy, e);
        if (!rc && strcmp(privacy, "any") != 0 && strcmp(privacy, "local-only") != 0)
                rc = err_set(e, E_INVAL, "need.privacy is any or local-only, not \"%.40s\"", privacy);
        n->local_only |= !rc && strcmp(privacy, "local-only") == 0;
        if (!rc)
                rc = json_arr_opt(need, "capability", &caps, e);
        cJSON_ArrayForEach(c, caps)
        {
                unsigned bit = cJSON_IsString(c) ? capability_bit(c->valuestring) : 0;

                if (!bit && !rc)
                        rc = err_set(e, E_INVAL, "need.capability holds tools, json, images, files");
                n->capabilities |= bit;
        }
        if (!rc && cost && (!cJSON_IsNumber(cost) || cost->valuedouble < 0))
                rc = err_set(e, E_INVAL, "need.max_cost_usd is a number of dollars");
        if (!rc && cost)
                n->max_cost_usd = cost->valuedouble;
        if (!rc)
                rc = json_i64_opt(need, "max_latency_ms", 1, INT32_MAX, &n->max_latency_ms, e);
        if (!rc)
                rc = json_i64_opt(need, "context", 1, INT32_MAX, &n->context, e);
        return rc;
}

int route_need_read(const cJSON *input, struct route_need *out, struct err *e)
{
        const cJSON *need = NULL;
        char *all = json_text(input);
        int rc;

        memset(out, 0, sizeof *out);
        out->max_cost_usd = -1;
        if (!all)
                return err_set(e, E_NOMEM, "no memory");
        out->input_tokens = (int64_t)strlen(all) / BYTES_PER_TOKEN + 1;
        mem_free(all);
        out->output_tokens = count(input, "max_tokens");
        out->output_said = out->output_tokens > 0;
        out->local_only = strcmp(text(input, "privacy"), "local-only") == 0;
        if (cJSON_GetArraySize(get(input, "tools")) > 0)
                out->capabilities |= ROUTE_TOOLS;
        if (get(input, "schema") || cJSON_IsTrue(get(input, "json")))
                out->capabilities |= ROUTE_JSON;
        if (cJSON_GetArraySize(get(input, "images")) > 0)
                out->capabilities |= ROUTE_IMAGES;
        out->input_tokens += cJSON_GetArraySize(get(input, "images")) * IMAGE_TOKENS +
                             cJSON_GetArraySize(get(input, "files")) * FILE_TOKENS;
        look_at_messages(input, out);
        rc = json_obj_opt(input, "need", &need, e);
        if (!rc)
                rc = read_limits(need, out, e);
        if (!rc && *text(input, "endpoint") && !(out->endpoint = mem_strdup(text(input, "endpoint"))))
                rc = err_set(e, E_NOMEM, "no memory");
        if (!rc && *text(input, "model") && !(out->model = mem_strdup(text(input, "model"))))
                rc = err_set(e, E_NOMEM, "no memory");
        return rc;
}

void route_need_fini(struct route_need *n)
{
        mem_free(n->endpoint);
        mem_free(n->model);
        memset(n, 0, sizeof *n);
}

char *route_need_key(const struct route_need *n)
{
        return str_printf("%d|%u|%.9g|%lld|%lld|%lld|%lld|%s|%s", n->local_only, n->capabilities,
                          n->max_cost_usd, (long long)n->max_latency_ms, (long long)n->context,
                          (long long)n->input_tokens, (long long)n->output_tokens,
                          n->endpoint ? n->endpoint : "", n->model ? n->model : "");
}

/* ---- what is offered ---- */

static int read_model(const cJSON *endpoint, const cJSON *v, struct route_model *m)
{
        const cJSON *c, *price = get(v, "price");
        const cJSON *in = get(price, "input"), *out = get(price, "output");

        m->endpoint = mem_strdup(text(endpoint, "name"));
        m->kind = mem_strdup(text(endpoint, "kind"));
        m->name = mem_strdup(text(v, "name"));
        m->local = cJSON_IsTrue(get(endpoint, "local"));
        m->has_key = !cJSON_IsFalse(get(endpoint, "has_key"));
        m->context = count(v, "context");
        m->max_output = count(v, "max_output");
        m->price_in = cJSON_IsNumber(in) && in->valuedouble >= 0 ? in->valuedouble : -1;
        m->price_out = cJSON_IsNumber(out) && out->valuedouble >= 0 ? out->valuedouble : -1;
        if (m->local && m->price_in < 0)
                m->price_in = m->price_out = 0;
        cJSON_ArrayForEach(c, get(v, "capabilities"))
        {
                if (cJSON_IsString(c))
                        m->capabilities |= capability_bit(c->valuestring);
        }
        return m->endpoint && m->kind && m->name ? 0 : -E_NOMEM;
}

int route_models_read(const cJSON *detail, struct route_model **out, size_t *out_n)
{
        const cJSON *ep, *m;
        struct route_model *v;
        size_t n = 0, max = 0;
        int rc = 0;

        cJSON_ArrayForEach(ep, get(detail, "endpoints")) max += (size_t)cJSON_GetArraySize(get(ep, "models"));
        if (max > ROUTE_MODELS_MAX)
                max = ROUTE_MODELS_MAX;
        v = mem_calloc(max ? max : 1, sizeof *v);
        if (!v)
                return -E_NOMEM;
        cJSON_ArrayForEach(ep, get(detail, "endpoints"))
        {
                cJSON_ArrayForEach(m, get(ep, "models"))
                {
                        if (!rc && n < max && *text(ep, "name") && *text(m, "name"))
                                rc = read_model(ep, m, &v[n++]);
                }
        }
        if (rc) {
                route_models_free(v, n);
                return rc;
        }
        *out = v;
        *out_n = n;
        return 0;
}

void route_models_free(struct route_model *v, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                mem_free(v[i].endpoint);
                mem_free(v[i].name);
                mem_free(v[i].kind);
        }
        mem_free(v);
}

/* ---- what was measured ---- */

void route_note(struct route_history *h, const struct route_sample *s)
{
        h->v[h->next] = *s;
        h->next = (h->next + 1) % ROUTE_SAMPLES;
        if (h->n < ROUTE_SAMPLES)
                h->n++;
}

char *route_history_text(const struct route_history *h)
{
        struct buf b;
        char *out = NULL;
        int rc;

        buf_init(&b, 0);
        rc = buf_putc(&b, '[');
        for (uint32_t i = 0; i < h->n && !rc; i++) {
                const struct route_sample *s =
                        &h->v[(h->next + ROUTE_SAMPLES - h->n + i) % ROUTE_SAMPLES]; /* oldest first */

                rc = buf_printf(&b, "%s[%lld,%d,%d,%d]", i ? "," : "", (long long)s->at_us, s->first_ms,
                                s->total_ms, s->failed);
        }
        if (!rc)
                rc = buf_putc(&b, ']');
        if (!rc)
                out = buf_steal_str(&b);
        buf_fini(&b);
        return out;
}

void route_history_read(const char *json, struct route_history *out)
{
        cJSON *list = NULL;
        const cJSON *s;

        memset(out, 0, sizeof *out);
        if (json_parse(json, strlen(json), &list, NULL))
                return;
        cJSON_ArrayForEach(s, list)
        {
                struct route_sample x;
                double v[4];
                bool ok = cJSON_GetArraySize(s) == 4;

                for (int i = 0; i < 4 && ok; i++) {
                        const cJSON *c = cJSON_GetArrayItem(s, i);

                        ok = cJSON_IsNumber(c);
                        v[i] = ok ? c->valuedouble : 0;
                }
                if (!ok || v[0] < 0 || v[0] > 9e15 || v[1] < -1 || v[1] > INT32_MAX || v[2] < 0 ||
                    v[2] > INT32_MAX)
                        continue;
                x = (struct route_sample){(int64_t)v[0], (int32_t)v[1], (int32_t)v[2], v[3] != 0};
                route_note(out, &x);
        }
        cJSON_Delete(list);
}

static int cmp_ms(const void *a, const void *b)
{
        const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

        return (x > y) - (x < y);
}

void route_measure(const struct route_history *h, int64_t now_us, struct route_measure *out)
{
        int32_t ms[ROUTE_SAMPLES];
        double all = 0, bad = 0;
        uint32_t n = 0;

        *out = (struct route_measure){.p50_ms = -1, .p90_ms = -1};
        for (uint32_t i = 0; h && i < h->n; i++) {
                const struct route_sample *s = &h->v[i];
                int64_t age = now_us > s->at_us ? now_us - s->at_us : 0;
                double weight = exp2(-(double)age / (double)HALF_LIFE_US);

                if (age > FORGOTTEN_US)
                        continue;
                out->calls++;
                all += weight;
                bad += s->failed ? weight : 0;
                if (s->first_ms >= 0)
                        ms[n++] = s->first_ms;
        }
        /* As if one more call had gone well: a single failure is no verdict, and an old one fades. */
        out->error_rate = bad / (all + 1);
        if (!n)
                return;
        qsort(ms, n, sizeof *ms, cmp_ms);
        out->p50_ms = ms[(n - 1) / 2];
        out->p90_ms = ms[(n * 9 + 9) / 10 - 1];
}

bool route_code_is_endpoints(const char *code)
{
        static const char *const codes[] = {
                "rate_limited",   "overloaded",     "server_error", "auth_failed", "key_missing",
                "connect_failed", "host_not_found", "tls_failed",   "stalled",     "stream_ended",
                "half_message",   "bad_answer",     "timeout",      "not_local",   "unknown_model",
                "no_endpoint",    "quota_exceeded",
        };

        for (size_t i = 0; code && i < sizeof codes / sizeof *codes; i++)
                if (strcmp(codes[i], code) == 0)
                        return true;
        return false;
}

/* ---- the judgement ---- */

static int64_t output_estimate(const struct route_need *n, const struct route_model *m)
{
        if (n->output_said)
                return n->output_tokens;
        return m->max_output && m->max_output < OUTPUT_DEFAULT ? m->max_output : OUTPUT_DEFAULT;
}

static enum route_why reason(const struct route_need *n, const struct route_model *m, bool tried,
                             const struct route_judgement *j)
{
        int64_t context = n->input_tokens + (n->output_said ? n->output_tokens : 0);

        if (n->context > context)
                context = n->context;
        if (n->endpoint && strcmp(n->endpoint, m->endpoint) != 0)
                return ROUTE_OTHER_ENDPOINT;
        if (n->model && strcmp(n->model, m->name) != 0)
                return ROUTE_OTHER_MODEL;
        if (tried)
                return ROUTE_TRIED;
        if (n->local_only && !m->local)
                return ROUTE_NOT_LOCAL;
        if (n->capabilities & ~m->capabilities)
                return ROUTE_LACKS;
        if ((m->context || n->context) && context > m->context)
                return ROUTE_CONTEXT;
        if (n->max_cost_usd >= 0 && j->cost_usd < 0)
                return ROUTE_NO_PRICE;
        if (n->max_cost_usd >= 0 && j->cost_usd > n->max_cost_usd)
                return ROUTE_TOO_DEAR;
        if (!m->has_key)
                return ROUTE_NO_KEY;
        if (n->max_latency_ms && j->m.p90_ms > n->max_latency_ms)
                return ROUTE_TOO_SLOW;
        return ROUTE_OK;
}

void route_judge(const struct route_need *n, const struct route_model *m, const struct route_measure *seen,
                 bool tried, struct route_judgement *out)
{
        double cost, latency, ok;

        *out = (struct route_judgement){.cost_usd = -1, .output_tokens = output_estimate(n, m), .m = *seen};
        if (m->price_in >= 0 && m->price_out >= 0)
                out->cost_usd =
                        ((double)n->input_tokens * m->price_in + (double)out->output_tokens * m->price_out) /
                        1e6;
        out->why = reason(n, m, tried, out);
        if (out->why != ROUTE_OK)
                return;
        cost = out->cost_usd >= 0 ? out->cost_usd : COST_SCALE_USD;
        latency = out->m.p50_ms >= 0 ? (double)out->m.p50_ms : LATENCY_GUESS_MS;
        ok = 1 - out->m.error_rate;
        out->score = 100 * ok * ok / ((1 + cost / COST_SCALE_USD) * (1 + latency / LATENCY_SCALE_MS));
}

const char *route_why_text(const struct route_judgement *j, const struct route_need *n,
                           const struct route_model *m, char *out, size_t size)
{
        unsigned lacks = n->capabilities & ~m->capabilities;
        char cost[40] = "no price";
        size_t at = 0;

        if (j->cost_usd >= 0)
                snprintf(cost, sizeof cost, "USD %.6f", j->cost_usd);
        switch (j->why) {
        case ROUTE_OK:
                if (j->m.p50_ms >= 0)
                        snprintf(out, size, "score %.1f: first token in %lld ms, %.0f%% errors, %s", j->score,
                                 (long long)j->m.p50_ms, 100 * j->m.error_rate, cost);
                else
                        snprintf(out, size, "score %.1f: not measured yet, %s", j->score, cost);
                break;
        case ROUTE_OTHER_ENDPOINT:
                snprintf(out, size, "is not the endpoint %.63s that is asked for", n->endpoint);
                break;
        case ROUTE_OTHER_MODEL:
                snprintf(out, size, "is not the model %.100s that is asked for", n->model);
                break;
        case ROUTE_TRIED:
                snprintf(out, size, "has failed for this step already");
                break;
        case ROUTE_NO_KEY:
                snprintf(out, size, "has no key");
                break;
        case ROUTE_NOT_LOCAL:
                snprintf(out, size, "is not local");
                break;
        case ROUTE_LACKS:
                snprintf(out, size, "lacks");
                for (unsigned i = 0; capability_names[i]; i++)
                        if (lacks & 1u << i && (at = strlen(out)) < size)
                                snprintf(out + at, size - at, " %s", capability_names[i]);
                break;
        case ROUTE_CONTEXT:
                if (m->context)
                        snprintf(out, size, "has a context of %lld tokens, too few", (long long)m->context);
                else
                        snprintf(out, size, "does not say how large its context is");
                break;
        case ROUTE_NO_PRICE:
                snprintf(out, size, "has no price, and the cost is limited to USD %g", n->max_cost_usd);
                break;
        case ROUTE_TOO_DEAR:
                snprintf(out, size, "would cost about USD %.6f, more than %g", j->cost_usd, n->max_cost_usd);
                break;
        case ROUTE_TOO_SLOW:
                snprintf(out, size, "was slower than %lld ms: nine of ten first tokens in %lld ms",
                         (long long)n->max_latency_ms, (long long)j->m.p90_ms);
                break;
        }
        return out;
}
