#include "hub/http/idem.h"

#include <stdio.h>
#include <string.h>

#include "common/map.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

/* Everything that makes two requests differ, but not how long to wait. */
static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
        struct buf *b = cls;

        (void)kind;
        if (strcmp(key, "wait") != 0 && strcmp(key, "timeout") != 0 && strcmp(key, "steps") != 0)
                buf_printf(b, "%s=%s\n", key, value ? value : "");
        return MHD_YES;
}

static int digest(struct http_req *q, char out[65])
{
        uint8_t sha[SHA256_LEN];
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_printf(&b, "%s %s %s %s\n", q->route->method, q->route->pattern,
                        q->param[0] ? q->param[0] : "", q->param[1] ? q->param[1] : "");
        /* Whoever has lost a project by now must not be shown what was made in it. */
        if (!rc && q->project[0] && strcmp(q->project, PROJECT_DEFAULT) != 0)
                rc = buf_printf(&b, "project %s\n", q->project);
        MHD_get_connection_values(q->conn, MHD_GET_ARGUMENT_KIND, add_query, &b);
        if (!rc)
                rc = buf_put(&b, q->body.data, q->body.len);
        if (!rc) {
                secret_sha256(b.data, b.len, sha);
                str_hex(sha, sizeof sha, out);
        }
        buf_fini(&b);
        return rc;
}

int idem_read(struct http_req *q, struct err *e)
{
        const char *key = req_header(q, "Idempotency-Key");
        size_t n = key ? strlen(key) : 0;

        if (!key)
                return 0;
        if (n == 0 || n > IDEM_KEY_MAX)
                return err_set(e, E_INVAL, "Idempotency-Key has %zu characters, allowed are 1 to %d", n,
                               IDEM_KEY_MAX);
        for (size_t i = 0; i < n; i++)
                if (key[i] <= ' ' || key[i] > '~')
                        return err_set(e, E_INVAL, "Idempotency-Key may hold only visible ASCII characters");
        q->idem = mem_calloc(1, sizeof *q->idem);
        if (!q->idem || digest(q, q->idem->sha256))
                return err_set(e, E_NOMEM, "out of memory");
        memcpy(q->idem->key, key, n + 1);
        return 0;
}

static int found(struct http_req *q, char *sha, int status, char *body, struct err *e)
{
        struct idem *i = q->idem;

        if (strcmp(sha, i->sha256) != 0) {
                q->problem_status = 422;
                q->problem_code = "idempotency_mismatch";
                mem_free(body);
                return err_set(e, E_EXIST,
                               "this Idempotency-Key was used for another request; use a new one");
        }
        i->replay = true;
        i->status = status;
        i->body = body;
        return 1;
}

int idem_claim(struct http_req *q, struct err *e)
{
        struct idem *i = q->idem;
        struct http_thread *t;
        char *sha = NULL, *body = NULL;
        char *claim = str_printf("%s %s", q->caller.token_id, i->key);
        int status = 0, rc;

        if (!claim)
                return err_set(e, E_NOMEM, "out of memory");
        if (map_get(q->h->keys, claim)) {
                mem_free(claim);
                q->problem_code = "idempotency_in_progress";
                q->retry_after_s = 1;
                return err_set(e, E_AGAIN,
                               "a request with this Idempotency-Key is still being answered; try again");
        }
        rc = http_thread(q->h, &t, e);
        if (!rc)
                rc = read_idempotency(t->reader, i->key, q->caller.token_id, &sha, &status, &body);
        if (rc == 0) {
                rc = found(q, sha, status, body, e);
        } else if (rc == -E_NOENT) {
                rc = map_put(q->h->keys, claim, q, NULL);
                if (!rc) {
                        i->claim = claim;
                        claim = NULL;
                }
        }
        mem_free(claim);
        mem_free(sha);
        return rc;
}

void idem_release(struct http_req *q)
{
        if (!q->idem || !q->idem->claim)
                return;
        map_del(q->h->keys, q->idem->claim);
        mem_free(q->idem->claim);
        q->idem->claim = NULL;
}

void idem_store(struct http_req *q, struct store_tx *tx, int status, const char *body)
{
        if (!q->idem || q->idem->replay)
                return;
        q->idem->stored = true;
        store_put_idempotency(tx, q->idem->key, q->caller.token_id, q->idem->sha256, status, body,
                              clock_now_us(q->h->o.clock));
}

void idem_free(struct idem *i)
{
        if (!i)
                return;
        mem_free(i->claim);
        mem_free(i->body);
        mem_free(i);
}
