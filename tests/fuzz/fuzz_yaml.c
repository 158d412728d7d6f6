/* doc_parse: no input may crash it, what it refuses has a place, and JSON
 * objects mean the same to it as to json_parse. */
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_doc(const struct doc *d)
{
        size_t n = 0;

        if (d->line < 1 || d->col < 1)
                abort();
        for (const struct doc *c = d->child; c; c = c->next, n++) {
                if ((d->kind == DOC_MAP) != (c->key != NULL))
                        abort();
                if (c->key && doc_get(d, c->key) != c && n < 100)
                        abort();
                check_doc(c);
        }
        if (n != d->count)
                abort();
}

static char *print_doc(const struct doc *d)
{
        cJSON *v = NULL;
        char *text;

        if (doc_to_json(d, &v))
                abort();
        text = json_text(v);
        cJSON_Delete(v);
        if (!text)
                abort();
        return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        struct err e = {0};
        struct doc *d = NULL;
        cJSON *v = NULL;
        char *as_doc = NULL, *as_json = NULL;
        int rc = doc_parse(text, size, &d, &e);

        if (rc && (rc != -E_INVAL || e.line < 1 || e.col < 1 || !e.msg[0] || d))
                abort();
        if (!rc) {
                check_doc(d);
                as_doc = print_doc(d);
        }
        if (json_parse(text, size, &v, NULL) == 0 && cJSON_IsObject(v)) {
                as_json = json_text(v);
                if (!as_json || !as_doc || strcmp(as_doc, as_json) != 0)
                        abort();
        }
        cJSON_Delete(v);
        doc_free(d);
        mem_free(as_doc);
        mem_free(as_json);
        return 0;
}
