/* Documents and addresses of the provider, without the wire. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/auth/oidc_impl.h"

static const char *text_of(const cJSON *o, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

bool oidc_url_ok(const char *url)
{
        static const char *const here[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};

        for (const char *p = url; *p; p++)
                if ((unsigned char)*p <= ' ' || *p == 127 || *p == '"' || *p == '\\')
                        return false;
        if (strncmp(url, "https://", 8) == 0)
                return url[8] && url[8] != '/';
        for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
                size_t n = strlen(here[i]);

                if (strncmp(url, here[i], n) == 0 && (!url[n] || url[n] == ':' || url[n] == '/'))
                        return true;
        }
        return false;
}

static int endpoint(const cJSON *doc, const char *key, bool needed, char **out, struct err *e)
{
        const char *url = text_of(doc, key);

        if (!url && !needed)
                return 0;
        if (!url || !oidc_url_ok(url))
                return err_set(e, E_INVAL, "the provider's discovery document has no usable %s", key);
        *out = mem_strdup(url);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

int oidc_config_parse(const char *text, size_t n, const char *issuer, struct oidc_config *out, struct err *e)
{
        struct oidc_config c = {0};
        const char *iss;
        cJSON *doc = NULL;
        int rc = json_parse(text, n, &doc, e);

        if (rc)
                return err_set(e, E_INVAL, "the provider's discovery document is no JSON");
        iss = text_of(doc, "issuer");
        /* Discovery, section 4.3: the same, to the letter. */
        if (!iss || strcmp(iss, issuer) != 0)
                rc = err_set(e, E_INVAL, "the discovery document is of issuer '%.100s', not '%.100s'",
                             iss ? iss : "nobody", issuer);
        if (!rc)
                rc = endpoint(doc, "authorization_endpoint", true, &c.authorization, e);
        if (!rc)
                rc = endpoint(doc, "token_endpoint", true, &c.token, e);
        if (!rc)
                rc = endpoint(doc, "jwks_uri", true, &c.jwks, e);
        if (!rc)
                rc = endpoint(doc, "device_authorization_endpoint", false, &c.device, e);
        cJSON_Delete(doc);
        if (rc)
                oidc_config_fini(&c);
        else
                *out = c;
        return rc;
}

void oidc_config_fini(struct oidc_config *c)
{
        mem_free(c->authorization);
        mem_free(c->token);
        mem_free(c->device);
        mem_free(c->jwks);
        *c = (struct oidc_config){0};
}

int form_put(struct buf *b, const char *name, const char *value)
{
        int rc = buf_printf(b, "%s%s=", b->len ? "&" : "", name);

        for (const unsigned char *p = (const unsigned char *)value; !rc && *p; p++) {
                bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                             (*p >= '0' && *p <= '9') || strchr("-._~", *p);

                rc = plain ? buf_putc(b, (char)*p) : buf_printf(b, "%%%02X", *p);
        }
        return rc;
}

char *pkce_challenge(const char *verifier)
{
        uint8_t sha[SHA256_LEN];

        secret_sha256(verifier, strlen(verifier), sha);
        return str_b64url(sha, sizeof sha);
}

void random_secret(char out[OIDC_SECRET_LEN])
{
        uint8_t raw[32];
        char *text;

        id_random(raw, sizeof raw);
        text = str_b64url(raw, sizeof raw);
        if (!text)
                abort(); /* a login without its secret would be everybody's */
        snprintf(out, OIDC_SECRET_LEN, "%s", text);
        mem_free(text);
        mem_wipe(raw, sizeof raw);
}

const char *oidc_error(const cJSON *doc)
{
        const char *s = text_of(doc, "error");

        return s && strlen(s) < 64 ? s : NULL;
}

/* An address that the provider has not checked is anybody's. */
static const char *email_of(const cJSON *claims)
{
        const char *email = text_of(claims, "email");

        if (!email || !strchr(email, '@') || strlen(email) > 200 ||
            cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(claims, "email_verified")))
                return NULL;
        return email;
}

void oidc_person_read(const cJSON *claims, const struct oidc *o, struct oidc_person *out)
{
        const char *name = text_of(claims, "preferred_username");

        *out = (struct oidc_person){.subject = text_of(claims, "sub"), .email = email_of(claims)};
        if (!name || !*name)
                name = out->email;
        if (!name)
                name = text_of(claims, "name");
        out->name = name && *name ? name : out->subject;
        oidc_roles(claims, o->rules, o->n_rules, &out->roles);
}
