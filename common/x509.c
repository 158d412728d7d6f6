#include "common/x509.h"

#include <arpa/inet.h>
#include <mbedtls/asn1.h>
#include <mbedtls/oid.h>
#include <string.h>

#define TAG_SEQUENCE (MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE)

/* One Extension of RFC 5280 section 4.1: moves *p behind it. */
static bool read_extension(unsigned char **p, const unsigned char *end, mbedtls_asn1_buf *oid,
                           mbedtls_asn1_buf *value)
{
        size_t len;
        int critical = 0;
        unsigned char *stop;

        if (mbedtls_asn1_get_tag(p, end, &len, TAG_SEQUENCE))
                return false;
        stop = *p + len;
        if (mbedtls_asn1_get_tag(p, stop, &oid->len, MBEDTLS_ASN1_OID))
                return false;
        oid->p = *p;
        *p += oid->len;
        if (*p < stop && **p == MBEDTLS_ASN1_BOOLEAN && mbedtls_asn1_get_bool(p, stop, &critical))
                return false;
        if (mbedtls_asn1_get_tag(p, stop, &value->len, MBEDTLS_ASN1_OCTET_STRING))
                return false;
        value->p = *p;
        *p = stop;
        return true;
}

/* mbedTLS 2.28 lists only some kinds of names in crt->subject_alt_names, so the
 * raw extension is read instead. */
static bool find_san(const mbedtls_x509_crt *crt, unsigned char **out_p, const unsigned char **out_end)
{
        unsigned char *p = crt->v3_ext.p;
        const unsigned char *end;
        size_t len;

        if (!p)
                return false;
        end = p + crt->v3_ext.len;
        if (mbedtls_asn1_get_tag(&p, end, &len, TAG_SEQUENCE))
                return false;
        end = p + len;
        while (p < end) {
                mbedtls_asn1_buf oid, value;

                if (!read_extension(&p, end, &oid, &value))
                        return false;
                if (MBEDTLS_OID_CMP(MBEDTLS_OID_SUBJECT_ALT_NAME, &oid) != 0)
                        continue;
                p = value.p;
                if (mbedtls_asn1_get_tag(&p, value.p + value.len, &len, TAG_SEQUENCE))
                        return false;
                *out_p = p;
                *out_end = p + len;
                return true;
        }
        return false;
}

bool x509_san_next(const mbedtls_x509_crt *crt, size_t *it, int *out_kind, const uint8_t **out_p,
                   size_t *out_n)
{
        unsigned char *p = NULL, *start;
        const unsigned char *end = NULL;
        unsigned char tag;
        size_t len;

        if (!find_san(crt, &p, &end) || *it >= (size_t)(end - p))
                return false;
        start = p;
        p += *it;
        tag = *p++;
        if ((tag & MBEDTLS_ASN1_TAG_CLASS_MASK) != MBEDTLS_ASN1_CONTEXT_SPECIFIC ||
            mbedtls_asn1_get_len(&p, end, &len))
                return false;
        *out_kind = tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
        *out_p = p;
        *out_n = len;
        *it = (size_t)(p + len - start);
        return true;
}

size_t x509_parse_ip(const char *s, uint8_t out[16])
{
        if (inet_pton(AF_INET, s, out) == 1)
                return 4;
        return inet_pton(AF_INET6, s, out) == 1 ? 16 : 0;
}

static bool same_host(const uint8_t *p, size_t n, const char *name)
{
        size_t want = strlen(name);

        if (want && name[want - 1] == '.')
                want--;
        if (!want || n != want)
                return false;
        for (size_t i = 0; i < n; i++) {
                uint8_t a = p[i], b = (uint8_t)name[i];

                if (a >= 'A' && a <= 'Z')
                        a |= 0x20;
                if (b >= 'A' && b <= 'Z')
                        b |= 0x20;
                if (a != b || a == '\0')
                        return false;
        }
        return true;
}

bool x509_has_name(const mbedtls_x509_crt *crt, const char *name)
{
        uint8_t ip[16];
        size_t ip_len = x509_parse_ip(name, ip), it = 0, n;
        const uint8_t *p;
        int kind;

        while (x509_san_next(crt, &it, &kind, &p, &n)) {
                if (ip_len && kind == X509_SAN_IP && n == ip_len && memcmp(p, ip, n) == 0)
                        return true;
                if (!ip_len && kind == X509_SAN_DNS && same_host(p, n, name))
                        return true;
        }
        return false;
}

static bool has_purpose(const mbedtls_x509_crt *crt, const char *oid, size_t oid_len)
{
        if (!(crt->ext_types & MBEDTLS_X509_EXT_EXTENDED_KEY_USAGE))
                return false;
        for (const mbedtls_x509_sequence *s = &crt->ext_key_usage; s; s = s->next) {
                if (s->buf.len == oid_len && memcmp(s->buf.p, oid, oid_len) == 0)
                        return true;
        }
        return false;
}

bool x509_is_server(const mbedtls_x509_crt *crt)
{
        return has_purpose(crt, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH));
}

bool x509_is_client(const mbedtls_x509_crt *crt)
{
        return has_purpose(crt, MBEDTLS_OID_CLIENT_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH));
}

bool x509_is_signer(const mbedtls_x509_crt *crt)
{
        return has_purpose(crt, MBEDTLS_OID_CODE_SIGNING, MBEDTLS_OID_SIZE(MBEDTLS_OID_CODE_SIGNING));
}

int64_t x509_time_us(const mbedtls_x509_time *t)
{
        /* Days since 1970-03-01 of a year that begins in March, so that the leap
         * day comes last. */
        int64_t y = t->mon <= 2 ? t->year - 1 : t->year;
        int64_t m = t->mon <= 2 ? t->mon + 9 : t->mon - 3;
        int64_t days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + t->day - 1 - 719468;

        return (((days * 24 + t->hour) * 60 + t->min) * 60 + t->sec) * 1000000;
}
