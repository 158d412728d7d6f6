/* What handlers ask of a request: query, headers, body, pages. */
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX     500

struct store_reader *req_reader(struct http_req *q, struct err *e)
{
        struct http_thread *t;

        return http_thread(q->h, &t, e) ? NULL : t->reader;
}

const char *req_query(struct http_req *q, const char *name)
{
        if (q->inner.active)
                return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(q->inner.query, name));
        return MHD_lookup_connection_value(q->conn, MHD_GET_ARGUMENT_KIND, name);
}

const char *req_header(struct http_req *q, const char *name)
{
        if (q->inner.active)
                return NULL;
        return MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, name);
}

const char *req_cookie(struct http_req *q, const char *name)
{
        return MHD_lookup_connection_value(q->conn, MHD_COOKIE_KIND, name);
}

int req_query_bool(struct http_req *q, const char *name, bool def, bool *out, struct err *e)
{
        const char *v = req_query(q, name);

        if (!v)
                *out = def;
        else if (strcmp(v, "true") == 0 || strcmp(v, "1") == 0)
                *out = true;
        else if (strcmp(v, "false") == 0 || strcmp(v, "0") == 0)
                *out = false;
        else
                return err_set(e, E_INVAL, "%s=%.32s: expected true or false", name, v);
        return 0;
}

int req_query_i64(struct http_req *q, const char *name, int64_t min, int64_t max, int64_t *io, struct err *e)
{
        const char *v = req_query(q, name);

        if (v && str_parse_i64(v, min, max, io))
                return err_set(e, E_INVAL, "%s=%.32s: expected a whole number from %lld to %lld", name, v,
                               (long long)min, (long long)max);
        return 0;
}

int req_query_ms(struct http_req *q, const char *name, int64_t max, int64_t *io, struct err *e)
{
        const char *v = req_query(q, name);
        char most[32];

        if (!v)
                return 0;
        if (str_parse_duration(v, io))
                return err_set(e, E_INVAL, "%s=%.32s: expected a duration such as 500ms, 10s or 5m", name, v);
        str_format_duration(max, most);
        return *io > max ? err_set(e, E_INVAL, "%s=%.32s: at most %s", name, v, most) : 0;
}

bool req_body_is(struct http_req *q, const char *media_type)
{
        const char *ct = q->inner.active ? "application/json" : req_header(q, "Content-Type");
        size_t n = ct ? strcspn(ct, "; \t") : 0;

        return n == strlen(media_type) && strncasecmp(ct, media_type, n) == 0;
}

int req_body_json(struct http_req *q, const char *const *keys, bool may_be_empty, cJSON **out, struct err *e)
{
        cJSON *doc = NULL;
        int rc;

        if (!q->body.len && may_be_empty) {
                doc = cJSON_CreateObject();
                *out = doc;
                return doc ? 0 : err_set(e, E_NOMEM, "out of memory");
        }
        if (!req_body_is(q, "application/json")) {
                q->problem_status = 415;
                q->problem_code = "unsupported_media_type";
                return err_set(e, E_INVAL, "send the body as Content-Type: application/json");
        }
        rc = json_parse((const char *)q->body.data, q->body.len, &doc, e);
        if (!rc && !cJSON_IsObject(doc))
                rc = err_set(e, E_INVAL, "the body must be a JSON object");
        if (!rc && keys)
                rc = json_only(doc, keys, e);
        if (rc) {
                cJSON_Delete(doc);
                return rc;
        }
        *out = doc;
        return 0;
}

int req_writable(struct http_req *q, struct err *e)
{
        struct err why = {0};
        int rc = store_health(q->h->o.store, &why);

        if (!rc)
                return 0;
        q->problem_status = 503;
        q->retry_after_s = 5;
        return err_set(e, -rc, "the hub cannot keep anything at the moment: %s",
                       why.msg[0] ? why.msg : err_name(rc));
}

int req_take_place(struct http_req *q, struct err *e)
{
        if (q->counted)
                return 0;
        if (atomic_fetch_add(&q->h->streams, 1) >= (int)q->h->o.max_streams) {
                atomic_fetch_sub(&q->h->streams, 1);
                q->retry_after_s = 5;
                return err_set(e, E_FULL, "%u streams and waiting calls are open, no more are served at once",
                               q->h->o.max_streams);
        }
        q->counted = true;
        return 0;
}

void req_keep(struct http_req *q, void *state, void (*free_state)(void *state))
{
        q->state = state;
        q->free_state = free_state;
}

int req_page_args(struct http_req *q, int64_t *limit, const char **cursor, struct err *e)
{
        *limit = PAGE_DEFAULT;
        *cursor = req_query(q, "cursor");
        return req_query_i64(q, "limit", 1, PAGE_MAX, limit, e);
}

static const char *key_of(const cJSON *item, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, key));

        return s ? s : "";
}

/* Cursors are opaque: base64url of the last key shown. */
static char *cursor_text(const char *cursor)
{
        uint8_t *raw = NULL;
        size_t n = 0;

        if (str_unb64url(cursor, strlen(cursor), &raw, &n))
                return NULL;
        if (memchr(raw, 0, n)) {
                mem_free(raw);
                return NULL;
        }
        return (char *)raw;
}

int req_page(struct http_req *q, cJSON *all, const char *key, struct err *e)
{
        const char *cursor;
        char *after = NULL, *next = NULL;
        cJSON *doc = NULL, *items = NULL, *item;
        int64_t limit;
        int rc = req_page_args(q, &limit, &cursor, e);

        if (!rc && cursor && !(after = cursor_text(cursor)))
                rc = err_set(e, E_INVAL, "the cursor is not one that this list gave out");
        if (rc)
                goto out;
        doc = cJSON_CreateObject();
        items = doc ? cJSON_AddArrayToObject(doc, "items") : NULL;
        if (!items) {
                rc = err_set(e, E_NOMEM, "out of memory");
                goto out;
        }
        while (after && all->child && strcmp(key_of(all->child, key), after) <= 0)
                cJSON_Delete(cJSON_DetachItemViaPointer(all, all->child));
        for (int64_t i = 0; i < limit && (item = all->child); i++)
                cJSON_AddItemToArray(items, cJSON_DetachItemViaPointer(all, item));
        if (all->child && items->child) {
                const char *last = key_of(items->child->prev, key);

                next = str_b64url(last, strlen(last));
        }
        if (!(next ? cJSON_AddStringToObject(doc, "next_cursor", next)
                   : cJSON_AddNullToObject(doc, "next_cursor"))) {
                rc = err_set(e, E_NOMEM, "out of memory");
                goto out;
        }
        q->json = doc;
        doc = NULL;
out:
        cJSON_Delete(doc);
        cJSON_Delete(all);
        mem_free(after);
        mem_free(next);
        return rc;
}
