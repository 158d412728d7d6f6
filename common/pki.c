/* Keys, signing requests, signatures, and reading certificates. */
#include "common/pki.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/sha256.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/pki_impl.h"
#include "common/secret.h"
#include "common/str.h"
#include "common/x509.h"

int pki_fail(struct err *e, int mbed_rv, const char *what)
{
        if (mbed_rv == MBEDTLS_ERR_PK_ALLOC_FAILED || mbed_rv == MBEDTLS_ERR_X509_ALLOC_FAILED ||
            mbed_rv == MBEDTLS_ERR_MPI_ALLOC_FAILED || mbed_rv == MBEDTLS_ERR_ECP_ALLOC_FAILED ||
            mbed_rv == MBEDTLS_ERR_PEM_ALLOC_FAILED)
                return err_set(e, E_NOMEM, "no memory: %s", what);
        return err_set(e, E_INVAL, "%s (code -0x%04x)", what, (unsigned)-mbed_rv);
}

int pki_load_key(const char *pem, mbedtls_pk_context *pk, struct err *e)
{
        int rv = mbedtls_pk_parse_key(pk, (const uint8_t *)pem, strlen(pem) + 1, NULL, 0);

        if (rv)
                return pki_fail(e, rv, "the private key is damaged");
        return pki_check_p256(pk, e);
}

int pki_check_p256(const mbedtls_pk_context *pk, struct err *e)
{
        if (mbedtls_pk_get_type(pk) != MBEDTLS_PK_ECKEY ||
            mbedtls_pk_ec(*pk)->grp.id != MBEDTLS_ECP_DP_SECP256R1)
                return err_set(e, E_INVAL, "not an ECDSA P-256 key");
        return 0;
}

int pki_key_make(char **out_key_pem, struct err *e)
{
        unsigned char pem[512];
        mbedtls_pk_context pk;
        char *copy = NULL;
        int rv;

        mbedtls_pk_init(&pk);
        rv = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
        if (rv == 0)
                rv = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), pki_random, NULL);
        if (rv == 0)
                rv = mbedtls_pk_write_key_pem(&pk, pem, sizeof pem);
        if (rv == 0)
                copy = mem_strdup((const char *)pem);
        mbedtls_pk_free(&pk);
        mem_wipe(pem, sizeof pem);
        if (rv)
                return pki_fail(e, rv, "cannot make a key");
        if (!copy)
                return err_set(e, E_NOMEM, "no memory for a key");
        *out_key_pem = copy;
        return 0;
}

void pki_free_secret(char *pem)
{
        if (pem)
                mem_wipe(pem, strlen(pem));
        mem_free(pem);
}

/* --- public key hashes --- */

static int spki_sha256(mbedtls_pk_context *pk, uint8_t out[32], struct err *e)
{
        uint8_t der[256];
        int n = mbedtls_pk_write_pubkey_der(pk, der, sizeof der); /* written at the end of der */

        if (n < 0)
                return pki_fail(e, n, "cannot write the public key");
        secret_sha256(der + sizeof der - n, (size_t)n, out);
        return 0;
}

int pki_key_spki_sha256(const char *key_pem, uint8_t out[32], struct err *e)
{
        mbedtls_pk_context pk;
        int rc;

        mbedtls_pk_init(&pk);
        rc = pki_load_key(key_pem, &pk, e);
        if (rc == 0)
                rc = spki_sha256(&pk, out, e);
        mbedtls_pk_free(&pk);
        return rc;
}

int pki_csr_spki_sha256(const uint8_t *csr, size_t n, uint8_t out[32], struct err *e)
{
        mbedtls_x509_csr req;
        int rc;

        mbedtls_x509_csr_init(&req);
        rc = pki_load_csr(csr, n, &req, e);
        if (rc == 0)
                rc = spki_sha256(&req.pk, out, e);
        mbedtls_x509_csr_free(&req);
        return rc;
}

int pki_cert_spki_sha256(const uint8_t *der, size_t n, uint8_t out[32], struct err *e)
{
        mbedtls_x509_crt crt;
        int rc;

        mbedtls_x509_crt_init(&crt);
        rc = pki_load_cert(der, n, &crt, e);
        if (rc == 0)
                rc = spki_sha256(&crt.pk, out, e);
        mbedtls_x509_crt_free(&crt);
        return rc;
}

/* --- signing requests --- */

bool pki_cert_names(const char *cert_pem, const char *host)
{
        mbedtls_x509_crt crt;
        bool named;

        mbedtls_x509_crt_init(&crt);
        named = mbedtls_x509_crt_parse(&crt, (const uint8_t *)cert_pem, strlen(cert_pem) + 1) == 0 &&
                x509_has_name(&crt, host);
        mbedtls_x509_crt_free(&crt);
        return named;
}

int pki_load_csr(const uint8_t *csr, size_t n, mbedtls_x509_csr *out, struct err *e)
{
        uint8_t hash[SHA256_LEN];
        int rv;

        if (n > PKI_DER_MAX)
                return err_set(e, E_TOOBIG, "a certificate request of %zu bytes is too large", n);
        rv = mbedtls_x509_csr_parse_der(out, csr, n);
        if (rv)
                return pki_fail(e, rv, "the certificate request is damaged");
        rv = pki_check_p256(&out->pk, e);
        if (rv)
                return rv;
        if (out->sig_md != MBEDTLS_MD_SHA256)
                return err_set(e, E_INVAL, "the certificate request is not signed with SHA-256");
        /* Proof that whoever asks holds the key. */
        secret_sha256(out->cri.p, out->cri.len, hash);
        if (mbedtls_pk_verify(&out->pk, MBEDTLS_MD_SHA256, hash, sizeof hash, out->sig.p, out->sig.len) != 0)
                return err_set(e, E_DENIED, "the certificate request is not signed by its own key");
        return 0;
}

/* Stored as it is: mbedTLS's own text form of names cannot carry every character. */
int pki_set_cn(mbedtls_asn1_named_data **list, const char *cn, struct err *e)
{
        size_t n = strlen(cn);
        mbedtls_asn1_named_data *item;

        if (n == 0 || n > 64 || !str_is_utf8(cn, n))
                return err_set(e, E_INVAL, "a common name has 1 to 64 bytes of UTF-8");
        for (const char *p = cn; *p; p++) {
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return err_set(e, E_INVAL, "a common name has no control characters");
        }
        item = mbedtls_asn1_store_named_data(list, MBEDTLS_OID_AT_CN, MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN),
                                             (const unsigned char *)cn, n);
        if (!item)
                return err_set(e, E_NOMEM, "no memory for a name");
        item->val.tag = MBEDTLS_ASN1_UTF8_STRING;
        return 0;
}

int pki_csr_make(const char *key_pem, const char *cn, uint8_t **out_der, size_t *out_len, struct err *e)
{
        mbedtls_x509write_csr w;
        mbedtls_pk_context pk;
        uint8_t der[1024];
        int rc, n = 0;

        mbedtls_pk_init(&pk);
        mbedtls_x509write_csr_init(&w);
        rc = pki_load_key(key_pem, &pk, e);
        if (rc == 0)
                rc = pki_set_cn(&w.subject, cn, e);
        if (rc)
                goto out;
        mbedtls_x509write_csr_set_md_alg(&w, MBEDTLS_MD_SHA256);
        mbedtls_x509write_csr_set_key(&w, &pk);
        n = mbedtls_x509write_csr_der(&w, der, sizeof der, pki_random, NULL);
        if (n < 0) {
                rc = pki_fail(e, n, "cannot make a certificate request");
                goto out;
        }
        rc = pki_give(der + sizeof der - n, (size_t)n, out_der, out_len, e);
out:
        mbedtls_x509write_csr_free(&w);
        mbedtls_pk_free(&pk);
        return rc;
}

/* --- certificates --- */

int pki_load_cert(const uint8_t *der, size_t n, mbedtls_x509_crt *out, struct err *e)
{
        int rv;

        if (n > PKI_DER_MAX)
                return err_set(e, E_TOOBIG, "a certificate of %zu bytes is too large", n);
        rv = mbedtls_x509_crt_parse_der(out, der, n);
        return rv ? pki_fail(e, rv, "the certificate is damaged") : 0;
}

static void copy_cn(const mbedtls_x509_crt *crt, char *out, size_t cap)
{
        for (const mbedtls_x509_name *a = &crt->subject; a; a = a->next) {
                size_t n = a->val.len < cap - 1 ? a->val.len : cap - 1;

                if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &a->oid) != 0)
                        continue;
                memcpy(out, a->val.p, n);
                out[n] = '\0';
                return;
        }
}

/* "" unless it fits whole and has no NUL: a cut-off identity is another one. */
static void copy_uri(const mbedtls_x509_crt *crt, char *out, size_t cap)
{
        size_t it = 0, n;
        const uint8_t *p;
        int kind;

        while (x509_san_next(crt, &it, &kind, &p, &n)) {
                if (kind != X509_SAN_URI)
                        continue;
                if (n < cap && !memchr(p, '\0', n)) {
                        memcpy(out, p, n);
                        out[n] = '\0';
                }
                return;
        }
}

static void info_from(const mbedtls_x509_crt *crt, struct pki_info *out)
{
        const uint8_t *serial = crt->serial.p;
        size_t n = crt->serial.len;

        memset(out, 0, sizeof *out);
        copy_cn(crt, out->cn, sizeof out->cn);
        copy_uri(crt, out->uri, sizeof out->uri);
        while (n > 1 && *serial == 0) {
                serial++; /* DER's sign byte */
                n--;
        }
        str_hex(serial, n < 20 ? n : 20, out->serial_hex);
        out->not_before_us = x509_time_us(&crt->valid_from);
        out->not_after_us = x509_time_us(&crt->valid_to);
        out->is_ca = crt->ca_istrue != 0;
        out->server_auth = x509_is_server(crt);
        out->client_auth = x509_is_client(crt);
}

int pki_cert_info(const uint8_t *der, size_t n, struct pki_info *out, struct err *e)
{
        mbedtls_x509_crt crt;
        int rc;

        mbedtls_x509_crt_init(&crt);
        rc = pki_load_cert(der, n, &crt, e);
        if (rc == 0)
                info_from(&crt, out);
        mbedtls_x509_crt_free(&crt);
        return rc;
}

static int check_verified(const mbedtls_x509_crt *crt, uint32_t flags, enum pki_purpose p, int64_t now_us,
                          struct err *e)
{
        /* Times are judged below, by the clock that was handed in. */
        flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
        if (flags)
                return err_set(e, E_DENIED, "the certificate was not signed by this CA");
        if (now_us < x509_time_us(&crt->valid_from))
                return err_set(e, E_DENIED, "the certificate is not valid yet: compare the clocks");
        if (now_us > x509_time_us(&crt->valid_to))
                return err_set(e, E_DENIED, "the certificate has expired");
        if (p == PKI_SERVER   ? !x509_is_server(crt)
            : p == PKI_CLIENT ? !x509_is_client(crt)
                              : !x509_is_signer(crt))
                return err_set(e, E_DENIED, "the certificate is not meant for a %s",
                               p == PKI_SERVER   ? "server"
                               : p == PKI_CLIENT ? "client"
                                                 : "signer of steps");
        return 0;
}

int pki_cert_verify(const uint8_t *der, size_t n, const char *ca_pem, enum pki_purpose p, int64_t now_us,
                    struct err *e)
{
        mbedtls_x509_crt crt, ca;
        uint32_t flags = 0;
        int rc, rv;

        mbedtls_x509_crt_init(&crt);
        mbedtls_x509_crt_init(&ca);
        rc = pki_load_cert(der, n, &crt, e);
        if (rc)
                goto out;
        rv = mbedtls_x509_crt_parse(&ca, (const uint8_t *)ca_pem, strlen(ca_pem) + 1);
        if (rv) {
                rc = pki_fail(e, rv, "the CA certificate is damaged");
                goto out;
        }
        rv = mbedtls_x509_crt_verify_with_profile(&crt, &ca, NULL, &pki_profile, NULL, &flags, NULL, NULL);
        if (rv && rv != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
                rc = pki_fail(e, rv, "cannot verify the certificate");
        else
                rc = check_verified(&crt, flags, p, now_us, e);
out:
        mbedtls_x509_crt_free(&crt);
        mbedtls_x509_crt_free(&ca);
        return rc;
}

/* --- signatures --- */

int pki_sign(const char *key_pem, const void *msg, size_t n, uint8_t **out_sig, size_t *out_len,
             struct err *e)
{
        uint8_t hash[SHA256_LEN], sig[MBEDTLS_ECDSA_MAX_LEN];
        mbedtls_pk_context pk;
        size_t len = 0;
        int rc, rv;

        mbedtls_pk_init(&pk);
        rc = pki_load_key(key_pem, &pk, e);
        if (rc == 0) {
                secret_sha256(msg, n, hash);
                rv = mbedtls_pk_sign(&pk, MBEDTLS_MD_SHA256, hash, sizeof hash, sig, &len, pki_random, NULL);
                rc = rv ? pki_fail(e, rv, "cannot sign") : pki_give(sig, len, out_sig, out_len, e);
        }
        mbedtls_pk_free(&pk);
        return rc;
}

int pki_csr_verify_sig(const uint8_t *csr, size_t csr_len, const void *msg, size_t n, const uint8_t *sig,
                       size_t sn, struct err *e)
{
        uint8_t hash[SHA256_LEN];
        mbedtls_x509_csr req;
        int rc;

        mbedtls_x509_csr_init(&req);
        rc = pki_load_csr(csr, csr_len, &req, e);
        if (rc == 0) {
                secret_sha256(msg, n, hash);
                if (mbedtls_pk_verify(&req.pk, MBEDTLS_MD_SHA256, hash, sizeof hash, sig, sn) != 0)
                        rc = err_set(e, E_DENIED,
                                     "the signature is not by the key of the certificate request");
        }
        mbedtls_x509_csr_free(&req);
        return rc;
}

int pki_cert_verify_sig(const uint8_t *der, size_t n, const void *msg, size_t mn, const uint8_t *sig,
                        size_t sn, struct err *e)
{
        uint8_t hash[SHA256_LEN];
        mbedtls_x509_crt crt;
        int rc;

        mbedtls_x509_crt_init(&crt);
        rc = pki_load_cert(der, n, &crt, e);
        if (rc == 0) {
                secret_sha256(msg, mn, hash);
                if (mbedtls_pk_verify(&crt.pk, MBEDTLS_MD_SHA256, hash, sizeof hash, sig, sn) != 0)
                        rc = err_set(e, E_DENIED, "the signature is not by the key of the certificate");
        }
        mbedtls_x509_crt_free(&crt);
        return rc;
}

/* --- PEM --- */

int pki_give(const uint8_t *p, size_t n, uint8_t **out, size_t *out_len, struct err *e)
{
        uint8_t *copy = mem_dup(p, n);

        if (!copy)
                return err_set(e, E_NOMEM, "no memory for %zu bytes", n);
        *out = copy;
        *out_len = n;
        return 0;
}

int pki_der_to_pem(const char *label, const uint8_t *der, size_t n, char **out_pem)
{
        char begin[64], end[64];
        size_t cap = n / 3 * 4 + n / 40 + 256, len = 0;
        char *pem;

        if (n > PKI_DER_MAX)
                return -E_TOOBIG;
        snprintf(begin, sizeof begin, "-----BEGIN %s-----\n", label);
        snprintf(end, sizeof end, "-----END %s-----\n", label);
        pem = mem_alloc(cap);
        if (!pem)
                return -E_NOMEM;
        if (mbedtls_pem_write_buffer(begin, end, der, n, (unsigned char *)pem, cap, &len) != 0) {
                mem_free(pem);
                return -E_INTERNAL;
        }
        *out_pem = pem;
        return 0;
}

int pki_pem_to_der(const char *label, const char *pem, uint8_t **out, size_t *out_len, struct err *e)
{
        char begin[64], end[64];
        mbedtls_pem_context ctx;
        size_t used = 0;
        int rv, rc;

        snprintf(begin, sizeof begin, "-----BEGIN %s-----", label);
        snprintf(end, sizeof end, "-----END %s-----", label);
        mbedtls_pem_init(&ctx);
        rv = mbedtls_pem_read_buffer(&ctx, begin, end, (const unsigned char *)pem, NULL, 0, &used);
        if (rv)
                rc = err_set(e, E_INVAL, "no intact \"%s\" block in the PEM text", label);
        else
                rc = pki_give(ctx.buf, ctx.buflen, out, out_len, e);
        mbedtls_pem_free(&ctx);
        return rc;
}
