#include "agent/tools/acp_content.h"

#include <stdlib.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/acp_offer.h"
#include "agent/tools/ai.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* --- blocks ------------------------------------------------------------------ */

static const struct {
        const char *ending, *type;
} image_types[] = {
        {".png", "image/png"}, {".jpg", "image/jpeg"},  {".jpeg", "image/jpeg"},
        {".gif", "image/gif"}, {".webp", "image/webp"},
};

static const char *image_type(const char *path)
{
        const char *dot = strrchr(path, '.');

        for (size_t i = 0; dot && i < sizeof image_types / sizeof *image_types; i++)
                if (str_ieq(dot, image_types[i].ending))
                        return image_types[i].type;
        return NULL;
}

/* "file://" and the path with what a URI cannot hold escaped. */
static char *file_uri(const char *path)
{
        static const char plain[] = "-._~/";
        struct buf b;
        char *s;

        buf_init(&b, 0);
        (void)buf_puts(&b, "file://");
        for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
                bool keep = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                            (*p >= 'A' && *p <= 'Z') || strchr(plain, *p);

                if (keep ? buf_putc(&b, (char)*p) : buf_printf(&b, "%%%02X", *p)) {
                        buf_fini(&b);
                        return NULL;
                }
        }
        s = buf_steal_str(&b);
        buf_fini(&b);
        return s;
}

static cJSON *block(const char *type)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "type", type))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *text_block(const char *text)
{
        cJSON *o = block("text");

        if (o && cJSON_AddStringToObject(o, "text", text))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *link_block(const char *path, const char *uri)
{
        const char *slash = strrchr(path, '/');
        cJSON *o = block("resource_link");

        if (o && cJSON_AddStringToObject(o, "uri", uri) &&
            cJSON_AddStringToObject(o, "name", slash ? slash + 1 : path))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *embedded_block(const char *uri, const char *text)
{
        cJSON *o = block("resource"), *r = o ? cJSON_AddObjectToObject(o, "resource") : NULL;

        if (r && cJSON_AddStringToObject(r, "uri", uri) &&
            cJSON_AddStringToObject(r, "mimeType", "text/plain") && cJSON_AddStringToObject(r, "text", text))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *image_block(const char *uri, const char *type, const char *data, size_t n)
{
        char *b64 = str_b64(data, n);
        cJSON *o = b64 ? block("image") : NULL;

        if (o && (!cJSON_AddStringToObject(o, "mimeType", type) || !cJSON_AddStringToObject(o, "data", b64) ||
                  !cJSON_AddStringToObject(o, "uri", uri))) {
                cJSON_Delete(o);
                o = NULL;
        }
        mem_free(b64);
        return o;
}

static cJSON *file_block(const char *path, bool images, bool embedded, size_t *left)
{
        const char *image = images ? image_type(path) : NULL;
        size_t n = 0, most = image ? ACP_IMAGE_MAX : embedded ? ACP_EMBED_MAX : 0;
        char *data = NULL, *uri = file_uri(path);
        cJSON *o = NULL;

        if (!uri)
                return NULL;
        if (most > *left)
                most = *left;
        if (most == 0 || file_read(path, most, &data, &n, NULL) != 0)
                data = NULL;
        if (data && image)
                o = image_block(uri, image, data, n);
        else if (data && str_is_utf8(data, n) && !memchr(data, 0, n))
                o = embedded_block(uri, data);
        else
                o = link_block(path, uri);
        *left -= data ? n : 0;
        mem_free(data);
        mem_free(uri);
        return o;
}

static int append(cJSON *list, cJSON *o)
{
        if (o && cJSON_AddItemToArray(list, o))
                return 0;
        cJSON_Delete(o);
        return -E_NOMEM;
}

int acp_content(const char *prompt, const cJSON *files, bool images, bool embedded, cJSON **out)
{
        cJSON *list = cJSON_CreateArray();
        size_t left = ACP_CONTENT_MAX;
        const cJSON *f;
        int rc = list ? append(list, text_block(prompt)) : -E_NOMEM;

        cJSON_ArrayForEach(f, files)
        {
                if (!rc)
                        rc = append(list, file_block(f->valuestring, images, embedded, &left));
        }
        if (rc)
                cJSON_Delete(list);
        else
                *out = list;
        return rc;
}

/* --- MCP servers ----------------------------------------------------------------- */

/* {"A": "x"} as [{"name": "A", "value": "x"}]. */
static int pairs(cJSON *into, const char *key, const cJSON *map, const char *server, struct err *e)
{
        cJSON *list = cJSON_AddArrayToObject(into, key);
        const cJSON *v;

        cJSON_ArrayForEach(v, map)
        {
                cJSON *o;

                if (!cJSON_IsString(v))
                        return err_set(e, E_INVAL, "mcp_servers.%.60s.%s.%.60s: expected a text", server, key,
                                       v->string);
                o = cJSON_CreateObject();
                if (!o || !cJSON_AddStringToObject(o, "name", v->string) ||
                    !cJSON_AddStringToObject(o, "value", v->valuestring) || append(list, o))
                        return err_set(e, E_NOMEM, "out of memory");
        }
        return list ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int add_args(cJSON *into, const cJSON *args, const char *server, struct err *e)
{
        cJSON *list = cJSON_AddArrayToObject(into, "args");
        const cJSON *v;

        cJSON_ArrayForEach(v, args)
        {
                if (!cJSON_IsString(v))
                        return err_set(e, E_INVAL, "mcp_servers.%.60s.args: expected texts", server);
                if (append(list, cJSON_CreateString(v->valuestring)))
                        return err_set(e, E_NOMEM, "out of memory");
        }
        return list ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int stdio_server(const struct ai *ai, cJSON *into, const cJSON *s, const char *command, struct err *e)
{
        const cJSON *env = NULL, *args = NULL;
        char *path = NULL;
        int rc = json_obj_opt(s, "env", &env, e);

        if (!rc)
                rc = json_arr_opt(s, "args", &args, e);
        if (!rc)
                rc = ai_program(ai, command, &path, e);
        if (!rc && !cJSON_AddStringToObject(into, "command", path))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                rc = add_args(into, args, s->string, e);
        if (!rc)
                rc = pairs(into, "env", env, s->string, e);
        mem_free(path);
        return rc;
}

/* The host and port of an http(s) URL, for the policy. */
static int url_allowed(const struct ai *ai, const char *url, const char *server, struct err *e)
{
        bool tls = strncmp(url, "https://", 8) == 0;
        const char *from = url + (tls ? 8 : 7), *end, *colon;
        char host[256];
        int port = tls ? 443 : 80;

        if (!tls && strncmp(url, "http://", 7) != 0)
                return err_set(e, E_INVAL, "mcp_servers.%.60s.url: expected http:// or https://", server);
        end = from + strcspn(from, "/?#");
        if (memchr(from, '@', (size_t)(end - from)) || end == from || (size_t)(end - from) >= sizeof host)
                return err_set(e, E_INVAL, "mcp_servers.%.60s.url: expected http(s)://HOST[:PORT]/PATH",
                               server);
        snprintf(host, sizeof host, "%.*s", (int)(end - from), from);
        colon = strrchr(host, ':');
        if (colon && !strchr(colon, ']')) {
                port = atoi(colon + 1);
                host[colon - host] = '\0';
        }
        return policy_host(ai->c->policy, host, port, e);
}

static int http_server(const struct ai *ai, cJSON *into, const cJSON *s, const char *url,
                       const struct acp_offer *o, struct err *e)
{
        const char *type = "http";
        const cJSON *headers = NULL;
        int rc = json_str_opt(s, "type", &type, e);

        if (!rc)
                rc = json_obj_opt(s, "headers", &headers, e);
        if (!rc && strcmp(type, "http") != 0 && strcmp(type, "sse") != 0)
                rc = err_set(e, E_INVAL, "mcp_servers.%.60s.type: expected http or sse", s->string);
        if (!rc && !(strcmp(type, "sse") == 0 ? o->mcp_sse : o->mcp_http))
                rc = err_set(e, E_NOTSUP,
                             "mcp_servers.%.60s: this agent cannot reach MCP servers by %s; use one that is "
                             "started by `command`",
                             s->string, type);
        if (!rc)
                rc = url_allowed(ai, url, s->string, e);
        if (!rc &&
            (!cJSON_AddStringToObject(into, "type", type) || !cJSON_AddStringToObject(into, "url", url)))
                rc = err_set(e, E_NOMEM, "out of memory");
        return rc ? rc : pairs(into, "headers", headers, s->string, e);
}

static int one_server(const struct ai *ai, const cJSON *s, const struct acp_offer *o, cJSON *list,
                      struct err *e)
{
        const char *command = NULL, *url = NULL;
        cJSON *into;
        int rc = json_str_opt(s, "command", &command, NULL);

        if (!rc)
                rc = json_str_opt(s, "url", &url, NULL);
        if (rc || !cJSON_IsObject(s) || !command == !url)
                return err_set(e, E_INVAL,
                               "mcp_servers.%.60s: expected {command, args, env} or {url, headers}",
                               s->string);
        into = cJSON_CreateObject();
        if (!into || !cJSON_AddItemToArray(list, into)) {
                cJSON_Delete(into);
                return err_set(e, E_NOMEM, "out of memory");
        }
        if (!cJSON_AddStringToObject(into, "name", s->string))
                return err_set(e, E_NOMEM, "out of memory");
        return command ? stdio_server(ai, into, s, command, e) : http_server(ai, into, s, url, o, e);
}

int acp_servers(const struct ai *ai, const cJSON *servers, const struct acp_offer *o, cJSON **out,
                struct err *e)
{
        cJSON *list = cJSON_CreateArray();
        const cJSON *s;
        int rc = list ? 0 : err_set(e, E_NOMEM, "out of memory");

        cJSON_ArrayForEach(s, servers)
        {
                if (!rc)
                        rc = one_server(ai, s, o, list, e);
        }
        if (rc)
                cJSON_Delete(list);
        else
                *out = list;
        return rc;
}
