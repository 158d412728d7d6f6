#include "common/jwt.h"

#include <mbedtls/ecdsa.h>
#include <mbedtls/rsa.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#define P256_LEN 32
/* Claims of a provider are a handful; a token of hundreds is no sign-in. */
#define PARTS 3

enum alg { ALG_RS256, ALG_ES256 };

struct jwk {
        char kid[JWT_KID_MAX + 1]; /* "": none */
        enum alg alg;
        mbedtls_rsa_context rsa;
        mbedtls_ecp_point point;
};

struct jwks {
        mbedtls_ecp_group p256;
        size_t n;
        struct jwk keys[JWKS_KEYS_MAX];
};

const char *jwt_fault_code(enum jwt_fault f)
{
        static const char *const codes[JWT_FAULTS] = {
                [JWT_OK] = "ok",
                [JWT_MALFORMED] = "token_malformed",
                [JWT_ALGORITHM] = "token_algorithm",
                [JWT_KEY_UNKNOWN] = "token_key_unknown",
                [JWT_SIGNATURE] = "token_signature",
                [JWT_NO_MEMORY] = "unavailable",
        };

        return (unsigned)f < JWT_FAULTS ? codes[f] : "token_malformed";
}

static const char *text_of(const cJSON *o, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

/* ---- keys ---- */

static int number_of(const cJSON *o, const char *key, size_t min, size_t max, uint8_t **out, size_t *out_n)
{
        const char *s = text_of(o, key);

        if (!s || str_unb64url(s, strlen(s), out, out_n))
                return -E_INVAL;
        if (*out_n >= min && *out_n <= max)
                return 0;
        mem_free(*out);
        *out = NULL;
        return -E_INVAL;
}

static int read_rsa(const cJSON *o, struct jwk *k)
{
        uint8_t *n = NULL, *x = NULL;
        size_t n_len = 0, x_len = 0;
        int rc = number_of(o, "n", JWT_RSA_MIN, JWT_RSA_MAX, &n, &n_len);

        if (!rc)
                rc = number_of(o, "e", 1, 8, &x, &x_len);
        if (!rc && (mbedtls_rsa_import_raw(&k->rsa, n, n_len, NULL, 0, NULL, 0, NULL, 0, x, x_len) ||
                    mbedtls_rsa_complete(&k->rsa) || mbedtls_rsa_check_pubkey(&k->rsa) ||
                    mbedtls_rsa_get_len(&k->rsa) < JWT_RSA_MIN))
                rc = -E_INVAL;
        mem_free(n);
        mem_free(x);
        return rc;
}

static int read_ec(const cJSON *o, const mbedtls_ecp_group *p256, struct jwk *k)
{
        const char *crv = text_of(o, "crv");
        uint8_t *x = NULL, *y = NULL, point[1 + 2 * P256_LEN] = {4};
        size_t x_len = 0, y_len = 0;
        int rc = crv && strcmp(crv, "P-256") == 0 ? 0 : -E_INVAL;

        if (!rc)
                rc = number_of(o, "x", P256_LEN, P256_LEN, &x, &x_len);
        if (!rc)
                rc = number_of(o, "y", P256_LEN, P256_LEN, &y, &y_len);
        if (!rc) {
                memcpy(point + 1, x, P256_LEN);
                memcpy(point + 1 + P256_LEN, y, P256_LEN);
                if (mbedtls_ecp_point_read_binary(p256, &k->point, point, sizeof point) ||
                    mbedtls_ecp_check_pubkey(p256, &k->point))
                        rc = -E_INVAL;
        }
        mem_free(x);
        mem_free(y);
        return rc;
}

static bool is_for_signing(const cJSON *o, const char *alg)
{
        const char *use = text_of(o, "use"), *said = text_of(o, "alg");
        const cJSON *ops = cJSON_GetObjectItemCaseSensitive(o, "key_ops"), *op;
        bool verifies = !ops;

        cJSON_ArrayForEach(op, ops) verifies |= cJSON_IsString(op) && strcmp(op->valuestring, "verify") == 0;
        return verifies && (!use || strcmp(use, "sig") == 0) && (!said || strcmp(said, alg) == 0);
}

/* -E_INVAL: one that is not for us. */
static int read_key(const cJSON *o, const mbedtls_ecp_group *p256, struct jwk *k)
{
        const char *kty = text_of(o, "kty"), *kid = text_of(o, "kid");

        if (!kty || (kid && strlen(kid) > JWT_KID_MAX))
                return -E_INVAL;
        if (kid)
                memcpy(k->kid, kid, strlen(kid) + 1);
        if (strcmp(kty, "RSA") == 0 && is_for_signing(o, "RS256")) {
                k->alg = ALG_RS256;
                return read_rsa(o, k);
        }
        if (strcmp(kty, "EC") == 0 && is_for_signing(o, "ES256")) {
                k->alg = ALG_ES256;
                return read_ec(o, p256, k);
        }
        return -E_INVAL;
}

static void jwk_init(struct jwk *k)
{
        memset(k, 0, sizeof *k);
        mbedtls_rsa_init(&k->rsa, MBEDTLS_RSA_PKCS_V15, MBEDTLS_MD_NONE);
        mbedtls_ecp_point_init(&k->point);
}

static void jwk_fini(struct jwk *k)
{
        mbedtls_rsa_free(&k->rsa);
        mbedtls_ecp_point_free(&k->point);
}

int jwks_parse(const char *text, size_t n, struct jwks **out, struct err *e)
{
        const cJSON *list, *o;
        cJSON *doc = NULL;
        struct jwks *k;
        int rc;

        if (n > JWKS_MAX)
                return err_set(e, E_TOOBIG, "the provider's keys are larger than %u bytes", JWKS_MAX);
        rc = json_parse(text, n, &doc, e);
        if (rc)
                return rc;
        list = cJSON_GetObjectItemCaseSensitive(doc, "keys");
        if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > JWKS_KEYS_MAX) {
                cJSON_Delete(doc);
                return err_set(e, E_INVAL, "the provider's keys are no list \"keys\" of at most %d",
                               JWKS_KEYS_MAX);
        }
        k = mem_calloc(1, sizeof *k);
        if (!k) {
                cJSON_Delete(doc);
                return err_set(e, E_NOMEM, "out of memory");
        }
        mbedtls_ecp_group_init(&k->p256);
        if (mbedtls_ecp_group_load(&k->p256, MBEDTLS_ECP_DP_SECP256R1)) {
                jwks_free(k);
                cJSON_Delete(doc);
                return err_set(e, E_NOMEM, "out of memory");
        }
        cJSON_ArrayForEach(o, list)
        {
                struct jwk *one = &k->keys[k->n];

                jwk_init(one);
                if (read_key(o, &k->p256, one) == 0)
                        k->n++;
                else
                        jwk_fini(one);
        }
        cJSON_Delete(doc);
        *out = k;
        return 0;
}

void jwks_free(struct jwks *k)
{
        if (!k)
                return;
        for (size_t i = 0; i < k->n; i++)
                jwk_fini(&k->keys[i]);
        mbedtls_ecp_group_free(&k->p256);
        mem_free(k);
}

size_t jwks_count(const struct jwks *k)
{
        return k->n;
}

/* ---- tokens ---- */

/* The three parts between the dots, none of them empty. */
static bool split(const char *token, size_t n, const char *part[PARTS], size_t len[PARTS])
{
        for (int i = 0; i < PARTS; i++) {
                const char *dot = memchr(token, '.', n);
                size_t here = dot ? (size_t)(dot - token) : n;

                if (!here || (i < PARTS - 1) != (dot != NULL))
                        return false;
                part[i] = token;
                len[i] = here;
                token += here + 1;
                n -= here + (dot != NULL);
        }
        return true;
}

static enum jwt_fault decode(const char *p, size_t n, cJSON **out, struct err *e)
{
        uint8_t *raw = NULL;
        size_t len = 0;
        int rc = str_unb64url(p, n, &raw, &len);

        if (!rc)
                rc = json_parse((const char *)raw, len, out, NULL);
        mem_free(raw);
        if (rc == -E_NOMEM)
                return JWT_NO_MEMORY;
        if (rc || !cJSON_IsObject(*out)) {
                err_set(e, E_INVAL, "the identity token is no JSON Web Token");
                return JWT_MALFORMED;
        }
        return JWT_OK;
}

static enum jwt_fault read_header(const cJSON *h, enum alg *alg, const char **kid, struct err *e)
{
        const char *name = text_of(h, "alg");

        *kid = text_of(h, "kid");
        /* An extension that must be understood, and is not. */
        if (cJSON_GetObjectItemCaseSensitive(h, "crit")) {
                err_set(e, E_INVAL, "the identity token asks for extensions (crit) that are not known here");
                return JWT_MALFORMED;
        }
        if (name && strcmp(name, "RS256") == 0) {
                *alg = ALG_RS256;
                return JWT_OK;
        }
        if (name && strcmp(name, "ES256") == 0) {
                *alg = ALG_ES256;
                return JWT_OK;
        }
        err_set(e, E_DENIED, "the identity token is signed with '%.32s'; only RS256 and ES256 are accepted",
                name ? name : "nothing");
        return JWT_ALGORITHM;
}

static bool signature_holds(const struct jwks *ks, const struct jwk *k, const uint8_t hash[SHA256_LEN],
                            const uint8_t *sig, size_t n)
{
        mbedtls_ecp_group group;
        mbedtls_mpi r, s;
        bool ok;

        if (k->alg == ALG_RS256) {
                mbedtls_rsa_context *rsa = (mbedtls_rsa_context *)&k->rsa;

                return n == mbedtls_rsa_get_len(rsa) &&
                       mbedtls_rsa_pkcs1_verify(rsa, NULL, NULL, MBEDTLS_RSA_PUBLIC, MBEDTLS_MD_SHA256,
                                                SHA256_LEN, hash, sig) == 0;
        }
        if (n != 2 * P256_LEN)
                return false;
        /* A group of its own: the shared one keeps tables that it fills while it is used. */
        mbedtls_ecp_group_init(&group);
        mbedtls_mpi_init(&r);
        mbedtls_mpi_init(&s);
        ok = mbedtls_ecp_group_copy(&group, &ks->p256) == 0 &&
             mbedtls_mpi_read_binary(&r, sig, P256_LEN) == 0 &&
             mbedtls_mpi_read_binary(&s, sig + P256_LEN, P256_LEN) == 0 &&
             mbedtls_ecdsa_verify(&group, hash, SHA256_LEN, &k->point, &r, &s) == 0;
        mbedtls_mpi_free(&r);
        mbedtls_mpi_free(&s);
        mbedtls_ecp_group_free(&group);
        return ok;
}

/* The key of this id; a token without an id may be by any of its algorithm. */
static enum jwt_fault check_signature(const struct jwks *ks, enum alg alg, const char *kid,
                                      const uint8_t hash[SHA256_LEN], const uint8_t *sig, size_t n,
                                      struct err *e)
{
        bool named = false, tried = false;

        for (size_t i = 0; i < ks->n; i++) {
                const struct jwk *k = &ks->keys[i];

                if (kid && strcmp(k->kid, kid) != 0)
                        continue;
                named = true;
                if (k->alg != alg)
                        continue;
                tried = true;
                if (signature_holds(ks, k, hash, sig, n))
                        return JWT_OK;
        }
        if (!named) {
                err_set(e, E_DENIED, "the identity provider has no key '%.64s'", kid ? kid : "");
                return JWT_KEY_UNKNOWN;
        }
        err_set(e, E_DENIED,
                tried ? "the identity token's signature does not hold"
                      : "the identity token is signed otherwise than its key is for");
        return tried ? JWT_SIGNATURE : JWT_ALGORITHM;
}

enum jwt_fault jwt_verify(const char *token, size_t n, const struct jwks *keys, cJSON **out_claims,
                          struct err *e)
{
        const char *part[PARTS], *kid = NULL;
        size_t len[PARTS], sig_len = 0;
        cJSON *header = NULL, *claims = NULL;
        uint8_t hash[SHA256_LEN], *sig = NULL;
        enum alg alg = ALG_RS256;
        enum jwt_fault f;

        if (n > JWT_MAX || memchr(token, 0, n) || !split(token, n, part, len)) {
                err_set(e, E_INVAL, "the identity token is no JSON Web Token");
                return JWT_MALFORMED;
        }
        f = decode(part[0], len[0], &header, e);
        if (f == JWT_OK)
                f = read_header(header, &alg, &kid, e);
        if (f == JWT_OK && str_unb64url(part[2], len[2], &sig, &sig_len)) {
                err_set(e, E_INVAL, "the identity token's signature is not base64url");
                f = JWT_MALFORMED;
        }
        if (f == JWT_OK) {
                secret_sha256(token, (size_t)(part[2] - token) - 1, hash);
                f = check_signature(keys, alg, kid, hash, sig, sig_len, e);
        }
        /* Nothing of it is read before it is known to be the provider's. */
        if (f == JWT_OK)
                f = decode(part[1], len[1], &claims, e);
        if (f == JWT_OK)
                *out_claims = claims;
        else
                cJSON_Delete(claims);
        cJSON_Delete(header);
        mem_free(sig);
        return f;
}
