/* The agents that ever enrolled: in memory, every change also a row. */
#include "hub/auth/auth_impl.h"

#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/str.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <string.h>

#define BACKDATE_US (INT64_C(3600) * 1000000) /* an agent's clock may be this late */

static const char uri_prefix[] = "photon:agent:";

void agent_rec_free(struct agent_rec *r)
{
        if (!r)
                return;
        cJSON_Delete(r->labels);
        info_fini(&r->info);
        mem_free(r);
}

static const char *state_of(const struct agent_rec *r)
{
        return r->revoked_us ? "revoked" : r->draining ? "draining" : "active";
}

int registry_add(struct auth *a, struct agent_rec *r)
{
        char hex[HASH_HEX_LEN];
        int rc;

        str_hex(r->spki, sizeof r->spki, hex);
        rc = map_put(a->agent_by_id, r->id, r, NULL);
        if (!rc)
                rc = map_put(a->agent_by_key, hex, r, NULL);
        if (!rc && !r->revoked_us)
                rc = map_put(a->agent_by_name, r->name, r, NULL);
        if (rc) {
                map_del(a->agent_by_id, r->id);
                map_del(a->agent_by_key, hex);
                agent_rec_free(r);
                return rc;
        }
        list_push_back(&a->agents, &r->link);
        return 0;
}

int registry_rename(struct auth *a, struct agent_rec *r, const char *name)
{
        int rc = map_put(a->agent_by_name, name, r, NULL);

        if (rc)
                return rc;
        map_del(a->agent_by_name, r->name);
        snprintf(r->name, sizeof r->name, "%s", name);
        return 0;
}

void registry_put(struct store_tx *tx, const struct agent_rec *r)
{
        char hex[HASH_HEX_LEN];
        char *labels = r->labels ? json_text(r->labels) : NULL, *info = info_join(&r->info);

        str_hex(r->spki, sizeof r->spki, hex);
        store_put_agent(tx, &(struct row_agent){
                                    .id = r->id,
                                    .name = r->name,
                                    .state = state_of(r),
                                    .spki_sha256 = hex,
                                    .cert_serial = r->cert_serial,
                                    .labels = labels ? labels : "{}",
                                    .info = info,
                                    .join_token_id = r->join_token_id,
                                    .created_us = r->created_us,
                                    .last_seen_us = r->last_seen_us,
                                    .cert_not_after_us = r->cert_not_after_us,
                                    .revoked_us = r->revoked_us,
                            });
        mem_free(labels);
        mem_free(info);
}

static int on_row(void *arg, const struct row_agent *row)
{
        struct auth *a = arg;
        struct agent_rec *r = mem_calloc(1, sizeof *r);
        int rc = 0;

        if (!r)
                return -E_NOMEM;
        list_init(&r->link);
        snprintf(r->id, sizeof r->id, "%s", row->id);
        snprintf(r->name, sizeof r->name, "%s", row->name);
        snprintf(r->cert_serial, sizeof r->cert_serial, "%s", row->cert_serial ? row->cert_serial : "");
        snprintf(r->join_token_id, sizeof r->join_token_id, "%s",
                 row->join_token_id ? row->join_token_id : "");
        r->draining = row->state && strcmp(row->state, "draining") == 0;
        r->created_us = row->created_us;
        r->last_seen_us = row->last_seen_us;
        r->cert_not_after_us = row->cert_not_after_us;
        r->revoked_us = row->revoked_us;
        if (row->state && strcmp(row->state, "revoked") == 0 && !r->revoked_us)
                r->revoked_us = row->created_us ? row->created_us : 1;
        if (row->sealed.refused && !r->revoked_us) /* whoever wrote it has not joined */
                r->revoked_us = auth_now(a);
        if (!row->spki_sha256 || str_unhex(row->spki_sha256, r->spki, sizeof r->spki))
                rc = -E_CORRUPT;
        if (!rc && row->info && *row->info)
                rc = info_set(&r->info, a->info_tails, row->info);
        if (!rc && row->labels && *row->labels)
                rc = json_parse(row->labels, strlen(row->labels), &r->labels, NULL);
        if (!rc && !r->labels && !(r->labels = cJSON_CreateObject()))
                rc = -E_NOMEM;
        if (rc) {
                agent_rec_free(r);
                return row->sealed.refused && rc != -E_NOMEM ? 0 : rc; /* it need not make sense */
        }
        return registry_add(a, r);
}

int registry_load(struct auth *a, struct store_reader *r, struct err *e)
{
        int rc = read_agents(r, on_row, a);

        return rc ? err_set(e, -rc, "the agents cannot be read from the database: %s", err_name(rc)) : 0;
}

/* ---- identity ---- */

int auth_issue(const struct ca *ca, const char *agent_id, const char *name, int64_t now_us, int64_t life_ms,
               const uint8_t *csr, size_t csr_len, uint8_t **out_der, size_t *out_len,
               int64_t *out_not_after_us, char out_serial[41], struct err *e)
{
        char uri[64];
        struct pki_issue what = {
                .purpose = PKI_CLIENT,
                .cn = name,
                .uri = uri,
                .not_before_us = now_us - BACKDATE_US,
                .not_after_us = now_us + life_ms * 1000,
        };
        int rc;

        snprintf(uri, sizeof uri, "%s%s", uri_prefix, agent_id);
        rc = pki_issue(ca->ca_cert_pem, ca->ca_key_pem, &what, csr, csr_len, NULL, out_der, out_len,
                       out_serial, e);
        if (!rc)
                *out_not_after_us = what.not_after_us;
        return rc;
}

void auth_note_certificate(struct auth *a, struct store_tx *tx, const char *agent_id, const char *serial,
                           int64_t not_after_us)
{
        struct agent_rec *r = map_get(a->agent_by_id, agent_id);
        char detail[80];

        if (!r)
                return;
        snprintf(r->cert_serial, sizeof r->cert_serial, "%s", serial);
        r->cert_not_after_us = not_after_us;
        registry_put(tx, r);
        snprintf(detail, sizeof detail, "{\"serial\":\"%s\"}", r->cert_serial);
        auth_record(a, tx, "agent.certificate", r->id, detail, NULL, NULL);
}

int auth_agent_by_cert(struct auth *a, const uint8_t *der, size_t n, char out_id[32], struct err *e)
{
        struct pki_info info;
        uint8_t spki[SHA256_LEN];
        struct agent_rec *r = NULL;
        int rc = pki_cert_info(der, n, &info, e);

        if (!rc)
                rc = pki_cert_spki_sha256(der, n, spki, e);
        if (rc)
                return err_set(e, E_DENIED, "the certificate cannot be read");
        if (strncmp(info.uri, uri_prefix, sizeof uri_prefix - 1) == 0)
                r = map_get(a->agent_by_id, info.uri + sizeof uri_prefix - 1);
        if (!r)
                return err_set(e, E_DENIED,
                               "no agent of this hub has this certificate; join again with a new token");
        if (!secret_equal(r->spki, spki, sizeof spki))
                return err_set(e, E_DENIED, "agent %s enrolled with another key; join again with a new token",
                               r->name);
        if (r->revoked_us)
                return err_set(e, E_DENIED,
                               "agent %s was revoked; to use this machine again, remove the agent's data "
                               "folder and join with a new token",
                               r->name);
        snprintf(out_id, 32, "%s", r->id);
        return 0;
}

int auth_rejoin(struct auth *a, const char *agent_id, const uint8_t spki[32], struct enrolled *out,
                struct err *e)
{
        struct agent_rec *r = map_get(a->agent_by_id, agent_id);
        struct enrolled en = {.again = true};

        /* One sentence, so that nobody can ask which agents there are. */
        if (!r || !secret_equal(r->spki, spki, SHA256_LEN))
                return err_set(e, E_DENIED,
                               "no agent of this hub has this id and key; join with a new token");
        if (r->revoked_us)
                return err_set(e, E_DENIED,
                               "agent %s was revoked; to use this machine again, remove the agent's data "
                               "folder and join with a new token",
                               r->name);
        snprintf(en.agent_id, sizeof en.agent_id, "%s", r->id);
        snprintf(en.name, sizeof en.name, "%s", r->name);
        en.labels = cJSON_Duplicate(r->labels, true);
        if (!en.labels)
                return err_set(e, E_NOMEM, "no memory");
        *out = en;
        return 0;
}

void enrolled_fini(struct enrolled *en)
{
        cJSON_Delete(en->labels);
        en->labels = NULL;
}

/* ---- for people ---- */

static struct agent_rec *find(struct auth *a, const char *id_or_name)
{
        struct agent_rec *r = map_get(a->agent_by_id, id_or_name);

        if (!r)
                r = map_get(a->agent_by_name, id_or_name);
        /* The name of a revoked agent is free again; it answers to it while nobody else does. */
        if (!r) {
                LIST_EACH (it, &a->agents) {
                        struct agent_rec *o = container_of(it, struct agent_rec, link);

                        if (strcmp(o->name, id_or_name) == 0)
                                r = o;
                }
        }
        return r;
}

static const struct agent_record *lend(struct auth *a, const struct agent_rec *r)
{
        mem_free(a->lent_info);
        a->lent_info = info_join(&r->info);
        a->lent = (struct agent_record){
                .id = r->id,
                .name = r->name,
                .state = state_of(r),
                .labels = r->labels,
                .created_us = r->created_us,
                .last_seen_us = r->last_seen_us,
                .cert_not_after_us = r->cert_not_after_us,
                .info = a->lent_info,
        };
        return &a->lent;
}

const struct agent_record *auth_agent(struct auth *a, const char *id_or_name)
{
        struct agent_rec *r = find(a, id_or_name);

        return r ? lend(a, r) : NULL;
}

int auth_agent_each(struct auth *a, int (*cb)(void *arg, const struct agent_record *r), void *arg)
{
        LIST_EACH_SAFE (it, next, &a->agents) {
                int rc = cb(arg, lend(a, container_of(it, struct agent_rec, link)));

                if (rc)
                        return rc;
        }
        return 0;
}

static int find_live(struct auth *a, const char *id, struct agent_rec **out, struct err *e)
{
        struct agent_rec *r = find(a, id);

        if (!r)
                return err_set(e, E_NOENT, "there is no agent \"%.80s\"", id);
        if (r->revoked_us)
                return err_set(e, E_STATE, "agent %s is revoked", r->name);
        *out = r;
        return 0;
}

static void record_named(struct auth *a, struct store_tx *tx, const struct agent_rec *r, const char *action,
                         const char *event, const char *more)
{
        char fields[160];

        /* Ids and names hold nothing that JSON escapes (str_is_name). */
        snprintf(fields, sizeof fields, "\"agent\":\"%s\",\"agent_id\":\"%s\"%s", r->name, r->id, more);
        auth_record(a, tx, action, r->id, NULL, event, fields);
}

int auth_agent_revoke(struct auth *a, struct store_tx *tx, const char *id, struct err *e)
{
        struct agent_rec *r;
        int rc = find_live(a, id, &r, e);

        if (rc)
                return rc;
        r->revoked_us = auth_now(a);
        map_del(a->agent_by_name, r->name);
        registry_put(tx, r);
        record_named(a, tx, r, "agent.revoke", "agent.revoked", "");
        return 0;
}

int auth_agent_drain(struct auth *a, struct store_tx *tx, const char *id, bool on, struct err *e)
{
        struct agent_rec *r;
        int rc = find_live(a, id, &r, e);

        if (rc || r->draining == on)
                return rc;
        r->draining = on;
        registry_put(tx, r);
        record_named(a, tx, r, on ? "agent.drain" : "agent.undrain", "agent.draining",
                     on ? ",\"on\":true" : ",\"on\":false");
        return 0;
}

/* `set` over `labels` as a new object. */
static int labels_merge(const cJSON *labels, const cJSON *set, cJSON **out, struct err *e)
{
        cJSON *n = labels ? cJSON_Duplicate(labels, true) : cJSON_CreateObject();
        const cJSON *l;
        int rc = n ? 0 : -E_NOMEM;

        cJSON_ArrayForEach(l, set)
        {
                if (rc)
                        break;
                cJSON_DeleteItemFromObjectCaseSensitive(n, l->string);
                if (cJSON_IsString(l) && !cJSON_AddStringToObject(n, l->string, l->valuestring))
                        rc = -E_NOMEM;
        }
        if (rc)
                rc = err_set(e, E_NOMEM, "no memory");
        else if (cJSON_GetArraySize(n) > LABELS_MAX)
                rc = err_set(e, E_INVAL, "more than %d labels", LABELS_MAX);
        if (rc) {
                cJSON_Delete(n);
                return rc;
        }
        *out = n;
        return 0;
}

int auth_agent_label(struct auth *a, struct store_tx *tx, const char *id, const cJSON *set, struct err *e)
{
        struct agent_rec *r;
        cJSON *labels;
        char *detail;
        int rc = set ? labels_check(set, true, e)
                     : err_set(e, E_INVAL, "labels: expected an object of strings");

        if (!rc)
                rc = find_live(a, id, &r, e);
        if (!rc)
                rc = labels_merge(r->labels, set, &labels, e);
        if (rc)
                return rc;
        cJSON_Delete(r->labels);
        r->labels = labels;
        registry_put(tx, r);
        detail = json_text(set);
        auth_record(a, tx, "agent.label", r->id, detail, NULL, NULL);
        mem_free(detail);
        return 0;
}

void auth_agent_seen(struct auth *a, struct store_tx *tx, const char *id, const char *info_json,
                     int64_t at_us)
{
        struct agent_rec *r = map_get(a->agent_by_id, id);

        if (!r)
                return;
        /* Without memory the last known facts stay; the next Hello brings them again. */
        if (info_json)
                (void)info_set(&r->info, a->info_tails, info_json);
        r->last_seen_us = at_us;
        registry_put(tx, r);
}
