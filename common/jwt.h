/* Signed tokens of an identity provider: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, and the
 * keys they are checked with (RFC 7517). Only signatures by a public key are known: RS256 and ES256. "none",
 * HS256 and whatever else a header may say is refused before anything is computed, and the key decides what
 * it may be used for, not the token. Everything is bounded. Pure; any thread, but one set of keys is one
 * thread's at a time (mbedTLS remembers things in a key that it uses). */
#ifndef PHOTON_JWT_H
#define PHOTON_JWT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define JWT_MAX       (64u << 10)  /* bytes of a token */
#define JWKS_MAX      (256u << 10) /* bytes of a set of keys */
#define JWKS_KEYS_MAX 64
#define JWT_KID_MAX   255
#define JWT_RSA_MIN   256 /* bytes of a modulus: 2048 bits */
#define JWT_RSA_MAX   1024

/* Why a token is not good: each a code that does not change. */
enum jwt_fault {
        JWT_OK,
        JWT_MALFORMED,   /* "token_malformed" */
        JWT_ALGORITHM,   /* "token_algorithm": none, HS256, or another than its key is for */
        JWT_KEY_UNKNOWN, /* "token_key_unknown": no key of this id; it may have been rotated in */
        JWT_SIGNATURE,   /* "token_signature" */
        JWT_NO_MEMORY,
        JWT_FAULTS
};
const char *jwt_fault_code(enum jwt_fault f);

/* A set of keys. Keys of kinds that are not known, or not for signing, are left out; an RSA key that is too
 * small, or a point that is not on its curve, too. -E_INVAL: it is no set, -E_TOOBIG, -E_NOMEM. */
struct jwks;
int jwks_parse(const char *text, size_t n, struct jwks **out, struct err *e);
void jwks_free(struct jwks *k); /* accepts NULL */
size_t jwks_count(const struct jwks *k);

/* Checks form, algorithm and signature; *out_claims are the claims as they are: who must be whom, and when,
 * is asked elsewhere (hub/model/oidc.h). JWT_KEY_UNKNOWN: fetch the keys again, once, and retry. */
enum jwt_fault jwt_verify(const char *token, size_t n, const struct jwks *keys, cJSON **out_claims,
                          struct err *e);

#endif
