/* A login by the identity provider of the hub: shows what to open and what to type, and waits. One thread. */
#ifndef PHOTON_CLI_DEVICE_LOGIN_H
#define PHOTON_CLI_DEVICE_LOGIN_H

struct client;
struct err;

/* c asks without a token. *out_token: mem_wipe and mem_free it. -E_CANCELLED: Ctrl-C; -E_NOENT: the hub has
 * no provider; -E_DENIED, and what the hub says otherwise. */
int device_login(struct client *c, char **out_token, struct err *e);

#endif
