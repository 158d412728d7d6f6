/* The section `models` of the agent's configuration, strictly. */
#include <arpa/inet.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/tools/http.h"
#include "agent/tools/models_in.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#define TEXT_MAX 1024

enum value { V_TEXT, V_BOOL, V_TIME, V_COUNT, V_MODELS, V_KIND, V_CAPS, V_PRICES, V_PRICE };

struct member {
        const char *key;
        enum value value;
        size_t offset;
        int64_t min, max;
};

static const struct member endpoint_members[] = {
        {"name", V_TEXT, offsetof(struct endpoint, name), 0, 0},
        {"kind", V_KIND, offsetof(struct endpoint, kind), 0, 0},
        {"base_url", V_TEXT, offsetof(struct endpoint, base_url), 0, 0},
        {"unix_socket", V_TEXT, offsetof(struct endpoint, unix_socket), 0, 0},
        {"key_env", V_TEXT, offsetof(struct endpoint, key_env), 0, 0},
        {"key_file", V_TEXT, offsetof(struct endpoint, key_file), 0, 0},
        {"key_credential", V_TEXT, offsetof(struct endpoint, key_credential), 0, 0},
        {"local", V_BOOL, offsetof(struct endpoint, local), 0, 0},
        {"timeout", V_TIME, offsetof(struct endpoint, timeout_ms), 1, 86400000},
        {"connect_timeout", V_TIME, offsetof(struct endpoint, connect_ms), 1, 600000},
        {"stall", V_TIME, offsetof(struct endpoint, stall_ms), 0, 86400000},
        {"retries", V_COUNT, offsetof(struct endpoint, retries), 0, 10},
        {"models", V_MODELS, 0, 0, 0},
        {NULL, V_TEXT, 0, 0, 0},
};

static const struct member model_members[] = {
        {"name", V_TEXT, offsetof(struct model, name), 0, 0},
        {"capabilities", V_CAPS, offsetof(struct model, capabilities), 0, 0},
        {"context", V_COUNT, offsetof(struct model, context), 1, 1000000000},
        {"max_output", V_COUNT, offsetof(struct model, max_output), 1, 1000000000},
        {"price", V_PRICES, offsetof(struct model, price), 0, 0},
        {NULL, V_TEXT, 0, 0, 0},
};

static const struct member price_members[] = {
        {"input", V_PRICE, offsetof(struct model_price, input), 0, 0},
        {"output", V_PRICE, offsetof(struct model_price, output), 0, 0},
        {"cache_read", V_PRICE, offsetof(struct model_price, cache_read), 0, 0},
        {"cache_write", V_PRICE, offsetof(struct model_price, cache_write), 0, 0},
        {NULL, V_TEXT, 0, 0, 0},
};

static int read_map(const struct doc *d, const char *what, const struct member *members, void *into,
                    struct err *e);

static int wrong(const struct doc *d, const char *want, struct err *e)
{
        return err_at(e, E_INVAL, d->line, d->col, "models: %s: expected %s, got %s%.60s%s",
                      d->key ? d->key : "an item", want, d->text ? "\"" : "",
                      d->text ? d->text : doc_kind_name(d->kind), d->text ? "\"" : "");
}

static int read_text(const struct doc *d, char **into, struct err *e)
{
        if ((d->kind != DOC_STRING && d->kind != DOC_NUMBER) || !*d->text || strlen(d->text) > TEXT_MAX)
                return wrong(d, "a text of at most 1024 bytes", e);
        for (const char *p = d->text; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return wrong(d, "a text without control characters", e);
        mem_free(*into);
        *into = mem_strdup(d->text);
        return *into ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int read_caps(const struct doc *d, unsigned *into, struct err *e)
{
        if (d->kind != DOC_LIST)
                return wrong(d, "a list of tools, json, images, files", e);
        for (const struct doc *c = d->child; c; c = c->next) {
                unsigned bit = 0;

                for (unsigned i = 0; model_capability_names[i]; i++)
                        if (c->text && strcmp(model_capability_names[i], c->text) == 0)
                                bit = 1u << i;
                if (!bit)
                        return wrong(c, "one of tools, json, images, files", e);
                *into |= bit;
        }
        return 0;
}

static int read_models(const struct doc *d, struct endpoint *ep, struct err *e)
{
        if (d->kind != DOC_LIST)
                return wrong(d, "a list of models", e);
        if (d->count > MODELS_EACH_MAX)
                return wrong(d, "at most 256 models", e);
        ep->models = mem_calloc(d->count ? d->count : 1, sizeof *ep->models);
        if (!ep->models)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *c = d->child; c; c = c->next) {
                struct model *m = &ep->models[ep->n_models++];
                int rc;

                m->price = (struct model_price){-1, -1, -1, -1};
                rc = c->kind == DOC_STRING ? read_text(c, &m->name, e)
                                           : read_map(c, "a model", model_members, m, e);
                if (rc)
                        return rc;
                if (!m->name)
                        return err_at(e, E_INVAL, c->line, c->col, "models: this model has no name");
                if ((m->price.input < 0) != (m->price.output < 0))
                        return err_at(e, E_INVAL, c->line, c->col,
                                      "models: the price of %s needs both input and output", m->name);
                for (size_t i = 0; i + 1 < ep->n_models; i++)
                        if (strcmp(ep->models[i].name, m->name) == 0)
                                return err_at(e, E_INVAL, c->line, c->col,
                                              "models: the model %s is there twice", m->name);
        }
        return 0;
}

static int read_count(const struct doc *d, const struct member *m, void *into, struct err *e)
{
        char want[80];
        int64_t v;

        if (!d->text || str_parse_i64(d->text, m->min, m->max, &v)) {
                snprintf(want, sizeof want, "a whole number from %lld to %lld", (long long)m->min,
                         (long long)m->max);
                return wrong(d, want, e);
        }
        if (strcmp(m->key, "retries") == 0)
                *(int *)into = (int)v;
        else
                *(int64_t *)into = v;
        return 0;
}

static int read_value(const struct doc *d, const struct member *m, void *base, struct err *e)
{
        void *into = (char *)base + m->offset;
        int64_t ms;

        switch (m->value) {
        case V_TEXT:
                return read_text(d, into, e);
        case V_BOOL:
                if (d->kind != DOC_BOOL)
                        return wrong(d, "true or false", e);
                *(bool *)into = d->number != 0;
                return 0;
        case V_TIME:
                if (!d->text || str_parse_duration(d->text, &ms) || ms < m->min || ms > m->max)
                        return wrong(d, "a duration such as 30s", e);
                *(int64_t *)into = ms;
                return 0;
        case V_COUNT:
                return read_count(d, m, into, e);
        case V_MODELS:
                return read_models(d, base, e);
        case V_KIND:
                return 0; /* was looked at first */
        case V_CAPS:
                return read_caps(d, into, e);
        case V_PRICES:
                return read_map(d, "a price", price_members, into, e);
        case V_PRICE:
                if (d->kind != DOC_NUMBER || !isfinite(d->number) || d->number < 0 || d->number > 1e9)
                        return wrong(d, "USD per million tokens", e);
                *(double *)into = d->number;
                return 0;
        }
        return 0;
}

static int read_map(const struct doc *d, const char *what, const struct member *members, void *into,
                    struct err *e)
{
        const char *known[16];
        size_t n = 0;
        int rc = 0;

        if (d->kind != DOC_MAP)
                return wrong(d, what, e);
        for (const struct member *m = members; m->key; m++)
                known[n++] = m->key;
        for (const struct doc *c = d->child; c && !rc; c = c->next) {
                const struct member *m = members;
                const char *near;

                while (m->key && strcmp(m->key, c->key) != 0)
                        m++;
                near = m->key ? NULL : str_nearest(c->key, known, n);
                if (!m->key)
                        return err_at(e, E_INVAL, c->key_line, c->key_col,
                                      "models: unknown key \"%.60s\" of %s%s%s%s", c->key, what,
                                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
                if (c->kind != DOC_NULL)
                        rc = read_value(c, m, into, e);
        }
        return rc;
}

/* Whoever says "local" means an address or localhost: a name would be asked of a server elsewhere. */
static bool host_needs_no_lookup(const char *host)
{
        char plain[256];
        struct in_addr four;
        struct in6_addr six;
        size_t n = strlen(host);

        if (*host == '[' && n > 2 && n < sizeof plain) {
                memcpy(plain, host + 1, n - 2);
                plain[n - 2] = '\0';
                return inet_pton(AF_INET6, plain, &six) == 1;
        }
        return str_ieq(host, "localhost") || inet_pton(AF_INET, host, &four) == 1;
}

static int check(const struct doc *d, struct endpoint *ep, struct err *e)
{
        char host[256];
        struct err why = {0};
        size_t n = strlen(ep->base_url);
        int port;
        bool tls;

        if (!ep->name || !str_is_name(ep->name, 63))
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: an endpoint needs a name of letters, digits, '.', '_', '-'");
        while (n && ep->base_url[n - 1] == '/')
                ep->base_url[--n] = '\0';
        if (http_split_url(ep->base_url, host, &port, &tls, &why) || strpbrk(ep->base_url, "?#"))
                return err_at(e, E_INVAL, d->line, d->col, "models: base_url of %s: %s", ep->name,
                              why.msg[0] ? why.msg : "it ends before '?' and '#'");
        if (ep->unix_socket && ep->unix_socket[0] != '/')
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: unix_socket of %s must be an absolute path", ep->name);
        if (!!ep->key_env + !!ep->key_file + !!ep->key_credential > 1)
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: %s: give one of key_env, key_file, key_credential", ep->name);
        if (ep->key_file && ep->key_file[0] != '/')
                return err_at(e, E_INVAL, d->line, d->col, "models: key_file of %s must be an absolute path",
                              ep->name);
        if (ep->key_credential && !str_is_name(ep->key_credential, 255))
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: key_credential of %s must be the name of a credential", ep->name);
        if (ep->local && !ep->unix_socket && !host_needs_no_lookup(host))
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: %s is local, so its host must be an address of this machine, "
                              "localhost, or behind unix_socket; \"%.100s\" would be looked up",
                              ep->name, host);
        if (ep->kind != MODEL_JULES && !ep->n_models)
                return err_at(e, E_INVAL, d->line, d->col, "models: %s lists no models", ep->name);
        return 0;
}

int endpoint_read(const struct doc *d, struct endpoint **out, struct err *e)
{
        const struct doc *kind = d->kind == DOC_MAP ? doc_get(d, "kind") : NULL;
        struct endpoint *ep;
        enum model_kind k;
        int rc;

        if (!kind)
                return err_at(e, E_INVAL, d->line, d->col,
                              "models: expected a map with name and kind, got %s",
                              d->kind == DOC_MAP ? "one without kind" : doc_kind_name(d->kind));
        if (!kind->text || models_kind_of(kind->text, &k))
                return wrong(kind, "openai, anthropic, gemini, ollama, zai or jules", e);
        ep = endpoint_make(k);
        if (!ep)
                return err_set(e, E_NOMEM, "out of memory");
        rc = read_map(d, "an endpoint", endpoint_members, ep, e);
        /* Its own way to the key replaces that of its kind. */
        if (!rc && (ep->key_file || ep->key_credential) && !doc_get(d, "key_env")) {
                mem_free(ep->key_env);
                ep->key_env = NULL;
        }
        if (!rc)
                rc = check(d, ep, e);
        if (rc)
                endpoint_free(ep);
        else
                *out = ep;
        return rc;
}
