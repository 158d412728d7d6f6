/* The hub as a whole: builds its parts, wires them, starts and stops them. The
 * only room that sees all others. Loop thread only. */
#ifndef PHOTON_HUB_HUB_H
#define PHOTON_HUB_HUB_H

#include "hub/conf.h"

struct err;

/* Makes DIR, CA, certificate, database and the first admin's token. -E_EXIST if DIR already is a hub.
 * out_ca_sha256: 65 bytes; out_token: 80 bytes, shown once. */
int hub_init(const struct hub_conf *c, char *out_ca_sha256, char *out_token, struct err *e);

/* Serves until SIGTERM or SIGINT (a second one ends at once). Returns 0 or -E_*. */
int hub_serve(const struct hub_conf *c, struct err *e);

#endif
