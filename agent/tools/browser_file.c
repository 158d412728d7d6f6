/* Pictures and PDFs: to the file that the action names, or into its result. */
#include <string.h>
#include <unistd.h>

#include "agent/tools/browser_run.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

/* On a pool thread. */
static int write_it(struct file_work *w)
{
        struct replace r = {.dir_fd = -1, .mode = -1};
        struct browser_run *run = container_of(w, struct browser_run, file);
        char *real = NULL;
        int rc = work_path(w, POLICY_WRITE, &real);

        r.real = real;
        r.data = run->bytes.data;
        r.n = run->bytes.len;
        if (rc == 0)
                rc = open_parent(w, real, true, &r.dir_fd, &r.base);
        if (rc == 0)
                rc = replace_file(w, &r);
        if (r.dir_fd >= 0)
                close(r.dir_fd);
        if (rc == 0 && !cJSON_AddStringToObject(w->out, "path", real))
                rc = work_nomem(w);
        mem_free(real);
        return rc;
}

static void work(uv_work_t *req)
{
        struct file_work *w = container_of(req, struct file_work, req);

        w->rc = write_it(w);
}

static void after_work(uv_work_t *req, int status)
{
        struct browser_run *r =
                container_of(container_of(req, struct file_work, req), struct browser_run, file);
        struct file_work *w = &r->file;
        cJSON *path = cJSON_DetachItemFromObject(w->out, "path");
        const char *code = w->code ? w->code : err_name(w->e.code);

        r->handles--;
        cJSON_Delete(w->input);
        cJSON_Delete(w->out);
        w->input = w->out = NULL;
        buf_fini(&r->bytes);
        if (status || w->rc) {
                cJSON_Delete(path);
                browser_action_done(r, code, &w->e);
        } else if (!cJSON_AddItemToObject(r->result, "path", path)) {
                cJSON_Delete(path);
                browser_action_done(r, NULL, NULL);
        } else {
                browser_action_done(r, NULL, NULL);
        }
}

static void no_memory(struct browser_run *r)
{
        struct err e = {0};

        err_set(&e, E_NOMEM, "out of memory");
        browser_action_done(r, NULL, &e);
}

static int describe(struct browser_run *r, const uint8_t *bytes, size_t n)
{
        uint8_t sum[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];

        secret_sha256(bytes, n, sum);
        str_hex(sum, sizeof sum, hex);
        return cJSON_AddNumberToObject(r->result, "size", (double)n) &&
                               cJSON_AddStringToObject(r->result, "sha256", hex)
                       ? 0
                       : -E_NOMEM;
}

static void put_inline(struct browser_run *r, const uint8_t *bytes, size_t n)
{
        struct err e = {0};
        char *b64;
        bool ok;

        if (n > BROWSER_INLINE_MAX) {
                err_set(&e, E_TOOBIG,
                        "it has %zu bytes, more than fit into the outputs (2 MiB); name a file with `path`",
                        n);
                browser_action_done(r, "too_large", &e);
                return;
        }
        b64 = str_b64(bytes, n);
        ok = b64 && cJSON_AddStringToObject(r->result, "base64", b64);
        mem_free(b64);
        if (ok)
                browser_action_done(r, NULL, NULL);
        else
                no_memory(r);
}

void browser_put_file(struct browser_run *r, uint8_t *bytes, size_t n)
{
        const char *path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->action, "path"));
        struct file_work *w = &r->file;

        if (describe(r, bytes, n)) {
                mem_free(bytes);
                no_memory(r);
                return;
        }
        if (!path) {
                put_inline(r, bytes, n);
                mem_free(bytes);
                return;
        }
        buf_fini(&r->bytes);
        r->bytes = (struct buf){.data = bytes, .len = n, .cap = n};
        memset(w, 0, sizeof *w);
        w->policy = r->c->policy;
        w->input = cJSON_CreateObject();
        w->out = cJSON_CreateObject();
        atomic_init(&w->stop, false);
        if (!w->input || !w->out || !cJSON_AddStringToObject(w->input, "path", path) ||
            uv_queue_work(r->c->loop, &w->req, work, after_work)) {
                cJSON_Delete(w->input);
                cJSON_Delete(w->out);
                w->input = w->out = NULL;
                no_memory(r);
                return;
        }
        r->handles++;
}
