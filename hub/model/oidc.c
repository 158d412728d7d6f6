#include "hub/model/oidc.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

static const char *text_of(const cJSON *o, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

static bool time_of(const cJSON *o, const char *key, double *out)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble < 0 || v->valuedouble > 1e15)
                return false;
        *out = v->valuedouble;
        return true;
}

/* Ours must be among them; where there are several, azp says for whom it was made (3.1.3.7, 3 to 5). */
static bool audience_is(const cJSON *claims, const char *client_id)
{
        const cJSON *aud = cJSON_GetObjectItemCaseSensitive(claims, "aud"), *a;
        const cJSON *azp = cJSON_GetObjectItemCaseSensitive(claims, "azp");
        bool ours = false;

        if (cJSON_IsString(aud))
                ours = strcmp(aud->valuestring, client_id) == 0;
        if (cJSON_IsArray(aud))
                cJSON_ArrayForEach(a, aud) ours |=
                        cJSON_IsString(a) && strcmp(a->valuestring, client_id) == 0;
        if (!ours)
                return false;
        if (azp)
                return cJSON_IsString(azp) && strcmp(azp->valuestring, client_id) == 0;
        return !cJSON_IsArray(aud) || cJSON_GetArraySize(aud) == 1;
}

static int fail(const char **code, const char *which, struct err *e, const char *why)
{
        *code = which;
        return err_set(e, E_DENIED, "%s", why);
}

static int check_times(const cJSON *claims, const struct oidc_expect *x, const char **code, struct err *e)
{
        double exp, iat, nbf, now = (double)x->now_s;

        if (!time_of(claims, "exp", &exp) || !time_of(claims, "iat", &iat))
                return fail(code, "token_claims", e,
                            "the identity token does not say when it was made and ends");
        if (exp + OIDC_SKEW_S <= now)
                return fail(code, "token_expired", e, "the identity token has expired: log in again");
        if (iat + OIDC_AGE_MAX_S <= now)
                return fail(code, "token_expired", e, "the identity token is too old: log in again");
        if (iat - OIDC_SKEW_S > now)
                return fail(code, "token_not_yet_valid", e,
                            "the identity token is from the future: compare the clocks of hub and provider");
        if (cJSON_GetObjectItemCaseSensitive(claims, "nbf")) {
                if (!time_of(claims, "nbf", &nbf))
                        return fail(code, "token_claims", e, "the identity token's nbf is no time");
                if (nbf - OIDC_SKEW_S > now)
                        return fail(code, "token_not_yet_valid", e, "the identity token is not valid yet");
        }
        return 0;
}

int oidc_check(const cJSON *claims, const struct oidc_expect *x, const char **code, struct err *e)
{
        const char *iss = text_of(claims, "iss"), *sub = text_of(claims, "sub"),
                   *nonce = text_of(claims, "nonce");

        if (!iss || strcmp(iss, x->issuer) != 0)
                return fail(code, "token_issuer", e, "the identity token is another issuer's");
        if (!audience_is(claims, x->client_id))
                return fail(code, "token_audience", e, "the identity token was made for another program");
        if (!sub || !*sub || strlen(sub) > OIDC_SUBJECT_MAX || strchr(sub, '\n'))
                return fail(code, "token_claims", e, "the identity token does not say who it is about");
        if (x->nonce && (!nonce || strcmp(nonce, x->nonce) != 0))
                return fail(code, "token_nonce", e, "the identity token answers another login");
        return check_times(claims, x, code, e);
}

/* ---- roles ---- */

static int bad_rule(const char *text, struct err *e)
{
        return err_set(
                e, E_INVAL,
                "\"%.100s\" is no rule for roles: CLAIM=VALUE:PROJECT=ROLE, e.g. groups=ops:web=operator",
                text);
}

static bool take(char *out, size_t cap, const char *from, const char *to)
{
        size_t n = (size_t)(to - from);

        if (!n || n >= cap)
                return false;
        memcpy(out, from, n);
        out[n] = '\0';
        return true;
}

/* From its end, since a value may hold anything. */
int oidc_rule_parse(const char *text, struct oidc_rule *out, struct err *e)
{
        struct oidc_rule r = {0};
        const char *value = strchr(text, '='), *role = strrchr(text, '='), *colon = NULL;

        if (!value || role == value)
                return bad_rule(text, e);
        for (const char *p = value; p < role; p++)
                if (*p == ':')
                        colon = p;
        if (!colon || !take(r.claim, sizeof r.claim, text, value) ||
            !take(r.value, sizeof r.value, value + 1, colon) ||
            !take(r.project, sizeof r.project, colon + 1, role))
                return bad_rule(text, e);
        if (role_parse(role + 1, &r.role))
                return err_set(e, E_INVAL,
                               "\"%.100s\": a role is client, operator, technical-operator or admin", text);
        if (strcmp(r.project, PROJECT_ALL) != 0 && !project_name_ok(r.project))
                return err_set(e, E_INVAL, "\"%.100s\": '%s' is no project's name", text, r.project);
        *out = r;
        return 0;
}

/* "a.b": the member of that name, or b of the object a. */
static const cJSON *claim_of(const cJSON *claims, const char *path)
{
        char first[64];
        const char *dot;
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(claims, path);

        while (!v && cJSON_IsObject(claims) && (dot = strchr(path, '.'))) {
                if (!take(first, sizeof first, path, dot))
                        return NULL;
                claims = cJSON_GetObjectItemCaseSensitive(claims, first);
                path = dot + 1;
                v = cJSON_IsObject(claims) ? cJSON_GetObjectItemCaseSensitive(claims, path) : NULL;
        }
        return v;
}

static bool holds(const cJSON *claim, const char *value)
{
        const cJSON *v;
        int n = 0;

        if (cJSON_IsString(claim))
                return strcmp(claim->valuestring, value) == 0;
        if (cJSON_IsBool(claim))
                return strcmp(cJSON_IsTrue(claim) ? "true" : "false", value) == 0;
        if (!cJSON_IsArray(claim))
                return false;
        cJSON_ArrayForEach(v, claim)
        {
                if (n++ == OIDC_GROUPS_MAX)
                        return false;
                if (cJSON_IsString(v) && strcmp(v->valuestring, value) == 0)
                        return true;
        }
        return false;
}

void oidc_roles(const cJSON *claims, const struct oidc_rule *rules, size_t n, struct roles *out)
{
        *out = (struct roles){0};
        for (size_t i = 0; i < n; i++) {
                const struct oidc_rule *r = &rules[i];

                if (strcmp(r->value, "*") == 0 || holds(claim_of(claims, r->claim), r->value))
                        (void)roles_give(out, r->project,
                                         r->role); /* more projects than one can have: none */
        }
}
