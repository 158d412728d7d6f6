/* "pat_" and 32 random bytes in base64url. The store keeps SHA-256 of the whole text: the
 * secret has 256 random bits, so a plain hash cannot be searched, and a look-up by hash tells an
 * observer of its timing nothing about a token. */
#include "hub/auth/auth.h"

#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/auth/people.h"
#include "hub/model/access.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

#define SECRET_LEN 32
#define TOKEN_LEN  47 /* "pat_" and 43 characters */

static const char prefix[] = "pat_";
static void token_hash(const char *token, char out_hex[2 * SHA256_LEN + 1])
{
        uint8_t h[SHA256_LEN];

        secret_sha256(token, strlen(token), h);
        str_hex(h, sizeof h, out_hex);
}

struct lookup {
        struct store_reader *r;
        const char *hash;
        int64_t now_us;
        struct caller *out;
        bool ok;
        bool refused; /* a row that somebody else has written (struct row_sealed) */
};

/* The token is no more than its user is at this moment. */
static int on_user(void *arg, const struct row_user *u)
{
        struct caller *c = arg;

        if (u->sealed.refused)
                return -E_DENIED;
        if (u->disabled_us)
                return -E_UNAUTH;
        snprintf(c->name, sizeof c->name, "%s", u->name);
        c->service = u->kind && strcmp(u->kind, "service") == 0;
        roles_read(u->roles, &c->roles);
        roles_read(u->idp_roles, &c->roles);
        return 0;
}

static int on_maker(void *arg, const struct row_user *u)
{
        struct caller *c = arg;

        /* Under another name one could approve what one's own token asks for. */
        if (u->sealed.refused)
                return -E_DENIED;
        snprintf(c->maker, sizeof c->maker, "%s", u->name);
        return 0;
}

static int on_row(void *arg, const struct row_api_token *t)
{
        struct lookup *l = arg;
        struct caller *c = l->out;
        enum role role;
        int rc;

        /* Without a hash it was found by its id. */
        if (l->hash && (strlen(t->sha256_hex) != 2 * SHA256_LEN ||
                        !secret_equal(t->sha256_hex, l->hash, 2 * SHA256_LEN)))
                return 0;
        snprintf(c->token_id, sizeof c->token_id, "%s", t->id);
        if (t->sealed.refused) {
                l->refused = true;
                return 0;
        }
        if (t->revoked_us || (t->expires_us && t->expires_us <= l->now_us) || role_parse(t->role, &role) ||
            !t->project)
                return 0;
        snprintf(c->name, sizeof c->name, "%s", t->name);
        snprintf(c->project, sizeof c->project, "%s", t->project);
        c->session = t->kind && strcmp(t->kind, "session") == 0;
        c->permissions = permissions_parse(t->scopes);
        c->expires_us = t->expires_us;
        if (t->user_id) {
                snprintf(c->user_id, sizeof c->user_id, "%s", t->user_id);
                rc = read_user(l->r, t->user_id, on_user, c);
                l->refused = rc == -E_DENIED;
                if (rc == -E_DENIED || rc == -E_NOENT || rc == -E_UNAUTH)
                        return 0;
                if (rc)
                        return rc;
                roles_narrow(&c->roles, t->project, role);
        } else if (roles_give(&c->roles, t->project, role)) {
                return 0;
        }
        if (t->maker_id && (!t->user_id || c->service)) {
                snprintf(c->maker_id, sizeof c->maker_id, "%s", t->maker_id);
                rc = read_user(l->r, t->maker_id, on_maker, c);
                if (rc == -E_DENIED) {
                        l->refused = true;
                        snprintf(c->user_id, sizeof c->user_id, "%s", t->maker_id);
                        return 0;
                }
                if (rc && rc != -E_NOENT)
                        return rc;
        }
        l->ok = true;
        return 0;
}

int auth_check_api_token(struct store_reader *r, const char *token, int64_t now_us, struct caller *out)
{
        char hash[2 * SHA256_LEN + 1];
        struct caller c = {0};
        struct lookup l = {.r = r, .hash = hash, .now_us = now_us, .out = &c};
        int rc;

        if (strlen(token) != TOKEN_LEN || strncmp(token, prefix, sizeof prefix - 1) != 0)
                return -E_UNAUTH;
        token_hash(token, hash);
        rc = read_api_token(r, hash, on_row, &l);
        if (rc && rc != -E_NOENT)
                return rc;
        if (l.refused) {
                *out = (struct caller){0}; /* nobody; but for the log, whose row it is */
                memcpy(out->token_id, c.token_id, sizeof out->token_id);
                memcpy(out->user_id, c.user_id, sizeof out->user_id);
        }
        if (!l.ok)
                return l.refused ? -E_DENIED : -E_UNAUTH;
        *out = c;
        return 0;
}

int auth_recheck_api_token(struct store_reader *r, const char *token_id, int64_t now_us, struct caller *out)
{
        struct caller c = {0};
        struct lookup l = {.r = r, .now_us = now_us, .out = &c};
        int rc = read_api_token_by_id(r, token_id, on_row, &l);

        if (rc && rc != -E_NOENT)
                return rc;
        if (!l.ok)
                return -E_UNAUTH;
        *out = c;
        return 0;
}

/* {"name":...,"role":...,"project":...,"scopes":...} */
static char *audit_detail(const struct new_api_token *t)
{
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;

        if (o && cJSON_AddStringToObject(o, "name", t->name) &&
            cJSON_AddStringToObject(o, "role", role_name(t->role)) &&
            cJSON_AddStringToObject(o, "project", t->project) &&
            (!t->user || cJSON_AddStringToObject(o, "user", t->user)) &&
            (!t->scopes || cJSON_AddStringToObject(o, "scopes", t->scopes)) &&
            (!t->session || cJSON_AddTrueToObject(o, "session")))
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

int auth_api_token_create(struct store_tx *tx, const struct new_api_token *t, int64_t now_us,
                          char out_token[80], char out_id[32])
{
        uint8_t secret[SECRET_LEN];
        char hash[2 * SHA256_LEN + 1], id[ID_LEN];
        char *b64, *detail;

        if (!*t->name || strlen(t->name) >= sizeof((struct caller *)0)->name ||
            !str_is_utf8(t->name, strlen(t->name)) || t->role == ROLE_NONE ||
            (strcmp(t->project, PROJECT_ALL) != 0 && !project_name_ok(t->project)))
                return -E_INVAL;
        id_random(secret, sizeof secret);
        b64 = str_b64url(secret, sizeof secret);
        mem_wipe(secret, sizeof secret);
        detail = audit_detail(t);
        if (!b64 || !detail) {
                pki_free_secret(b64);
                mem_free(detail);
                return -E_NOMEM;
        }
        snprintf(out_token, 80, "%s%s", prefix, b64);
        pki_free_secret(b64);
        token_hash(out_token, hash);
        id_make(now_us, id);
        snprintf(out_id, 32, "%s", id);
        store_put_api_token(tx, &(struct row_api_token){
                                        .id = id,
                                        .sha256_hex = hash,
                                        .name = t->name,
                                        .role = role_name(t->role),
                                        .project = t->project,
                                        .user_id = t->user_id,
                                        .scopes = t->scopes,
                                        .kind = t->session ? "session" : NULL,
                                        .created_by = t->created_by,
                                        .maker_id = t->maker_id,
                                        .created_us = now_us,
                                        .expires_us = t->expires_us,
                                });
        store_put_audit(tx, now_us, t->created_by ? t->created_by : "hub", "api_token.create", id, detail);
        mem_free(detail);
        return 0;
}

struct revoke {
        struct store_tx *tx;
        const char *id, *by;
        int64_t now_us;
        int rc;
};

static int on_revoke_row(void *arg, const struct row_api_token *t)
{
        struct revoke *v = arg;
        struct row_api_token row = *t;

        if (strcmp(t->id, v->id) != 0)
                return 0;
        if (t->revoked_us && !t->sealed.refused) {
                v->rc = -E_STATE;
                return 0;
        }
        row.revoked_us = v->now_us;
        store_put_api_token(v->tx, &row);
        store_put_audit(v->tx, v->now_us, v->by ? v->by : "hub", "api_token.revoke", v->id, NULL);
        v->rc = 0;
        return 0;
}

int auth_api_token_revoke(struct store_reader *r, struct store_tx *tx, const char *id, int64_t now_us,
                          const char *by, struct err *e)
{
        struct revoke v = {.tx = tx, .id = id, .by = by, .now_us = now_us, .rc = -E_NOENT};
        int rc = read_api_tokens(r, on_revoke_row, &v);

        if (rc)
                return err_set(e, -rc, "the API tokens cannot be read");
        if (v.rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no API token %.40s", id);
        if (v.rc == -E_STATE)
                return err_set(e, E_STATE, "API token %.40s is revoked already", id);
        return 0;
}
