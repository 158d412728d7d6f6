#include "agent/identity.h"

#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_MAX      (16u << 10)
#define IDENTITY_MAX (256u << 10)

static const char key_name[] = "agent.key", file_name[] = "identity.json";

static void labels_free(struct conf_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                mem_free(l->v[i]);
        mem_free(l->v);
        *l = (struct conf_list){0};
}

void identity_free(struct identity *id)
{
        if (!id)
                return;
        pki_free_secret(id->key_pem);
        mem_free(id->cert_pem);
        mem_free(id->ca_pem);
        labels_free(&id->labels);
        mem_free(id->dir);
        mem_free(id);
}

bool identity_enrolled(const struct identity *id)
{
        return id->cert_pem && id->ca_pem && id->key_pem;
}

static int load_key(struct identity *id, struct err *e)
{
        char *path = path_join(id->dir, key_name);
        struct stat st;
        size_t n;
        int rc = 0;

        if (!path)
                return err_set(e, E_NOMEM, "no memory for the key");
        if (stat(path, &st)) {
                if (errno != ENOENT)
                        rc = err_set(e, err_from_errno(errno), "cannot look at %s: %s", path,
                                     strerror(errno));
        } else if (st.st_uid != geteuid()) {
                rc = err_set(e, E_DENIED, "the agent's key %s belongs to user %u, not to the agent's", path,
                             (unsigned)st.st_uid);
        } else if (st.st_mode & 077) {
                rc = err_set(e, E_DENIED, "others may read the agent's key; run: chmod 600 %s", path);
        } else {
                rc = file_read(path, KEY_MAX, &id->key_pem, &n, e);
        }
        mem_free(path);
        return rc;
}

static int copy_text(const cJSON *o, const char *key, char *out, size_t size, struct err *e)
{
        const char *s;
        int rc = json_str(o, key, &s, e);

        if (rc)
                return rc;
        if (strlen(s) >= size)
                return err_set(e, E_INVAL, "\"%s\" is too long", key);
        memcpy(out, s, strlen(s) + 1);
        return 0;
}

static int load_labels(struct identity *id, const cJSON *o, struct err *e)
{
        const cJSON *list = NULL, *item;
        int rc = json_arr_opt(o, "labels", &list, e);
        size_t n = list ? (size_t)cJSON_GetArraySize(list) : 0;

        if (rc || n == 0)
                return rc;
        id->labels.v = mem_calloc(n, sizeof *id->labels.v);
        if (!id->labels.v)
                return err_set(e, E_NOMEM, "no memory for labels");
        cJSON_ArrayForEach(item, list)
        {
                char *s = cJSON_IsString(item) ? mem_strdup(item->valuestring) : NULL;

                if (!s)
                        return err_set(e, E_INVAL, "\"labels\" must be a list of texts");
                id->labels.v[id->labels.n++] = s;
        }
        return 0;
}

static int read_dates(struct identity *id, const uint8_t *der, size_t n, struct err *e)
{
        struct pki_info info;
        int rc = pki_cert_info(der, n, &info, e);

        if (rc)
                return rc;
        id->not_before_us = info.not_before_us;
        id->not_after_us = info.not_after_us;
        return 0;
}

static int check_own_key(const struct identity *id, const uint8_t *der, size_t n, struct err *e)
{
        uint8_t a[32], b[32];
        int rc = pki_cert_spki_sha256(der, n, a, e);

        if (!rc)
                rc = pki_key_spki_sha256(id->key_pem, b, e);
        if (!rc && !secret_equal(a, b, sizeof a))
                rc = err_set(e, E_INVAL, "the certificate is not for this agent's key");
        return rc;
}

static int load_fields(struct identity *id, const cJSON *o, struct err *e)
{
        const char *pin, *cert, *ca;
        uint8_t *der = NULL;
        size_t n = 0;
        int rc = copy_text(o, "agent_id", id->agent_id, sizeof id->agent_id, e);

        if (!rc)
                rc = copy_text(o, "name", id->name, sizeof id->name, e);
        if (!rc)
                rc = copy_text(o, "agent_address", id->agent_addr, sizeof id->agent_addr, e);
        if (!rc)
                rc = copy_text(o, "enroll_address", id->enroll_addr, sizeof id->enroll_addr, e);
        if (!rc)
                rc = copy_text(o, "token_id", id->token_id, sizeof id->token_id, e);
        if (!rc)
                rc = json_str(o, "ca_sha256", &pin, e);
        if (!rc && str_unhex(pin, id->ca_pin, sizeof id->ca_pin))
                rc = err_set(e, E_INVAL, "\"ca_sha256\" is no SHA-256");
        if (!rc)
                rc = json_str(o, "certificate", &cert, e);
        if (!rc)
                rc = json_str(o, "ca", &ca, e);
        if (!rc)
                rc = load_labels(id, o, e);
        if (!rc)
                rc = pki_pem_to_der("CERTIFICATE", cert, &der, &n, e);
        if (!rc)
                rc = read_dates(id, der, n, e);
        if (!rc && !id->key_pem)
                rc = err_set(e, E_NOENT, "the key %s that belongs to it is missing", key_name);
        if (!rc)
                rc = check_own_key(id, der, n, e);
        mem_free(der);
        if (rc)
                return rc;
        id->cert_pem = mem_strdup(cert);
        id->ca_pem = mem_strdup(ca);
        return id->cert_pem && id->ca_pem ? 0 : err_set(e, E_NOMEM, "no memory for the certificate");
}

static int load_file(struct identity *id, struct err *e)
{
        char *path = path_join(id->dir, file_name), *text = NULL;
        struct err why = {0};
        cJSON *o = NULL;
        size_t n;
        int rc;

        if (!path)
                return err_set(e, E_NOMEM, "no memory for the identity");
        if (access(path, F_OK) && errno == ENOENT) {
                mem_free(path);
                return 0;
        }
        rc = file_read(path, IDENTITY_MAX, &text, &n, &why);
        if (!rc)
                rc = json_parse(text, n, &o, &why);
        if (!rc)
                rc = load_fields(id, o, &why);
        if (rc)
                rc = err_set(
                        e, -rc,
                        "%s cannot be used: %s; if it is lost, join again with --replace and a new token",
                        path, why.msg);
        cJSON_Delete(o);
        mem_free(text);
        mem_free(path);
        return rc;
}

int identity_load(const char *dir, struct identity **out, struct err *e)
{
        struct identity *id = mem_calloc(1, sizeof *id);
        int rc;

        if (!id || !(id->dir = mem_strdup(dir))) {
                identity_free(id);
                return err_set(e, E_NOMEM, "no memory for the identity");
        }
        rc = load_key(id, e);
        if (!rc)
                rc = load_file(id, e);
        if (rc) {
                identity_free(id);
                return rc;
        }
        *out = id;
        return 0;
}

int identity_need_key(struct identity *id, struct err *e)
{
        char *path, *pem = NULL;
        int rc;

        if (id->key_pem)
                return 0;
        path = path_join(id->dir, key_name);
        if (!path)
                return err_set(e, E_NOMEM, "no memory for the key");
        rc = pki_key_make(&pem, e);
        if (!rc)
                rc = file_write_atomic(path, pem, strlen(pem), 0600, e);
        mem_free(path);
        if (rc) {
                pki_free_secret(pem);
                return rc;
        }
        id->key_pem = pem;
        return 0;
}

int identity_delete(const char *dir, struct err *e)
{
        char *key = path_join(dir, key_name), *file = path_join(dir, file_name);
        int rc = 0;

        if (!key || !file)
                rc = err_set(e, E_NOMEM, "no memory for the identity");
        else if ((unlink(file) && errno != ENOENT) || (unlink(key) && errno != ENOENT))
                rc = err_set(e, err_from_errno(errno), "cannot delete the old identity in %s: %s", dir,
                             strerror(errno));
        mem_free(key);
        mem_free(file);
        return rc;
}

static int store(const struct identity *id, const char *cert, const char *ca, struct err *e)
{
        cJSON *o = cJSON_CreateObject(), *labels = cJSON_CreateArray();
        char *text = NULL, *path = path_join(id->dir, file_name), pin[65];
        bool ok;
        int rc;

        str_hex(id->ca_pin, sizeof id->ca_pin, pin);
        ok = o && labels && path && cJSON_AddStringToObject(o, "agent_id", id->agent_id) &&
             cJSON_AddStringToObject(o, "name", id->name) &&
             cJSON_AddStringToObject(o, "agent_address", id->agent_addr) &&
             cJSON_AddStringToObject(o, "enroll_address", id->enroll_addr) &&
             cJSON_AddStringToObject(o, "token_id", id->token_id) &&
             cJSON_AddStringToObject(o, "ca_sha256", pin) &&
             cJSON_AddStringToObject(o, "certificate", cert) && cJSON_AddStringToObject(o, "ca", ca);
        for (size_t i = 0; ok && i < id->labels.n; i++) {
                cJSON *s = cJSON_CreateString(id->labels.v[i]);

                ok = s && cJSON_AddItemToArray(labels, s);
        }
        if (ok) {
                ok = cJSON_AddItemToObject(o, "labels", labels);
                labels = NULL;
        }
        text = ok ? json_text(o) : NULL;
        rc = text ? file_write_atomic(path, text, strlen(text), 0600, e)
                  : err_set(e, E_NOMEM, "no memory for the identity");
        mem_free(text);
        mem_free(path);
        cJSON_Delete(labels);
        cJSON_Delete(o);
        return rc;
}

static int check_reply(const struct identity *id, const Photon__V1__CertificateReply *r,
                       const uint8_t *ca_der, size_t ca_len, const char *ca_pem, int64_t now_us,
                       struct err *e)
{
        uint8_t hash[32];
        int rc;

        secret_sha256(ca_der, ca_len, hash);
        if (!secret_equal(hash, id->ca_pin, sizeof hash))
                return err_set(e, E_DENIED, "the hub's CA is not the one that the join token names");
        if (!r->agent_id[0] || strlen(r->agent_id) > AGENT_ID_MAX || !r->name[0] ||
            strlen(r->name) > AGENT_NAME_MAX)
                return err_set(e, E_PROTO, "the hub's answer names no agent");
        rc = check_own_key(id, r->cert_der.data, r->cert_der.len, e);
        if (!rc)
                rc = pki_cert_verify(r->cert_der.data, r->cert_der.len, ca_pem, PKI_CLIENT, now_us, e);
        if (!rc && r->agent_address[0])
                rc = host_port_split(r->agent_address, NULL, NULL, e);
        return rc;
}

int identity_accept(struct identity *id, const Photon__V1__CertificateReply *r, const uint8_t *ca_der,
                    size_t ca_len, int64_t now_us, struct err *e)
{
        char *cert = NULL, *ca = NULL;
        int rc = pki_der_to_pem("CERTIFICATE", ca_der, ca_len, &ca);

        if (!rc)
                rc = pki_der_to_pem("CERTIFICATE", r->cert_der.data, r->cert_der.len, &cert);
        if (rc) {
                err_set(e, -rc, "the hub's answer holds no certificate");
                goto out;
        }
        rc = check_reply(id, r, ca_der, ca_len, ca, now_us, e);
        if (rc)
                goto out;
        memcpy(id->agent_id, r->agent_id, strlen(r->agent_id) + 1);
        memcpy(id->name, r->name, strlen(r->name) + 1);
        if (r->agent_address[0])
                memcpy(id->agent_addr, r->agent_address, strlen(r->agent_address) + 1);
        rc = store(id, cert, ca, e);
        if (rc)
                goto out;
        rc = read_dates(id, r->cert_der.data, r->cert_der.len, e);
        if (rc)
                goto out;
        mem_free(id->cert_pem);
        mem_free(id->ca_pem);
        id->cert_pem = cert;
        id->ca_pem = ca;
        cert = ca = NULL;
out:
        mem_free(cert);
        mem_free(ca);
        return rc;
}

int identity_csr(const struct identity *id, uint8_t **out_der, size_t *out_len, uint8_t out_hash[32],
                 struct err *e)
{
        int rc = pki_csr_make(id->key_pem, "photon-agent", out_der, out_len, e);

        if (!rc)
                secret_sha256(*out_der, *out_len, out_hash);
        return rc;
}

int64_t identity_renew_at_us(const struct identity *id, double share)
{
        return id->not_before_us + (int64_t)((double)(id->not_after_us - id->not_before_us) * share);
}
