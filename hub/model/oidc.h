/* What an identity token must say before it is believed (OpenID Connect Core 1.0, section 3.1.3.7), and which
 * roles its claims give. Pure: time is handed in. */
#ifndef PHOTON_MODEL_OIDC_H
#define PHOTON_MODEL_OIDC_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/model/roles.h"

struct err;

#define OIDC_SKEW_S      60    /* by which the provider's clock may differ */
#define OIDC_AGE_MAX_S   86400 /* a token that was issued longer ago is stale, whatever its exp says */
#define OIDC_RULES_MAX   256
#define OIDC_SUBJECT_MAX 255  /* section 2: sub has at most 255 characters */
#define OIDC_GROUPS_MAX  1000 /* values of one claim that are looked at */

struct oidc_expect {
        const char *issuer, *client_id;
        const char *nonce; /* NULL: none was asked for (device flow) */
        int64_t now_s;
};

/* 0, or -E_DENIED with one of these codes: "token_issuer", "token_audience", "token_expired",
 * "token_not_yet_valid", "token_nonce", "token_claims". */
int oidc_check(const cJSON *claims, const struct oidc_expect *x, const char **code, struct err *e);

/* "CLAIM=VALUE:PROJECT=ROLE": whoever's claim is VALUE, or a list that holds it, has ROLE in PROJECT ("*":
 * all of them). VALUE "*": whoever logs in. A claim inside of another is written with a dot:
 * realm_access.roles. */
struct oidc_rule {
        char claim[64], value[128];
        char project[PROJECT_NAME_MAX + 1];
        enum role role;
};
int oidc_rule_parse(const char *text, struct oidc_rule *out, struct err *e);
void oidc_roles(const cJSON *claims, const struct oidc_rule *rules, size_t n, struct roles *out);

#endif
