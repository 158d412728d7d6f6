/* DIR/pki: ca.key, ca.crt, hub.key, hub.crt. ca.crt is written last by ca_init: its
 * presence says that the others are there. */
#include "hub/auth/auth.h"

#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/x509.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define US_PER_DAY    (INT64_C(86400) * 1000000)
#define CA_LIFE_US    (INT64_C(7300) * US_PER_DAY) /* twenty years */
#define HUB_LIFE_US   (INT64_C(825) * US_PER_DAY)
#define BACKDATE_US   (INT64_C(3600) * 1000000) /* a peer's clock may be this late */
#define HOSTS_MAX     64
#define HOST_LEN_MAX  253
#define PEM_BYTES_MAX (64u << 10)

/* Names of the hub, each once. */
struct hosts {
        char text[HOSTS_MAX][HOST_LEN_MAX + 1];
        const char *list[HOSTS_MAX + 1];
        size_t n;
};

static bool host_ok(const char *h)
{
        uint8_t ip[16];

        if (x509_parse_ip(h, ip))
                return true;
        if (!*h || strlen(h) > HOST_LEN_MAX || *h == '-' || *h == '.')
                return false;
        return strspn(h, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == strlen(h);
}

static int hosts_add(struct hosts *hs, const char *h, struct err *e)
{
        if (!host_ok(h))
                return err_set(e, E_INVAL, "\"%s\" is neither a host name nor an IP address", h);
        for (size_t i = 0; i < hs->n; i++) {
                if (strcasecmp(hs->text[i], h) == 0)
                        return 0;
        }
        if (hs->n == HOSTS_MAX)
                return err_set(e, E_TOOBIG, "more than %d host names for the hub's certificate", HOSTS_MAX);
        snprintf(hs->text[hs->n], sizeof hs->text[0], "%s", h);
        hs->list[hs->n] = hs->text[hs->n];
        hs->list[++hs->n] = NULL;
        return 0;
}

static int hosts_fill(struct hosts *hs, const char *const *more, struct err *e)
{
        static const char *const always[] = {"localhost", "127.0.0.1", "::1"};
        char name[HOST_LEN_MAX + 1] = "";
        int rc = 0;

        for (size_t i = 0; i < sizeof always / sizeof always[0] && !rc; i++)
                rc = hosts_add(hs, always[i], e);
        /* A machine whose name no certificate can hold is reached by its address. */
        if (!rc && gethostname(name, sizeof name - 1) == 0 && host_ok(name))
                rc = hosts_add(hs, name, e);
        for (; more && *more && !rc; more++)
                rc = hosts_add(hs, *more, e);
        return rc;
}

/* The names that a certificate covers, so that a renewal keeps them. */
static void hosts_from_cert(struct hosts *hs, const mbedtls_x509_crt *crt)
{
        const uint8_t *p;
        size_t it = 0, n;
        int kind;
        char text[HOST_LEN_MAX + 1];

        while (x509_san_next(crt, &it, &kind, &p, &n)) {
                if (kind == X509_SAN_DNS && n < sizeof text) {
                        memcpy(text, p, n);
                        text[n] = '\0';
                } else if (kind != X509_SAN_IP ||
                           !inet_ntop(n == 4 ? AF_INET : AF_INET6, p, text, sizeof text)) {
                        continue;
                }
                (void)hosts_add(hs, text, NULL);
        }
}

static int pki_path(const char *dir, const char *name, char out[4096], struct err *e)
{
        int n = snprintf(out, 4096, "%s/pki%s%s", dir, *name ? "/" : "", name);

        return n > 0 && n < 4096 ? 0 : err_set(e, E_TOOBIG, "the path of the data folder is too long");
}

static int pki_write(const char *dir, const char *name, const char *pem, unsigned mode, struct err *e)
{
        char path[4096];
        int rc = pki_path(dir, name, path, e);

        return rc ? rc : file_write_atomic(path, pem, strlen(pem), mode, e);
}

static int pki_read(const char *dir, const char *name, char **out, struct err *e)
{
        char path[4096];
        size_t n;
        int rc = pki_path(dir, name, path, e);

        return rc ? rc : file_read(path, PEM_BYTES_MAX, out, &n, e);
}

static int hub_cert_make(const struct ca *c, const struct hosts *hs, int64_t now_us, char **out_pem,
                         struct err *e)
{
        const struct pki_issue what = {
                .purpose = PKI_SERVER,
                .cn = "photon-hub",
                .hosts = hs->list,
                .not_before_us = now_us - BACKDATE_US,
                .not_after_us = now_us + HUB_LIFE_US,
        };
        char serial[41];
        uint8_t *der = NULL;
        size_t n = 0;
        int rc =
                pki_issue(c->ca_cert_pem, c->ca_key_pem, &what, NULL, 0, c->hub_key_pem, &der, &n, serial, e);

        if (!rc && pki_der_to_pem("CERTIFICATE", der, n, out_pem))
                rc = err_set(e, E_NOMEM, "no memory for the hub's certificate");
        mem_free(der);
        return rc;
}

static int folder_ready(const char *dir, struct err *e)
{
        char path[4096];
        int rc = pki_path(dir, "ca.crt", path, e);

        if (rc)
                return rc;
        if (access(path, F_OK) == 0)
                return err_set(e, E_EXIST,
                               "%s is there: this data folder belongs to a hub already; choose another "
                               "--data, or remove it",
                               path);
        rc = pki_path(dir, "", path, e);
        return rc ? rc : file_mkdir_private(path, e);
}

int ca_init(const char *dir, const char *const *hosts, int64_t now_us, struct err *e)
{
        struct ca c = {0};
        struct hosts *hs = mem_calloc(1, sizeof *hs);
        int rc = hs ? 0 : err_set(e, E_NOMEM, "no memory");

        if (!rc)
                rc = hosts_fill(hs, hosts, e);
        if (!rc)
                rc = folder_ready(dir, e);
        if (!rc)
                rc = pki_key_make(&c.ca_key_pem, e);
        if (!rc)
                rc = pki_ca_make(c.ca_key_pem, "PHOTON hub CA", now_us - BACKDATE_US, now_us + CA_LIFE_US,
                                 &c.ca_cert_pem, e);
        if (!rc)
                rc = pki_key_make(&c.hub_key_pem, e);
        if (!rc)
                rc = hub_cert_make(&c, hs, now_us, &c.hub_cert_pem, e);
        if (!rc)
                rc = pki_write(dir, "ca.key", c.ca_key_pem, 0600, e);
        if (!rc)
                rc = pki_write(dir, "hub.key", c.hub_key_pem, 0600, e);
        if (!rc)
                rc = pki_write(dir, "hub.crt", c.hub_cert_pem, 0644, e);
        if (!rc)
                rc = pki_write(dir, "ca.crt", c.ca_cert_pem, 0644, e);
        ca_fini(&c);
        mem_free(hs);
        return rc;
}

static int key_is_private(const char *dir, const char *name, struct err *e)
{
        char path[4096];
        struct stat st;
        int rc = pki_path(dir, name, path, e);

        if (rc)
                return rc;
        if (stat(path, &st) == 0 && (st.st_mode & 07))
                return err_set(e, E_DENIED, "%s can be read or written by everybody (mode %o): chmod 600 it",
                               path, (unsigned)st.st_mode & 0777);
        return 0;
}

static bool due(const struct pki_info *i, int64_t now_us)
{
        return now_us >= i->not_before_us + (i->not_after_us - i->not_before_us) / 3 * 2;
}

/* Sets *why when the hub's certificate has to be made anew, and adds the names it has to `hs`. */
static int hub_cert_check(const struct ca *c, struct hosts *hs, int64_t now_us, const char **why,
                          struct err *e)
{
        struct pki_info info;
        uint8_t cert_spki[32], key_spki[32], *der = NULL;
        mbedtls_x509_crt crt;
        size_t n = 0, wanted = hs->n;
        int rc;

        mbedtls_x509_crt_init(&crt);
        rc = pki_pem_to_der("CERTIFICATE", c->hub_cert_pem, &der, &n, e);
        if (!rc)
                rc = pki_cert_info(der, n, &info, e);
        if (!rc)
                rc = pki_cert_spki_sha256(der, n, cert_spki, e);
        if (!rc)
                rc = pki_key_spki_sha256(c->hub_key_pem, key_spki, e);
        if (!rc && mbedtls_x509_crt_parse_der(&crt, der, n))
                rc = err_set(e, E_INVAL, "pki/hub.crt holds no certificate");
        if (rc)
                goto out;
        hosts_from_cert(hs, &crt);
        if (memcmp(cert_spki, key_spki, sizeof key_spki) != 0)
                *why = "its key is another one";
        else if (due(&info, now_us))
                *why = "two thirds of its life are over";
        else if (pki_cert_verify(der, n, c->ca_cert_pem, PKI_SERVER, now_us, NULL))
                *why = "it is not valid";
        for (size_t i = 0; i < wanted && !*why; i++) {
                if (!x509_has_name(&crt, hs->list[i]))
                        *why = "it lacks a host name";
        }
out:
        mbedtls_x509_crt_free(&crt);
        mem_free(der);
        return rc;
}

static int hub_cert_renew(const char *dir, const struct hosts *hs, int64_t now_us, struct ca *c,
                          struct err *e)
{
        char *pem = NULL;
        int rc = hub_cert_make(c, hs, now_us, &pem, e);

        if (!rc)
                rc = pki_write(dir, "hub.crt", pem, 0644, e);
        if (rc) {
                mem_free(pem);
                return rc;
        }
        mem_free(c->hub_cert_pem);
        c->hub_cert_pem = pem;
        return 0;
}

static int ca_check(struct ca *c, int64_t now_us, struct err *e)
{
        struct pki_info info;
        uint8_t cert_spki[32], key_spki[32], *der = NULL;
        size_t n = 0;
        int rc = pki_pem_to_der("CERTIFICATE", c->ca_cert_pem, &der, &n, e);

        if (!rc)
                rc = pki_cert_info(der, n, &info, e);
        if (!rc)
                rc = pki_cert_spki_sha256(der, n, cert_spki, e);
        if (!rc)
                rc = pki_key_spki_sha256(c->ca_key_pem, key_spki, e);
        if (!rc && (!info.is_ca || memcmp(cert_spki, key_spki, sizeof key_spki) != 0))
                rc = err_set(e, E_CORRUPT,
                             "pki/ca.crt and pki/ca.key do not belong together: restore both from a backup");
        if (!rc && now_us > info.not_after_us)
                rc = err_set(
                        e, E_STATE,
                        "the hub's CA certificate (pki/ca.crt) has expired; is this machine's clock right?");
        if (!rc)
                secret_sha256(der, n, c->ca_sha256);
        mem_free(der);
        return rc;
}

int ca_load(const char *dir, const char *const *extra_hosts, int64_t now_us, struct ca *out, struct err *e)
{
        struct ca c = {0};
        struct hosts *hs = mem_calloc(1, sizeof *hs);
        const char *why = NULL;
        int rc = hs ? 0 : err_set(e, E_NOMEM, "no memory");

        if (!rc)
                rc = key_is_private(dir, "ca.key", e);
        if (!rc)
                rc = key_is_private(dir, "hub.key", e);
        if (!rc)
                rc = pki_read(dir, "ca.crt", &c.ca_cert_pem, e);
        if (!rc)
                rc = pki_read(dir, "ca.key", &c.ca_key_pem, e);
        if (!rc)
                rc = pki_read(dir, "hub.key", &c.hub_key_pem, e);
        if (!rc)
                rc = pki_read(dir, "hub.crt", &c.hub_cert_pem, e);
        if (!rc)
                rc = ca_check(&c, now_us, e);
        if (!rc)
                rc = hosts_fill(hs, extra_hosts, e);
        if (!rc)
                rc = hub_cert_check(&c, hs, now_us, &why, e);
        if (!rc && why) {
                rc = hub_cert_renew(dir, hs, now_us, &c, e);
                if (!rc)
                        log_info("auth", "hub certificate renewed", "reason=%s", why);
        }
        mem_free(hs);
        if (rc) {
                ca_fini(&c);
                return rc;
        }
        *out = c;
        return 0;
}

int ca_given_host(const struct ca *c, char *out, size_t size)
{
        struct hosts *hs = mem_calloc(1, sizeof *hs);
        mbedtls_x509_crt crt;
        uint8_t *der = NULL;
        size_t n = 0, own;
        int rc = hs ? hosts_fill(hs, NULL, NULL) : -E_NOMEM;

        mbedtls_x509_crt_init(&crt);
        if (!rc)
                rc = pki_pem_to_der("CERTIFICATE", c->hub_cert_pem, &der, &n, NULL);
        if (!rc && mbedtls_x509_crt_parse_der(&crt, der, n))
                rc = -E_INVAL;
        if (!rc) {
                own = hs->n;
                hosts_from_cert(hs, &crt);
                if (hs->n == own || strlen(hs->text[own]) >= size)
                        rc = -E_NOENT;
                else
                        snprintf(out, size, "%s", hs->text[own]);
        }
        mbedtls_x509_crt_free(&crt);
        mem_free(der);
        mem_free(hs);
        return rc;
}

void ca_fini(struct ca *c)
{
        if (!c)
                return;
        mem_free(c->ca_cert_pem);
        pki_free_secret(c->ca_key_pem);
        mem_free(c->hub_cert_pem);
        pki_free_secret(c->hub_key_pem);
        memset(c, 0, sizeof *c);
}
