/* What PHOTON asks of a parsed certificate beyond what mbedTLS 2.28 answers:
 * IP and URI subject alternative names, a purpose that must be stated, times
 * as numbers. Pure reading; any thread. */
#ifndef PHOTON_X509_H
#define PHOTON_X509_H

#include <mbedtls/x509_crt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* GeneralName tags of RFC 5280 section 4.2.1.6. */
#define X509_SAN_DNS 2
#define X509_SAN_URI 6
#define X509_SAN_IP  7

/* Walks the subject alternative names: `size_t it = 0; while (x509_san_next(crt, &it, &kind, &p, &n))`.
 * The bytes are lent by crt. Stops at the first malformed entry. */
bool x509_san_next(const mbedtls_x509_crt *crt, size_t *it, int *out_kind, const uint8_t **out_p,
                   size_t *out_n);

/* `name` is a host name or the text of an IP address and is among the SANs.
 * No wildcards and no fall-back to the common name: PHOTON's CA writes both out. */
bool x509_has_name(const mbedtls_x509_crt *crt, const char *name);

/* The extended key usage is there and names the purpose (RFC 5280 section
 * 4.2.1.12); a certificate without the extension has no purpose. */
bool x509_is_server(const mbedtls_x509_crt *crt);
bool x509_is_client(const mbedtls_x509_crt *crt);
bool x509_is_signer(const mbedtls_x509_crt *crt);

/* Microseconds since 1970 UTC. */
int64_t x509_time_us(const mbedtls_x509_time *t);

/* Fills out[16] and returns 4 or 16 if `s` is the text of an IP address
 * ("127.0.0.1", "::1"), else 0. */
size_t x509_parse_ip(const char *s, uint8_t out[16]);

#endif
