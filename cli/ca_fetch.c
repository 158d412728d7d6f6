/* Trust on a person's word: the authority that a hub shows is taken only if its
 * SHA-256 is the one that photon-hub init printed. */
#include "cli/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define PEM_END   "-----END CERTIFICATE-----"

static size_t drop(char *p, size_t size, size_t n, void *arg)
{
        (void)p;
        (void)arg;
        return size * n;
}

/* "AA:bb..." or "sha256:aabb..." */
static int read_pin(const char *text, uint8_t out[SHA256_LEN])
{
        char hex[2 * SHA256_LEN + 1];
        size_t n = 0;

        if (strncmp(text, "sha256:", 7) == 0)
                text += 7;
        for (; *text; text++) {
                if (*text == ':' || *text == ' ')
                        continue;
                if (n == 2 * SHA256_LEN)
                        return -E_INVAL;
                hex[n++] = (char)(*text >= 'A' && *text <= 'F' ? *text + 32 : *text);
        }
        hex[n] = '\0';
        return n == 2 * SHA256_LEN ? str_unhex(hex, out, SHA256_LEN) : -E_INVAL;
}

/* SHA-256 of the DER inside. */
static int pem_sha256(const char *pem, uint8_t out[SHA256_LEN])
{
        const char *p = strstr(pem, PEM_BEGIN), *end = p ? strstr(p, PEM_END) : NULL;
        uint8_t *der = NULL;
        char *b64;
        size_t n = 0, len = 0;
        int rc;

        if (!end)
                return -E_INVAL;
        p += strlen(PEM_BEGIN);
        b64 = mem_alloc((size_t)(end - p) + 1);
        if (!b64)
                return -E_NOMEM;
        for (; p < end; p++)
                if (*p > ' ')
                        b64[n++] = *p;
        rc = str_unb64(b64, n, &der, &len);
        if (!rc)
                secret_sha256(der, len, out);
        mem_free(b64);
        mem_free(der);
        return rc;
}

static int pick(CURL *h, const uint8_t pin[SHA256_LEN], char **out, struct err *e)
{
        struct curl_certinfo *ci = NULL;
        uint8_t sha[SHA256_LEN];

        if (curl_easy_getinfo(h, CURLINFO_CERTINFO, &ci) || !ci)
                return err_set(e, E_PROTO, "the hub showed no certificate");
        for (int i = 0; i < ci->num_of_certs; i++) {
                for (const struct curl_slist *l = ci->certinfo[i]; l; l = l->next) {
                        if (strncmp(l->data, "Cert:", 5) != 0 || pem_sha256(l->data + 5, sha) ||
                            !secret_equal(sha, pin, sizeof sha))
                                continue;
                        *out = str_printf("%s\n", l->data + 5);
                        return *out ? 0 : err_set(e, E_NOMEM, "no memory");
                }
        }
        return err_set(e, E_DENIED,
                       "none of the %d certificates that this hub shows has that SHA-256: it is another hub, "
                       "somebody is in between, or "
                       "the number is wrong (photon-hub init printed it)",
                       ci->num_of_certs);
}

int client_fetch_ca(const char *hub, const char *sha256_hex, char **out_pem, struct err *e)
{
        char why[CURL_ERROR_SIZE] = "", *url = str_printf("%s/healthz", hub);
        uint8_t pin[SHA256_LEN];
        CURL *h = NULL;
        CURLcode cc;
        int rc = url ? 0 : err_set(e, E_NOMEM, "no memory");

        if (!rc && read_pin(sha256_hex, pin))
                rc = err_set(e, E_INVAL, "--ca-sha256: expected 64 hexadecimal digits");
        if (!rc && (curl_global_init(CURL_GLOBAL_DEFAULT) || !(h = curl_easy_init())))
                rc = err_set(e, E_NOMEM, "no memory");
        if (rc)
                goto out;
        curl_easy_setopt(h, CURLOPT_URL, url);
        curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https");
        curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
        curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, drop);
        curl_easy_setopt(h, CURLOPT_CERTINFO, 1L);
        curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, 15000L);
        /* Nothing is believed and nothing secret is sent here: the hash decides, and all that
         * follows is verified against what it let through. */
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 0L);
        cc = curl_easy_perform(h);
        if (cc)
                rc = err_set(e, E_UNAVAIL, "the hub at %s cannot be reached: %s", hub,
                             why[0] ? why : curl_easy_strerror(cc));
        else
                rc = pick(h, pin, out_pem, e);
out:
        curl_easy_cleanup(h);
        mem_free(url);
        return rc;
}
