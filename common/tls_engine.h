/* PHOTON's TLS under NNG streams: an engine on mbedTLS 2.28 that takes the place
 * of NNG's own, which hides the peer's certificate, ignores IP names and lets
 * nobody choose curves or suites.
 *
 * It speaks TLS 1.2 with ECDHE-ECDSA and AES-GCM on P-256 or X25519 and nothing
 * else: no renegotiation, no resumption, so every connection is verified in
 * full. A client demands a serverAuth certificate that names the server, a server
 * that requires peers demands clientAuth.
 *
 * Bytes do not travel through nng_stream_recv and nng_stream_send. In NNG 1.5.2 a
 * receive that is posted just after the connection broke never calls back, and
 * each one costs a hop between threads. So link.c keeps one receive and one send
 * posted for the life of the stream, which only ever report its end; decrypted
 * records go straight to the sink, and tls_engine_write() encrypts on the
 * caller's thread as long as the socket takes it. Calls from outside enter
 * through NNG's getter for the `verified` property, which holds the connection's
 * lock: that lock guards all of the engine's state. */
#ifndef PHOTON_TLS_ENGINE_H
#define PHOTON_TLS_ENGINE_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mailbox.h"

struct err;
struct link_tls;

/* Decrypted bytes of one record; the receiver frees it with mem_free. */
struct tls_chunk {
        struct mail mail; /* for the sink's use */
        void *owner;
        bool stalled; /* reading has stopped behind this chunk, see tls_engine_read */
        size_t len;
        uint8_t data[];
};

/* Bytes to be encrypted; allocated with mem_alloc by the writer. */
struct tls_tx {
        struct tls_tx *next;
        size_t len, off, cap;
        uint8_t data[];
};

/* The receiving end of one stream. All functions are called under the
 * connection's lock, on an NNG thread or inside tls_engine_*: they may post to
 * a mailbox and must not call NNG. None is called after nng_stream_close. */
struct tls_sink {
        /* Server: the peer has begun a handshake; its costly part is under way or done. */
        void (*on_hello)(struct tls_sink *s);
        void (*on_open)(struct tls_sink *s, const uint8_t *cert_der, size_t n); /* NULL: peer showed none */
        bool (*on_data)(struct tls_sink *s, struct tls_chunk *c); /* takes c; false: stop reading */
        void (*on_drain)(struct tls_sink *s); /* queued fell below TLS_TX_LOW, or to nothing */
        void (*on_fail)(struct tls_sink *s, const char *why); /* the handshake or a record; the end follows */
        size_t queued; /* bytes not yet encrypted; written by the engine (atomic), read by anyone */
};

#define TLS_TX_LOW (128u << 10)

/* Tells NNG to use this engine; checks that it does. Once per process or more.
 * -E_INTERNAL: it does not, so no connection may be made. */
int tls_engine_register(struct err *e);

/* A configuration for listeners or dialers; release with nng_tls_config_free.
 * -E_INVAL with the reason: bad PEM, key and certificate do not fit, a client
 * that verifies without a server name, a server without a certificate. */
int tls_engine_config(const struct link_tls *t, bool server, nng_tls_config **out, struct err *e);

/* All below: any thread; -E_INTERNAL if the stream is not of this engine. */
int tls_engine_attach(nng_stream *s, struct tls_sink *sink);

/* Encrypts and sends *tx, after what is still queued. What the socket does not
 * take now is kept and sent by NNG's threads: then *tx becomes NULL, else it is
 * the caller's again with len 0. -E_IO: the connection is broken. */
int tls_engine_write(nng_stream *s, struct tls_tx **tx);

/* Reads on after on_data returned false. */
int tls_engine_read(nng_stream *s);

#endif
