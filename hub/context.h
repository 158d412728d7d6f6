/* Leaves the context that lets `photon` of the same user find a hub just made:
 * $XDG_CONFIG_HOME/photon/contexts/default.json {hub, token, ca} (0600). */
#ifndef PHOTON_HUB_CONTEXT_H
#define PHOTON_HUB_CONTEXT_H

struct hub_conf;

/* Best effort: says on stderr when it could not. An existing context of another hub is kept. */
void context_leave(const struct hub_conf *c, const char *token);

#endif
