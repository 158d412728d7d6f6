#include "hub/auth/stepkey.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "hub/auth/auth.h"

#define KEY_BYTES_MAX  8192
#define CERT_LIFE_US   ((int64_t)7 * 24 * 3600 * 1000000)
#define CERT_BEFORE_US ((int64_t)3600 * 1000000)

struct step_key {
        char *pem;
        const struct ca *ca;
        uint8_t rows[SHA256_LEN];
        uint8_t *cert;
        size_t cert_len;
        int64_t cert_at_us;
};

static int make_key(const char *path, char **out, struct err *e)
{
        char *pem = NULL;
        int rc = pki_key_make(&pem, e);

        if (!rc)
                rc = file_write_atomic(path, pem, strlen(pem), 0600, e);
        if (rc) {
                pki_free_secret(pem);
                return rc;
        }
        *out = pem;
        return 0;
}

int step_key_open(const char *dir, const struct ca *ca, bool *out_new, struct step_key **out, struct err *e)
{
        static const char label[] = "photon row seal 1";
        struct step_key *k = mem_calloc(1, sizeof *k);
        char *path = path_join(dir, "step.key");
        uint8_t spki[32];
        bool made = false;
        size_t n;
        int rc = k && path ? file_read_private(path, KEY_BYTES_MAX, &k->pem, &n, e)
                           : err_set(e, E_NOMEM, "no memory");

        if (rc == -E_NOENT) {
                rc = make_key(path, &k->pem, e);
                made = true;
        }
        /* A damaged file must not become a key that nobody else has. */
        if (!rc && pki_key_spki_sha256(k->pem, spki, e))
                rc = err_set(e, E_CORRUPT,
                             "%s is not a private key; restore it from the backup, or move it away and "
                             "restart: runs of before will then be refused",
                             path);
        mem_free(path);
        if (rc) {
                step_key_free(k);
                return rc;
        }
        secret_hmac(k->pem, strlen(k->pem), label, sizeof label, k->rows);
        k->ca = ca;
        if (out_new)
                *out_new = made;
        *out = k;
        return 0;
}

void step_key_free(struct step_key *k)
{
        if (!k)
                return;
        pki_free_secret(k->pem);
        mem_free(k->cert);
        mem_wipe(k, sizeof *k);
        mem_free(k);
}

static int need_cert(struct step_key *k, int64_t now_us, struct err *e)
{
        struct pki_issue what = {.purpose = PKI_SIGNER,
                                 .cn = "photon step signer",
                                 .not_before_us = now_us - CERT_BEFORE_US,
                                 .not_after_us = now_us + CERT_LIFE_US};
        char serial[41];
        uint8_t *der = NULL;
        size_t n = 0;
        int rc;

        if (k->cert && now_us >= k->cert_at_us && now_us < k->cert_at_us + CERT_LIFE_US / 2)
                return 0;
        rc = pki_issue(k->ca->ca_cert_pem, k->ca->ca_key_pem, &what, NULL, 0, k->pem, &der, &n, serial, e);
        if (rc)
                return rc;
        mem_free(k->cert);
        k->cert = der;
        k->cert_len = n;
        k->cert_at_us = now_us;
        return 0;
}

int step_key_grant(struct step_key *k, const char *agent_id, const uint8_t nonce[STEP_NONCE_LEN],
                   int64_t now_us, struct step_grant *out, struct err *e)
{
        struct step_grant g = {.at_us = now_us};
        struct buf b;
        int rc = need_cert(k, now_us, e);

        buf_init(&b, 0);
        id_random(g.key, sizeof g.key);
        if (!rc && stepsign_grant(agent_id, nonce, g.key, now_us, &b))
                rc = err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = pki_sign(k->pem, b.data, b.len, &g.signature, &g.signature_len, e);
        buf_fini(&b);
        if (!rc && !(g.certificate = mem_dup(k->cert, k->cert_len)))
                rc = err_set(e, E_NOMEM, "no memory");
        if (rc) {
                step_grant_fini(&g);
                return rc;
        }
        g.certificate_len = k->cert_len;
        *out = g;
        mem_wipe(g.key, sizeof g.key);
        return 0;
}

void step_grant_fini(struct step_grant *g)
{
        mem_free(g->certificate);
        mem_free(g->signature);
        mem_wipe(g, sizeof *g);
}

const uint8_t *step_key_rows(const struct step_key *k)
{
        return k->rows;
}
