#include "agent/tools/models_in.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#define KEY_MAX         ((size_t)16 << 10)
#define CONFIG_MAX      ((size_t)1 << 20)
#define CONNECT_DEFAULT 10000
#define TIMEOUT_DEFAULT 600000
#define STALL_DEFAULT   120000
#define RETRIES_DEFAULT 3
#define DETAIL_MAX      ((size_t)60 << 10) /* the inventory takes 64 KiB a tool */

static struct {
        struct endpoint *v[MODELS_ENDPOINTS_MAX + 2];
        size_t n;
        char *detail;
} g;

static const struct {
        const char *base_url, *key_env;
} kinds[] = {
        [MODEL_OPENAI] = {"https://api.openai.com/v1", NULL},
        [MODEL_ANTHROPIC] = {"https://api.anthropic.com", NULL},
        [MODEL_GEMINI] = {"https://generativelanguage.googleapis.com/v1beta", NULL},
        [MODEL_OLLAMA] = {"http://127.0.0.1:11434", NULL},
        [MODEL_ZAI] = {"https://api.z.ai/api/paas/v4", "ZAI_API_KEY"},
        [MODEL_JULES] = {"https://jules.googleapis.com/v1alpha", "JULES_API_KEY"},
};

const char *const model_kind_names[] = {
        [MODEL_OPENAI] = "openai", [MODEL_ANTHROPIC] = "anthropic",
        [MODEL_GEMINI] = "gemini", [MODEL_OLLAMA] = "ollama",
        [MODEL_ZAI] = "zai",       [MODEL_JULES] = "jules",
        [MODEL_JULES + 1] = NULL,
};
const char *const model_capability_names[] = {"tools", "json", "images", "files", NULL};

const char *model_kind_name(enum model_kind k)
{
        return model_kind_names[k];
}

int models_kind_of(const char *name, enum model_kind *out)
{
        for (int i = 0; model_kind_names[i]; i++)
                if (strcmp(model_kind_names[i], name) == 0) {
                        *out = (enum model_kind)i;
                        return 0;
                }
        return -E_NOENT;
}

/* ---- one endpoint ---- */

void endpoint_free(struct endpoint *ep)
{
        if (!ep)
                return;
        for (size_t i = 0; i < ep->n_models; i++)
                mem_free(ep->models[i].name);
        mem_free(ep->models);
        mem_free(ep->name);
        mem_free(ep->base_url);
        mem_free(ep->unix_socket);
        mem_free(ep->key_env);
        mem_free(ep->key_file);
        mem_free(ep->key_credential);
        mem_free(ep);
}

struct endpoint *endpoint_make(enum model_kind k)
{
        struct endpoint *ep = mem_calloc(1, sizeof *ep);

        if (!ep)
                return NULL;
        ep->kind = k;
        ep->timeout_ms = TIMEOUT_DEFAULT;
        ep->connect_ms = CONNECT_DEFAULT;
        ep->stall_ms = STALL_DEFAULT;
        ep->retries = RETRIES_DEFAULT;
        ep->base_url = mem_strdup(kinds[k].base_url);
        ep->key_env = kinds[k].key_env ? mem_strdup(kinds[k].key_env) : NULL;
        if (ep->base_url && (!kinds[k].key_env || ep->key_env))
                return ep;
        endpoint_free(ep);
        return NULL;
}

static int add(struct endpoint *ep)
{
        if (g.n == sizeof g.v / sizeof *g.v)
                return -E_FULL;
        g.v[g.n++] = ep;
        return 0;
}

/* Z.AI and Jules are at one place each: with a key in the environment no file is needed. */
static int imply(enum model_kind k, const char *model)
{
        struct endpoint *ep;

        if (models_of_kind(k))
                return 0;
        ep = endpoint_make(k);
        if (!ep)
                return -E_NOMEM;
        ep->implied = true;
        ep->name = mem_strdup(model_kind_name(k));
        if (model && (ep->models = mem_calloc(1, sizeof *ep->models))) {
                ep->n_models = 1;
                ep->models[0].name = mem_strdup(model);
                ep->models[0].capabilities = MODEL_TOOLS | MODEL_JSON;
                ep->models[0].price = (struct model_price){-1, -1, -1, -1};
        }
        if (!ep->name || (model && (!ep->models || !ep->models[0].name)) || add(ep)) {
                endpoint_free(ep);
                return -E_NOMEM;
        }
        return 0;
}

/* ---- what others see ---- */

static bool add_price(cJSON *o, const char *key, double v)
{
        return v < 0 || cJSON_AddNumberToObject(o, key, v);
}

static cJSON *model_json(const struct model *m)
{
        cJSON *o = cJSON_CreateObject(), *caps, *price;
        bool ok = o && cJSON_AddStringToObject(o, "name", m->name);

        if (ok && m->context)
                ok = cJSON_AddNumberToObject(o, "context", (double)m->context);
        if (ok && m->max_output)
                ok = cJSON_AddNumberToObject(o, "max_output", (double)m->max_output);
        caps = ok ? cJSON_AddArrayToObject(o, "capabilities") : NULL;
        ok = caps != NULL;
        for (unsigned i = 0; ok && model_capability_names[i]; i++)
                if (m->capabilities & 1u << i)
                        ok = cJSON_AddItemToArray(caps, cJSON_CreateString(model_capability_names[i]));
        if (ok && m->price.input >= 0) {
                price = cJSON_AddObjectToObject(o, "price");
                ok = price && add_price(price, "input", m->price.input) &&
                     add_price(price, "output", m->price.output) &&
                     add_price(price, "cache_read", m->price.cache_read) &&
                     add_price(price, "cache_write", m->price.cache_write);
        }
        if (ok)
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *endpoint_json(const struct endpoint *ep)
{
        cJSON *o = cJSON_CreateObject(), *list = NULL;
        bool ok = o && cJSON_AddStringToObject(o, "name", ep->name) &&
                  cJSON_AddStringToObject(o, "kind", model_kind_name(ep->kind)) &&
                  cJSON_AddBoolToObject(o, "local", ep->local) &&
                  cJSON_AddBoolToObject(o, "has_key", models_has_key(ep)) &&
                  (list = cJSON_AddArrayToObject(o, "models"));

        for (size_t i = 0; ok && i < ep->n_models; i++) {
                cJSON *m = model_json(&ep->models[i]);

                ok = m && cJSON_AddItemToArray(list, m);
        }
        if (ok)
                return o;
        cJSON_Delete(o);
        return NULL;
}

static int describe(void)
{
        cJSON *o = cJSON_CreateObject(), *list = o ? cJSON_AddArrayToObject(o, "endpoints") : NULL;
        bool ok = list != NULL;

        for (size_t i = 0; ok && i < g.n; i++) {
                cJSON *ep;

                if (g.v[i]->kind == MODEL_JULES || (g.v[i]->implied && !models_has_key(g.v[i])))
                        continue;
                ep = endpoint_json(g.v[i]);
                ok = ep && cJSON_AddItemToArray(list, ep);
        }
        mem_free(g.detail);
        g.detail = ok ? json_text(o) : NULL;
        cJSON_Delete(o);
        return g.detail ? 0 : -E_NOMEM;
}

const char *models_detail(void)
{
        return g.detail ? g.detail : "{\"endpoints\":[]}";
}

/* ---- the table ---- */

static int read_all(const struct doc *list, struct err *e)
{
        int rc = 0;

        if (list->kind == DOC_NULL)
                return 0;
        if (list->kind != DOC_LIST)
                return err_at(e, E_INVAL, list->line, list->col, "models: expected a list, got %s",
                              doc_kind_name(list->kind));
        if (list->count > MODELS_ENDPOINTS_MAX)
                return err_at(e, E_INVAL, list->line, list->col, "models: at most %d endpoints",
                              MODELS_ENDPOINTS_MAX);
        for (const struct doc *c = list->child; c && !rc; c = c->next) {
                struct endpoint *ep = NULL;

                rc = endpoint_read(c, &ep, e);
                if (!rc && models_find(ep->name)) {
                        rc = err_at(e, E_INVAL, c->line, c->col, "models: the endpoint %s is there twice",
                                    ep->name);
                        endpoint_free(ep);
                } else if (!rc) {
                        rc = add(ep);
                }
        }
        return rc;
}

int models_parse(const char *text, size_t n, const char *path, struct err *e)
{
        struct doc *d = NULL;
        const struct doc *list;
        struct err why = {0};
        int rc = text ? doc_parse(text, n, &d, &why) : 0;

        models_close();
        list = !rc && d && d->kind == DOC_MAP ? doc_get(d, "models") : NULL;
        if (!rc && list)
                rc = read_all(list, &why);
        if (!rc)
                rc = imply(MODEL_ZAI, "glm-4.6");
        if (!rc)
                rc = imply(MODEL_JULES, NULL);
        if (!rc)
                rc = describe();
        if (!rc && strlen(g.detail) > DETAIL_MAX)
                rc = err_at(
                        &why, E_TOOBIG, list ? list->line : 1, list ? list->col : 1,
                        "models: what all endpoints offer is over 60 KiB when told to the hub; list fewer "
                        "models");
        doc_free(d);
        if (!rc)
                return 0;
        models_close();
        if (!why.msg[0])
                return err_set(e, -rc, "no memory for the model endpoints");
        return err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", path, why.line, why.col, err_unplaced(&why));
}

int models_load(const char *path, struct err *e)
{
        char *text = NULL;
        size_t n = 0;
        int rc = path ? file_read(path, CONFIG_MAX, &text, &n, e) : 0;

        if (!rc)
                rc = models_parse(text, n, path, e);
        if (text)
                mem_wipe(text, n);
        mem_free(text);
        return rc;
}

void models_close(void)
{
        for (size_t i = 0; i < g.n; i++)
                endpoint_free(g.v[i]);
        g.n = 0;
        mem_free(g.detail);
        g.detail = NULL;
}

size_t models_count(void)
{
        return g.n;
}

const struct endpoint *models_at(size_t i)
{
        return g.v[i];
}

const struct endpoint *models_find(const char *name)
{
        for (size_t i = 0; i < g.n; i++)
                if (strcmp(g.v[i]->name, name) == 0)
                        return g.v[i];
        return NULL;
}

const struct endpoint *models_of_kind(enum model_kind k)
{
        for (size_t i = 0; i < g.n; i++)
                if (g.v[i]->kind == k)
                        return g.v[i];
        return NULL;
}

const struct model *models_model(const struct endpoint *ep, const char *name)
{
        for (size_t i = 0; i < ep->n_models; i++)
                if (strcmp(ep->models[i].name, name) == 0)
                        return &ep->models[i];
        return NULL;
}

/* ---- keys ---- */

static char *credential_path(const char *name)
{
        const char *dir = getenv("CREDENTIALS_DIRECTORY"); /* systemd.exec(5), LoadCredential= */

        return dir && *dir ? path_join(dir, name) : NULL;
}

bool models_has_key(const struct endpoint *ep)
{
        char *path = ep->key_credential ? credential_path(ep->key_credential) : NULL;
        const char *v = ep->key_env ? getenv(ep->key_env) : NULL;
        bool has;

        if (ep->key_env)
                has = v && *v;
        else if (ep->key_file)
                has = access(ep->key_file, R_OK) == 0;
        else if (ep->key_credential)
                has = path && access(path, R_OK) == 0;
        else
                has = true; /* it needs none */
        mem_free(path);
        return has;
}

static int key_from(const struct endpoint *ep, const char *path, bool check_mode, char **out, struct err *e)
{
        struct err why = {0};
        struct stat st;
        size_t n = 0;
        int rc;

        if (check_mode && stat(path, &st) == 0 && st.st_mode & 077)
                return err_set(e, E_DENIED,
                               "others may read the key file %s of the endpoint %s; run: chmod 600 %s", path,
                               ep->name, path);
        rc = file_read(path, KEY_MAX, out, &n, &why);
        if (rc)
                return err_set(e, E_NOENT, "the key of the endpoint %s cannot be read: %s", ep->name,
                               why.msg);
        while (n && strchr(" \t\r\n", (*out)[n - 1]))
                (*out)[--n] = '\0';
        return 0;
}

int models_key(const struct endpoint *ep, char **out, struct err *e)
{
        char *key = NULL, *path;
        const char *v;
        int rc = 0;

        *out = NULL;
        if (ep->key_env) {
                v = getenv(ep->key_env);
                if (!v || !*v)
                        return err_set(e, E_NOENT,
                                       "the endpoint %s has no key: set the variable %s in the agent's "
                                       "environment, or name a key_file in its configuration",
                                       ep->name, ep->key_env);
                key = mem_strdup(v);
                if (!key)
                        return err_set(e, E_NOMEM, "out of memory");
        } else if (ep->key_file) {
                rc = key_from(ep, ep->key_file, true, &key, e);
        } else if (ep->key_credential) {
                path = credential_path(ep->key_credential);
                rc = path ? key_from(ep, path, false, &key, e)
                          : err_set(e, E_NOENT,
                                    "the endpoint %s has no key: the agent's unit needs "
                                    "LoadCredential=%s:FILE",
                                    ep->name, ep->key_credential);
                mem_free(path);
        }
        for (const char *p = key; !rc && p && *p; p++)
                if ((unsigned char)*p <= 0x20 || *p == 0x7f)
                        rc = err_set(e, E_NOENT,
                                     "the key of the endpoint %s holds blanks or control characters",
                                     ep->name);
        if (!rc && key && !*key)
                rc = err_set(e, E_NOENT, "the key of the endpoint %s is empty", ep->name);
        if (rc && key)
                mem_wipe(key, strlen(key));
        if (rc)
                mem_free(key);
        else
                *out = key;
        return rc;
}

/* ---- cost ---- */

static double part(int64_t tokens, double price, double otherwise)
{
        return tokens > 0 ? (double)tokens * (price >= 0 ? price : otherwise) / 1e6 : 0;
}

double models_cost(const struct model *m, const struct event_usage *u)
{
        const struct model_price *p = m ? &m->price : NULL;

        if (!p || p->input < 0 || (u->input_tokens < 0 && u->output_tokens < 0))
                return -1;
        return part(u->input_tokens, p->input, 0) + part(u->output_tokens, p->output, 0) +
               part(u->cache_read_tokens, p->cache_read, p->input) +
               part(u->cache_write_tokens, p->cache_write, p->input);
}
