/* An agent as people see it (the API's "agent"). */
#include "hub/agents/agents_impl.h"

#include "common/clock.h"
#include "common/json.h"
#include "hub/sched/engine.h"

#include <string.h>

static const char *state_name(const struct agent_record *r, const struct session *s)
{
        if (strcmp(r->state, "revoked") == 0)
                return "revoked";
        if (!s || s->state < SESSION_GREETING)
                return "offline";
        return strcmp(r->state, "draining") == 0 ? "draining" : "online";
}

static bool add_time(cJSON *o, const char *key, int64_t us)
{
        char text[CLOCK_RFC3339_LEN];

        if (!us)
                return cJSON_AddNullToObject(o, key) != NULL;
        clock_format(us, text);
        return cJSON_AddStringToObject(o, key, text) != NULL;
}

static bool add_fact(cJSON *o, const cJSON *info, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(info, key);

        return cJSON_AddStringToObject(o, key, cJSON_IsString(v) ? v->valuestring : "") != NULL;
}

/* The hub's labels win over the agent's own. */
static bool add_labels(cJSON *o, const cJSON *fixed, const cJSON *own)
{
        cJSON *labels = cJSON_AddObjectToObject(o, "labels");
        const cJSON *l;

        if (!labels)
                return false;
        cJSON_ArrayForEach(l, fixed)
        {
                if (cJSON_IsString(l) && !cJSON_AddStringToObject(labels, l->string, l->valuestring))
                        return false;
        }
        cJSON_ArrayForEach(l, own)
        {
                if (cJSON_IsString(l) && !cJSON_GetObjectItemCaseSensitive(fixed, l->string) &&
                    !cJSON_AddStringToObject(labels, l->string, l->valuestring))
                        return false;
        }
        return true;
}

/* Names of the tools that the agent's policy allows. */
static bool add_tools(cJSON *o, const cJSON *tools)
{
        cJSON *names = cJSON_AddArrayToObject(o, "tools");
        const cJSON *t;

        if (!names)
                return false;
        cJSON_ArrayForEach(t, tools)
        {
                const cJSON *name = cJSON_GetObjectItemCaseSensitive(t, "name");
                cJSON *s;

                if (!cJSON_IsString(name) || !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(t, "allowed")))
                        continue;
                s = cJSON_CreateString(name->valuestring);
                if (!s || !cJSON_AddItemToArray(names, s)) {
                        cJSON_Delete(s);
                        return false;
                }
        }
        return true;
}

/* One program that a tool is about: {"program", "version", "login"}; each is told once. */
static bool add_platform(cJSON *list, const cJSON *detail)
{
        static const char *const keys[] = {"program", "version", "login"};
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(detail, keys[0]), *p;
        cJSON *one;

        if (!cJSON_IsString(name))
                return true;
        cJSON_ArrayForEach(p, list)
        {
                const cJSON *n = cJSON_GetObjectItemCaseSensitive(p, keys[0]);

                if (cJSON_IsString(n) && strcmp(n->valuestring, name->valuestring) == 0)
                        return true;
        }
        one = cJSON_CreateObject();
        for (size_t i = 0; one && i < sizeof keys / sizeof *keys; i++) {
                const cJSON *v = cJSON_GetObjectItemCaseSensitive(detail, keys[i]);

                if (cJSON_IsString(v) && !cJSON_AddStringToObject(one, keys[i], v->valuestring)) {
                        cJSON_Delete(one);
                        return false;
                }
        }
        if (one && cJSON_AddItemToArray(list, one))
                return true;
        cJSON_Delete(one);
        return false;
}

/* What the agent found on its machine, out of what it says of its tools. */
static bool add_platforms(cJSON *o, const cJSON *tools)
{
        cJSON *list = cJSON_AddArrayToObject(o, "platforms");
        const cJSON *t, *p;

        if (!list)
                return false;
        cJSON_ArrayForEach(t, tools)
        {
                const cJSON *detail = cJSON_GetObjectItemCaseSensitive(t, "detail");
                const cJSON *several = cJSON_GetObjectItemCaseSensitive(detail, "programs");

                if (!add_platform(list, detail))
                        return false;
                if (!cJSON_IsArray(several))
                        continue;
                cJSON_ArrayForEach(p, several)
                {
                        if (!add_platform(list, p))
                                return false;
                }
        }
        return true;
}

/* All tools with their schemas, and what the machine allows, in words. */
static bool add_details(cJSON *o, cJSON *info)
{
        cJSON *tools = cJSON_DetachItemFromObjectCaseSensitive(info, "tools");

        if (!tools)
                tools = cJSON_CreateArray();
        if (!tools || !cJSON_AddItemToObject(o, "tool_details", tools)) {
                cJSON_Delete(tools);
                return false;
        }
        return add_fact(o, info, "policy") && add_fact(o, info, "policy_sha256") &&
               add_fact(o, info, "boot_id");
}

/* NULL for an agent that says nothing of it. */
static bool add_sandbox(cJSON *o, const cJSON *info)
{
        const cJSON *s = cJSON_GetObjectItemCaseSensitive(info, "sandbox");
        cJSON *copy = cJSON_IsObject(s) ? cJSON_Duplicate(s, true) : cJSON_CreateNull();

        return copy && cJSON_AddItemToObject(o, "sandbox", copy);
}

static bool fill(struct agents *a, cJSON *o, const struct agent_record *r, cJSON *info, bool details)
{
        const struct session *s = session_of(a, r->id);
        const cJSON *max = cJSON_GetObjectItemCaseSensitive(info, "max_running");
        uint32_t running = a->engine ? engine_agent_running(a->engine, r->id) : 0;

        return cJSON_AddStringToObject(o, "name", r->name) && cJSON_AddStringToObject(o, "id", r->id) &&
               cJSON_AddStringToObject(o, "state", state_name(r, s)) &&
               cJSON_AddBoolToObject(o, "draining", strcmp(r->state, "draining") == 0) &&
               add_fact(o, info, "kind") &&
               add_labels(o, r->labels, cJSON_GetObjectItemCaseSensitive(info, "labels")) &&
               add_tools(o, cJSON_GetObjectItemCaseSensitive(info, "tools")) &&
               add_platforms(o, cJSON_GetObjectItemCaseSensitive(info, "tools")) &&
               add_fact(o, info, "version") && add_fact(o, info, "os") && add_fact(o, info, "arch") &&
               add_fact(o, info, "hostname") && add_sandbox(o, info) &&
               add_time(o, "last_seen_at", s ? agents_now_us(a) : r->last_seen_us) &&
               cJSON_AddNumberToObject(o, "running", running) &&
               cJSON_AddNumberToObject(o, "max_running", cJSON_IsNumber(max) ? max->valuedouble : 0) &&
               add_time(o, "created_at", r->created_us) &&
               add_time(o, "connected_at", s ? s->connected_us : 0) &&
               cJSON_AddStringToObject(o, "address", s ? s->address : "") &&
               add_time(o, "certificate_expires_at", r->cert_not_after_us) &&
               (!details || add_details(o, info));
}

static cJSON *describe(struct agents *a, const struct agent_record *r, bool details)
{
        cJSON *o = cJSON_CreateObject(), *info = NULL;

        if (r->info && json_parse(r->info, strlen(r->info), &info, NULL))
                info = NULL;
        if (!info)
                info = cJSON_CreateObject();
        if (!o || !info || !fill(a, o, r, info, details)) {
                cJSON_Delete(o);
                o = NULL;
        }
        cJSON_Delete(info);
        return o;
}

cJSON *agents_describe(struct agents *a, const char *id_or_name)
{
        const struct agent_record *r = auth_agent(a->opt.auth, id_or_name);

        return r ? describe(a, r, true) : NULL;
}

struct all {
        struct agents *a;
        cJSON *list;
};

static int on_agent(void *arg, const struct agent_record *r)
{
        struct all *all = arg;
        cJSON *o = describe(all->a, r, false);

        if (!o)
                return -E_NOMEM;
        if (!cJSON_AddItemToArray(all->list, o)) {
                cJSON_Delete(o);
                return -E_NOMEM;
        }
        return 0;
}

cJSON *agents_describe_all(struct agents *a)
{
        struct all all = {a, cJSON_CreateArray()};

        if (all.list && auth_agent_each(a->opt.auth, on_agent, &all)) {
                cJSON_Delete(all.list);
                return NULL;
        }
        return all.list;
}
