/* Join tokens: made by people, redeemed by machines. The proof is checked before anything else
 * that a stranger sent is looked at. */
#include "hub/auth/auth_impl.h"

#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/str.h"
#include "hub/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define USES_MAX      1000000
#define TTL_MAX_MS    (INT64_C(3650) * 24 * 3600 * 1000)
#define NONCE_LEN     32
#define SAME_NAME_MAX 100000 /* "-2" to "-100000" */

void join_tok_free(struct join_tok *t)
{
        if (!t)
                return;
        cJSON_Delete(t->labels);
        mem_free(t->created_by);
        map_free(t->redeemed);
        mem_wipe(t->stored_key, sizeof t->stored_key);
        mem_free(t);
}

static void tok_put(struct store_tx *tx, const struct join_tok *t)
{
        char hex[HASH_HEX_LEN];
        char *labels = t->labels ? json_text(t->labels) : NULL;

        str_hex(t->stored_key, sizeof t->stored_key, hex);
        store_put_join_token(tx, &(struct row_join_token){
                                         .id = t->id,
                                         .stored_key_hex = hex,
                                         .name_glob = t->name_glob,
                                         .labels = labels ? labels : "{}",
                                         .created_by = t->created_by,
                                         .uses_max = t->uses_max,
                                         .uses = t->uses,
                                         .created_us = t->created_us,
                                         .expires_us = t->expires_us,
                                         .revoked_us = t->revoked_us,
                                 });
        mem_free(labels);
}

/* Takes t, also on failure. */
static int tok_add(struct auth *a, struct join_tok *t)
{
        int rc = map_put(a->token_by_id, t->id, t, NULL);

        if (rc) {
                join_tok_free(t);
                return rc;
        }
        list_push_back(&a->tokens, &t->link);
        return 0;
}

static int on_tok_row(void *arg, const struct row_join_token *row)
{
        struct join_tok *t = mem_calloc(1, sizeof *t);
        int rc = 0;

        if (!t)
                return -E_NOMEM;
        snprintf(t->id, sizeof t->id, "%s", row->id);
        snprintf(t->name_glob, sizeof t->name_glob, "%s",
                 row->name_glob && *row->name_glob ? row->name_glob : "*");
        t->uses_max = row->uses_max;
        t->uses = row->uses;
        t->created_us = row->created_us;
        t->expires_us = row->expires_us;
        t->revoked_us = row->revoked_us;
        if (row->sealed.refused && !t->revoked_us)
                t->revoked_us = auth_now(arg);
        if (!row->stored_key_hex || str_unhex(row->stored_key_hex, t->stored_key, sizeof t->stored_key))
                rc = -E_CORRUPT;
        if (!rc && row->labels && *row->labels)
                rc = json_parse(row->labels, strlen(row->labels), &t->labels, NULL);
        if (!rc && row->created_by && !(t->created_by = mem_strdup(row->created_by)))
                rc = -E_NOMEM;
        if (rc) {
                join_tok_free(t);
                return row->sealed.refused && rc != -E_NOMEM ? 0 : rc; /* it need not make sense */
        }
        return tok_add(arg, t);
}

static int redeemed_add(struct join_tok *t, const char *key_hex, struct agent_rec *r)
{
        if (!t->redeemed && !(t->redeemed = map_create()))
                return -E_NOMEM;
        return map_put(t->redeemed, key_hex, r, NULL);
}

static int on_redemption_row(void *arg, const struct row_redemption *row)
{
        struct auth *a = arg;
        struct join_tok *t = map_get(a->token_by_id, row->token_id);
        struct agent_rec *r = map_get(a->agent_by_id, row->agent_id);

        return t && r && !row->sealed.refused ? redeemed_add(t, row->spki_sha256, r) : 0;
}

int join_load(struct auth *a, struct store_reader *r, struct err *e)
{
        int rc = read_join_tokens(r, on_tok_row, a);

        if (!rc)
                rc = read_redemptions(r, on_redemption_row, a);
        return rc ? err_set(e, -rc, "the join tokens cannot be read from the database: %s", err_name(rc)) : 0;
}

/* ---- made and taken back by people ---- */

static int request_check(const struct join_request *r, struct err *e)
{
        const char *glob = r->name_glob;

        if (r->uses < 1 || r->uses > USES_MAX)
                return err_set(e, E_INVAL, "uses: 1 to %d, not %" PRId64, USES_MAX, r->uses);
        if (r->ttl_ms < 1 || r->ttl_ms > TTL_MAX_MS)
                return err_set(e, E_INVAL, "ttl: up to ten years, such as 1h");
        if (glob && (!*glob || strlen(glob) > AGENT_NAME_MAX ||
                     strspn(glob, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*?") !=
                             strlen(glob)))
                return err_set(
                        e, E_INVAL,
                        "name: a pattern of letters, digits, '.', '_', '-', '*' and '?', at most %d long",
                        AGENT_NAME_MAX);
        return labels_check(r->labels, false, e);
}

static void join_audit(struct auth *a, struct store_tx *tx, const struct join_tok *t, const char *action,
                       const char *event)
{
        char detail[256], fields[64];

        snprintf(detail, sizeof detail, "{\"uses\":%" PRId64 ",\"name\":\"%s\"}", t->uses_max, t->name_glob);
        snprintf(fields, sizeof fields, "\"token\":\"%s\"", t->id);
        auth_record(a, tx, action, t->id, detail, event, fields);
}

int auth_join_create(struct auth *a, struct store_tx *tx, const struct join_request *r, char out_id[32],
                     uint8_t out_secret[32], struct err *e)
{
        struct join_tok *t;
        char id[ID_LEN];
        int rc = request_check(r, e);

        if (rc)
                return rc;
        t = mem_calloc(1, sizeof *t);
        if (!t)
                return err_set(e, E_NOMEM, "no memory");
        t->created_us = auth_now(a);
        t->expires_us = t->created_us + r->ttl_ms * 1000;
        t->uses_max = r->uses;
        id_make(t->created_us, id);
        snprintf(t->id, sizeof t->id, "%s", id);
        snprintf(t->name_glob, sizeof t->name_glob, "%s", r->name_glob ? r->name_glob : "*");
        if ((r->labels && !(t->labels = cJSON_Duplicate(r->labels, true))) ||
            (r->created_by && !(t->created_by = mem_strdup(r->created_by)))) {
                join_tok_free(t);
                return err_set(e, E_NOMEM, "no memory");
        }
        id_random(out_secret, 32);
        secret_stored_key(out_secret, 32, t->stored_key);
        rc = tok_add(a, t);
        if (rc) {
                mem_wipe(out_secret, 32);
                return err_set(e, E_NOMEM, "no memory");
        }
        snprintf(out_id, 32, "%s", id);
        tok_put(tx, t);
        if (!a->actor[0] && r->created_by)
                auth_act_as(a, r->created_by);
        join_audit(a, tx, t, "join_token.create", "token.created");
        return 0;
}

int auth_join_revoke(struct auth *a, struct store_tx *tx, const char *id, struct err *e)
{
        struct join_tok *t = map_get(a->token_by_id, id);

        if (!t)
                return err_set(e, E_NOENT, "there is no join token %.40s", id);
        if (t->revoked_us)
                return err_set(e, E_STATE, "join token %s is revoked already", t->id);
        t->revoked_us = auth_now(a);
        tok_put(tx, t);
        join_audit(a, tx, t, "join_token.revoke", "token.revoked");
        return 0;
}

/* ---- names ---- */

/* Text that may come from anywhere to a name: its first label, with '-' for what a name has not. */
static void name_from_host(const char *host, char out[AGENT_NAME_MAX + 1])
{
        size_t n = 0;

        for (; *host && *host != '.' && n < AGENT_NAME_MAX - 8; host++) {
                char c = *host;
                bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

                if (ok)
                        out[n++] = c;
                else if (n > 0 && out[n - 1] != '-')
                        out[n++] = '-';
        }
        while (n > 0 && out[n - 1] == '-')
                n--;
        out[n] = '\0';
        if (n == 0)
                strcpy(out, "agent");
}

/* The pattern with `host` for its first '*', nothing for the others, '0' for each '?'. */
static void name_from_glob(const char *glob, const char *host, char out[AGENT_NAME_MAX + 1])
{
        size_t n = 0;
        bool used = false;

        for (; *glob && n < AGENT_NAME_MAX; glob++) {
                if (*glob == '*') {
                        for (const char *h = host; !used && *h && n < AGENT_NAME_MAX - 8; h++)
                                out[n++] = *h;
                        used = true;
                } else {
                        out[n++] = *glob == '?' ? '0' : *glob;
                }
        }
        out[n] = '\0';
}

static bool name_free(struct auth *a, const char *name, const struct agent_rec *self)
{
        const struct agent_rec *r = map_get(a->agent_by_name, name);

        return (!r || r == self) && !map_get(a->agent_by_id, name);
}

static int name_wished(struct auth *a, const struct join_tok *t, const char *wish,
                       const struct agent_rec *self, struct err *e)
{
        if (!str_is_name(wish, AGENT_NAME_MAX))
                return err_set(e, E_DENIED,
                               "\"%.80s\" is no agent name: letters, digits, '.', '_' and '-', at most %d",
                               wish, AGENT_NAME_MAX);
        if (!str_glob(t->name_glob, wish))
                return err_set(
                        e, E_DENIED,
                        "this join token is for agents named \"%s\", not \"%s\": choose another --name",
                        t->name_glob, wish);
        if (!name_free(a, wish, self))
                return err_set(e, E_DENIED,
                               "there is an agent \"%s\" with another key: choose another --name, or revoke "
                               "it first (photon agent revoke %s)",
                               wish, wish);
        return 0;
}

/* A free name that the token allows. */
static int name_pick(struct auth *a, const struct join_tok *t, const char *hostname,
                     char out[AGENT_NAME_MAX + 1], struct err *e)
{
        char host[AGENT_NAME_MAX + 1], base[AGENT_NAME_MAX + 1];

        name_from_host(hostname, host);
        snprintf(base, sizeof base, "%s", host);
        if (!str_glob(t->name_glob, base))
                name_from_glob(t->name_glob, host, base);
        for (int i = 1; i <= SAME_NAME_MAX; i++) {
                char suffix[12] = "";

                if (i > 1)
                        snprintf(suffix, sizeof suffix, "-%d", i);
                snprintf(out, AGENT_NAME_MAX + 1, "%.*s%s", (int)(AGENT_NAME_MAX - strlen(suffix)), base,
                         suffix);
                if (!str_is_name(out, AGENT_NAME_MAX) || !str_glob(t->name_glob, out)) {
                        /* "ci-*-x": the number goes where the host name went. */
                        char numbered[AGENT_NAME_MAX + 16];

                        snprintf(numbered, sizeof numbered, "%s%s", host, suffix);
                        name_from_glob(t->name_glob, numbered, out);
                        if (!str_is_name(out, AGENT_NAME_MAX) || !str_glob(t->name_glob, out))
                                break;
                        if (i > 1 && !strchr(t->name_glob, '*'))
                                break;
                }
                if (name_free(a, out, NULL))
                        return 0;
        }
        return err_set(e, E_DENIED,
                       "no free name fits this join token's pattern \"%s\": choose one with --name, or "
                       "revoke the agent that has it",
                       t->name_glob);
}

/* ---- redeemed by machines ---- */

static int proof_check(struct auth *a, const struct redeem_request *r, struct join_tok **out, struct err *e)
{
        struct join_tok *t = map_get(a->token_by_id, r->token_id);
        uint8_t transcript[NONCE_LEN + SHA256_LEN], proof[SHA256_LEN] = {0};
        bool ok;

        memcpy(transcript, r->nonce, NONCE_LEN);
        secret_sha256(r->csr, r->csr_len, transcript + NONCE_LEN);
        if (r->proof_len == sizeof proof)
                memcpy(proof, r->proof, sizeof proof);
        /* An unknown id costs the same time and reads the same as a wrong secret. */
        ok = secret_proof_ok(t ? t->stored_key : a->no_key, transcript, sizeof transcript, proof);
        if (!ok || !t || r->proof_len != sizeof proof)
                return err_set(e, E_DENIED,
                               "this hub does not know the join token, or its secret is wrong: get a new one "
                               "(photon token create)");
        *out = t;
        return 0;
}

static int token_check(struct auth *a, const struct join_tok *t, struct err *e)
{
        char when[CLOCK_RFC3339_LEN];

        if (t->revoked_us)
                return err_set(e, E_DENIED,
                               "the join token was revoked: get a new one (photon token create)");
        if (auth_now(a) >= t->expires_us) {
                clock_format(t->expires_us, when);
                return err_set(e, E_DENIED,
                               "the join token expired at %s: get a new one (photon token create)", when);
        }
        return 0;
}

static int fill(const struct agent_rec *r, bool again, struct enrolled *out, struct err *e)
{
        struct enrolled en = {.again = again};

        snprintf(en.agent_id, sizeof en.agent_id, "%s", r->id);
        snprintf(en.name, sizeof en.name, "%s", r->name);
        en.labels = cJSON_Duplicate(r->labels, true);
        if (!en.labels)
                return err_set(e, E_NOMEM, "no memory");
        *out = en;
        return 0;
}

/* What the machine says of itself, until its first Hello. */
static char *first_info(const struct redeem_request *q)
{
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;

        if (o && cJSON_AddStringToObject(o, "hostname", q->hostname ? q->hostname : "") &&
            (!q->labels || cJSON_AddItemToObject(o, "labels", cJSON_Duplicate(q->labels, true))))
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

static int agent_make(struct auth *a, const struct join_tok *t, const struct redeem_request *q,
                      const uint8_t spki[SHA256_LEN], const char *name, struct agent_rec **out, struct err *e)
{
        struct agent_rec *r = mem_calloc(1, sizeof *r);
        char id[ID_LEN], *info;
        int rc;

        if (!r)
                return err_set(e, E_NOMEM, "no memory");
        list_init(&r->link);
        r->created_us = auth_now(a);
        id_make(r->created_us, id);
        snprintf(r->id, sizeof r->id, "%s", id);
        snprintf(r->name, sizeof r->name, "%s", name);
        memcpy(r->spki, spki, sizeof r->spki);
        r->labels = t->labels ? cJSON_Duplicate(t->labels, true) : cJSON_CreateObject();
        info = first_info(q);
        rc = info ? info_set(&r->info, a->info_tails, info) : -E_NOMEM;
        mem_free(info);
        if (!r->labels || rc) {
                agent_rec_free(r);
                return err_set(e, E_NOMEM, "no memory");
        }
        if (registry_add(a, r))
                return err_set(e, E_NOMEM, "no memory");
        *out = r;
        return 0;
}

/* The same key with another token: the same agent, as this token would have it. */
static int agent_adopt(struct auth *a, const struct join_tok *t, const struct redeem_request *q,
                       struct agent_rec *r, struct err *e)
{
        cJSON *labels;
        const char *name = q->name && *q->name ? q->name : r->name;
        int rc = name_wished(a, t, name, r, e);

        if (rc)
                return rc;
        labels = t->labels ? cJSON_Duplicate(t->labels, true) : cJSON_CreateObject();
        if (!labels || (strcmp(name, r->name) != 0 && registry_rename(a, r, name))) {
                cJSON_Delete(labels);
                return err_set(e, E_NOMEM, "no memory");
        }
        cJSON_Delete(r->labels);
        r->labels = labels;
        return 0;
}

static void redeemed_record(struct auth *a, struct store_tx *tx, struct join_tok *t, struct agent_rec *r,
                            const char *key_hex)
{
        char detail[160], fields[160];

        t->uses++;
        snprintf(r->join_token_id, sizeof r->join_token_id, "%s", t->id);
        registry_put(tx, r);
        tok_put(tx, t);
        store_put_redemption(tx, &(struct row_redemption){.token_id = t->id,
                                                          .spki_sha256 = key_hex,
                                                          .agent_id = r->id,
                                                          .at_us = auth_now(a)});
        snprintf(detail, sizeof detail, "{\"token\":\"%s\",\"name\":\"%s\"}", t->id, r->name);
        snprintf(fields, sizeof fields, "\"agent\":\"%s\",\"agent_id\":\"%s\"", r->name, r->id);
        auth_act_as(a, r->id);
        auth_record(a, tx, "agent.enroll", r->id, detail, "agent.enrolled", fields);
}

/* The proof was right and the token is live. */
static int redeem_new(struct auth *a, struct store_tx *tx, const struct redeem_request *q, struct join_tok *t,
                      struct agent_rec *r, const uint8_t spki[SHA256_LEN], struct enrolled *out,
                      struct err *e)
{
        char key[HASH_HEX_LEN], name[AGENT_NAME_MAX + 1];
        int rc = 0;

        str_hex(spki, SHA256_LEN, key);
        if (t->uses >= t->uses_max)
                return err_set(e, E_DENIED,
                               "the join token has been used up (%" PRId64 " of %" PRId64
                               "): get a new one (photon token create)",
                               t->uses, t->uses_max);
        if (r) {
                rc = agent_adopt(a, t, q, r, e);
        } else {
                if (q->name && *q->name) {
                        rc = name_wished(a, t, q->name, NULL, e);
                        snprintf(name, sizeof name, "%s", rc ? "" : q->name);
                } else {
                        rc = name_pick(a, t, q->hostname ? q->hostname : "", name, e);
                }
                if (!rc)
                        rc = agent_make(a, t, q, spki, name, &r, e);
        }
        if (rc)
                return rc;
        rc = redeemed_add(t, key, r) ? err_set(e, E_NOMEM, "no memory") : fill(r, false, out, e);
        /* The agent stands in memory, so its rows must follow whatever the answer is. */
        redeemed_record(a, tx, t, r, key);
        return rc;
}

int auth_redeem(struct auth *a, struct store_tx *tx, const struct redeem_request *q, struct enrolled *out,
                struct err *e)
{
        struct join_tok *t = NULL;
        struct agent_rec *r;
        uint8_t spki[SHA256_LEN];
        char key[HASH_HEX_LEN];
        struct err why;
        int rc = proof_check(a, q, &t, e);

        if (!rc)
                rc = token_check(a, t, e);
        if (!rc && pki_csr_spki_sha256(q->csr, q->csr_len, spki, e))
                rc = err_set(e, E_DENIED, "the signing request is malformed or not for an ECDSA P-256 key");
        if (!rc && labels_check(q->labels, false, &why))
                rc = err_set(e, E_DENIED, "%s", why.msg);
        if (rc)
                return rc;
        str_hex(spki, sizeof spki, key);
        r = map_get(a->agent_by_key, key);
        if (r && r->revoked_us)
                return err_set(e, E_DENIED,
                               "the agent with this key (%s) was revoked: to use this machine again, remove "
                               "the agent's data folder and join anew",
                               r->name);
        if (r && t->redeemed && map_get(t->redeemed, key))
                return fill(r, true, out, e);
        return redeem_new(a, tx, q, t, r, spki, out, e);
}
