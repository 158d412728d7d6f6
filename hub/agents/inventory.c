/* What an agent says of itself: checked strictly, kept as JSON, told to the engine. */
#include "hub/agents/agents_impl.h"

#include "common/json.h"
#include "common/json_scan.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

#define TOOL_NAME_MAX    128
#define DESCRIPTION_MAX  (8u << 10)
#define POLICY_TEXT_MAX  (64u << 10)
#define MAX_RUNNING_MAX  65536
#define INVENTORY_BURST  20
#define INVENTORY_REFILL 1000

static const char *const kinds[] = {"local", "cloud", "edge", "mobile", "specialised"};

/* ---- checked text ---- */

/* `,"key":"text"`; the comma is left out at the beginning of an object. */
static int member_key(struct buf *b, const char *key)
{
        int rc = b->len && b->data[b->len - 1] != '{' ? buf_putc(b, ',') : 0;

        return rc ? rc : buf_printf(b, "\"%s\":", key);
}

static int member_str(struct buf *b, const char *key, const char *text)
{
        int rc = member_key(b, key);

        return rc ? rc : json_append_str(b, text, strlen(text));
}

/* A schema as the JSON it is; absent when empty. */
static int member_schema(struct buf *b, const char *tool, const char *key, const char *text, struct err *e)
{
        size_t n = strlen(text);
        int rc;

        if (n == 0)
                return 0;
        if (n > SCHEMA_BYTES_MAX)
                return err_set(e, E_INVAL, "tool %s: %s has more than %u bytes", tool, key, SCHEMA_BYTES_MAX);
        if (text[strspn(text, " \t\r\n")] != '{' || json_scan(text, n, NULL, NULL, NULL))
                return err_set(e, E_INVAL, "tool %s: %s is no JSON object", tool, key);
        rc = member_key(b, key);
        return rc ? rc : buf_put(b, text, n);
}

static int limit(const char *what, const char *text, size_t max, struct err *e)
{
        if (strlen(text) > max)
                return err_set(e, E_INVAL, "%s has more than %zu bytes", what, max);
        return 0;
}

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "the hub is out of memory");
}

static int tool_json(struct buf *b, const Photon__V1__Tool *t, struct err *e)
{
        static const char *const effects[] = {"pure", "idempotent", "at-most-once"};
        const char *effect = t->effect[0] ? t->effect : "at-most-once";
        bool known = false;
        int rc;

        if (!str_is_name(t->name, TOOL_NAME_MAX))
                return err_set(e, E_INVAL, "\"%.80s\" is no tool name", t->name);
        for (size_t i = 0; i < sizeof effects / sizeof effects[0]; i++)
                known |= strcmp(effect, effects[i]) == 0;
        if (!known)
                return err_set(e, E_INVAL,
                               "tool %s: effect \"%.40s\" is none of pure, idempotent, at-most-once", t->name,
                               effect);
        rc = limit("a tool's version", t->version, 64, e);
        if (!rc)
                rc = limit("a tool's description", t->description, DESCRIPTION_MAX, e);
        if (rc)
                return rc;
        if (buf_putc(b, '{') || member_str(b, "name", t->name) || member_str(b, "version", t->version) ||
            member_str(b, "description", t->description) || member_str(b, "effect", effect) ||
            member_key(b, "allowed") || buf_puts(b, t->allowed ? "true" : "false"))
                return nomem(e);
        rc = member_schema(b, t->name, "input_schema", t->input_schema, e);
        if (!rc)
                rc = member_schema(b, t->name, "output_schema", t->output_schema, e);
        if (!rc)
                rc = member_schema(b, t->name, "detail", t->detail, e);
        if (rc)
                return rc == -E_INVAL ? rc : nomem(e);
        return buf_putc(b, '}') ? nomem(e) : 0;
}

static int tools_json(struct buf *b, Photon__V1__Tool **tools, size_t n, struct err *e)
{
        struct map *seen;
        int rc = 0;

        if (n > HELLO_TOOLS_MAX)
                return err_set(e, E_INVAL, "%zu tools; at most %d", n, HELLO_TOOLS_MAX);
        seen = map_create();
        if (!seen || buf_putc(b, '['))
                rc = nomem(e);
        for (size_t i = 0; i < n && !rc; i++) {
                void *old = NULL;

                if (i > 0 && buf_putc(b, ','))
                        rc = nomem(e);
                if (!rc)
                        rc = tool_json(b, tools[i], e);
                if (!rc && map_put(seen, tools[i]->name, tools[i], &old))
                        rc = nomem(e);
                if (!rc && old)
                        rc = err_set(e, E_INVAL, "tool %s is there twice", tools[i]->name);
        }
        map_free(seen);
        if (!rc && buf_putc(b, ']'))
                rc = nomem(e);
        return rc;
}

/* Facts (os, arch, kind, name) are not taken from labels. */
static int labels_json(struct buf *b, Photon__V1__Label **labels, size_t n, struct err *e)
{
        if (n > LABELS_MAX)
                return err_set(e, E_INVAL, "%zu labels; at most %d", n, LABELS_MAX);
        if (buf_putc(b, '{'))
                return nomem(e);
        for (size_t i = 0; i < n; i++) {
                int rc = label_check(labels[i]->key, labels[i]->value, e);

                if (rc)
                        return rc;
                for (size_t k = 0; k < i; k++) {
                        if (strcmp(labels[k]->key, labels[i]->key) == 0)
                                return err_set(e, E_INVAL, "label %s is there twice", labels[i]->key);
                }
                if (!label_reserved(labels[i]->key) && member_str(b, labels[i]->key, labels[i]->value))
                        return nomem(e);
        }
        return buf_putc(b, '}') ? nomem(e) : 0;
}

#define SANDBOX_TEXT_MAX 1024

static int hello_limits(const Photon__V1__HelloRequest *q, struct err *e)
{
        const struct {
                const char *what, *text;
                size_t max;
        } limits[] = {
                {"software", q->software, 64},
                {"hostname", q->hostname, 253},
                {"os", q->os, 32},
                {"arch", q->arch, 32},
                {"boot_id", q->boot_id, 64},
                {"policy_sha256", q->policy_sha256, 64},
                {"policy_text", q->policy_text, POLICY_TEXT_MAX},
                {"journal_id", q->journal_id, 64},
                {"sandbox.mode", q->sandbox ? q->sandbox->mode : "", 16},
                {"sandbox.has", q->sandbox ? q->sandbox->has : "", SANDBOX_TEXT_MAX},
                {"sandbox.lacks", q->sandbox ? q->sandbox->lacks : "", SANDBOX_TEXT_MAX},
        };
        int rc = 0;

        for (size_t i = 0; i < sizeof limits / sizeof limits[0] && !rc; i++)
                rc = limit(limits[i].what, limits[i].text, limits[i].max, e);
        if (rc)
                return rc;
        if (q->n_held > HELLO_HELD_MAX)
                return err_set(e, E_INVAL, "%zu held attempts; at most %d", q->n_held, HELLO_HELD_MAX);
        for (size_t i = 0; i < q->n_held; i++)
                if (q->held[i]->n_open_questions > HELD_QUESTIONS_MAX)
                        return err_set(e, E_INVAL, "a held attempt with %zu open questions; at most %d",
                                       q->held[i]->n_open_questions, HELD_QUESTIONS_MAX);
        if (q->max_running > MAX_RUNNING_MAX)
                return err_set(e, E_INVAL, "max_running %u; at most %d", q->max_running, MAX_RUNNING_MAX);
        if (!q->kind[0])
                return 0;
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
                if (strcmp(q->kind, kinds[i]) == 0)
                        return 0;
        }
        return err_set(e, E_INVAL, "kind \"%.40s\" is none of local, cloud, edge, mobile, specialised",
                       q->kind);
}

/* What is kept must be readable later: schemas may repeat a key, or be nested deeper than the rest allows. */
static int parses(const char *text, size_t n, struct err *e)
{
        cJSON *o = NULL;
        struct err why = {0};
        int rc = json_parse(text, n, &o, &why);

        cJSON_Delete(o);
        return rc ? err_set(e, -rc, "a tool's schema: %s", why.msg) : 0;
}

/* "photon-agent/0.1.0" is shown as the version that it is. */
static const char *version_of(const char *software)
{
        static const char ours[] = "photon-agent/";

        return strncmp(software, ours, sizeof ours - 1) == 0 ? software + sizeof ours - 1 : software;
}

/* What an older agent does not say is not there. */
static int sandbox_json(struct buf *b, const Photon__V1__Sandbox *s)
{
        if (!s)
                return 0;
        if (member_key(b, "sandbox") || buf_putc(b, '{') || member_str(b, "mode", s->mode) ||
            member_str(b, "has", s->has) || member_str(b, "lacks", s->lacks))
                return -E_NOMEM;
        return buf_putc(b, '}');
}

int inventory_from_hello(const Photon__V1__HelloRequest *q, char **out_json, struct err *e)
{
        struct buf b;
        int rc = hello_limits(q, e);

        if (rc)
                return rc;
        buf_init(&b, 2 * HELLO_BYTES_MAX);
        if (buf_putc(&b, '{') || member_str(&b, "version", version_of(q->software)) ||
            member_str(&b, "hostname", q->hostname) || member_str(&b, "os", q->os) ||
            member_str(&b, "arch", q->arch) || member_str(&b, "kind", q->kind[0] ? q->kind : kinds[0]) ||
            member_key(&b, "max_running") || buf_printf(&b, "%u", q->max_running ? q->max_running : 1) ||
            member_str(&b, "boot_id", q->boot_id) || member_str(&b, "journal_id", q->journal_id) ||
            member_str(&b, "policy_sha256", q->policy_sha256) || member_str(&b, "policy", q->policy_text) ||
            sandbox_json(&b, q->sandbox) || member_key(&b, "labels"))
                rc = nomem(e);
        if (!rc)
                rc = labels_json(&b, q->labels, q->n_labels, e);
        if (!rc && member_key(&b, "tools"))
                rc = nomem(e);
        if (!rc)
                rc = tools_json(&b, q->tools, q->n_tools, e);
        if (!rc && buf_putc(&b, '}'))
                rc = nomem(e);
        if (!rc)
                rc = parses((const char *)b.data, b.len, e);
        if (!rc) {
                char *text = buf_steal_str(&b);

                if (text)
                        *out_json = text;
                else
                        rc = nomem(e);
        }
        buf_fini(&b);
        return rc;
}

/* ---- to the engine ---- */

static const char *text_of(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

static size_t fill_labels(const cJSON *fixed, const cJSON *own, struct engine_label *out)
{
        size_t n = 0;
        const cJSON *l;

        cJSON_ArrayForEach(l, fixed)
        {
                if (cJSON_IsString(l))
                        out[n++] = (struct engine_label){l->string, l->valuestring};
        }
        cJSON_ArrayForEach(l, own)
        {
                if (cJSON_IsString(l) && !cJSON_GetObjectItemCaseSensitive(fixed, l->string))
                        out[n++] = (struct engine_label){l->string, l->valuestring};
        }
        return n;
}

static size_t fill_tools(const cJSON *tools, struct engine_tool *out)
{
        size_t n = 0;
        const cJSON *t;

        cJSON_ArrayForEach(t, tools)
        {
                out[n++] = (struct engine_tool){text_of(t, "name"),
                                                cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(t, "allowed"))};
        }
        return n;
}

/* What its llm.chat can ask; NULL if it may not be used. */
static const cJSON *models_of(const cJSON *tools)
{
        const cJSON *t;

        cJSON_ArrayForEach(t, tools)
        {
                if (strcmp(text_of(t, "name"), "llm.chat") == 0 &&
                    cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(t, "allowed")))
                        return cJSON_GetObjectItemCaseSensitive(t, "detail");
        }
        return NULL;
}

int inventory_tell(struct agents *a, const char *agent_id,
                   int (*fn)(struct engine *en, const struct engine_agent *ea), struct err *e)
{
        const struct agent_record *r = auth_agent(a->opt.auth, agent_id);
        struct engine_agent ea = {0};
        struct engine_label *labels = NULL;
        struct engine_tool *tools = NULL;
        cJSON *info = NULL;
        const cJSON *own, *list, *max;
        char boot[160];
        int rc;

        if (!r || !r->info)
                return err_set(e, E_NOENT, "nothing is known of agent %s", agent_id);
        rc = json_parse(r->info, strlen(r->info), &info, e);
        if (rc)
                return rc;
        own = cJSON_GetObjectItemCaseSensitive(info, "labels");
        list = cJSON_GetObjectItemCaseSensitive(info, "tools");
        max = cJSON_GetObjectItemCaseSensitive(info, "max_running");
        labels = mem_calloc((size_t)cJSON_GetArraySize(r->labels) + (size_t)cJSON_GetArraySize(own) + 1,
                            sizeof *labels);
        tools = mem_calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *tools);
        if (!labels || !tools) {
                rc = nomem(e);
        } else {
                ea.id = r->id;
                ea.name = r->name;
                ea.kind = text_of(info, "kind");
                ea.os = text_of(info, "os");
                ea.arch = text_of(info, "arch");
                ea.version = text_of(info, "version");
                /* A new journal forgets as thoroughly as a lost one. */
                snprintf(boot, sizeof boot, "%s/%s", text_of(info, "boot_id"), text_of(info, "journal_id"));
                ea.boot_id = boot;
                ea.labels = labels;
                ea.n_labels = fill_labels(r->labels, own, labels);
                ea.tools = tools;
                ea.n_tools = fill_tools(list, tools);
                ea.models = models_of(list);
                ea.max_running =
                        cJSON_IsNumber(max) && max->valuedouble >= 1 ? (uint32_t)max->valuedouble : 1;
                ea.draining = strcmp(r->state, "draining") == 0;
                rc = fn(a->engine, &ea);
                if (rc)
                        err_set(e, -rc, "the hub cannot take this agent now: %s", err_name(rc));
        }
        mem_free(labels);
        mem_free(tools);
        cJSON_Delete(info);
        return rc;
}

static int update(struct engine *en, const struct engine_agent *ea)
{
        engine_agent_update(en, ea);
        return 0;
}

void inventory_refresh(struct agents *a, const char *agent_id)
{
        const struct session *s = session_of(a, agent_id);
        struct err e = {0};

        if (s && s->in_engine && inventory_tell(a, agent_id, update, &e))
                log_error(AREA, "the scheduler does not know an agent's change", "agent=%s reason=\"%s\"",
                          s->name, e.msg);
}

static int tell_known(void *arg, const struct agent_record *r)
{
        struct err e = {0};

        /* What it offers is what it last said; it may still come back. */
        if (strcmp(r->state, "revoked") != 0 && r->info && inventory_tell(arg, r->id, engine_agent_known, &e))
                log_warn(AREA, "what an agent offers is not known until it is back", "agent=%s reason=\"%s\"",
                         r->name, e.msg);
        return 0;
}

void agents_tell_known(struct agents *a)
{
        auth_agent_each(a->opt.auth, tell_known, a);
}

/* ---- changed while connected ---- */

/* info with "labels" and "tools" replaced. */
static int replace(const char *info, const Photon__V1__Inventory *m, char **out_json, struct err *e)
{
        cJSON *o = NULL, *labels = NULL, *tools = NULL;
        struct buf lb, tb;
        int rc;

        buf_init(&lb, HELLO_BYTES_MAX);
        buf_init(&tb, 2 * HELLO_BYTES_MAX);
        rc = json_parse(info, strlen(info), &o, e);
        if (!rc)
                rc = labels_json(&lb, m->labels, m->n_labels, e);
        if (!rc)
                rc = tools_json(&tb, m->tools, m->n_tools, e);
        if (!rc)
                rc = json_parse((const char *)lb.data, lb.len, &labels, e);
        if (!rc)
                rc = json_parse((const char *)tb.data, tb.len, &tools, e);
        if (!rc) {
                cJSON_DeleteItemFromObjectCaseSensitive(o, "labels");
                cJSON_DeleteItemFromObjectCaseSensitive(o, "tools");
                if (!cJSON_AddItemToObject(o, "labels", labels))
                        rc = nomem(e);
                else
                        labels = NULL;
                if (!rc && !cJSON_AddItemToObject(o, "tools", tools))
                        rc = nomem(e);
                else if (!rc)
                        tools = NULL;
        }
        if (!rc && !(*out_json = json_text(o)))
                rc = nomem(e);
        cJSON_Delete(labels);
        cJSON_Delete(tools);
        cJSON_Delete(o);
        buf_fini(&lb);
        buf_fini(&tb);
        return rc;
}

void on_inventory(struct session *s, const Photon__V1__Inventory *m)
{
        struct agents *a = s->a;
        const struct agent_record *r = auth_agent(a->opt.auth, s->agent_id);
        struct store_tx *tx;
        struct err e = {0};
        char *json = NULL;

        if (!bucket_take(&s->inventories, INVENTORY_BURST, INVENTORY_REFILL, agents_mono_ms(a))) {
                session_violation(s, "the inventory changes too often");
                return;
        }
        if (!r || !r->info)
                return;
        if (replace(r->info, m, &json, &e)) {
                session_violation(s, "inventory: %s", e.msg);
                return;
        }
        tx = store_begin(a->opt.store);
        session_seen(s, tx, json);
        auth_commit(a->opt.auth, tx, NULL, NULL);
        mem_free(json);
        inventory_refresh(a, s->agent_id);
}
