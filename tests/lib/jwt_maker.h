/* An identity provider's keys, and tokens signed with them: right ones, and wrong in every way. */
#ifndef PHOTON_TEST_JWT_MAKER_H
#define PHOTON_TEST_JWT_MAKER_H

#include <mbedtls/pk.h>
#include <stdbool.h>

enum maker_kind { MAKER_RSA, MAKER_EC, MAKER_SMALL_RSA };

struct maker_key {
        mbedtls_pk_context pk;
        enum maker_kind kind;
        const char *kid;
};

void maker_key_init(struct maker_key *k, enum maker_kind kind, const char *kid);
void maker_key_fini(struct maker_key *k);
/* {"kty":...} ; extra: more members with a leading comma, or "". mem_free. */
char *maker_jwk(const struct maker_key *k, const char *extra);
/* A signed token; header: as given, e.g. {"alg":"RS256","kid":"a"}. mem_free. */
char *maker_token(struct maker_key *k, const char *header, const char *claims);
/* The same with HMAC-SHA-256 under a key of one's choice. */
char *maker_hmac_token(const void *key, size_t n, const char *header, const char *claims);

#endif
