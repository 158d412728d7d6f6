/* TLS configurations: what is allowed, who we are, whom we trust. */
#include <string.h>

#include "common/err.h"
#include "common/id.h"
#include "common/link.h"
#include "common/mem.h"
#include "common/tls_engine_impl.h"
#include "common/x509.h"

/* From tls_engine_config to config_init, which NNG calls on the same thread. */
static _Thread_local int64_t (*tl_now_us)(void);

static int random_bytes(void *ctx, unsigned char *out, size_t n)
{
        (void)ctx;
        id_random(out, n);
        return 0;
}

/* ChaCha20 first: Mbed TLS is faster with it than with its AES-GCM even where the CPU knows AES. */
static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0};
static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519,
                                              MBEDTLS_ECP_DP_NONE};
static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};
static const mbedtls_x509_crt_profile profile = {
        .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) | MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
                       MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
        .allowed_pks = MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
        .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
};

/* Until told otherwise a client verifies, and has neither CA nor name to do it
 * with: a configuration that nobody completed connects to nothing. */
static int config_init(struct nng_tls_engine_config *cfg, enum nng_tls_mode mode)
{
        mbedtls_ssl_config *conf = &cfg->conf;

        cfg->is_server = mode == NNG_TLS_MODE_SERVER;
        cfg->verifies = true;
        cfg->now_us = tl_now_us;
        mbedtls_ssl_config_init(conf);
        mbedtls_x509_crt_init(&cfg->ca);
        mbedtls_x509_crt_init(&cfg->own);
        mbedtls_pk_init(&cfg->key);
        if (mbedtls_ssl_config_defaults(conf, cfg->is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0)
                return NNG_ENOMEM;
        mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_REQUIRED);
        mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
        mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
        mbedtls_ssl_conf_ciphersuites(conf, suites);
        mbedtls_ssl_conf_curves(conf, curves);
        mbedtls_ssl_conf_sig_hashes(conf, hashes);
        mbedtls_ssl_conf_cert_profile(conf, &profile);
        mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
        mbedtls_ssl_conf_legacy_renegotiation(conf, MBEDTLS_SSL_LEGACY_NO_RENEGOTIATION);
        mbedtls_ssl_conf_rng(conf, random_bytes, NULL);
        if (!cfg->is_server)
                mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
        return 0;
}

static void config_fini(struct nng_tls_engine_config *cfg)
{
        mbedtls_ssl_config_free(&cfg->conf);
        mbedtls_x509_crt_free(&cfg->ca);
        mbedtls_x509_crt_free(&cfg->own);
        mbedtls_pk_free(&cfg->key);
        mem_free(cfg->server_name);
}

static int config_server(struct nng_tls_engine_config *cfg, const char *name)
{
        char *copy = mem_strdup(name);

        if (!copy)
                return NNG_ENOMEM;
        mem_free(cfg->server_name);
        cfg->server_name = copy;
        return 0;
}

/* OPTIONAL is one missed check away from a bypass: there is no such mode here. */
static int config_auth(struct nng_tls_engine_config *cfg, enum nng_tls_auth_mode mode)
{
        if (mode == NNG_TLS_AUTH_MODE_OPTIONAL)
                return NNG_ENOTSUP;
        cfg->verifies = mode == NNG_TLS_AUTH_MODE_REQUIRED;
        mbedtls_ssl_conf_authmode(&cfg->conf,
                                  cfg->verifies ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
        return 0;
}

static int config_ca(struct nng_tls_engine_config *cfg, const char *pem, const char *crl)
{
        if (crl)
                return NNG_ENOTSUP;
        if (mbedtls_x509_crt_parse(&cfg->ca, (const uint8_t *)pem, strlen(pem) + 1) != 0)
                return NNG_EINVAL;
        mbedtls_ssl_conf_ca_chain(&cfg->conf, &cfg->ca, NULL);
        return 0;
}

static int config_own(struct nng_tls_engine_config *cfg, const char *cert, const char *key, const char *pass)
{
        if (pass || mbedtls_pk_get_type(&cfg->key) != MBEDTLS_PK_NONE)
                return NNG_ENOTSUP;
        if (mbedtls_x509_crt_parse(&cfg->own, (const uint8_t *)cert, strlen(cert) + 1) != 0 ||
            mbedtls_pk_parse_key(&cfg->key, (const uint8_t *)key, strlen(key) + 1, NULL, 0) != 0 ||
            mbedtls_pk_check_pair(&cfg->own.pk, &cfg->key) != 0)
                return NNG_EINVAL;
        /* mbedTLS would not show it, and say no more than that no suite fits. */
        if (cfg->is_server && !x509_is_server(&cfg->own))
                return NNG_EPERM;
        return mbedtls_ssl_conf_own_cert(&cfg->conf, &cfg->own, &cfg->key) ? NNG_ENOMEM : 0;
}

static int config_version(struct nng_tls_engine_config *cfg, nng_tls_version min, nng_tls_version max)
{
        (void)cfg;
        return min <= NNG_TLS_1_2 && max >= NNG_TLS_1_2 ? 0 : NNG_ENOTSUP;
}

nng_tls_engine_config_ops tls_config_ops = {
        .size = sizeof(struct nng_tls_engine_config),
        .init = config_init,
        .fini = config_fini,
        .server = config_server,
        .auth = config_auth,
        .ca_chain = config_ca,
        .own_cert = config_own,
        .version = config_version,
};

static int fill_config(nng_tls_config *cfg, const struct link_tls *t, bool server, struct err *e)
{
        bool verify = server ? t->require_peer : t->ca_pem != NULL;
        int rv;

        if (server && !(t->cert_pem && t->key_pem))
                return err_set(e, E_INVAL, "a TLS server needs a certificate and its key");
        if (verify && !t->ca_pem)
                return err_set(e, E_INVAL, "without a CA no peer can be verified");
        if (verify && !server && !(t->server_name && t->server_name[0]))
                return err_set(e, E_INVAL, "without a name the server's certificate cannot be verified");
        rv = nng_tls_config_auth_mode(cfg, verify ? NNG_TLS_AUTH_MODE_REQUIRED : NNG_TLS_AUTH_MODE_NONE);
        if (rv == 0 && t->ca_pem) {
                rv = nng_tls_config_ca_chain(cfg, t->ca_pem, NULL);
                if (rv == NNG_EINVAL)
                        return err_set(e, E_INVAL, "the CA certificate is damaged");
        }
        if (rv == 0 && t->cert_pem && t->key_pem) {
                rv = nng_tls_config_own_cert(cfg, t->cert_pem, t->key_pem, NULL);
                if (rv == NNG_EINVAL)
                        return err_set(e, E_INVAL,
                                       "certificate or key is damaged, or they do not belong together");
                if (rv == NNG_EPERM)
                        return err_set(e, E_INVAL, "the certificate is not meant for a server");
        }
        if (rv == 0 && !server && t->server_name && t->server_name[0])
                rv = nng_tls_config_server_name(cfg, t->server_name);
        return rv == 0 ? 0 : err_set(e, rv == NNG_ENOMEM ? E_NOMEM : E_INTERNAL, "TLS: %s", nng_strerror(rv));
}

int tls_engine_config(const struct link_tls *t, bool server, nng_tls_config **out, struct err *e)
{
        nng_tls_config *cfg = NULL;
        int rv, rc;

        if (strcmp(nng_tls_engine_name(), TLS_ENGINE_NAME) != 0)
                return err_set(e, E_INTERNAL, "PHOTON's TLS engine is not registered");
        tl_now_us = t->now_us;
        rv = nng_tls_config_alloc(&cfg, server ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
        tl_now_us = NULL;
        if (rv != 0)
                return err_set(e, E_NOMEM, "no memory for a TLS configuration");
        rc = fill_config(cfg, t, server, e);
        if (rc)
                nng_tls_config_free(cfg);
        else
                *out = cfg;
        return rc;
}
