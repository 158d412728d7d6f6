/* For tests that talk over real loopback TLS: a small CA with one server and one
 * client identity, and a loop that is driven until something holds. */
#ifndef PHOTON_TEST_WIRE_H
#define PHOTON_TEST_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/link.h"
#include "common/pki.h"

struct wire_id {
        char *cert, *key; /* PEM */
};

struct wire {
        uv_loop_t loop;
        struct link_net *net;
        struct wire_id ca, server, client;
        bool net_closed;
};

/* Server certificate: SANs localhost, 127.0.0.1. Valid now. */
void wire_init(struct wire *w);
void wire_fini(struct wire *w); /* closes the net, the loop; checks that nothing is left open */

/* An identity signed by `ca` (a wire_id with its key). hosts and uri may be NULL. */
struct wire_id wire_issue(const struct wire_id *ca, enum pki_purpose p, const char *const *hosts,
                          const char *uri, int64_t not_before_us, int64_t not_after_us);
struct wire_id wire_make_ca(void);
void wire_id_free(struct wire_id *id);

struct link_tls wire_server_tls(const struct wire *w);
struct link_tls wire_client_tls(const struct wire *w);

/* Runs the loop until *flag; fails the test after 10 s (60 s under a sanitizer). */
#define WIRE_UNTIL(w, cond)                                                                                  \
        do {                                                                                                 \
                uint64_t until_ = wire_deadline();                                                           \
                while (!(cond))                                                                              \
                        wire_turn((w), until_, __FILE__, __LINE__, #cond);                                   \
        } while (0)
uint64_t wire_deadline(void);
void wire_turn(struct wire *w, uint64_t until, const char *file, int line, const char *what);
/* Runs the loop for `ms`: only to show that something does not happen. */
void wire_run_for(struct wire *w, int ms);

#endif
