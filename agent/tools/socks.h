/* SOCKS 5 (RFC 1928) as a server reads it: without a password, CONNECT only.
 * Pure: bytes in, what to do out. Any thread. */
#ifndef PHOTON_AGENT_TOOLS_SOCKS_H
#define PHOTON_AGENT_TOOLS_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOCKS_REQUEST_MAX 262 /* bytes of one request: a name of 255 */

enum socks_reply {
        SOCKS_OK = 0,
        SOCKS_FAILED = 1,
        SOCKS_DENIED = 2,
        SOCKS_NET_UNREACHABLE = 3,
        SOCKS_HOST_UNREACHABLE = 4,
        SOCKS_REFUSED = 5,
        SOCKS_NO_COMMAND = 7,
        SOCKS_NO_ADDRESS_TYPE = 8,
};

struct socks_request {
        char host[256]; /* a name, or an address as text (IPv6 without brackets) */
        bool is_address;
        int port;
};

/* Each reads one message at the start of [p, p + n). > 0: its bytes. 0: not all of it is there yet.
 * -E_PROTO: no such message; -E_NOTSUP: one that is not offered, *reply says how to refuse it. */
int socks_read_greeting(const uint8_t *p, size_t n);
int socks_read_request(const uint8_t *p, size_t n, struct socks_request *out, enum socks_reply *reply);
/* The answer to a request: always 10 bytes. */
void socks_write_reply(enum socks_reply r, uint8_t out[10]);

#endif
