#include "agent/tools/llm_input.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/ai_prompt.h"
#include "agent/tools/file_in.h"
#include "agent/tools/llm_in.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* ---- messages ---- */

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "out of memory");
}

static void put_text(struct build *b, cJSON *parts, const char *text)
{
        cJSON *o = build_object(b, parts, NULL);

        build_str(b, o, "type", "text");
        build_str(b, o, "text", text);
}

static int put_load(struct llm_input *in, struct build *b, cJSON *parts, const char *path, bool image,
                    struct err *e)
{
        cJSON *o = build_object(b, parts, NULL);

        if (++in->n_files > LLM_FILES_MAX)
                return err_set(e, E_INVAL, "more than %d files and images", LLM_FILES_MAX);
        build_str(b, o, "type", "load");
        build_str(b, o, "path", path);
        build_bool(b, o, "image", image);
        return 0;
}

/* {type: text, text} | {type: image|file, path | media_type + data} */
static int read_part(struct llm_input *in, struct build *b, cJSON *parts, const cJSON *p, struct err *e)
{
        static const char *const keys[] = {"type", "text", "path", "media_type", "data", "name", NULL};
        const char *type = NULL, *text = NULL, *path = NULL, *media = NULL, *data = NULL;
        uint8_t *raw = NULL;
        size_t n = 0;
        cJSON *o;
        int rc = cJSON_IsObject(p) ? json_only(p, keys, e)
                                   : err_set(e, E_INVAL, "messages: a part is an object with a type");

        if (!rc)
                rc = json_str(p, "type", &type, e);
        if (!rc && strcmp(type, "text") == 0) {
                rc = json_str(p, "text", &text, e);
                if (!rc)
                        put_text(b, parts, text);
                return rc;
        }
        if (!rc && strcmp(type, "image") != 0 && strcmp(type, "file") != 0)
                return err_set(e, E_INVAL,
                               "messages: the type of a part is text, image or file, not \"%.40s\"", type);
        if (!rc)
                rc = json_str_opt(p, "path", &path, e);
        if (rc || path)
                return rc ? rc : put_load(in, b, parts, path, *type == 'i', e);
        rc = json_str(p, "media_type", &media, e);
        if (!rc)
                rc = json_str(p, "data", &data, e);
        if (!rc && (strlen(media) > 100 || strpbrk(media, "\r\n,;\"")))
                rc = err_set(e, E_INVAL, "messages: media_type is one such as image/png");
        if (!rc && str_unb64(data, strlen(data), &raw, &n))
                rc = err_set(e, E_INVAL, "messages: data is not base64 (RFC 4648, with padding)");
        mem_free(raw);
        if (rc)
                return rc;
        o = build_object(b, parts, NULL);
        build_str(b, o, "type", type);
        build_str(b, o, "media_type", media);
        build_str(b, o, "data", data);
        build_str(b, o, "name", *member_text(p, "name") ? member_text(p, "name") : "file");
        return 0;
}

static int read_calls(struct build *b, cJSON *m, const cJSON *calls, struct err *e)
{
        cJSON *list = build_array(b, m, "tool_calls");
        const cJSON *c;

        cJSON_ArrayForEach(c, calls)
        {
                cJSON *o;

                if (!*member_text(c, "id") || !*member_text(c, "name") ||
                    (member(c, "arguments") && !cJSON_IsObject(member(c, "arguments"))))
                        return err_set(e, E_INVAL,
                                       "messages: a tool call has an id, a name and arguments (an object)");
                o = build_object(b, list, NULL);
                build_str(b, o, "id", member_text(c, "id"));
                build_str(b, o, "name", member_text(c, "name"));
                if (member(c, "arguments"))
                        build_copy(b, o, "arguments", member(c, "arguments"));
                else
                        build_object(b, o, "arguments");
        }
        return 0;
}

static int read_message(struct llm_input *in, struct build *b, const cJSON *m, struct err *e)
{
        static const char *const keys[] = {"role", "content", "tool_calls", "tool_call_id", NULL};
        const cJSON *content = member(m, "content"), *calls = member(m, "tool_calls"), *p;
        const char *role = member_text(m, "role");
        cJSON *o, *parts;
        int rc = json_only(m, keys, e);

        if (rc)
                return rc;
        if (calls && strcmp(role, "assistant") != 0)
                return err_set(e, E_INVAL, "messages: only the assistant has tool_calls");
        if ((strcmp(role, "tool") == 0) != (*member_text(m, "tool_call_id") != '\0'))
                return err_set(e, E_INVAL, "messages: role tool and tool_call_id go together");
        o = build_object(b, in->messages, NULL);
        build_str(b, o, "role", role);
        parts = build_array(b, o, "parts");
        if (cJSON_IsString(content))
                put_text(b, parts, content->valuestring);
        else if (!content && !calls)
                return err_set(e, E_INVAL, "messages: a message has no content");
        for (p = cJSON_IsArray(content) ? content->child : NULL; p && !rc; p = p->next)
                rc = read_part(in, b, parts, p, e);
        if (rc)
                return rc;
        if (*member_text(m, "tool_call_id"))
                build_str(b, o, "tool_call_id", member_text(m, "tool_call_id"));
        return calls ? read_calls(b, o, calls, e) : 0;
}

static void put_simple(struct llm_input *in, struct build *b, const char *role, const char *text)
{
        cJSON *o = build_object(b, in->messages, NULL);

        build_str(b, o, "role", role);
        put_text(b, build_array(b, o, "parts"), text);
}

static int read_paths(struct llm_input *in, struct build *b, const cJSON *input, const char *key, bool image,
                      struct err *e)
{
        cJSON *last = cJSON_GetArrayItem(in->messages, cJSON_GetArraySize(in->messages) - 1);
        cJSON *parts = last ? cJSON_GetObjectItemCaseSensitive(last, "parts") : NULL;
        const cJSON *p, *list = member(input, key);
        int rc = 0;

        if (cJSON_GetArraySize(list) && strcmp(member_text(last, "role"), "user") != 0)
                return err_set(e, E_INVAL, "%s belong to a prompt, or to a last message of the user", key);
        cJSON_ArrayForEach(p, list)
        {
                if (!rc)
                        rc = put_load(in, b, parts, p->valuestring, image, e);
        }
        return rc;
}

static int read_messages(const cJSON *input, struct llm_input *in, struct err *e)
{
        struct build b = {0};
        const cJSON *list = member(input, "messages"), *m;
        bool prompted = member(input, "prompt") || member(input, "action");
        char *text = NULL;
        int rc = 0;

        in->messages = cJSON_CreateArray();
        if (!in->messages)
                return nomem(e);
        if (*member_text(input, "system"))
                put_simple(in, &b, "system", member_text(input, "system"));
        cJSON_ArrayForEach(m, list)
        {
                if (!rc)
                        rc = read_message(in, &b, m, e);
        }
        if (!rc && !prompted && cJSON_GetArraySize(list) == 0)
                rc = err_set(e, E_INVAL, "give a prompt, or messages");
        if (!rc && prompted)
                rc = ai_prompt_text(input, LLM_PROMPT_MAX, &text, e);
        if (!rc && text)
                put_simple(in, &b, "user", text);
        mem_free(text);
        if (!rc)
                rc = read_paths(in, &b, input, "images", true, e);
        if (!rc)
                rc = read_paths(in, &b, input, "files", false, e);
        return !rc && b.failed ? nomem(e) : rc;
}

/* ---- the rest ---- */

static int check_tools(const cJSON *input, struct llm_input *in, struct err *e)
{
        const cJSON *list = member(input, "tools"), *t, *u;
        const char *how = in->request.tool_choice;
        bool found =
                !how || strcmp(how, "auto") == 0 || strcmp(how, "none") == 0 || strcmp(how, "required") == 0;

        cJSON_ArrayForEach(t, list)
        {
                if (!str_is_name(member_text(t, "name"), 64))
                        return err_set(e, E_INVAL, "tools: \"%.60s\" is no name for a tool",
                                       member_text(t, "name"));
                found |= how && strcmp(how, member_text(t, "name")) == 0;
                for (u = list->child; u != t; u = u->next)
                        if (strcmp(member_text(t, "name"), member_text(u, "name")) == 0)
                                return err_set(e, E_INVAL, "tools: %s is there twice",
                                               member_text(t, "name"));
        }
        if (!found || (how && !list))
                return err_set(e, E_INVAL, "tool_choice: there is no tool \"%.64s\"", how);
        in->request.tools = cJSON_GetArraySize(list) ? list : NULL;
        return 0;
}

int llm_input_read(const cJSON *input, struct llm_input *out, struct err *e)
{
        struct llm_request *r = &out->request;
        const char *timeout = NULL, *privacy = NULL;
        const cJSON *need = member(input, "need"), *temperature = member(input, "temperature");
        int64_t retries = -1;
        int rc;

        memset(out, 0, sizeof *out);
        r->temperature = cJSON_IsNumber(temperature) ? temperature->valuedouble : NAN;
        rc = json_str_opt(input, "endpoint", &out->endpoint, e);
        if (!rc)
                rc = json_str_opt(input, "model", &out->model, e);
        if (!rc)
                rc = json_str_opt(input, "key", &out->key, e);
        if (!rc)
                rc = json_str_opt(input, "timeout", &timeout, e);
        if (!rc)
                rc = json_str_opt(input, "privacy", &privacy, e);
        if (!rc)
                rc = json_str_opt(input, "tool_choice", &r->tool_choice, e);
        if (!rc)
                rc = json_i64_opt(input, "max_tokens", 1, 1000000000, &r->max_tokens, e);
        if (!rc)
                rc = json_i64_opt(input, "retries", 0, 10, &retries, e);
        if (!rc)
                rc = json_bool_opt(input, "json", &r->json, e);
        if (!rc)
                rc = json_obj_opt(input, "schema", &r->schema, e);
        if (!rc)
                rc = json_arr_opt(input, "stop", &r->stop, e);
        if (!rc)
                rc = check_tools(input, out, e);
        if (rc)
                return rc;
        r->json |= r->schema != NULL;
        out->retries = (int)retries;
        out->local_only = (privacy && strcmp(privacy, "local-only") == 0) ||
                          strcmp(member_text(need, "privacy"), "local-only") == 0;
        if (timeout && (str_parse_duration(timeout, &out->timeout_ms) || out->timeout_ms < 1))
                return err_set(e, E_INVAL, "timeout: \"%.100s\" is not a duration such as 30s", timeout);
        rc = read_messages(input, out, e);
        r->messages = out->messages;
        return rc;
}

void llm_input_fini(struct llm_input *in)
{
        cJSON_Delete(in->messages);
        memset(in, 0, sizeof *in);
}

/* ---- files ---- */

static int slurp(const struct policy *p, const char *path, struct buf *out, char **out_real, struct err *e)
{
        struct file_work w = {.policy = p};
        struct stat st;
        int fd = -1, rc = policy_path(p, POLICY_READ, path, NULL, out_real, e);

        if (rc)
                return rc;
        rc = open_file(&w, *out_real, &fd, &st);
        if (rc) {
                *e = w.e;
                return rc;
        }
        for (;;) {
                ssize_t n;

                rc = buf_reserve(out, 65536);
                if (rc)
                        break;
                n = read(fd, out->data + out->len, out->cap - out->len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        rc = -err_from_errno(errno);
                if (n <= 0)
                        break;
                out->len += (size_t)n;
                if (out->len > LLM_FILE_MAX) {
                        rc = -E_TOOBIG;
                        break;
                }
        }
        close(fd);
        if (rc == -E_TOOBIG)
                return err_set(e, E_TOOBIG, "%.200s is over 10 MiB", path);
        return rc ? err_set(e, -rc, "cannot read %.200s: %s", path, err_name(rc)) : 0;
}

static const char *media_type(const struct buf *b)
{
        static const struct {
                const char *magic;
                size_t n, at;
                const char *type;
        } known[] = {
                {"\x89PNG\r\n\x1a\n", 8, 0, "image/png"},
                {"\xff\xd8\xff", 3, 0, "image/jpeg"},
                {"GIF87a", 6, 0, "image/gif"},
                {"GIF89a", 6, 0, "image/gif"},
                {"WEBPVP8", 7, 8, "image/webp"},
                {"%PDF-", 5, 0, "application/pdf"},
        };

        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (b->len >= known[i].at + known[i].n &&
                    memcmp(b->data + known[i].at, known[i].magic, known[i].n) == 0)
                        return known[i].type;
        return NULL;
}

static bool set_member(cJSON *o, const char *key, const char *text)
{
        cJSON *v = text ? cJSON_CreateString(text) : NULL;

        if (!v)
                return false;
        cJSON_DeleteItemFromObjectCaseSensitive(o, key);
        if (cJSON_AddItemToObject(o, key, v))
                return true;
        cJSON_Delete(v);
        return false;
}

/* The part becomes what the file is. */
static int become(cJSON *part, const struct buf *b, const char *path, struct err *e)
{
        const char *type = media_type(b), *base = strrchr(path, '/');
        bool image = cJSON_IsTrue(member(part, "image")), ok;
        char *text;

        base = base ? base + 1 : path;
        if (image && (!type || strncmp(type, "image/", 6) != 0))
                return err_set(e, E_INVAL, "%.200s is no PNG, JPEG, GIF or WebP image", path);
        if (type) {
                text = str_b64(b->data, b->len);
                ok = text && set_member(part, "type", *type == 'i' ? "image" : "file") &&
                     set_member(part, "media_type", type) && set_member(part, "name", base) &&
                     set_member(part, "data", text);
                mem_free(text);
                return ok ? 0 : nomem(e);
        }
        if (!str_is_utf8(b->data, b->len) || (b->len && memchr(b->data, 0, b->len)))
                return err_set(e, E_INVAL, "%.200s is neither UTF-8 text nor an image nor a PDF", path);
        text = str_printf("File %s:\n\n%.*s", base, (int)b->len, b->len ? (const char *)b->data : "");
        ok = text && set_member(part, "type", "text") && set_member(part, "text", text);
        mem_free(text);
        return ok ? 0 : nomem(e);
}

int llm_input_load(struct llm_input *in, const struct policy *p, struct err *e)
{
        cJSON *m, *part;
        size_t all = 0;
        int rc = 0;

        cJSON_ArrayForEach(m, in->messages)
        {
                cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(m, "parts"))
                {
                        char *real = NULL, *path;
                        struct buf b;

                        if (strcmp(member_text(part, "type"), "load") != 0)
                                continue;
                        path = mem_strdup(member_text(part, "path"));
                        buf_init(&b, LLM_FILE_MAX + 131072);
                        rc = path ? slurp(p, path, &b, &real, e) : nomem(e);
                        all += b.len;
                        if (!rc && all > LLM_FILES_ALL_MAX)
                                rc = err_set(e, E_TOOBIG, "the files together are over 24 MiB");
                        if (!rc)
                                rc = become(part, &b, path, e);
                        buf_fini(&b);
                        mem_free(real);
                        mem_free(path);
                        if (rc)
                                return rc;
                }
        }
        return 0;
}

/* Only what the policy says counts here; that a file does not exist is found out when it is read. */
int llm_input_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        struct llm_input in;
        const cJSON *m, *part;
        int rc = llm_input_read(input, &in, e);

        for (m = rc ? NULL : in.messages->child; m && !rc; m = m->next)
                for (part = member(m, "parts")->child; part && !rc; part = part->next) {
                        char *real = NULL;

                        if (strcmp(member_text(part, "type"), "load") != 0)
                                continue;
                        rc = policy_path(p, POLICY_READ, member_text(part, "path"), NULL, &real, e);
                        mem_free(real);
                        if (rc != -E_DENIED && rc != -E_NOMEM && rc != -E_INVAL)
                                rc = 0;
                }
        llm_input_fini(&in);
        return rc;
}
