/* import wfformat: the flags and files around import_wfformat.c. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/import_wfformat.h"
#include "cli/input.h"
#include "cli/print.h"
#include "common/buf.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

static int read_options(struct cli *c, struct wfformat_options *o)
{
        static const char *const names[] = {"files", "written", "none"};
        char *end = NULL;
        size_t i;

        errno = 0;
        o->scale = strtod(c->o.scale, &end);
        if (end == c->o.scale || *end || errno || !isfinite(o->scale) || o->scale < 0)
                return cli_usage(c, "--scale %.40s: expected a number from 0 up, such as 0.01", c->o.scale);
        for (i = 0; i < 3 && strcmp(c->o.bytes, names[i]) != 0; i++)
                ;
        if (i == 3)
                return cli_usage(c, "--bytes %.40s: expected files, written or none", c->o.bytes);
        o->bytes = (enum wfformat_bytes)i;
        if (c->o.max_bytes < 0)
                return cli_usage(c, "--max-bytes: expected a size from 0 up");
        o->max_bytes = c->o.max_bytes;
        return 0;
}

static void tell(const struct wfformat_notes *n)
{
        char size[32], took[32];

        str_format_size(n->total_bytes, size);
        ms_text((int64_t)(n->total_s < 1e12 ? n->total_s * 1000 : 1e15), took);
        note("%zu steps with %zu dependencies; together they sleep %s and write %s", n->tasks, n->needs, took,
             size);
        if (n->no_runtime)
                note("%zu tasks have no measured runtime: they do not sleep", n->no_runtime);
        if (n->unknown_size)
                note("%zu output files have no stated size: they count as empty", n->unknown_size);
        if (n->one_sided)
                note("%zu dependencies are stated by only one of their two tasks: they hold", n->one_sided);
}

/* The YAML as one line of JSON: the same document. */
static int to_json(const struct buf *yaml, struct buf *out, struct err *e)
{
        struct doc *d = NULL;
        cJSON *v = NULL;
        int rc = doc_parse((const char *)yaml->data, yaml->len, &d, e);

        if (!rc && (doc_to_json(d, &v) || json_append(out, v) || buf_putc(out, '\n')))
                rc = err_set(e, E_NOMEM, "no memory");
        cJSON_Delete(v);
        doc_free(d);
        return rc;
}

static int deliver(struct cli *c, const struct buf *yaml, struct err *e)
{
        const struct buf *b = yaml;
        struct buf json;
        int rc = 0;

        buf_init(&json, 0);
        if (c->format == OUT_JSON) {
                rc = to_json(yaml, &json, e);
                b = &json;
        }
        if (!rc && c->o.out && strcmp(c->o.out, "-") != 0)
                rc = file_write_atomic(c->o.out, b->data, b->len, 0644, e);
        else if (!rc)
                write_out(STDOUT_FILENO, b->data, b->len);
        buf_fini(&json);
        return rc;
}

int cmd_import_wfformat(struct cli *c, struct err *e)
{
        struct wfformat_options o = {0};
        struct wfformat_notes notes;
        struct err why = {0};
        char *text = NULL;
        size_t n = 0;
        struct buf b;
        int rc = read_options(c, &o);

        if (!rc)
                rc = input_read(c->args[0], WFFORMAT_BYTES_MAX, &text, &n, e);
        if (rc)
                return rc;
        buf_init(&b, 0);
        rc = wfformat_convert(text, n, &o, &b, &notes, &why);
        if (rc && why.line)
                err_set(e, -rc, "%s:%d:%d: %s", c->args[0], why.line, why.col, err_unplaced(&why));
        else if (rc)
                err_set(e, -rc, "%s: %s", c->args[0], why.msg);
        if (!rc)
                rc = deliver(c, &b, e);
        if (!rc)
                tell(&notes);
        buf_fini(&b);
        mem_free(text);
        return rc;
}
