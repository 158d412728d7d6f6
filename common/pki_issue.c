/* Writing certificates: the CA's own, and those it signs. */
#include <mbedtls/asn1write.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/pki_impl.h"
#include "common/str.h"
#include "common/x509.h"

#define HOSTS_MAX 64

const mbedtls_x509_crt_profile pki_profile = {
        .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256),
        .allowed_pks = MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
        .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
};

int pki_random(void *ctx, unsigned char *out, size_t n)
{
        (void)ctx;
        id_random(out, n);
        return 0;
}

static int set_times(mbedtls_x509write_cert *w, int64_t not_before_us, int64_t not_after_us)
{
        int64_t at[2] = {not_before_us, not_after_us};
        char text[2][16];

        for (int i = 0; i < 2; i++) {
                time_t t = (time_t)(at[i] / 1000000);
                struct tm tm;

                if (at[i] < 0 || !gmtime_r(&t, &tm) ||
                    !strftime(text[i], sizeof text[i], "%Y%m%d%H%M%S", &tm) || strlen(text[i]) != 14)
                        return MBEDTLS_ERR_X509_INVALID_DATE;
        }
        return mbedtls_x509write_crt_set_validity(w, text[0], text[1]);
}

/* 128 random bits, positive and never zero. */
static int set_serial(mbedtls_x509write_cert *w, char out_hex[41])
{
        mbedtls_mpi serial;
        uint8_t bytes[16];
        int rv;

        id_random(bytes, sizeof bytes);
        bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* the same length always */
        mbedtls_mpi_init(&serial);
        rv = mbedtls_mpi_read_binary(&serial, bytes, sizeof bytes);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_serial(w, &serial);
        mbedtls_mpi_free(&serial);
        if (out_hex)
                str_hex(bytes, sizeof bytes, out_hex);
        return rv;
}

int pki_ca_make(const char *key_pem, const char *cn, int64_t not_before_us, int64_t not_after_us,
                char **out_cert_pem, struct err *e)
{
        mbedtls_x509write_cert w;
        mbedtls_pk_context pk;
        unsigned char pem[2048];
        int rc, rv;

        mbedtls_pk_init(&pk);
        mbedtls_x509write_crt_init(&w);
        rc = pki_load_key(key_pem, &pk, e);
        if (rc == 0)
                rc = pki_set_cn(&w.subject, cn, e);
        if (rc == 0)
                rc = pki_set_cn(&w.issuer, cn, e);
        if (rc)
                goto out;
        mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
        mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
        mbedtls_x509write_crt_set_subject_key(&w, &pk);
        mbedtls_x509write_crt_set_issuer_key(&w, &pk);
        rv = set_serial(&w, NULL);
        if (rv == 0)
                rv = set_times(&w, not_before_us, not_after_us);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_basic_constraints(&w, 1, 0);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_key_usage(&w, MBEDTLS_X509_KU_KEY_CERT_SIGN |
                                                                     MBEDTLS_X509_KU_CRL_SIGN);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_subject_key_identifier(&w);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_authority_key_identifier(&w);
        if (rv == 0)
                rv = mbedtls_x509write_crt_pem(&w, pem, sizeof pem, pki_random, NULL);
        if (rv) {
                rc = pki_fail(e, rv, "cannot make the CA certificate");
                goto out;
        }
        *out_cert_pem = mem_strdup((const char *)pem);
        if (!*out_cert_pem)
                rc = err_set(e, E_NOMEM, "no memory for the CA certificate");
out:
        mbedtls_x509write_crt_free(&w);
        mbedtls_pk_free(&pk);
        return rc;
}

/* One GeneralName, written backwards as mbedTLS does. */
static int put_name(unsigned char **p, unsigned char *start, int kind, const void *value, size_t n)
{
        int len = mbedtls_asn1_write_raw_buffer(p, start, value, n), rv;

        if (len < 0)
                return len;
        rv = mbedtls_asn1_write_len(p, start, n);
        if (rv < 0)
                return rv;
        len += rv;
        rv = mbedtls_asn1_write_tag(p, start, (unsigned char)(MBEDTLS_ASN1_CONTEXT_SPECIFIC | kind));
        return rv < 0 ? rv : len + rv;
}

static bool is_host_name(const char *s)
{
        size_t n = strlen(s);

        if (n == 0 || n > 253 || s[0] == '.' || s[0] == '-')
                return false;
        return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == n;
}

static int put_hosts(unsigned char **p, unsigned char *start, const char *const *hosts, struct err *e)
{
        int total = 0, rv;
        size_t n = 0;

        while (hosts && hosts[n])
                n++;
        if (n > HOSTS_MAX)
                return err_set(e, E_TOOBIG, "a certificate names at most %d hosts", HOSTS_MAX);
        /* DER is written from its end: the last host first, so that the certificate keeps their order. */
        for (size_t i = n; i-- > 0;) {
                uint8_t ip[16];
                size_t ip_len = x509_parse_ip(hosts[i], ip);

                if (!ip_len && !is_host_name(hosts[i]))
                        return err_set(e, E_INVAL, "\"%.200s\" is neither a host name nor an IP address",
                                       hosts[i]);
                rv = ip_len ? put_name(p, start, X509_SAN_IP, ip, ip_len)
                            : put_name(p, start, X509_SAN_DNS, hosts[i], strlen(hosts[i]));
                if (rv < 0)
                        return pki_fail(e, rv, "too many host names for one certificate");
                total += rv;
        }
        return total;
}

/* mbedTLS 2.28 cannot write these: build the extension's value by hand. */
static int set_sans(mbedtls_x509write_cert *w, const struct pki_issue *what, struct err *e)
{
        unsigned char der[8192], *p = der + sizeof der;
        int len = 0, rv;

        if (what->uri) {
                len = put_name(&p, der, X509_SAN_URI, what->uri, strlen(what->uri));
                if (len < 0)
                        return pki_fail(e, len, "the URI does not fit the certificate");
        }
        rv = put_hosts(&p, der, what->hosts, e);
        if (rv < 0)
                return rv;
        len += rv;
        if (len == 0)
                return 0;
        rv = mbedtls_asn1_write_len(&p, der, (size_t)len);
        if (rv > 0) {
                len += rv;
                rv = mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
        }
        if (rv > 0) {
                len += rv;
                rv = mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                         MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, p,
                                                         (size_t)len);
        }
        return rv < 0 ? pki_fail(e, rv, "cannot write the certificate's names") : 0;
}

static int set_purpose(mbedtls_x509write_cert *w, enum pki_purpose purpose)
{
        /* ExtKeyUsageSyntax of one OID: 1.3.6.1.5.5.7.3.1 (server), .2 (client) or
         * .3 (signer), RFC 5280 section 4.2.1.12.
         */
        unsigned char eku[] = {0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06,
                               0x01, 0x05, 0x05, 0x07, 0x03, (unsigned char)(purpose + 1)};
        int rv = mbedtls_x509write_crt_set_key_usage(w, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);

        if (rv == 0)
                rv = mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                                         MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                                         eku, sizeof eku);
        return rv;
}

struct issuing {
        mbedtls_x509_crt ca;
        mbedtls_pk_context ca_key, own;
        mbedtls_x509_csr csr;
        mbedtls_x509write_cert w;
};

/* The issuer must be the CA's subject, byte for byte. */
static int copy_issuer(struct issuing *i, struct err *e)
{
        for (const mbedtls_x509_name *a = &i->ca.subject; a; a = a->next) {
                mbedtls_asn1_named_data *item = mbedtls_asn1_store_named_data(
                        &i->w.issuer, (const char *)a->oid.p, a->oid.len, a->val.p, a->val.len);

                if (!item)
                        return err_set(e, E_NOMEM, "no memory for a name");
                item->val.tag = a->val.tag;
        }
        return 0;
}

static int load_all(struct issuing *i, const char *ca_cert_pem, const char *ca_key_pem,
                    const struct pki_issue *what, const uint8_t *csr_der, size_t csr_len, const char *key_pem,
                    struct err *e)
{
        int rc = pki_load_key(ca_key_pem, &i->ca_key, e), rv;

        if (rc)
                return rc;
        rv = mbedtls_x509_crt_parse(&i->ca, (const uint8_t *)ca_cert_pem, strlen(ca_cert_pem) + 1);
        if (rv)
                return pki_fail(e, rv, "the CA certificate is damaged");
        if (mbedtls_pk_check_pair(&i->ca.pk, &i->ca_key) != 0)
                return err_set(e, E_INVAL, "the CA's certificate and key do not belong together");
        rc = csr_der ? pki_load_csr(csr_der, csr_len, &i->csr, e) : pki_load_key(key_pem, &i->own, e);
        if (rc == 0)
                rc = pki_set_cn(&i->w.subject, what->cn, e);
        return rc ? rc : copy_issuer(i, e);
}

static int write_cert(struct issuing *i, const struct pki_issue *what, bool from_csr, char serial[41],
                      uint8_t *der, size_t cap, struct err *e)
{
        mbedtls_x509write_cert *w = &i->w;
        int rv, rc;

        mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
        mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
        mbedtls_x509write_crt_set_subject_key(w, from_csr ? &i->csr.pk : &i->own);
        mbedtls_x509write_crt_set_issuer_key(w, &i->ca_key);
        rv = set_serial(w, serial);
        if (rv == 0)
                rv = set_times(w, what->not_before_us, what->not_after_us);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_basic_constraints(w, 0, -1);
        if (rv == 0)
                rv = set_purpose(w, what->purpose);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_subject_key_identifier(w);
        if (rv == 0)
                rv = mbedtls_x509write_crt_set_authority_key_identifier(w);
        if (rv)
                return pki_fail(e, rv, "cannot make the certificate");
        rc = set_sans(w, what, e);
        if (rc)
                return rc;
        rv = mbedtls_x509write_crt_der(w, der, cap, pki_random, NULL);
        return rv < 0 ? pki_fail(e, rv, "cannot sign the certificate") : rv;
}

int pki_issue(const char *ca_cert_pem, const char *ca_key_pem, const struct pki_issue *what,
              const uint8_t *csr_der, size_t csr_len, const char *key_pem, uint8_t **out_der, size_t *out_len,
              char out_serial_hex[41], struct err *e)
{
        struct issuing i;
        uint8_t der[PKI_DER_MAX];
        char serial[41];
        int rc;

        memset(&i, 0, sizeof i);
        mbedtls_x509_crt_init(&i.ca);
        mbedtls_pk_init(&i.ca_key);
        mbedtls_pk_init(&i.own);
        mbedtls_x509_csr_init(&i.csr);
        mbedtls_x509write_crt_init(&i.w);
        rc = load_all(&i, ca_cert_pem, ca_key_pem, what, csr_der, csr_len, key_pem, e);
        if (rc == 0)
                rc = write_cert(&i, what, csr_der != NULL, serial, der, sizeof der, e);
        if (rc > 0)
                rc = pki_give(der + sizeof der - rc, (size_t)rc, out_der, out_len, e);
        if (rc == 0 && out_serial_hex)
                memcpy(out_serial_hex, serial, sizeof serial);
        mbedtls_x509write_crt_free(&i.w);
        mbedtls_x509_csr_free(&i.csr);
        mbedtls_pk_free(&i.own);
        mbedtls_pk_free(&i.ca_key);
        mbedtls_x509_crt_free(&i.ca);
        return rc;
}
