/* Certificates as this CA writes them, and everything that must be refused. */
#include <arpa/inet.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/x509.h"
#include "tests/lib/test.h"

#define SEC 1000000LL
#define T0  (1700000000LL * SEC)

struct ca {
        char *key, *cert;
};

static struct ca make_ca(const char *cn)
{
        struct ca ca;
        struct err e = {0};

        CHECK_INT(pki_key_make(&ca.key, &e), 0);
        CHECK_INT(pki_ca_make(ca.key, cn, T0, T0 + 1000 * SEC, &ca.cert, &e), 0);
        return ca;
}

static void free_ca(struct ca *ca)
{
        pki_free_secret(ca->key);
        mem_free(ca->cert);
}

static const char *const hosts[] = {"hub.example.org", "127.0.0.1", "::1", "localhost", NULL};

static void issue(const struct ca *ca, enum pki_purpose purpose, const char *key, uint8_t **der, size_t *n,
                  char serial[41])
{
        struct pki_issue what = {.purpose = purpose,
                                 .cn = "agent, \"one\" = \\ two",
                                 .hosts = purpose == PKI_SERVER ? hosts : NULL,
                                 .uri = "photon:agent:01abc",
                                 .not_before_us = T0,
                                 .not_after_us = T0 + 100 * SEC};
        struct err e = {0};

        CHECK_INT(pki_issue(ca->cert, ca->key, &what, NULL, 0, key, der, n, serial, &e), 0);
}

TEST(pki, certificate_says_what_was_asked)
{
        struct ca ca = make_ca("PHOTON CA");
        struct pki_info info;
        struct err e = {0};
        char *key, serial[41];
        uint8_t *der;
        size_t n;

        CHECK_INT(pki_key_make(&key, &e), 0);
        issue(&ca, PKI_CLIENT, key, &der, &n, serial);
        CHECK_INT(pki_cert_info(der, n, &info, &e), 0);
        CHECK_STR(info.cn, "agent, \"one\" = \\ two");
        CHECK_STR(info.uri, "photon:agent:01abc");
        CHECK_STR(info.serial_hex, serial);
        CHECK_INT(strlen(serial), 32);
        CHECK_INT(info.not_before_us, T0);
        CHECK_INT(info.not_after_us, T0 + 100 * SEC);
        CHECK(info.client_auth && !info.server_auth && !info.is_ca);
        mem_free(der);
        issue(&ca, PKI_SERVER, key, &der, &n, serial);
        CHECK_INT(pki_cert_info(der, n, &info, &e), 0);
        CHECK(info.server_auth && !info.client_auth);
        mem_free(der);
        CHECK_INT(pki_pem_to_der("CERTIFICATE", ca.cert, &der, &n, &e), 0);
        CHECK_INT(pki_cert_info(der, n, &info, &e), 0);
        CHECK(info.is_ca);
        CHECK_STR(info.cn, "PHOTON CA");
        mem_free(der);
        pki_free_secret(key);
        free_ca(&ca);
}

TEST(pki, names_are_found_and_only_those)
{
        struct ca ca = make_ca("PHOTON CA");
        mbedtls_x509_crt crt;
        char *key, serial[41];
        uint8_t *der;
        size_t n;

        CHECK_INT(pki_key_make(&key, NULL), 0);
        issue(&ca, PKI_SERVER, key, &der, &n, serial);
        mbedtls_x509_crt_init(&crt);
        CHECK_INT(mbedtls_x509_crt_parse_der(&crt, der, n), 0);
        CHECK(x509_has_name(&crt, "hub.example.org"));
        CHECK(x509_has_name(&crt, "HUB.Example.org"));
        CHECK(x509_has_name(&crt, "hub.example.org."));
        CHECK(x509_has_name(&crt, "127.0.0.1"));
        CHECK(x509_has_name(&crt, "::1"));
        CHECK(x509_has_name(&crt, "0:0:0:0:0:0:0:1"));
        CHECK(x509_has_name(&crt, "localhost"));
        CHECK(!x509_has_name(&crt, "example.org"));
        CHECK(!x509_has_name(&crt, "xhub.example.org"));
        CHECK(!x509_has_name(&crt, "127.0.0.2"));
        CHECK(!x509_has_name(&crt, "::2"));
        CHECK(!x509_has_name(&crt, ""));
        CHECK(!x509_has_name(&crt, "."));
        CHECK(!x509_has_name(&crt, "agent, \"one\" = \\ two")); /* the common name is no host name */
        mbedtls_x509_crt_free(&crt);
        mem_free(der);
        pki_free_secret(key);
        free_ca(&ca);
}

TEST(pki, verify_refuses_what_it_must)
{
        struct ca ca = make_ca("PHOTON CA"), other = make_ca("PHOTON CA");
        struct err e = {0};
        char *key, serial[41];
        uint8_t *der;
        size_t n;

        CHECK_INT(pki_key_make(&key, &e), 0);
        issue(&ca, PKI_CLIENT, key, &der, &n, serial);
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_CLIENT, T0 + SEC, &e), 0);
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_SERVER, T0 + SEC, &e), -E_DENIED);
        CHECK_STR(e.msg, "the certificate is not meant for a server");
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_CLIENT, T0 - SEC, &e), -E_DENIED);
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_CLIENT, T0 + 101 * SEC, &e), -E_DENIED);
        CHECK_STR(e.msg, "the certificate has expired");
        CHECK_INT(pki_cert_verify(der, n, other.cert, PKI_CLIENT, T0 + SEC, &e), -E_DENIED);
        CHECK_STR(e.msg, "the certificate was not signed by this CA");
        der[n - 5] ^= 1; /* the signature */
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_CLIENT, T0 + SEC, &e), -E_DENIED);
        CHECK_INT(pki_cert_verify(der, n / 2, ca.cert, PKI_CLIENT, T0 + SEC, &e), -E_INVAL);
        CHECK_INT(pki_cert_verify((const uint8_t *)"junk", 4, ca.cert, PKI_CLIENT, T0, &e), -E_INVAL);
        mem_free(der);
        pki_free_secret(key);
        free_ca(&ca);
        free_ca(&other);
}

TEST(pki, a_leaf_cannot_act_as_a_ca)
{
        struct ca ca = make_ca("PHOTON CA"), fake;
        struct err e = {0};
        char *key, serial[41];
        uint8_t *leaf, *der;
        size_t leaf_n, n;

        CHECK_INT(pki_key_make(&key, &e), 0);
        issue(&ca, PKI_CLIENT, key, &leaf, &leaf_n, serial);
        CHECK_INT(pki_der_to_pem("CERTIFICATE", leaf, leaf_n, &fake.cert), 0);
        fake.key = key;
        issue(&fake, PKI_CLIENT, key, &der, &n, serial);
        CHECK_INT(pki_cert_verify(der, n, ca.cert, PKI_CLIENT, T0 + SEC, &e), -E_DENIED);
        mem_free(der);
        mem_free(leaf);
        mem_free(fake.cert);
        pki_free_secret(key);
        free_ca(&ca);
}

TEST(pki, csr_proves_its_key)
{
        struct ca ca = make_ca("PHOTON CA");
        struct pki_issue what = {
                .purpose = PKI_CLIENT, .cn = "a1", .not_before_us = T0, .not_after_us = T0 + SEC};
        struct err e = {0};
        char *key;
        uint8_t *csr, *der, h1[32], h2[32], h3[32];
        size_t csr_n, n;

        CHECK_INT(pki_key_make(&key, &e), 0);
        CHECK_INT(pki_csr_make(key, "ignored", &csr, &csr_n, &e), 0);
        CHECK_INT(pki_issue(ca.cert, ca.key, &what, csr, csr_n, NULL, &der, &n, NULL, &e), 0);
        CHECK_INT(pki_key_spki_sha256(key, h1, &e), 0);
        CHECK_INT(pki_csr_spki_sha256(csr, csr_n, h2, &e), 0);
        CHECK_INT(pki_cert_spki_sha256(der, n, h3, &e), 0);
        CHECK(memcmp(h1, h2, 32) == 0 && memcmp(h1, h3, 32) == 0);
        mem_free(der);
        csr[csr_n - 5] ^= 1;
        CHECK_INT(pki_issue(ca.cert, ca.key, &what, csr, csr_n, NULL, &der, &n, NULL, &e), -E_DENIED);
        for (size_t cut = 0; cut < csr_n; cut += 7)
                CHECK(pki_issue(ca.cert, ca.key, &what, csr, cut, NULL, &der, &n, NULL, &e) < 0);
        mem_free(csr);
        pki_free_secret(key);
        free_ca(&ca);
}

TEST(pki, signature_is_bound_to_key_and_message)
{
        struct err e = {0};
        char *key, *other;
        uint8_t *csr, *csr2, *sig;
        size_t n, n2, sn;

        CHECK_INT(pki_key_make(&key, &e), 0);
        CHECK_INT(pki_key_make(&other, &e), 0);
        CHECK_INT(pki_csr_make(key, "a", &csr, &n, &e), 0);
        CHECK_INT(pki_csr_make(other, "a", &csr2, &n2, &e), 0);
        CHECK_INT(pki_sign(key, "message", 7, &sig, &sn, &e), 0);
        CHECK_INT(pki_csr_verify_sig(csr, n, "message", 7, sig, sn, &e), 0);
        CHECK_INT(pki_csr_verify_sig(csr, n, "messagf", 7, sig, sn, &e), -E_DENIED);
        CHECK_INT(pki_csr_verify_sig(csr2, n2, "message", 7, sig, sn, &e), -E_DENIED);
        CHECK_INT(pki_csr_verify_sig(csr, n, "message", 7, sig, sn - 1, &e), -E_DENIED);
        CHECK_INT(pki_csr_verify_sig(csr, n, "message", 7, sig, 0, &e), -E_DENIED);
        mem_free(csr);
        mem_free(csr2);
        mem_free(sig);
        pki_free_secret(key);
        pki_free_secret(other);
}

TEST(pki, bad_arguments_are_refused)
{
        struct ca ca = make_ca("PHOTON CA"), other = make_ca("PHOTON CA");
        const char *const bad_hosts[] = {"no spaces here", NULL};
        struct pki_issue what = {.purpose = PKI_SERVER,
                                 .cn = "x",
                                 .hosts = bad_hosts,
                                 .not_before_us = T0,
                                 .not_after_us = T0 + SEC};
        struct err e = {0};
        uint8_t *der;
        size_t n;
        char *pem;

        CHECK_INT(pki_issue(ca.cert, ca.key, &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        what.hosts = NULL;
        what.cn = "";
        CHECK_INT(pki_issue(ca.cert, ca.key, &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        what.cn = "line\nbreak";
        CHECK_INT(pki_issue(ca.cert, ca.key, &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        what.cn = "x";
        what.not_after_us = -1;
        CHECK_INT(pki_issue(ca.cert, ca.key, &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        what.not_after_us = T0 + SEC;
        CHECK_INT(pki_issue(ca.cert, other.key, &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        CHECK_INT(pki_issue(ca.cert, "junk", &what, NULL, 0, ca.key, &der, &n, NULL, &e), -E_INVAL);
        CHECK_INT(pki_pem_to_der("CERTIFICATE", "junk", &der, &n, &e), -E_INVAL);
        CHECK_INT(pki_der_to_pem("X", (const uint8_t *)"abc", 3, &pem), 0);
        CHECK_INT(pki_pem_to_der("X", pem, &der, &n, &e), 0);
        CHECK(n == 3 && memcmp(der, "abc", 3) == 0);
        mem_free(der);
        mem_free(pem);
        free_ca(&ca);
        free_ca(&other);
}

TEST(pki, times_read_back_over_the_whole_calendar)
{
        mbedtls_x509_time t = {1970, 1, 1, 0, 0, 0};

        CHECK_INT(x509_time_us(&t), 0);
        t = (mbedtls_x509_time){2000, 2, 29, 12, 30, 59};
        CHECK_INT(x509_time_us(&t), 951827459LL * SEC);
        t = (mbedtls_x509_time){2026, 11, 20, 0, 0, 0};
        CHECK_INT(x509_time_us(&t), 1795132800LL * SEC);
        t = (mbedtls_x509_time){2100, 3, 1, 0, 0, 0};
        CHECK_INT(x509_time_us(&t), 4107542400LL * SEC);
}

static int everything(void *arg)
{
        const struct ca *ca = arg;
        struct pki_issue what = {
                .purpose = PKI_CLIENT, .cn = "a", .not_before_us = T0, .not_after_us = T0 + SEC};
        char *key = NULL, *cert = NULL, *pem = NULL;
        uint8_t *csr = NULL, *der = NULL, *sig = NULL;
        size_t n = 0, dn = 0, sn = 0;
        struct err e = {0};
        int rc = pki_key_make(&key, &e);

        if (rc == 0)
                rc = pki_ca_make(key, "x", T0, T0 + SEC, &cert, &e);
        if (rc == 0)
                rc = pki_csr_make(key, "x", &csr, &n, &e);
        if (rc == 0)
                rc = pki_issue(ca->cert, ca->key, &what, csr, n, NULL, &der, &dn, NULL, &e);
        if (rc == 0)
                rc = pki_sign(key, "m", 1, &sig, &sn, &e);
        if (rc == 0)
                rc = pki_der_to_pem("CERTIFICATE", der, dn, &pem);
        pki_free_secret(key);
        mem_free(cert);
        mem_free(csr);
        mem_free(der);
        mem_free(sig);
        mem_free(pem);
        return rc;
}

TEST(pki, running_out_of_memory_is_only_an_error)
{
        struct ca ca = make_ca("PHOTON CA");

        test_each_alloc_fails(everything, &ca);
        free_ca(&ca);
}
