#include "tests/lib/jwt_maker.h"

#include <mbedtls/ecdsa.h>
#include <mbedtls/md.h>
#include <mbedtls/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/id.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

static int random_bytes(void *ctx, unsigned char *out, size_t n)
{
        (void)ctx;
        id_random(out, n);
        return 0;
}

static void must(int rc)
{
        if (rc) {
                fprintf(stderr, "jwt_maker: mbedTLS said -0x%x\n", -rc);
                abort();
        }
}

void maker_key_init(struct maker_key *k, enum maker_kind kind, const char *kid)
{
        bool ec = kind == MAKER_EC;

        mbedtls_pk_init(&k->pk);
        must(mbedtls_pk_setup(&k->pk, mbedtls_pk_info_from_type(ec ? MBEDTLS_PK_ECKEY : MBEDTLS_PK_RSA)));
        if (ec)
                must(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(k->pk), random_bytes, NULL));
        else
                must(mbedtls_rsa_gen_key(mbedtls_pk_rsa(k->pk), random_bytes, NULL,
                                         kind == MAKER_SMALL_RSA ? 1024 : 2048, 65537));
        k->kind = kind;
        k->kid = kid;
}

void maker_key_fini(struct maker_key *k)
{
        mbedtls_pk_free(&k->pk);
}

static char *b64_mpi(const mbedtls_mpi *m, size_t n)
{
        uint8_t raw[512];

        must(mbedtls_mpi_write_binary(m, raw, n));
        return str_b64url(raw, n);
}

char *maker_jwk(const struct maker_key *k, const char *extra)
{
        char *a, *b, *out;

        if (k->kind == MAKER_EC) {
                mbedtls_ecp_keypair *ec = mbedtls_pk_ec(k->pk);

                a = b64_mpi(&ec->Q.X, 32);
                b = b64_mpi(&ec->Q.Y, 32);
                out = str_printf(
                        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"%s}",
                        k->kid, a, b, extra);
        } else {
                mbedtls_rsa_context *rsa = mbedtls_pk_rsa(k->pk);

                a = b64_mpi(&rsa->N, mbedtls_rsa_get_len(rsa));
                b = b64_mpi(&rsa->E, mbedtls_mpi_size(&rsa->E));
                out = str_printf("{\"kty\":\"RSA\",\"kid\":\"%s\",\"n\":\"%s\",\"e\":\"%s\"%s}", k->kid, a, b,
                                 extra);
        }
        mem_free(a);
        mem_free(b);
        return out;
}

static char *signing_input(const char *header, const char *claims)
{
        char *h = str_b64url(header, strlen(header)), *c = str_b64url(claims, strlen(claims));
        char *out = str_printf("%s.%s", h, c);

        mem_free(h);
        mem_free(c);
        return out;
}

static char *with_signature(char *input, const uint8_t *sig, size_t n)
{
        char *s = str_b64url(sig, n), *out = str_printf("%s.%s", input, s);

        mem_free(s);
        mem_free(input);
        return out;
}

char *maker_token(struct maker_key *k, const char *header, const char *claims)
{
        char *input = signing_input(header, claims);
        uint8_t hash[SHA256_LEN], sig[512];
        size_t n = 0;

        secret_sha256(input, strlen(input), hash);
        if (k->kind == MAKER_EC) {
                mbedtls_ecp_keypair *ec = mbedtls_pk_ec(k->pk);
                mbedtls_mpi r, s;

                mbedtls_mpi_init(&r);
                mbedtls_mpi_init(&s);
                must(mbedtls_ecdsa_sign(&ec->grp, &r, &s, &ec->d, hash, sizeof hash, random_bytes, NULL));
                must(mbedtls_mpi_write_binary(&r, sig, 32));
                must(mbedtls_mpi_write_binary(&s, sig + 32, 32));
                n = 64;
                mbedtls_mpi_free(&r);
                mbedtls_mpi_free(&s);
        } else {
                must(mbedtls_pk_sign(&k->pk, MBEDTLS_MD_SHA256, hash, sizeof hash, sig, &n, random_bytes,
                                     NULL));
        }
        return with_signature(input, sig, n);
}

char *maker_hmac_token(const void *key, size_t n, const char *header, const char *claims)
{
        char *input = signing_input(header, claims);
        uint8_t mac[SHA256_LEN];

        must(mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), key, n, (const uint8_t *)input,
                             strlen(input), mac));
        return with_signature(input, mac, sizeof mac);
}
