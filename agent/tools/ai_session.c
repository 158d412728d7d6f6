#include "agent/tools/ai_session.h"

#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define PREFIX "s1."

static void host(char out[256])
{
        if (gethostname(out, 255) != 0)
                out[0] = '\0';
        out[255] = '\0';
}

char *ai_session_text(const struct ai_session *s)
{
        cJSON *o = cJSON_CreateObject();
        char name[256], *json = NULL, *b64 = NULL, *out = NULL;

        host(name);
        if (o && cJSON_AddStringToObject(o, "kind", s->kind) && cJSON_AddStringToObject(o, "id", s->id) &&
            cJSON_AddStringToObject(o, "cwd", s->cwd) && cJSON_AddStringToObject(o, "host", name) &&
            (s->cost_usd <= 0 || cJSON_AddNumberToObject(o, "cost", s->cost_usd)) &&
            (s->opened_ms <= 0 || cJSON_AddNumberToObject(o, "opened", (double)s->opened_ms)))
                json = json_text(o);
        if (json)
                b64 = str_b64url(json, strlen(json));
        if (b64)
                out = str_printf(PREFIX "%s", b64);
        cJSON_Delete(o);
        mem_free(json);
        mem_free(b64);
        return out;
}

char *ai_session_make(const char *kind, const char *id, const char *cwd, double cost_usd)
{
        const struct ai_session s = {
                .kind = (char *)(uintptr_t)kind,
                .id = (char *)(uintptr_t)id,
                .cwd = (char *)(uintptr_t)cwd,
                .cost_usd = cost_usd,
        };

        return ai_session_text(&s);
}

static int no_session(struct err *e)
{
        return err_set(e, E_INVAL,
                       "\"session\" is not what a step gave as outputs.session; write "
                       "session: ${{ steps.NAME.outputs.session }}");
}

static int parse(const char *text, cJSON **out)
{
        size_t n = strlen(text), skip = strlen(PREFIX), len;
        uint8_t *json;
        int rc;

        if (n > AI_SESSION_MAX || strncmp(text, PREFIX, skip) != 0)
                return -E_INVAL;
        rc = str_unb64url(text + skip, n - skip, &json, &len);
        if (rc)
                return rc;
        rc = json_parse((const char *)json, len, out, NULL);
        mem_free(json);
        return rc;
}

static int check(const cJSON *o, const char *kind, struct err *e)
{
        const char *have, *where;
        char name[256];

        if (json_str(o, "kind", &have, NULL) || json_str(o, "host", &where, NULL))
                return no_session(e);
        host(name);
        if (strcmp(have, kind) != 0)
                return err_set(e, E_DENIED,
                               "this session belongs to %.100s, not to %.100s: only the tool that made it "
                               "can go on with it",
                               have, kind);
        if (strcmp(where, name) != 0)
                return err_set(e, E_DENIED,
                               "this session was made on the machine %.100s, this is %.100s: let both "
                               "steps run there (`agent:`)",
                               where, name);
        return 0;
}

static int take(const cJSON *o, struct ai_session *out, struct err *e)
{
        const cJSON *cost = cJSON_GetObjectItemCaseSensitive(o, "cost");
        const char *kind, *id, *cwd;
        int64_t opened = 0;

        if (json_i64_opt(o, "opened", 0, INT64_MAX / 2, &opened, NULL) || json_str(o, "kind", &kind, NULL) ||
            json_str(o, "id", &id, NULL) || !*id || json_str(o, "cwd", &cwd, NULL) || cwd[0] != '/')
                return no_session(e);
        out->kind = mem_strdup(kind);
        out->id = mem_strdup(id);
        out->cwd = mem_strdup(cwd);
        out->cost_usd = cJSON_IsNumber(cost) && cost->valuedouble > 0 ? cost->valuedouble : 0;
        out->opened_ms = opened;
        if (out->kind && out->id && out->cwd)
                return 0;
        ai_session_fini(out);
        return err_set(e, E_NOMEM, "out of memory");
}

int ai_session_read(const char *text, const char *kind, struct ai_session *out, struct err *e)
{
        cJSON *o = NULL;
        int rc = parse(text, &o);

        memset(out, 0, sizeof *out);
        if (rc)
                rc = rc == -E_NOMEM ? err_set(e, E_NOMEM, "out of memory") : no_session(e);
        if (!rc)
                rc = check(o, kind, e);
        if (!rc)
                rc = take(o, out, e);
        cJSON_Delete(o);
        return rc;
}

void ai_session_fini(struct ai_session *s)
{
        mem_free(s->kind);
        mem_free(s->id);
        mem_free(s->cwd);
        memset(s, 0, sizeof *s);
}
