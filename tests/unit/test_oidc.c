/* Tokens of identity providers: which are believed, which not and why, and the roles that they give. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/model/oidc.h"
#include "tests/lib/jwt_maker.h"
#include "tests/lib/test.h"

#define RS "{\"alg\":\"RS256\",\"kid\":\"r1\"}"
#define ES "{\"alg\":\"ES256\",\"kid\":\"e1\"}"

struct provider {
        struct maker_key rsa, ec, stranger;
        struct jwks *keys;
};

static struct jwks *keys_of(const char *a, const char *b)
{
        char *text = str_printf("{\"keys\":[%s%s%s]}", a, b ? "," : "", b ? b : "");
        struct jwks *k = NULL;
        struct err e = {0};

        if (jwks_parse(text, strlen(text), &k, &e))
                test_fail(__FILE__, __LINE__, "%s: %.300s", e.msg, text);
        mem_free(text);
        return k;
}

static void start(struct provider *p)
{
        char *a, *b;

        maker_key_init(&p->rsa, MAKER_RSA, "r1");
        maker_key_init(&p->ec, MAKER_EC, "e1");
        maker_key_init(&p->stranger, MAKER_EC, "e1");
        a = maker_jwk(&p->rsa, ",\"use\":\"sig\",\"alg\":\"RS256\"");
        b = maker_jwk(&p->ec, "");
        p->keys = keys_of(a, b);
        CHECK_INT(jwks_count(p->keys), 2);
        mem_free(a);
        mem_free(b);
}

static void stop(struct provider *p)
{
        jwks_free(p->keys);
        maker_key_fini(&p->rsa);
        maker_key_fini(&p->ec);
        maker_key_fini(&p->stranger);
}

/* Takes the token. */
static enum jwt_fault verify(const struct provider *p, char *token)
{
        cJSON *claims = NULL;
        struct err e = {0};
        enum jwt_fault f = jwt_verify(token, strlen(token), p->keys, &claims, &e);

        CHECK((f == JWT_OK) == (claims != NULL));
        CHECK((f == JWT_OK) == (e.msg[0] == '\0'));
        cJSON_Delete(claims);
        mem_free(token);
        return f;
}

TEST(jwt, what_the_provider_signed_is_believed)
{
        struct provider p;
        char *t;
        cJSON *claims = NULL;

        start(&p);
        t = maker_token(&p.rsa, RS, "{\"sub\":\"ann\"}");
        CHECK_INT(jwt_verify(t, strlen(t), p.keys, &claims, NULL), JWT_OK);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(claims, "sub")), "ann");
        cJSON_Delete(claims);
        mem_free(t);
        CHECK_INT(verify(&p, maker_token(&p.ec, ES, "{}")), JWT_OK);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":\"RS256\"}", "{}")),
                  JWT_OK); /* no kid: any of its kind */
        stop(&p);
}

TEST(jwt, no_other_algorithm)
{
        struct provider p;
        char *none, *jwk;
        struct err e = {0};
        cJSON *claims = NULL;

        start(&p);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":\"none\",\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":\"None\",\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":5,\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":\"RS512\",\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        /* The public key as the secret of an HMAC: the oldest trick there is. */
        jwk = maker_jwk(&p.rsa, "");
        CHECK_INT(verify(&p, maker_hmac_token(jwk, strlen(jwk), "{\"alg\":\"HS256\",\"kid\":\"r1\"}", "{}")),
                  JWT_ALGORITHM);
        mem_free(jwk);
        /* The header says one thing, the key is for another. */
        CHECK_INT(verify(&p, maker_token(&p.rsa, "{\"alg\":\"ES256\",\"kid\":\"r1\"}", "{}")), JWT_ALGORITHM);
        CHECK_INT(verify(&p, maker_token(&p.ec, "{\"alg\":\"RS256\",\"kid\":\"e1\"}", "{}")), JWT_ALGORITHM);
        none = str_printf("%s..", "eyJhbGciOiJub25lIn0");
        CHECK_INT(jwt_verify(none, strlen(none), p.keys, &claims, &e), JWT_MALFORMED);
        mem_free(none);
        stop(&p);
}

TEST(jwt, a_changed_token_does_not_hold)
{
        struct provider p;
        char *t, *other;

        start(&p);
        t = maker_token(&p.ec, ES, "{\"sub\":\"ann\"}");
        other = maker_token(&p.ec, ES, "{\"sub\":\"eve\"}");
        /* The claims of one under the signature of the other. */
        memcpy(strchr(t, '.'), strchr(other, '.'), (size_t)(strrchr(other, '.') - strchr(other, '.')));
        CHECK_INT(verify(&p, t), JWT_SIGNATURE);
        mem_free(other);
        CHECK_INT(verify(&p, maker_token(&p.stranger, ES, "{}")),
                  JWT_SIGNATURE); /* the same id, another key */
        CHECK_INT(verify(&p, maker_token(&p.ec, "{\"alg\":\"ES256\",\"kid\":\"e2\"}", "{}")),
                  JWT_KEY_UNKNOWN);
        CHECK_INT(
                verify(&p, maker_token(&p.ec, "{\"alg\":\"ES256\",\"kid\":\"e1\",\"crit\":[\"b64\"]}", "{}")),
                JWT_MALFORMED);
        stop(&p);
}

TEST(jwt, each_byte_of_a_token_counts)
{
        struct provider p;
        char *t;
        cJSON *claims;

        start(&p);
        t = maker_token(&p.ec, ES, "{\"sub\":\"ann\"}");
        for (size_t i = 0; t[i]; i++) {
                char was = t[i];

                claims = NULL;
                t[i] = was == 'A' ? 'B' : 'A';
                if (jwt_verify(t, strlen(t), p.keys, &claims, NULL) == JWT_OK)
                        test_fail(__FILE__, __LINE__, "byte %zu may be anything", i);
                t[i] = was;
        }
        for (size_t n = 0; n < strlen(t); n++) {
                claims = NULL;
                CHECK(jwt_verify(t, n, p.keys, &claims, NULL) != JWT_OK);
        }
        mem_free(t);
        stop(&p);
}

TEST(jwt, keys_that_are_no_good_are_left_out)
{
        struct maker_key small, ec;
        char *s, *e1, *enc;
        struct jwks *k;
        struct err e = {0};

        maker_key_init(&small, MAKER_SMALL_RSA, "s");
        maker_key_init(&ec, MAKER_EC, "e1");
        s = maker_jwk(&small, "");
        enc = maker_jwk(&ec, ",\"use\":\"enc\"");
        k = keys_of(s, enc);
        CHECK_INT(jwks_count(k), 0);
        jwks_free(k);
        e1 = maker_jwk(&ec, ",\"alg\":\"ES384\"");
        k = keys_of(e1, "{\"kty\":\"oct\",\"k\":\"AAAA\"},{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\","
                        "\"y\":\"AA\"},{},7,null");
        CHECK_INT(jwks_count(k), 0);
        jwks_free(k);
        mem_free(e1);
        /* A point that is not on the curve. */
        e1 = maker_jwk(&ec, "");
        char *y = strstr(e1, "\"y\":\"") + 5;
        y[3] = y[3] == 'A' ? 'B' : 'A';
        k = keys_of(e1, NULL);
        CHECK_INT(jwks_count(k), 0);
        jwks_free(k);
        CHECK_INT(jwks_parse("{}", 2, &k, &e), -E_INVAL);
        CHECK_INT(jwks_parse("[]", 2, &k, &e), -E_INVAL);
        CHECK_INT(jwks_parse("{\"keys\":{}}", 11, &k, &e), -E_INVAL);
        CHECK_INT(jwks_parse("nonsense", 8, &k, &e), -E_INVAL);
        mem_free(e1);
        mem_free(s);
        mem_free(enc);
        maker_key_fini(&small);
        maker_key_fini(&ec);
}

/* ---- claims ---- */

#define NOW 1800000000

static const char *check(const char *claims, const char *nonce)
{
        const struct oidc_expect x = {
                .issuer = "https://id.example", .client_id = "photon", .nonce = nonce, .now_s = NOW};
        cJSON *c = NULL;
        const char *code = "ok";
        struct err e = {0};

        if (json_parse(claims, strlen(claims), &c, &e))
                test_fail(__FILE__, __LINE__, "%s", claims);
        if (oidc_check(c, &x, &code, &e) == 0)
                code = "ok";
        cJSON_Delete(c);
        return code;
}

#define ISS   "\"iss\":\"https://id.example\","
#define AUD   "\"aud\":\"photon\","
#define SUB   "\"sub\":\"u1\","
#define TIMES "\"iat\":1799999990,\"exp\":1800000300"

TEST(oidc, who_it_is_from_and_for)
{
        CHECK_STR(check("{" ISS AUD SUB TIMES "}", NULL), "ok");
        CHECK_STR(check("{" AUD SUB TIMES "}", NULL), "token_issuer");
        CHECK_STR(check("{\"iss\":\"https://id.example/\"," AUD SUB TIMES "}", NULL), "token_issuer");
        CHECK_STR(check("{\"iss\":[\"https://id.example\"]," AUD SUB TIMES "}", NULL), "token_issuer");
        CHECK_STR(check("{" ISS SUB TIMES "}", NULL), "token_audience");
        CHECK_STR(check("{" ISS "\"aud\":\"other\"," SUB TIMES "}", NULL), "token_audience");
        CHECK_STR(check("{" ISS "\"aud\":[]," SUB TIMES "}", NULL), "token_audience");
        CHECK_STR(check("{" ISS "\"aud\":[\"photon\"]," SUB TIMES "}", NULL), "ok");
        CHECK_STR(check("{" ISS "\"aud\":[\"photon\",\"x\"]," SUB TIMES "}", NULL), "token_audience");
        CHECK_STR(check("{" ISS "\"aud\":[\"photon\",\"x\"],\"azp\":\"photon\"," SUB TIMES "}", NULL), "ok");
        CHECK_STR(check("{" ISS AUD "\"azp\":\"x\"," SUB TIMES "}", NULL), "token_audience");
        CHECK_STR(check("{" ISS AUD TIMES "}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD "\"sub\":\"\"," TIMES "}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD "\"sub\":\"a\\nb\"," TIMES "}", NULL), "token_claims");
}

TEST(oidc, when)
{
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000,\"exp\":1799999941}", NULL),
                  "ok"); /* clocks differ */
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000,\"exp\":1799999940}", NULL), "token_expired");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000,\"exp\":0}", NULL), "token_expired");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000,\"exp\":-5}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000,\"exp\":\"1900000000\"}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799999000}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD SUB "\"exp\":1800000300}", NULL), "token_claims");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1799000000,\"exp\":1900000000}", NULL), "token_expired");
        CHECK_STR(check("{" ISS AUD SUB "\"iat\":1800000061,\"exp\":1800000300}", NULL),
                  "token_not_yet_valid");
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nbf\":1800000060}", NULL), "ok");
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nbf\":1800000061}", NULL), "token_not_yet_valid");
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nbf\":\"soon\"}", NULL), "token_claims");
}

TEST(oidc, which_login)
{
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nonce\":\"n1\"}", "n1"), "ok");
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nonce\":\"n2\"}", "n1"), "token_nonce");
        CHECK_STR(check("{" ISS AUD SUB TIMES "}", "n1"), "token_nonce");
        CHECK_STR(check("{" ISS AUD SUB TIMES ",\"nonce\":\"n2\"}", NULL), "ok");
}

/* ---- roles ---- */

static struct roles roles_for(const char *claims, const char *const *rules)
{
        struct oidc_rule r[8];
        struct roles out;
        struct err e = {0};
        cJSON *c = NULL;
        size_t n = 0;

        for (; rules[n]; n++)
                if (oidc_rule_parse(rules[n], &r[n], &e))
                        test_fail(__FILE__, __LINE__, "%s", e.msg);
        CHECK_INT(json_parse(claims, strlen(claims), &c, &e), 0);
        oidc_roles(c, r, n, &out);
        cJSON_Delete(c);
        return out;
}

TEST(oidc, claims_become_roles)
{
        static const char *const rules[] = {"groups=ops:web=operator",           "groups=root:*=admin",
                                            "realm_access.roles=dev:web=client", "email=ann@x:y:ops=client",
                                            "verified=true:shop=client",         NULL};
        struct roles r = roles_for("{\"groups\":[\"staff\",\"ops\"]}", rules);

        CHECK_INT(roles_in(&r, "web"), ROLE_OPERATOR);
        CHECK_INT(roles_in(&r, "*"), ROLE_NONE);
        r = roles_for("{\"groups\":\"root\"}", rules);
        CHECK_INT(roles_in(&r, "anything"), ROLE_ADMIN);
        r = roles_for("{\"realm_access\":{\"roles\":[\"dev\"]}}", rules);
        CHECK_INT(roles_in(&r, "web"), ROLE_CLIENT);
        r = roles_for("{\"email\":\"ann@x:y\",\"verified\":true}", rules);
        CHECK_INT(roles_in(&r, "ops"), ROLE_CLIENT);
        CHECK_INT(roles_in(&r, "shop"), ROLE_CLIENT);
        r = roles_for("{\"groups\":[\"op\",\"opsx\",5,null,{\"ops\":1}],\"realm_access\":\"dev\"}", rules);
        CHECK_INT(roles_best(&r), ROLE_NONE);
        r = roles_for("{}", (const char *const[]){"sub=*:web=client", NULL});
        CHECK_INT(roles_in(&r, "web"), ROLE_CLIENT);
}

TEST(oidc, rules_that_are_none)
{
        static const char *const bad[] = {"",
                                          "groups",
                                          "groups=ops",
                                          "groups=ops:web",
                                          "=ops:web=client",
                                          "groups=:web=client",
                                          "groups=ops:=client",
                                          "groups=ops:web=",
                                          "groups=ops:web=god",
                                          "groups=ops:w b=client",
                                          "groups=ops:web=none"};
        struct oidc_rule r;
        struct err e = {0};

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (oidc_rule_parse(bad[i], &r, &e) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" is taken for a rule", bad[i]);
}
