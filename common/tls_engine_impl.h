/* What tls_engine.c and tls_config.c share. Not for other modules. */
#ifndef PHOTON_TLS_ENGINE_IMPL_H
#define PHOTON_TLS_ENGINE_IMPL_H

#include <mbedtls/ssl.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/engine.h>

#include "common/tls_engine.h"

#define TLS_ENGINE_NAME "photon-mbedtls"

struct nng_tls_engine_config {
        mbedtls_ssl_config conf;
        mbedtls_x509_crt ca, own;
        mbedtls_pk_context key;
        char *server_name;
        bool is_server, verifies;
        int64_t (*now_us)(void);
};

extern nng_tls_engine_config_ops tls_config_ops;

#endif
