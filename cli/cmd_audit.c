/* audit ...: who did what, and the proof that nobody has rewritten it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/auditchain.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define EXPORT_PAGE 10000

static char *list_path(const struct cli *c)
{
        char *actor = c->o.name ? client_escape(c->o.name) : NULL;
        char *action = c->o.kind ? client_escape(c->o.kind) : NULL;
        char *path = str_printf("/api/v1/audit%s%s%s%s", actor ? "?actor=" : "", actor ? actor : "",
                                action ? (actor ? "&action=" : "?action=") : "", action ? action : "");

        mem_free(actor);
        mem_free(action);
        return path;
}

int cmd_audit_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"SEQ", "AT", "ACTOR", "ACTION", "OBJECT", "DETAIL"};
        char *path = list_path(c);
        cJSON *all = NULL;
        struct table t;
        int rc = path ? client_list(c->client, path, c->o.limit, &all, e) : err_set(e, E_NOMEM, "no memory");

        mem_free(path);
        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                table_init(&t, 6, head);
                for (const cJSON *r = all->child; r; r = r->next) {
                        char seq[24], *detail = jget(r, "detail") ? json_text(jget(r, "detail")) : NULL;
                        bool gone = cJSON_GetArraySize(jget(r, "erased")) > 0;

                        snprintf(seq, sizeof seq, "%lld", (long long)jnum(r, "seq"));
                        table_cell(&t, seq, PAINT_NONE);
                        table_cell(&t, jstr(r, "at"), PAINT_NONE);
                        table_cell(&t,
                                   *jstr(r, "actor") ? jstr(r, "actor")
                                   : gone            ? "(erased)"
                                                     : "-",
                                   PAINT_NONE);
                        table_cell(&t, jstr(r, "action"), PAINT_NONE);
                        table_cell(&t, *jstr(r, "object") ? jstr(r, "object") : "-", PAINT_NONE);
                        table_cell(&t, detail && strcmp(detail, "null") ? detail : "", PAINT_DIM);
                        mem_free(detail);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return 0;
}

/* ---- export: pages of lines, one after the other, on stdout ---- */

struct export_page {
        bool done;
        int rc;
        struct err err;
        struct auditchain_walk *walk;
        char *rest; /* of a line that came in two pieces */
        size_t rest_len;
        int64_t lines;
};

/* Every line is looked at on its way: what leaves here has been proved. */
static int on_line(struct export_page *p, const char *line, size_t n)
{
        int rc = auditchain_step(p->walk, line, n, &p->err);

        if (rc)
                return rc;
        p->lines++;
        write_out(1, line, n);
        write_out(1, "\n", 1);
        return 0;
}

static int on_data(void *ctx, const void *bytes, size_t n)
{
        struct export_page *p = ctx;
        char *v = mem_realloc(p->rest, p->rest_len + n + 1), *at, *end;
        int rc = 0;

        if (!v)
                return -E_NOMEM;
        memcpy(v + p->rest_len, bytes, n);
        p->rest = v;
        p->rest_len += n;
        at = v;
        while (!rc && (end = memchr(at, '\n', p->rest_len - (size_t)(at - v)))) {
                rc = on_line(p, at, (size_t)(end - at));
                at = end + 1;
        }
        p->rest_len -= (size_t)(at - v);
        memmove(v, at, p->rest_len);
        return rc;
}

static void on_end(void *ctx, const struct answer *a)
{
        struct export_page *p = ctx;

        p->done = true;
        p->rc = a->rc;
        if (a->rc && a->err && a->err->code && !p->err.code)
                p->err = *a->err;
}

static int export_page(struct cli *c, struct export_page *p, struct err *e)
{
        char *path =
                str_printf("/api/v1/audit/export?after=%" PRId64 "&limit=%d", p->walk->last_seq, EXPORT_PAGE);
        struct request_spec s = {
                .method = "GET", .path = path, .on_data = on_data, .on_end = on_end, .ctx = p};
        struct request *r = NULL;
        int rc = path ? client_start(c->client, &s, &r, e) : err_set(e, E_NOMEM, "no memory");

        p->done = false;
        p->lines = 0;
        while (!rc && !p->done)
                rc = client_turn(c->client, 1000, -1, NULL, e);
        if (rc)
                client_stop(c->client, r);
        mem_free(path);
        if (!rc && p->rc) {
                *e = p->err;
                rc = p->rc;
        }
        return rc;
}

int cmd_audit_export(struct cli *c, struct err *e)
{
        struct auditchain_walk walk = {0};
        struct export_page p = {.walk = &walk};
        int rc;

        do
                rc = export_page(c, &p, e);
        while (!rc && p.lines >= EXPORT_PAGE);
        mem_free(p.rest);
        if (!rc) {
                char hex[65];

                str_hex(walk.head, sizeof walk.head, hex);
                note("%lld records, the last is %lld, head %s", (long long)walk.records,
                     (long long)walk.last_seq, hex);
        }
        return rc;
}

/* ---- verify ---- */

static int say(struct cli *c, bool valid, int64_t records, int64_t last, const char *head, const char *why)
{
        cJSON *o = cJSON_CreateObject();

        cJSON_AddBoolToObject(o, "valid", valid);
        cJSON_AddNumberToObject(o, "records", (double)records);
        cJSON_AddNumberToObject(o, "last_seq", (double)last);
        cJSON_AddStringToObject(o, "head", head);
        if (why)
                cJSON_AddStringToObject(o, "error", why);
        if (!print_doc(c, o)) {
                if (valid)
                        printf("valid: %lld records, the last is %lld, head %s\n", (long long)records,
                               (long long)last, head);
                else
                        note("NOT valid after %lld good records: %s", (long long)records, why);
        }
        cJSON_Delete(o);
        return valid ? 0 : STATUS_FAILED;
}

static int verify_file(struct cli *c, const char *path, struct err *e)
{
        FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;
        struct auditchain_walk walk = {0};
        struct err why = {0};
        char *line = NULL, hex[65];
        size_t cap = 0;
        ssize_t n;
        int rc = 0;

        if (!f)
                return err_set(e, err_from_errno(errno), "%s: %s", path, strerror(errno));
        while (!rc && (n = getline(&line, &cap, f)) >= 0) {
                if (n > 0 && line[n - 1] == '\n')
                        n--;
                rc = auditchain_step(&walk, line, (size_t)n, &why);
        }
        if (!rc && ferror(f))
                rc = err_set(&why, E_IO, "%s: %s", path, strerror(errno));
        if (!rc && !walk.records)
                rc = err_set(&why, E_INVAL, "there is no record in it");
        free(line);
        if (f != stdin)
                fclose(f);
        str_hex(walk.head, sizeof walk.head, hex);
        return say(c, rc == 0, walk.records, walk.last_seq, hex, rc ? why.msg : NULL);
}

int cmd_audit_verify(struct cli *c, struct err *e)
{
        cJSON *doc = NULL;
        int rc;

        if (c->n_args)
                return verify_file(c, c->args[0], e);
        rc = cli_connect(c, e);
        if (!rc)
                rc = client_json(c->client, "GET", "/api/v1/audit/verify", NULL, &doc, e);
        if (!rc)
                rc = say(c, jbool(doc, "valid"), jnum(doc, "records"), jnum(doc, "last_seq"),
                         jstr(doc, "head"), jbool(doc, "valid") ? NULL : jstr(doc, "error"));
        cJSON_Delete(doc);
        return rc;
}

/* ---- taking away ---- */

static int change(struct cli *c, const char *path, cJSON *body, struct err *e)
{
        int rc = client_json(c->client, "POST", path, body, NULL, e);

        cJSON_Delete(body);
        return rc;
}

int cmd_audit_erase(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject();
        int rc;

        if (!c->o.name && !c->o.kind) {
                cJSON_Delete(body);
                return cli_usage(c, "photon audit erase: say whom or what: --actor NAME or --object TEXT");
        }
        if (c->o.name)
                cJSON_AddStringToObject(body, "actor", c->o.name);
        if (c->o.kind)
                cJSON_AddStringToObject(body, "object", c->o.kind);
        rc = change(c, "/api/v1/audit/erase", body, e);
        if (!rc)
                note("erased; the records and their proof stay");
        return rc;
}

int cmd_audit_trim(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject();
        char text[32];
        int rc;

        str_format_duration(c->o.ttl_ms, text);
        cJSON_AddStringToObject(body, "older_than", text);
        rc = change(c, "/api/v1/audit/trim", body, e);
        if (!rc)
                note("records older than %s are removed; the chain goes on where it was cut", text);
        return rc;
}
