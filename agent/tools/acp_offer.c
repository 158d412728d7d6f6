#include "agent/tools/acp_offer.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define VERSION  1
#define LIST_MAX 300 /* bytes of a list in a message */

static const cJSON *member(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = member(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static bool is_on(const cJSON *o, const char *key)
{
        return cJSON_IsTrue(member(o, key));
}

void acp_offer_init(struct acp_offer *o)
{
        memset(o, 0, sizeof *o);
}

static void choice_fini(struct acp_choice *c)
{
        mem_free(c->config);
        mem_free(c->current);
        cJSON_Delete(c->values);
        memset(c, 0, sizeof *c);
}

void acp_offer_fini(struct acp_offer *o)
{
        mem_free(o->name);
        mem_free(o->agent_version);
        cJSON_Delete(o->auth);
        choice_fini(&o->model);
        choice_fini(&o->mode);
}

static int copy(char **slot, const char *v)
{
        char *n = v ? mem_strdup(v) : NULL;

        if (v && !n)
                return -E_NOMEM;
        mem_free(*slot);
        *slot = n;
        return 0;
}

/* Appends [a, b, c] as far as they are there. */
static int add_row(cJSON *list, const char *a, const char *b, const char *c)
{
        const char *v[] = {a, b ? b : a, c};
        cJSON *row;

        if (cJSON_GetArraySize(list) >= ACP_CHOICES_MAX)
                return 0;
        row = cJSON_CreateStringArray(v, c ? 3 : 2);
        if (row && cJSON_AddItemToArray(list, row))
                return 0;
        cJSON_Delete(row);
        return -E_NOMEM;
}

/* --- the agent ------------------------------------------------------------ */

static int read_auth(struct acp_offer *o, const cJSON *list)
{
        const cJSON *m;
        int rc = 0;

        cJSON_Delete(o->auth);
        o->auth = cJSON_CreateArray();
        if (!o->auth)
                return -E_NOMEM;
        cJSON_ArrayForEach(m, list)
        {
                if (!rc && text(m, "id"))
                        rc = add_row(o->auth, text(m, "id"), text(m, "name"), text(m, "description"));
        }
        return rc;
}

int acp_offer_agent(struct acp_offer *o, const cJSON *result, struct err *e)
{
        const cJSON *version = member(result, "protocolVersion"), *caps = member(result, "agentCapabilities"),
                    *info = member(result, "agentInfo");

        if (!cJSON_IsNumber(version))
                return err_set(e, E_PROTO, "its answer to initialize names no protocol version");
        o->version = version->valueint;
        if (o->version != VERSION)
                return err_set(e, E_VERSION,
                               "it speaks version %d of ACP, PHOTON speaks %d: install a release "
                               "of it that speaks that one",
                               o->version, VERSION);
        o->load = is_on(caps, "loadSession");
        o->resume = cJSON_IsObject(member(member(caps, "sessionCapabilities"), "resume"));
        o->image = is_on(member(caps, "promptCapabilities"), "image");
        o->embedded = is_on(member(caps, "promptCapabilities"), "embeddedContext");
        o->mcp_http = is_on(member(caps, "mcpCapabilities"), "http");
        o->mcp_sse = is_on(member(caps, "mcpCapabilities"), "sse");
        if (copy(&o->name, text(info, "name")) || copy(&o->agent_version, text(info, "version")) ||
            read_auth(o, member(result, "authMethods")))
                return err_set(e, E_NOMEM, "out of memory");
        return 0;
}

/* --- a session -------------------------------------------------------------- */

/* Rows of `list`, also those in groups; key: what holds the id. */
static int add_values(cJSON *values, const cJSON *list, const char *key)
{
        const cJSON *v;
        int rc = 0;

        cJSON_ArrayForEach(v, list)
        {
                if (rc)
                        break;
                if (cJSON_IsArray(member(v, "options")))
                        rc = add_values(values, member(v, "options"), key);
                else if (text(v, key))
                        rc = add_row(values, text(v, key), text(v, "name"), NULL);
        }
        return rc;
}

static int read_choice(struct acp_choice *c, const char *config, const char *current, const cJSON *list,
                       const char *key)
{
        cJSON *values;
        int rc;

        if (!cJSON_IsArray(list))
                return 0;
        values = cJSON_CreateArray();
        rc = values ? add_values(values, list, key) : -E_NOMEM;
        if (!rc)
                rc = copy(&c->config, config);
        if (!rc)
                rc = copy(&c->current, current);
        if (rc) {
                cJSON_Delete(values);
                return rc;
        }
        cJSON_Delete(c->values);
        c->values = values;
        return 0;
}

static const cJSON *config_option(const cJSON *list, const char *category)
{
        const cJSON *v;

        cJSON_ArrayForEach(v, list)
        {
                const char *have = text(v, "category") ? text(v, "category") : text(v, "id");

                if (have && strcmp(have, category) == 0 && text(v, "id") && text(v, "currentValue"))
                        return v;
        }
        return NULL;
}

int acp_offer_session(struct acp_offer *o, const cJSON *result)
{
        const cJSON *options = member(result, "configOptions"), *modes = member(result, "modes"),
                    *models = member(result, "models"), *v;
        int rc = read_choice(&o->mode, NULL, text(modes, "currentModeId"), member(modes, "availableModes"),
                             "id");

        /* Modes have had their own method from the beginning; the config option of the same name is newer. */
        v = config_option(options, "mode");
        if (!rc && v && (!o->mode.values || o->mode.config))
                rc = read_choice(&o->mode, text(v, "id"), text(v, "currentValue"), member(v, "options"),
                                 "value");
        v = config_option(options, "model");
        if (!rc && v)
                return read_choice(&o->model, text(v, "id"), text(v, "currentValue"), member(v, "options"),
                                   "value");
        if (!rc)
                rc = read_choice(&o->model, NULL, text(models, "currentModelId"),
                                 member(models, "availableModels"), "modelId");
        return rc;
}

/* --- choosing ---------------------------------------------------------------- */

static const char *cell(const cJSON *row, int i)
{
        return cJSON_GetArrayItem(row, i)->valuestring;
}

const char *acp_choice_find(const struct acp_choice *c, const char *wanted)
{
        const cJSON *row;

        cJSON_ArrayForEach(row, c->values)
        {
                if (strcmp(cell(row, 0), wanted) == 0)
                        return cell(row, 0);
        }
        cJSON_ArrayForEach(row, c->values)
        {
                if (str_ieq(cell(row, 0), wanted) || str_ieq(cell(row, 1), wanted))
                        return cell(row, 0);
        }
        return NULL;
}

void acp_choice_list(const struct acp_choice *c, struct buf *into)
{
        const cJSON *row;
        size_t from = into->len;

        cJSON_ArrayForEach(row, c->values)
        {
                if (into->len - from > LIST_MAX) {
                        (void)buf_puts(into, ", ...");
                        return;
                }
                (void)buf_printf(into, "%s%s", into->len > from ? ", " : "", cell(row, 0));
        }
}
