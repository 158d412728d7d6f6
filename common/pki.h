/* Keys, signing requests and certificates (mbedTLS 2.28, ECDSA P-256).
 * PEM/DER results are mem_free'd by the caller (keys: pki_free_secret). Blocking CPU work of
 * up to a few ms: any thread. */
#ifndef PHOTON_PKI_H
#define PHOTON_PKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum pki_purpose { PKI_SERVER, PKI_CLIENT, PKI_SIGNER };

int pki_key_make(char **out_key_pem, struct err *e);
void pki_free_secret(char *pem); /* wipes, frees */

/* SHA-256 of the SubjectPublicKeyInfo of a private key, CSR, or certificate. */
int pki_key_spki_sha256(const char *key_pem, uint8_t out[32], struct err *e);
int pki_csr_spki_sha256(const uint8_t *csr, size_t n, uint8_t out[32], struct err *e);
int pki_cert_spki_sha256(const uint8_t *der, size_t n, uint8_t out[32], struct err *e);

/* Is `host` (a name or the text of an IP address) among the names that this certificate (PEM) proves? */
bool pki_cert_names(const char *cert_pem, const char *host);

int pki_csr_make(const char *key_pem, const char *cn, uint8_t **out_der, size_t *out_len, struct err *e);

/* Self-signed CA (CA:TRUE pathlen 0, keyCertSign|cRLSign), serial random 128 bits. */
int pki_ca_make(const char *key_pem, const char *cn, int64_t not_before_us, int64_t not_after_us,
                char **out_cert_pem, struct err *e);

struct pki_issue {
        enum pki_purpose purpose; /* sets keyUsage digitalSignature and exactly one extendedKeyUsage */
        const char *cn;
        const char *const *hosts; /* SANs: DNS names and IP addresses (v4, v6), NULL-ended; may be NULL */
        const char *uri;          /* SAN URI, e.g. "photon:agent:<id>"; may be NULL */
        int64_t not_before_us, not_after_us;
};
/* Signs the public key of a CSR (whose self-signature is checked) or of a key. Exactly one of csr_der,
 * key_pem. */
int pki_issue(const char *ca_cert_pem, const char *ca_key_pem, const struct pki_issue *what,
              const uint8_t *csr_der, size_t csr_len, const char *key_pem, uint8_t **out_der, size_t *out_len,
              char out_serial_hex[41], struct err *e);

struct pki_info {
        char cn[128];
        char uri[256]; /* first URI SAN or "" */
        char serial_hex[41];
        int64_t not_before_us, not_after_us;
        bool is_ca, server_auth, client_auth;
};
int pki_cert_info(const uint8_t *der, size_t n, struct pki_info *out, struct err *e);
/* The certificate is signed by the CA and valid now, and has the purpose. -E_DENIED with the reason. */
int pki_cert_verify(const uint8_t *der, size_t n, const char *ca_pem, enum pki_purpose p, int64_t now_us,
                    struct err *e);

int pki_sign(const char *key_pem, const void *msg, size_t n, uint8_t **out_sig, size_t *out_len,
             struct err *e); /* ECDSA-SHA256, DER */
int pki_csr_verify_sig(const uint8_t *csr, size_t csr_len, const void *msg, size_t n, const uint8_t *sig,
                       size_t sn, struct err *e); /* signature over msg by the CSR's key; -E_DENIED */

int pki_cert_verify_sig(const uint8_t *der, size_t n, const void *msg, size_t mn, const uint8_t *sig,
                        size_t sn,
                        struct err *e); /* by the key of a certificate that was verified; -E_DENIED */

int pki_der_to_pem(const char *label, const uint8_t *der, size_t n, char **out_pem); /* "CERTIFICATE" */
int pki_pem_to_der(const char *label, const char *pem, uint8_t **out, size_t *out_len, struct err *e);

#endif
