/* The text of a join token, which a person pastes on a new machine:
 *
 *     pj1.<base64url of {"e":"hub:7441","a":"hub:7440","p":"<hex>","i":"<id>","s":"<base64url>"}>
 *
 * e: address of the enrolment listener, a: of the agents' listener, p: SHA-256
 * of the CA certificate (DER), i: the token's id, s: its secret. Members that
 * are not known are ignored, so that a later hub may say more.
 *
 * Pure; any thread. A struct join_token holds a secret: join_token_wipe it. */
#ifndef PHOTON_JOINTOKEN_H
#define PHOTON_JOINTOKEN_H

#include <stddef.h>
#include <stdint.h>

struct err;

#define JOIN_TOKEN_TEXT_MAX   2048u
#define JOIN_TOKEN_SECRET_MAX 64u
#define JOIN_TOKEN_SECRET_MIN 16u
#define JOIN_TOKEN_ID_MAX     64u
#define HOST_PORT_MAX         272u /* "[...]:65535" with a name of 253 bytes */

struct join_token {
        char enroll[HOST_PORT_MAX]; /* "hub.example:7441", "[::1]:7441" */
        char agent[HOST_PORT_MAX];
        uint8_t ca_pin[32];
        char id[JOIN_TOKEN_ID_MAX + 1];
        uint8_t secret[JOIN_TOKEN_SECRET_MAX];
        size_t secret_len;
};

/* White space around the text is forgiven. -E_INVAL with a sentence that says
 * what is wrong with it (never the token itself), -E_NOMEM. */
int join_token_parse(const char *text, struct join_token *out, struct err *e);
/* mem_free the text with pki_free_secret or after mem_wipe. -E_INVAL when a field is malformed. */
int join_token_format(const struct join_token *t, char **out, struct err *e);
void join_token_wipe(struct join_token *t);

/* Takes "host:port" or "[v6]:port" apart; the port is 1 to 65535.
 * `host` (may be NULL) has room for HOST_PORT_MAX bytes and gets no brackets. */
int host_port_split(const char *host_port, char *host, int *out_port, struct err *e);

#endif
