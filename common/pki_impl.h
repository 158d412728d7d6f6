/* What pki.c and pki_issue.c share. Not for other modules. */
#ifndef PHOTON_PKI_IMPL_H
#define PHOTON_PKI_IMPL_H

#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <stdio.h>

#include "common/pki.h"

#define PKI_DER_MAX 16384 /* largest certificate or request that is looked at */

/* Only what PHOTON's own CA issues: ECDSA P-256 with SHA-256. */
extern const mbedtls_x509_crt_profile pki_profile;

int pki_random(void *ctx, unsigned char *out, size_t n);
int pki_fail(struct err *e, int mbed_rv, const char *what); /* -E_INVAL or -E_NOMEM */
int pki_check_p256(const mbedtls_pk_context *pk, struct err *e);
int pki_load_key(const char *pem, mbedtls_pk_context *pk, struct err *e);
int pki_load_csr(const uint8_t *csr, size_t n, mbedtls_x509_csr *out,
                 struct err *e); /* checks its signature */
int pki_load_cert(const uint8_t *der, size_t n, mbedtls_x509_crt *out, struct err *e);
int pki_set_cn(mbedtls_asn1_named_data **list, const char *cn, struct err *e);
int pki_give(const uint8_t *p, size_t n, uint8_t **out, size_t *out_len, struct err *e);

#endif
