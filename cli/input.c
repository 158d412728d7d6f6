#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/conf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#define OBJECT_MAX ((size_t)16 << 20)

static int read_all(int fd, const char *name, size_t max, struct buf *b, struct err *e)
{
        char size[32];

        for (;;) {
                ssize_t k;
                int rc = buf_reserve(b, 64 << 10);

                if (rc && b->len <= max)
                        return err_set(e, E_NOMEM, "%s: no memory", name);
                k = rc ? 1 : read(fd, b->data + b->len, 64 << 10);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return err_set(e, err_from_errno(errno), "%s: %s", name, strerror(errno));
                if (k == 0)
                        return 0;
                b->len += (size_t)k;
                if (b->len > max) {
                        str_format_size((int64_t)max, size);
                        return err_set(e, E_TOOBIG, "%s: larger than the %s that are allowed", name, size);
                }
        }
}

int input_read(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e)
{
        bool std = strcmp(path, "-") == 0;
        const char *name = std ? "standard input" : path;
        int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), rc;
        struct stat sb;
        struct buf b;

        if (fd < 0)
                return err_set(e, err_from_errno(errno), "%s: %s", name, strerror(errno));
        buf_init(&b, max_bytes + (128 << 10));
        if (fstat(fd, &sb) == 0 && S_ISDIR(sb.st_mode))
                rc = err_set(e, E_INVAL, "%s is a folder; a file is needed", name);
        else
                rc = read_all(fd, name, max_bytes, &b, e);
        if (!rc) {
                *out_len = b.len;
                *out = buf_steal_str(&b);
                rc = *out ? 0 : err_set(e, E_NOMEM, "%s: no memory", name);
        }
        buf_fini(&b);
        if (!std)
                close(fd);
        return rc;
}

int input_object(const char *path, cJSON **out, struct err *e)
{
        struct doc *d = NULL;
        struct err why = {0};
        char *text = NULL;
        size_t n = 0;
        int rc = input_read(path, OBJECT_MAX, &text, &n, e);

        if (rc)
                return rc;
        rc = doc_parse(text, n, &d, &why);
        if (!rc && d->kind != DOC_MAP)
                rc = err_at(&why, E_INVAL, d->line, d->col, "expected names with values, got %s",
                            doc_kind_name(d->kind));
        if (!rc)
                rc = doc_to_json(d, out);
        if (rc)
                err_set(e, -rc, "%s:%d:%d: %s", path, why.line, why.col,
                        why.code ? err_unplaced(&why) : "no memory");
        doc_free(d);
        mem_free(text);
        return rc;
}

int input_pairs(const struct conf_list *l, const char *what, cJSON **out, struct err *e)
{
        cJSON *o = cJSON_CreateObject();
        int rc = o ? 0 : err_set(e, E_NOMEM, "no memory");

        for (size_t i = 0; i < l->n && !rc; i++) {
                const char *eq = strchr(l->v[i], '=');
                char *key = eq && eq > l->v[i] ? mem_strndup(l->v[i], (size_t)(eq - l->v[i])) : NULL;

                if (!key)
                        rc = err_set(e, E_INVAL, "%s %.100s: expected KEY=VALUE", what, l->v[i]);
                else if (!str_is_utf8(l->v[i], strlen(l->v[i])))
                        rc = err_set(e, E_INVAL, "%s: the value of %.100s is not UTF-8", what, key);
                else if (cJSON_GetObjectItemCaseSensitive(o, key))
                        rc = err_set(e, E_INVAL, "%s: %.100s is given twice", what, key);
                else if (!cJSON_AddStringToObject(o, key, eq + 1))
                        rc = err_set(e, E_NOMEM, "no memory");
                mem_free(key);
        }
        if (rc) {
                cJSON_Delete(o);
                return rc;
        }
        *out = o;
        return 0;
}

static cJSON *value_of(const char *type, const char *text)
{
        cJSON *v = NULL;

        if (strcmp(type, "string") == 0)
                return cJSON_CreateString(text);
        if (json_parse(text, strlen(text), &v, NULL))
                v = NULL;
        if ((strcmp(type, "number") == 0 && !cJSON_IsNumber(v)) ||
            (strcmp(type, "boolean") == 0 && !cJSON_IsBool(v)) ||
            (strcmp(type, "object") == 0 && !cJSON_IsObject(v)) ||
            (strcmp(type, "array") == 0 && !cJSON_IsArray(v))) {
                cJSON_Delete(v);
                return NULL;
        }
        return v ? v : cJSON_CreateString(text); /* any: what is no JSON is text */
}

/* As written, else that of the default. */
static const char *type_of(const struct doc *def)
{
        const struct doc *d = def && def->kind == DOC_MAP ? doc_get(def, "type") : NULL;

        if (d)
                return d->kind == DOC_STRING ? d->text : "string";
        d = def && def->kind == DOC_MAP ? doc_get(def, "default") : NULL;
        switch (d ? d->kind : DOC_STRING) {
        case DOC_BOOL:
                return "boolean";
        case DOC_NUMBER:
                return "number";
        case DOC_LIST:
                return "array";
        case DOC_MAP:
                return "object";
        default:
                return "string";
        }
}

int input_typed(const char *workflow, size_t n, const cJSON *texts, cJSON *into, struct err *e)
{
        const struct doc *inputs, *def;
        struct doc *d = NULL;
        int rc = 0;

        if (doc_parse(workflow, n, &d, NULL))
                d = NULL; /* the hub says better what is wrong with it */
        inputs = d && d->kind == DOC_MAP ? doc_get(d, "inputs") : NULL;
        for (const cJSON *t = texts->child; t && !rc; t = t->next) {
                const char *name;
                cJSON *v;

                def = inputs && inputs->kind == DOC_MAP ? doc_get(inputs, t->string) : NULL;
                name = type_of(def);
                v = value_of(name, t->valuestring);
                if (!v)
                        rc = err_set(e, E_INVAL, "-i %s=%.60s: this input is of type %s", t->string,
                                     t->valuestring, name);
                else if (cJSON_GetObjectItemCaseSensitive(into, t->string))
                        cJSON_ReplaceItemInObjectCaseSensitive(into, t->string,
                                                               v); /* the flag wins over the file */
                else if (!cJSON_AddItemToObject(into, t->string, v))
                        rc = err_set(e, E_NOMEM, "no memory");
        }
        doc_free(d);
        return rc;
}

int input_json(const char *arg, const char *what, cJSON **out, struct err *e)
{
        const char *path = arg[0] == '@' ? arg + 1 : strcmp(arg, "-") == 0 ? "-" : NULL;
        struct err why = {0};
        char *text = NULL;
        size_t n = strlen(arg);
        int rc = path ? input_read(path, OBJECT_MAX, &text, &n, e) : 0;

        if (rc)
                return rc;
        rc = json_parse(text ? text : arg, n, out, &why);
        if (rc)
                err_set(e, -rc, "%s: %s", what, why.msg);
        mem_free(text);
        return rc;
}
