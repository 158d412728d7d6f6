/* One TLS connection: handshake, who the peer is, bytes both ways. */
#include "common/tls_engine.h"

#include <mbedtls/version.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/tls_engine_impl.h"
#include "common/x509.h"

#if MBEDTLS_VERSION_MAJOR != 2
#error "this engine is written for mbedTLS 2.28"
#endif

/* One record and its 29 bytes of overhead fit NNG's 16 KiB ring, so that a
 * record leaves in one write and never waits half-sent for the ring. */
#define RECORD_MAX (16384 - 64)

struct nng_tls_engine_conn {
        void *lower; /* NNG's side, for nng_tls_engine_send and _recv */
        mbedtls_ssl_context ssl;
        struct nng_tls_engine_config *cfg;
        struct tls_sink *sink;
        struct tls_tx *tx_first, **tx_last;
        size_t tx_bytes;
        int failed; /* NNG error that every later call gets */
        bool set_up, heard, open, stalled;
        char why[192];
};

/* What tls_engine_* asks of conn_verified on the same thread. */
struct request {
        enum { REQ_ATTACH, REQ_WRITE, REQ_READ } op;
        struct tls_sink *sink;
        struct tls_tx **tx;
        int rc;
};

static _Thread_local struct request *tl_request;

/* --- bytes below TLS --- */

static int lower_send(void *lower, const unsigned char *p, size_t n)
{
        size_t sent = n;

        switch (nng_tls_engine_send(lower, p, &sent)) {
        case 0:
                return (int)sent;
        case NNG_EAGAIN:
                return MBEDTLS_ERR_SSL_WANT_WRITE;
        default:
                return MBEDTLS_ERR_SSL_CONN_EOF;
        }
}

static int lower_recv(void *lower, unsigned char *p, size_t n)
{
        size_t got = n;

        switch (nng_tls_engine_recv(lower, p, &got)) {
        case 0:
                return (int)got;
        case NNG_EAGAIN:
                return MBEDTLS_ERR_SSL_WANT_READ;
        default:
                return MBEDTLS_ERR_SSL_CONN_EOF;
        }
}

/* --- who the peer is --- */

static void check_times(const mbedtls_x509_crt *crt, int64_t now_us, uint32_t *flags)
{
        *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
        if (now_us > x509_time_us(&crt->valid_to))
                *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
        if (now_us < x509_time_us(&crt->valid_from))
                *flags |= MBEDTLS_X509_BADCERT_FUTURE;
}

static void explain_flags(struct nng_tls_engine_conn *c, uint32_t flags)
{
        const char *peer = c->cfg->is_server ? "the client's" : "the server's";

        if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)
                snprintf(c->why, sizeof c->why,
                         "%s certificate was not signed by the CA that is trusted here", peer);
        else if (flags & MBEDTLS_X509_BADCERT_EXPIRED)
                snprintf(c->why, sizeof c->why, "%s certificate has expired", peer);
        else if (flags & MBEDTLS_X509_BADCERT_FUTURE)
                snprintf(c->why, sizeof c->why, "%s certificate is not valid yet: compare the clocks", peer);
        else if (flags & MBEDTLS_X509_BADCERT_EXT_KEY_USAGE)
                snprintf(c->why, sizeof c->why, "%s certificate is not meant for a %s", peer,
                         c->cfg->is_server ? "client" : "server");
        else if (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)
                snprintf(c->why, sizeof c->why, "%s certificate does not name %s", peer, c->cfg->server_name);
        else
                snprintf(c->why, sizeof c->why, "%s certificate is not acceptable (flags 0x%x)", peer,
                         (unsigned)flags);
}

/* mbedTLS calls this for each certificate of the chain, the leaf (depth 0)
 * last; any flag that stays set fails the handshake with an alert. */
static int on_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
        struct nng_tls_engine_conn *c = ctx;
        const struct nng_tls_engine_config *cfg = c->cfg;

        if (cfg->now_us)
                check_times(crt, cfg->now_us(), flags);
        if (depth == 0) {
                if (cfg->is_server ? !x509_is_client(crt) : !x509_is_server(crt))
                        *flags |= MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
                if (!cfg->is_server && !x509_has_name(crt, cfg->server_name))
                        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
        }
        if (*flags)
                explain_flags(c, *flags);
        return 0;
}

/* --- handshake --- */

static void explain_error(struct nng_tls_engine_conn *c, int rv)
{
        if (c->why[0])
                return;
        switch (rv) {
        case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
                snprintf(c->why, sizeof c->why, "the client showed no certificate");
                break;
        case MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION:
                snprintf(c->why, sizeof c->why, "the peer does not speak TLS 1.2");
                break;
        case MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN:
        case MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE:
                snprintf(c->why, sizeof c->why,
                         "no TLS cipher suite in common (ECDHE-ECDSA with ChaCha20-Poly1305 or AES-GCM is "
                         "needed)");
                break;
        case MBEDTLS_ERR_SSL_INVALID_RECORD:
        case MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO:
                snprintf(c->why, sizeof c->why, "what the peer sent is not TLS");
                break;
        case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
                snprintf(c->why, sizeof c->why, "the peer refused the connection (TLS alert %u)%s",
                         (unsigned)c->ssl.in_msg[1],
                         c->open ? "" : ": see its log; perhaps it does not accept this side's certificate");
                break;
        default:
                snprintf(c->why, sizeof c->why, "TLS error -0x%04x", (unsigned)-rv);
                break;
        }
}

static int fail(struct nng_tls_engine_conn *c, int rv)
{
        if (c->failed)
                return c->failed;
        if (rv == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
                c->failed = NNG_ECLOSED;
        } else if (rv == MBEDTLS_ERR_SSL_CONN_EOF) {
                c->failed = NNG_ECONNSHUT;
        } else {
                c->failed = c->open ? NNG_ECRYPTO : NNG_EPEERAUTH;
                explain_error(c, rv);
                if (c->sink)
                        c->sink->on_fail(c->sink, c->why);
        }
        return c->failed;
}

/* The pages of a record buffer that the handshake has touched go back: an idle
 * connection needs only the first. mbedTLS keeps a record counter at the start. */
static void rest_pages(unsigned char *buf)
{
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t from = ((uintptr_t)buf + 512 + page - 1) / page * page;
        uintptr_t to = ((uintptr_t)buf + MBEDTLS_SSL_MAX_CONTENT_LEN) / page * page;

        if (to > from)
                (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

static int conn_handshake(struct nng_tls_engine_conn *c)
{
        const mbedtls_x509_crt *crt;
        int rv;

        if (c->failed || c->open)
                return c->failed;
        if (!c->sink)
                return NNG_EAGAIN; /* not attached yet */
        rv = mbedtls_ssl_handshake(&c->ssl);
        if (c->cfg->is_server && !c->heard && c->ssl.state > MBEDTLS_SSL_CLIENT_HELLO) {
                c->heard = true;
                c->sink->on_hello(c->sink);
        }
        if (rv == MBEDTLS_ERR_SSL_WANT_READ || rv == MBEDTLS_ERR_SSL_WANT_WRITE)
                return NNG_EAGAIN;
        crt = rv ? NULL : mbedtls_ssl_get_peer_cert(&c->ssl);
        /* Belt and braces: authmode REQUIRED means neither can happen. */
        if (!rv && c->cfg->verifies && (!crt || mbedtls_ssl_get_verify_result(&c->ssl) != 0))
                rv = MBEDTLS_ERR_SSL_PEER_VERIFY_FAILED;
        if (rv)
                return fail(c, rv);
        c->open = true;
        if (c->ssl.in_left == 0 && !c->ssl.in_offt)
                rest_pages(c->ssl.in_buf);
        if (c->ssl.out_left == 0)
                rest_pages(c->ssl.out_buf);
        c->sink->on_open(c->sink, crt ? crt->raw.p : NULL, crt ? crt->raw.len : 0);
        return 0;
}

/* --- data --- */

static void set_queued(struct nng_tls_engine_conn *c, size_t n)
{
        bool fell = (c->tx_bytes > TLS_TX_LOW && n <= TLS_TX_LOW) || (c->tx_bytes && !n);

        c->tx_bytes = n;
        if (!c->sink)
                return;
        __atomic_store_n(&c->sink->queued, n, __ATOMIC_RELAXED);
        if (fell)
                c->sink->on_drain(c->sink);
}

/* 0: all of tx is encrypted; NNG_EAGAIN; else the connection is broken. */
static int write_tx(struct nng_tls_engine_conn *c, struct tls_tx *tx)
{
        while (tx->off < tx->len) {
                size_t n = tx->len - tx->off;
                int rv = mbedtls_ssl_write(&c->ssl, tx->data + tx->off, n > RECORD_MAX ? RECORD_MAX : n);

                if (rv == MBEDTLS_ERR_SSL_WANT_WRITE || rv == MBEDTLS_ERR_SSL_WANT_READ)
                        return NNG_EAGAIN;
                if (rv <= 0)
                        return fail(c, rv ? rv : MBEDTLS_ERR_SSL_CONN_EOF);
                tx->off += (size_t)rv;
        }
        return 0;
}

static int flush(struct nng_tls_engine_conn *c)
{
        if (c->failed)
                return c->failed;
        if (!c->open)
                return NNG_EAGAIN;
        while (c->tx_first) {
                struct tls_tx *tx = c->tx_first;
                size_t before = tx->off;
                int rv = write_tx(c, tx);

                set_queued(c, c->tx_bytes - (tx->off - before));
                if (rv)
                        return rv;
                c->tx_first = tx->next;
                if (!c->tx_first)
                        c->tx_last = &c->tx_first;
                mem_free(tx);
        }
        return 0;
}

static int deliver(struct nng_tls_engine_conn *c, size_t n)
{
        struct tls_chunk *chunk = mem_alloc(sizeof *chunk + n);
        int rv;

        if (!chunk)
                return fail(c, MBEDTLS_ERR_SSL_ALLOC_FAILED);
        memset(chunk, 0, sizeof *chunk);
        rv = mbedtls_ssl_read(&c->ssl, chunk->data, n);
        if (rv != (int)n) {
                mem_free(chunk);
                return fail(c, rv < 0 ? rv : MBEDTLS_ERR_SSL_INTERNAL_ERROR);
        }
        chunk->len = n;
        c->stalled = !c->sink->on_data(c->sink, chunk);
        return 0;
}

/* Decrypts what has come until nothing is left or the sink has enough. */
static int pump(struct nng_tls_engine_conn *c)
{
        int rv = conn_handshake(c);

        while (!rv && !c->stalled) {
                uint8_t none;
                size_t n;

                if (!c->sink)
                        return NNG_EAGAIN;
                /* Reading nothing decrypts the next record, and then its size is known. */
                rv = mbedtls_ssl_read(&c->ssl, &none, 0);
                if (rv == MBEDTLS_ERR_SSL_WANT_READ || rv == MBEDTLS_ERR_SSL_WANT_WRITE)
                        return NNG_EAGAIN;
                n = mbedtls_ssl_get_bytes_avail(&c->ssl);
                if (rv < 0 || n == 0)
                        return fail(c, rv < 0 ? rv : MBEDTLS_ERR_SSL_CONN_EOF);
                rv = deliver(c, n);
        }
        return rv ? rv : NNG_EAGAIN;
}

/* The posted receive and send never finish with data: see the header. */
static int conn_recv(struct nng_tls_engine_conn *c, uint8_t *p, size_t *n)
{
        (void)p;
        (void)n;
        return pump(c);
}

static int conn_send(struct nng_tls_engine_conn *c, const uint8_t *p, size_t *n)
{
        int rv = flush(c);

        (void)p;
        (void)n;
        return rv ? rv : NNG_EAGAIN;
}

/* --- requests from outside, under the connection's lock --- */

static int req_write(struct nng_tls_engine_conn *c, struct tls_tx **io)
{
        struct tls_tx *tx = *io;
        int rv = flush(c);

        tx->off = 0;
        tx->next = NULL;
        if (rv == 0)
                rv = write_tx(c, tx);
        if (rv == 0) {
                tx->len = 0;
                return 0;
        }
        if (rv != NNG_EAGAIN)
                return -E_IO;
        *c->tx_last = tx;
        c->tx_last = &tx->next;
        set_queued(c, c->tx_bytes + tx->len - tx->off);
        *io = NULL;
        return 0;
}

static bool conn_verified(struct nng_tls_engine_conn *c)
{
        struct request *r = tl_request;
        int rv;

        if (!r)
                return c->open && c->cfg->verifies;
        tl_request = NULL;
        r->rc = 0;
        switch (r->op) {
        case REQ_ATTACH:
                c->sink = r->sink;
                break;
        case REQ_WRITE:
                r->rc = req_write(c, r->tx);
                break;
        case REQ_READ:
                c->stalled = false;
                rv = pump(c);
                r->rc = rv == NNG_EAGAIN ? 0 : -E_IO;
                break;
        }
        return true;
}

static int ask(nng_stream *s, struct request *r)
{
        bool verified;

        r->rc = -E_INTERNAL;
        tl_request = r;
        (void)nng_stream_get_bool(s, NNG_OPT_TLS_VERIFIED, &verified);
        tl_request = NULL;
        return r->rc;
}

int tls_engine_attach(nng_stream *s, struct tls_sink *sink)
{
        return ask(s, &(struct request){.op = REQ_ATTACH, .sink = sink});
}

int tls_engine_write(nng_stream *s, struct tls_tx **tx)
{
        return ask(s, &(struct request){.op = REQ_WRITE, .tx = tx});
}

int tls_engine_read(nng_stream *s)
{
        return ask(s, &(struct request){.op = REQ_READ});
}

/* --- life of a connection --- */

static int conn_init(struct nng_tls_engine_conn *c, void *lower, struct nng_tls_engine_config *cfg)
{
        c->lower = lower;
        c->cfg = cfg;
        c->tx_last = &c->tx_first;
        mbedtls_ssl_init(&c->ssl);
        c->set_up = true;
        if (!cfg->is_server && cfg->verifies && !cfg->server_name)
                return NNG_EPEERAUTH; /* else the name would go unchecked */
        if (mbedtls_ssl_setup(&c->ssl, &cfg->conf) != 0)
                return NNG_ENOMEM;
        if (cfg->server_name) {
                uint8_t ip[16];

                /* Server name indication is for names only (RFC 6066 section 3). */
                if (!x509_parse_ip(cfg->server_name, ip) &&
                    mbedtls_ssl_set_hostname(&c->ssl, cfg->server_name))
                        return NNG_ENOMEM;
        }
        if (cfg->verifies)
                mbedtls_ssl_set_verify(&c->ssl, on_verify, c);
        mbedtls_ssl_set_bio(&c->ssl, lower, lower_send, lower_recv, NULL);
        return 0;
}

static void conn_close(struct nng_tls_engine_conn *c)
{
        if (c->open && !c->failed)
                (void)mbedtls_ssl_close_notify(&c->ssl);
        c->sink = NULL;
        if (!c->failed)
                c->failed = NNG_ECLOSED;
}

/* NNG calls this even where conn_init was never called: all is zero then. */
static void conn_fini(struct nng_tls_engine_conn *c)
{
        while (c->tx_first) {
                struct tls_tx *tx = c->tx_first;

                c->tx_first = tx->next;
                mem_free(tx);
        }
        if (c->set_up)
                mbedtls_ssl_free(&c->ssl);
}

/* --- the engine --- */

static nng_tls_engine_conn_ops conn_ops = {
        .size = sizeof(struct nng_tls_engine_conn),
        .init = conn_init,
        .fini = conn_fini,
        .close = conn_close,
        .handshake = conn_handshake,
        .recv = conn_recv,
        .send = conn_send,
        .verified = conn_verified,
};

static nng_tls_engine engine = {
        .version = NNG_TLS_ENGINE_VERSION,
        .config_ops = &tls_config_ops,
        .conn_ops = &conn_ops,
        .name = TLS_ENGINE_NAME,
        .description = "PHOTON on mbed TLS 2.28: TLS 1.2, ECDHE-ECDSA, ChaCha20-Poly1305 or AES-GCM",
};

int tls_engine_register(struct err *e)
{
        nng_aio *aio = NULL;
        int rv;

        /* NNG forgets an engine that is registered before its first use. */
        rv = nng_aio_alloc(&aio, NULL, NULL);
        if (rv == 0) {
                nng_aio_free(aio);
                rv = nng_tls_engine_register(&engine);
        }
        if (rv != 0 || strcmp(nng_tls_engine_name(), TLS_ENGINE_NAME) != 0)
                return err_set(e, E_INTERNAL, "NNG did not take PHOTON's TLS engine (%s)",
                               rv ? nng_strerror(rv) : nng_tls_engine_name());
        return 0;
}
