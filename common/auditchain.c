#include "common/auditchain.h"

#include <inttypes.h>
#include <mbedtls/sha256.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/secret.h"
#include "common/str.h"

const uint8_t auditchain_zero[AUDITCHAIN_HASH];

static const char *const names[AUDIT_FIELDS] = {"actor", "object", "detail"};

static void add(mbedtls_sha256_context *c, const void *p, size_t n)
{
        mbedtls_sha256_update_ret(c, p, n);
}

static void add_u64(mbedtls_sha256_context *c, uint64_t v)
{
        uint8_t raw[8];

        u64be_store(raw, v);
        add(c, raw, sizeof raw);
}

void auditchain_digest(const struct audit_record *r, enum audit_field f, uint8_t out[AUDITCHAIN_HASH])
{
        static const char tag[] = "photon-audit-field-1";
        const char *text = r->field[f];
        uint8_t head[2] = {(uint8_t)f, text != NULL};
        mbedtls_sha256_context c;

        if (r->erased[f]) {
                memcpy(out, r->digest[f], AUDITCHAIN_HASH);
                return;
        }
        mbedtls_sha256_init(&c);
        mbedtls_sha256_starts_ret(&c, 0);
        add(&c, tag, sizeof tag - 1);
        add(&c, head, sizeof head);
        add(&c, r->salt[f], sizeof r->salt[f]);
        if (text)
                add(&c, text, strlen(text));
        mbedtls_sha256_finish_ret(&c, out);
        mbedtls_sha256_free(&c);
}

static void compute(const struct audit_record *r, const uint8_t prev[AUDITCHAIN_HASH],
                    uint8_t out[AUDITCHAIN_HASH])
{
        static const char tag[] = "photon-audit-record-1";
        uint8_t digest[AUDITCHAIN_HASH];
        mbedtls_sha256_context c;

        mbedtls_sha256_init(&c);
        mbedtls_sha256_starts_ret(&c, 0);
        add(&c, tag, sizeof tag - 1);
        add(&c, prev, AUDITCHAIN_HASH);
        add_u64(&c, (uint64_t)r->seq);
        add_u64(&c, (uint64_t)r->at_us);
        add_u64(&c, strlen(r->action));
        add(&c, r->action, strlen(r->action));
        for (int f = 0; f < AUDIT_FIELDS; f++) {
                auditchain_digest(r, (enum audit_field)f, digest);
                add(&c, digest, sizeof digest);
        }
        mbedtls_sha256_finish_ret(&c, out);
        mbedtls_sha256_free(&c);
}

void auditchain_seal(struct audit_record *r, const uint8_t prev[AUDITCHAIN_HASH])
{
        compute(r, prev, r->hash);
}

int auditchain_check(const struct audit_record *r, const uint8_t prev[AUDITCHAIN_HASH], struct err *e)
{
        uint8_t want[AUDITCHAIN_HASH];

        compute(r, prev, want);
        if (memcmp(want, r->hash, sizeof want) == 0)
                return 0;
        return err_set(e, E_CORRUPT,
                       "audit record %" PRId64 " (%.64s) does not follow from the one before it: it, or an "
                       "older one, was changed, removed or put in",
                       r->seq, r->action);
}

/* ---- lines ---- */

static int put_hex(struct buf *b, const void *p, size_t n)
{
        char hex[2 * AUDIT_FIELDS * AUDITCHAIN_SALT + 1];

        str_hex(p, n, hex);
        return buf_printf(b, "\"%s\"", hex);
}

static int put_text(struct buf *b, const char *key, const char *text)
{
        int rc;

        if (!text)
                return 0;
        rc = buf_printf(b, ",\"%s\":", key);
        return rc ? rc : json_append_str(b, text, strlen(text));
}

static int put_erased(const struct audit_record *r, struct buf *b)
{
        const char *open = ",\"erased\":{";
        int rc = 0;

        for (int f = 0; f < AUDIT_FIELDS && !rc; f++) {
                if (!r->erased[f])
                        continue;
                rc = buf_printf(b, "%s\"%s\":", open, names[f]);
                if (!rc)
                        rc = put_hex(b, r->digest[f], AUDITCHAIN_HASH);
                open = ",";
        }
        return !rc && open[1] == '\0' ? buf_putc(b, '}') : rc;
}

int auditchain_line(const struct audit_record *r, struct buf *b)
{
        int rc = buf_printf(b, "{\"seq\":%" PRId64 ",\"at_us\":%" PRId64, r->seq, r->at_us);

        if (!rc)
                rc = put_text(b, "action", r->action);
        for (int f = 0; f < AUDIT_FIELDS && !rc; f++)
                rc = put_text(b, names[f], r->field[f]);
        if (!rc)
                rc = buf_puts(b, ",\"salts\":");
        if (!rc)
                rc = put_hex(b, r->salt, sizeof r->salt);
        if (!rc)
                rc = put_erased(r, b);
        if (!rc)
                rc = buf_puts(b, ",\"hash\":");
        if (!rc)
                rc = put_hex(b, r->hash, sizeof r->hash);
        return rc ? rc : buf_putc(b, '}');
}

static int read_hex(const cJSON *o, const char *key, void *out, size_t n, struct err *e)
{
        const char *text;
        int rc = json_str(o, key, &text, e);

        if (!rc && str_unhex(text, out, n))
                rc = err_set(e, E_INVAL, "\"%s\" is not %zu bytes in hex", key, n);
        return rc;
}

static int read_record(const cJSON *o, struct audit_record *r, struct err *e)
{
        static const char *const keys[] = {"seq",    "at_us", "action", "actor", "object",
                                           "detail", "salts", "erased", "hash",  NULL};
        const cJSON *erased = NULL;
        int rc = json_only(o, keys, e);

        memset(r, 0, sizeof *r);
        if (!rc)
                rc = json_i64(o, "seq", 1, INT64_MAX, &r->seq, e);
        if (!rc)
                rc = json_i64(o, "at_us", INT64_MIN, INT64_MAX, &r->at_us, e);
        if (!rc)
                rc = json_str(o, "action", &r->action, e);
        if (!rc)
                rc = read_hex(o, "salts", r->salt, sizeof r->salt, e);
        if (!rc)
                rc = read_hex(o, "hash", r->hash, sizeof r->hash, e);
        if (!rc)
                rc = json_obj_opt(o, "erased", &erased, e);
        for (int f = 0; f < AUDIT_FIELDS && !rc; f++) {
                rc = json_str_opt(o, names[f], &r->field[f], e);
                r->erased[f] = erased && cJSON_GetObjectItemCaseSensitive(erased, names[f]);
                if (!rc && r->erased[f])
                        rc = read_hex(erased, names[f], r->digest[f], AUDITCHAIN_HASH, e);
                if (!rc && r->erased[f] && r->field[f])
                        rc = err_set(e, E_INVAL, "\"%s\" is there and erased at once", names[f]);
        }
        return rc;
}

/* Where older records were removed, the export begins with the hash they ended with. */
static int read_start(struct auditchain_walk *w, const cJSON *o, struct err *e)
{
        int rc = json_i64(o, "after_seq", 0, INT64_MAX - 1, &w->last_seq, e);

        if (!rc)
                rc = read_hex(o, "after_hash", w->head, sizeof w->head, e);
        w->first_seq = w->last_seq + 1;
        w->begun = !rc;
        return rc;
}

static int step(struct auditchain_walk *w, const cJSON *o, struct err *e)
{
        struct audit_record r;
        int rc;

        if (!w->begun && w->records == 0 && cJSON_GetObjectItemCaseSensitive(o, "after_seq"))
                return read_start(w, o, e);
        rc = read_record(o, &r, e);
        if (rc)
                return rc;
        if (r.seq != w->last_seq + 1)
                return err_set(e, E_CORRUPT,
                               "audit record %" PRId64 " comes where %" PRId64
                               " was expected: records are missing, or were put in",
                               r.seq, w->last_seq + 1);
        rc = auditchain_check(&r, w->head, e);
        if (rc)
                return rc;
        if (!w->begun)
                w->first_seq = r.seq;
        w->begun = true;
        w->last_seq = r.seq;
        w->records++;
        memcpy(w->head, r.hash, sizeof w->head);
        return 0;
}

int auditchain_step(struct auditchain_walk *w, const char *line, size_t n, struct err *e)
{
        cJSON *o = NULL;
        struct err why = {0};
        int rc = json_parse(line, n, &o, &why);

        if (!rc)
                rc = step(w, o, &why);
        cJSON_Delete(o);
        if (!rc)
                return 0;
        if (rc == -E_CORRUPT)
                return err_set(e, E_CORRUPT, "%s", why.msg);
        return err_set(e, -rc, "what follows audit record %" PRId64 " is no record: %s", w->last_seq,
                       why.msg);
}
